"""Normalizes written text to the words that were spoken, in one language; the only rule for texts of corpora."""

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

from asr.errors import RecipeError
from asr.normalize import APOSTROPHES, lowered, primary_language, without_accents, without_format

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

SPOKEN_SIGNS = "@#%°"  # of unknown pronunciation, as are currency and mathematical signs
# More than four digits without commas may be a telephone number or a post code.
NUMBER = re.compile(r"(0|[1-9]\d{0,3}|[1-9]\d{0,2}(?:,\d{3})+)(?:(\.\d+)|(st|nd|rd|th))?(%?)")
YEAR = re.compile(r"1\d{3}|20\d\d")  # a number like that is a year more often than not
AROUND_NUMBERS = ".,;:!?()[]\"'“”„«»…"
TITLES = {"mr": "mister", "mrs": "missus"}  # as LibriSpeech writes them
# Ambiguous: doctor or drive, saint or street; and Latin, which some read aloud in English.
ABBREVIATION = re.compile(
    r"\b(?:dr|st|prof|rev|gen|col|capt|lt|sgt|jr|sr|vs|etc|ca|c|cf|viz|vol|inc|ltd|e\.\s?g|i\.\s?e)\.", re.IGNORECASE
)
CURRENCIES = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
READ_NUMBER = re.compile(r"(?<!\d)\d{1,12}(?!\d)|\d")  # a longer one, which some languages cannot say, digit by digit
SCALES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
PRICE = re.compile(rf"([$£€])(\d[\d,]*)(?:\.(\d+))?({'|'.join(SCALES)})?")
# As they are usually read before a name.
EXPANDED = {
    "dr": "doctor", "st": "saint", "prof": "professor", "rev": "reverend", "gen": "general", "col": "colonel",
    "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "jr": "junior", "sr": "senior", "vs": "versus",
    "etc": "et cetera", "vol": "volume", "inc": "incorporated", "ltd": "limited", "no": "number",
    "e.g": "for example", "i.e": "that is",
}  # fmt: skip
# Abbreviations that are no words.
UNITS = {
    "kg": "kilograms", "km": "kilometers", "cm": "centimeters", "lb": "pounds", "lbs": "pounds", "oz": "ounces",
    "ft": "feet", "mph": "miles per hour", "hrs": "hours", "approx": "approximately",
}  # fmt: skip
FRACTIONS = {"1/2": "a half", "1/4": "a quarter", "3/4": "three quarters", "1/3": "a third", "2/3": "two thirds"}
# As parts of an English word with digits or signs are most likely read, one after the other.
READINGS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"(?<=\d)(?=[½¼¾⅓⅔])", " and "),
    (r"[½¼¾⅓⅔]", lambda sign: unicodedata.normalize("NFKC", sign[0]).replace("⁄", "/")),
    (r"(?<![\d/])[1-3]/[2-4](?![\d/])", lambda part: FRACTIONS.get(part[0], part[0])),
    (r"(?<=\d)–(?=\d)", " to "),
    (r"^[-−](?=\d)", "minus "),
    (r"(\d):00\b", r"\1"),
    (r":0(?=\d)", " oh "),
    (r"(?<=\d)([ap])m\b", r" \1 m"),
    (r"\b(?:\d{3}-)+\d{4}\b|\b0\d+\b|\d{7,}", lambda digits: " ".join(digits[0].replace("-", ""))),  # of telephones
    (r"\d[\d,.]*", lambda number: f" {_spelled(number[0])} "),
    (r"ty\s+s\b", "ties"),
    ("°c", " degrees celsius"),
    ("°f", " degrees fahrenheit"),
    *((sign, f" {name} ") for sign, name in (("°", "degrees"), ("@", "at"), ("#", "number"), ("¢", "cents"))),
    *((sign, f" {name} ") for sign, name in ((r"\+", "plus"), ("=", "equals"), ("%", "percent"))),
)
ROMAN = re.compile(r"\b(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})\b")  # of a king, a war, a chapter: two, the second
NOISES = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\(\d+\)")
LANGUAGE = re.compile(r"[a-z]{2,3}")


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


def read_aloud(word: str, language: str = "en") -> str:
    """The words that are most likely spoken for a written one: `spoken_words`, and a guess where that gives none.

    Prices, abbreviations and other numbers are read as in English; in other languages numbers only.
    """
    spoken = spoken_words(word, language)
    if language != "en":
        return spoken or " ".join(_digits_read(word, language).lower().split())
    bare = word.strip(AROUND_NUMBERS).lower()
    if not spoken:
        spoken = EXPANDED.get(bare) or spoken_words(_digits_read(_parts_read(bare), language), language)
    return " ".join(UNITS.get(part, part) for part in spoken.split())


def _digits_read(text: str, language: str) -> str:
    from unicode_rbnf import RbnfEngine

    try:
        engine = RbnfEngine.for_language(language)
    except ValueError:  # a language without such rules
        return text
    return READ_NUMBER.sub(lambda match: f" {engine.format_number(int(match[0])).text} ", text)


def _parts_read(word: str) -> str:
    """A price in numbers and words, such as "25 dollars 50 cents"; of another word, its parts as they are read."""
    if price := PRICE.fullmatch(word):
        (unit, part), whole, decimals, scale = CURRENCIES[price[1]], price[2].replace(",", ""), price[3], price[4]
        whole = f"{int(whole):,}" if len(whole) <= 15 else whole  # without commas it is read digit by digit
        if scale or len(decimals or "00") != 2:
            word = f"{whole}{'.' * bool(decimals)}{decimals or ''} {SCALES.get(scale, '')} {unit}s"
        else:
            several = "pence" if part == "penny" else f"{part}s"
            counts = [(whole, unit, f"{unit}s"), (str(int(decimals or 0)), part, several)]
            read = [f"{n} {one if n == '1' else many}" for n, one, many in counts if n != "0"]
            word = " ".join(read) or f"0 {unit}s"
    for pattern, reading in READINGS:
        word = re.sub(pattern, reading, word)
    return word


def without_noises(transcript: str) -> str:
    """A transcript without what is no word: {NOISE}, [laughter], and (2), the second way to pronounce a word."""
    return NOISES.sub(" ", transcript)


def language_of(name: str) -> str:
    """The language of a code like en, sv-SE or zh_TW. RecipeError if it is none."""
    language = primary_language(name)
    if not LANGUAGE.fullmatch(language):
        raise RecipeError(f"'{name}' is no language; name it by its code, such as en, de or sv-SE")
    return language


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
    words = _engine().format_number(whole.replace(",", "") + decimals, purpose).text
    return words + " percent" * bool(percent)


@functools.cache
def _engine() -> "RbnfEngine":
    from unicode_rbnf import RbnfEngine

    return RbnfEngine.for_language("en")
