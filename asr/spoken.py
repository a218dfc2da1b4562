"""The words that were spoken for a written text, in one language.

`spoken_words` is the only rule for texts of corpora and guesses nothing; `read_words` and `read_aloud`, for alignment,
guess where it gives nothing.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from asr.normalize import APOSTROPHES, lowered, without_accents, without_format

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

SPOKEN_SIGNS = "@#%°"  # of unknown pronunciation, as are currency and mathematical signs
# More than four digits without commas may be a telephone number or a post code.
NUMBER = re.compile(r"(0|[1-9]\d{0,3}|[1-9]\d{0,2}(?:,\d{3})+)(?:(\.\d+)|(st|nd|rd|th))?(%?)")
YEAR = re.compile(r"1\d{3}|20\d\d")  # a number like that is a year more often than not
AROUND_NUMBERS = ".,;:!?()[]\"'“”„«»…"
AROUND_WORDS = AROUND_NUMBERS.replace(".", "— ")  # a full stop belongs to an abbreviation; a dash stands by itself
TITLES = {"mr": "mister", "mrs": "missus"}  # as LibriSpeech writes them
# Ambiguous: doctor or drive, saint or street; and Latin, which some read aloud in English.
ABBREVIATION = re.compile(
    r"\b(?:dr|st|prof|rev|gen|col|capt|lt|sgt|jr|sr|vs|etc|ca|c|cf|viz|vol|inc|ltd|e\.\s?g|i\.\s?e)\.", re.IGNORECASE
)
# One and several of the unit, and of its hundredth part.
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
CURRENCY = f"[{''.join(CURRENCIES)}]"
READ_NUMBER = re.compile(r"(?<!\d)\d{1,12}(?!\d)|\d")  # a longer one, which some languages cannot say, digit by digit
SCALES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
SCALE = "|".join([*SCALES, *SCALES.values()])
PRICE = re.compile(rf"({CURRENCY})\s?(\d[\d,]*)(?:\.(\d+))?\s?({SCALE})?")
PRICE_BEFORE_SIGN = re.compile(rf"(\d[\d,.]*(?:{'|'.join(SCALES)})?)\s?({CURRENCY})")
POINTS = re.compile(r"(?<=\d)\.(?=\d{3}(?!\d))")  # of thousands, as many who pay in euros write them
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d{1,2}(?![\d,]))")  # thousands have three digits after it
SPACE = "[ \u00a0\u2009\u202f]"  # plain, no-break, thin and narrow no-break: what may stand inside a number or a price
GROUP_SPACE = re.compile(rf"(?<=\d){SPACE}(?=\d{{3}}(?!\d))")
# One written word: 10 000, $ 5, $5 million and e. g. are one each, but not the numbers of 555 123 4567; in 5 $ 10 the
# sign may belong to either.
WRITTEN_WORD = re.compile(
    rf"(?:(?<!\d\s){CURRENCY}{SPACE})?[1-9]\d{{0,2}}(?:{SPACE}\d{{3}})+(?!\d|{SPACE}\d)\S*"
    rf"|(?<!\d\s)[(\"“„]?{CURRENCY}{SPACE}?\d[\d.,]*{SPACE}(?:{'|'.join(SCALES.values())})\b\S*"
    rf"|(?<!\d\s)[(\"“„]?{CURRENCY}{SPACE}\d\S*"
    rf"|[(\"“„]?(?:[Ee]\.{SPACE}g|[Ii]\.{SPACE}e|[Zz]\.{SPACE}B|[Dd]\.{SPACE}h|[Uu]\.{SPACE}a)\.\S*"
    r"|\S+"
)
# As they are usually read, names and dates before all; written with a full stop.
EXPANDED = {
    "en": {
        "dr": "doctor", "st": "saint", "prof": "professor", "rev": "reverend", "gen": "general", "col": "colonel",
        "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "gov": "governor", "sen": "senator",
        "rep": "representative", "jr": "junior", "sr": "senior", "mt": "mount", "ave": "avenue", "vs": "versus",
        "etc": "et cetera", "vol": "volume", "fig": "figure", "inc": "incorporated", "ltd": "limited", "co": "company",
        "dept": "department", "e.g": "for example", "i.e": "that is",
        "jan": "january", "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july",
        "aug": "august", "sep": "september", "sept": "september", "oct": "october", "nov": "november",
        "dec": "december",
    },
    "de": {
        "dr": "doktor", "prof": "professor", "nr": "nummer", "str": "straße", "ca": "circa", "usw": "und so weiter",
        "bzw": "beziehungsweise", "z.b": "zum beispiel", "d.h": "das heißt", "u.a": "unter anderem",
    },
}  # fmt: skip
ORDINARY = {"co", "col", "fig", "gen", "mar", "rep", "sen", "vol"}  # words, too: abbreviations only with a capital
# Read so only before a number: "no." may end a sentence.
BEFORE_NUMBER = {
    "en": {
        "no.": "number", "nos.": "numbers", "p.": "page", "pp.": "pages", "fig.": "figure", "figs.": "figures",
        "vol.": "volume",
    },
    "de": {"s.": "seite"},
}  # fmt: skip
# Abbreviations that are no words.
UNITS = {
    "kg": "kilograms", "km": "kilometers", "cm": "centimeters", "lb": "pounds", "lbs": "pounds", "oz": "ounces",
    "ft": "feet", "mph": "miles per hour", "hrs": "hours", "approx": "approximately",
}  # fmt: skip
FRACTIONS = {"1/2": "a half", "1/4": "a quarter", "3/4": "three quarters", "1/3": "a third", "2/3": "two thirds"}
Readings = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
# As parts of a word with digits or signs, in lower case, are most likely read, one after the other.
ENGLISH: Readings = (
    (r"^(?:nos?|pp?)\.(?=\d)", lambda name: f"{BEFORE_NUMBER['en'][name[0]]} "),
    *((rf"(?<![a-z]){unit}²", f" square {name} ") for unit, name in (("km", "kilometers"), ("m", "meters"))),
    *((sign, f" {name} ") for sign, name in (("²", "squared"), ("³", "cubed"))),
    (r"(?<=\d)(?=[½¼¾⅓⅔])", " and "),
    (r"[½¼¾⅓⅔]", lambda sign: unicodedata.normalize("NFKC", sign[0]).replace("⁄", "/")),
    (r"(?<![\d/])[1-3]/[2-4](?![\d/])", lambda part: FRACTIONS.get(part[0], part[0])),
    (r"(?<=\d)–(?=\d)", " to "),
    (r"^[-−](?=\d)", "minus "),
    (r"(\d):00\b", r"\1"),
    (r":0(?=\d)", " oh "),
    (r"(?<=\d)([ap])m\b", r" \1 m"),
    (
        r"\b(?:\d{3}-)+\d{4}\b|(?<![,.])\b0\d+\b|\d{7,}",
        lambda digits: " ".join(digits[0].replace("-", "")),
    ),  # of telephones
    (r"\d[\d,.]*", lambda number: f" {_spelled(number[0])} "),
    (r"ty\s+s\b", "ties"),
    (r"(ten|hundred|thousand)\s+s\b", r"\1s"),
    ("°c", " degrees celsius"),
    ("°f", " degrees fahrenheit"),
    *((sign, f" {name} ") for sign, name in (("°", "degrees"), ("@", "at"), ("#", "number"), ("¢", "cents"))),
    *((sign, f" {name} ") for sign, name in ((r"\+", "plus"), ("=", "equals"), ("%", "percent"))),
)
GERMAN: Readings = (
    (rf"({CURRENCY})\s?(\d[\d.,]*)", r"\2 \1"),
    (r"(?<=\d)\.(?=\d{3}(?!\d))", ""),
    (r"(?<=\d),(\d+)", lambda decimals: f" komma {' '.join(decimals[1])} "),
    (rf"^1\s?(?={CURRENCY})", "ein "),
    ("%", " prozent "),
    *((sign, f" {name} ") for sign, name in (("€", "euro"), (r"\$", "dollar"), ("£", "pfund"), ("¥", "yen"))),
)
READINGS = {"en": ENGLISH, "de": GERMAN}
# Of a king, a war, a chapter: two, the second.
ROMAN = re.compile(r"\b(?=[IVX]{2,}\b)X{0,3}(?:IX|IV|V?I{0,3})(?<=[IVX])\b")


def spoken_words(text: str, language: str = "en") -> str:
    """The words of `text` in lower case, single spaces between them; "" where they are ambiguous.

    English is written with a to z and apostrophes inside words: accents go, numbers are spelled out, & and a percent
    sign after a number become words. Other languages keep their letters. Everywhere punctuation parts words. Nothing
    uncertain is guessed: a text with another number (12:30, 1990s, 90210), with currency, or in English with letters of
    another script, an abbreviation (Dr., e.g.) or a Roman number, gives "".
    """
    text = unicodedata.normalize("NFKC", without_format(text).translate(APOSTROPHES))
    if language == "en":
        # In capitals a Roman number cannot be told from a word.
        if ABBREVIATION.search(text) or (ROMAN.search(text) and not text.isupper()):
            return ""
        text = " ".join(map(_spelled, text.lower().split())).replace("&", " and ")
        text = without_accents(text)
    elif language in ("tr", "az"):
        text = lowered(text.replace("I", "ı"))  # two letters there, with a dot and without one
    else:
        text = lowered(text)
    if any(_is_unsure(character, language) for character in text):
        return ""
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LM" else " " for c in text)
    words = [word for word in (word.strip("'") for word in kept.split()) if word]
    return " ".join(TITLES.get(word, word) if language == "en" else word for word in words)


def read_words(words: Sequence[str], language: str = "en") -> list[str]:
    """The words that are most likely spoken for each written word of a text.

    As `read_aloud`, but the words beside it count too: No. 5 is "number five", and Henry VIII "henry eight".
    """
    before_number = BEFORE_NUMBER.get(language, {})
    readings = []
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if after[:1].isdigit() and (name := before_number.get(_bare(word))):
            readings.append(name)
            continue
        is_name = before.lstrip(AROUND_WORDS)[:1].isupper()  # in "mix IV fluids" it is none
        if language == "en" and is_name and ROMAN.match(word.lstrip(AROUND_WORDS)):
            word = ROMAN.sub(_roman_value, word, count=1)
        readings.append(read_aloud(word, language))
    return readings


def read_aloud(word: str, language: str = "en") -> str:
    """The words that are most likely spoken for a written one: `spoken_words`, and a guess where that gives none.

    Prices, abbreviations and other numbers are read as in English or German; in other languages numbers only.
    """
    if (bare := _bare(word)).endswith("."):
        short = "".join(bare.split()).rstrip(".")
        full = EXPANDED.get(language, {}).get(short)
        if full and (short not in ORDINARY or word.lstrip(AROUND_WORDS)[:1].isupper()):
            return full
    word = GROUP_SPACE.sub("," if language == "en" else "", word)
    if not (spoken := spoken_words(word, language)):
        parts = _bare(word).strip(AROUND_NUMBERS)
        if language == "en":
            parts = _price_read(parts)
        for pattern, reading in READINGS.get(language, ()):
            parts = re.sub(pattern, reading, parts)
        spoken = _digits_read(parts, language)
        spoken = spoken_words(spoken, language) if language == "en" else " ".join(spoken.lower().split())
    return " ".join(UNITS.get(part, part) for part in spoken.split()) if language == "en" else spoken


def _bare(word: str) -> str:
    return word.strip(AROUND_WORDS).lower()


def _roman_value(number: re.Match[str]) -> str:
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in number[0]]
    return str(sum(-one if one < after else one for one, after in zip(values, [*values[1:], 0], strict=True)))


def _digits_read(text: str, language: str) -> str:
    try:
        engine = _engine(language)
    except ValueError:  # a language without such rules
        return text
    # German has soft hyphens inside its numbers.
    return READ_NUMBER.sub(lambda match: f" {without_format(engine.format_number(int(match[0])).text)} ", text)


def _price_read(word: str) -> str:
    """A price in numbers and words, such as "25 dollars 50 cents"; any other word unchanged."""
    if amount := PRICE_BEFORE_SIGN.fullmatch(word):
        word = amount[2] + amount[1]
    if "€" in word:
        word = POINTS.sub("", word)
    price = PRICE.fullmatch(DECIMAL_COMMA.sub(".", word))
    if price is None:
        return word
    sign, whole, decimals, scale = price.groups()
    (unit, units, part, parts), whole = CURRENCIES[sign], whole.replace(",", "")
    whole = f"{int(whole):,}" if len(whole) <= 15 else whole  # without commas it is read digit by digit
    if scale or len(decimals or "00") != 2:
        return f"{whole}{'.' * bool(decimals)}{decimals or ''} {SCALES.get(scale, scale or '')} {units}"
    counts = [(whole, unit, units), (str(int(decimals or 0)), part, parts)]
    read = [f"{n} {one if n == '1' else many}" for n, one, many in counts if n != "0"]
    return " ".join(read) or f"0 {units}"


def _is_unsure(character: str, language: str) -> bool:
    category = unicodedata.category(character)
    if category[0] == "L":
        return language == "en" and not character.isascii()
    return category in ("Nd", "Nl", "No", "Sc", "Sm") or character in SPOKEN_SIGNS


def _spelled(word: str) -> str:
    """A plain number in English words; any other word unchanged."""
    number = NUMBER.fullmatch(word.strip(AROUND_NUMBERS))
    if number is None:
        return word
    from unicode_rbnf import FormatPurpose

    whole, decimals, ordinal, percent = number.groups(default="")
    is_year = YEAR.fullmatch(number[1]) and not decimals
    purpose = FormatPurpose.ORDINAL if ordinal else FormatPurpose.YEAR if is_year else FormatPurpose.CARDINAL
    words = _engine("en").format_number(whole.replace(",", "") + decimals, purpose).text
    return words + " percent" * bool(percent)


@functools.cache
def _engine(language: str) -> "RbnfEngine":
    """Rules for the numbers of a language; ValueError if it has none. Imported here: most texts have no numbers."""
    from unicode_rbnf import RbnfEngine

    return RbnfEngine.for_language(language)
