"""Normalizes written text to the words that were spoken, in one language; the only rule for texts of corpora."""

import functools
import re
import unicodedata
from typing import TYPE_CHECKING

from asr.errors import RecipeError
from asr.normalize import APOSTROPHES

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

# Letters that do not decompose into a letter of a to z and a mark.
LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
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
PRICE = re.compile(r"([$£€])(\d[\d,]*)(?:\.(\d\d))?")
# As they are usually read before a name.
EXPANDED = {
    "dr": "doctor", "st": "saint", "prof": "professor", "rev": "reverend", "gen": "general", "col": "colonel",
    "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "jr": "junior", "sr": "senior", "vs": "versus",
    "etc": "et cetera", "vol": "volume", "inc": "incorporated", "ltd": "limited", "no": "number",
}  # fmt: skip
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
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")  # no soft hyphens
    text = unicodedata.normalize("NFKC", visible.translate(APOSTROPHES))
    if language == "en":
        # In capitals a Roman number cannot be told from a word.
        if ABBREVIATION.search(text) or (ROMAN.search(text) and not text.isupper()):
            return ""
        text = " ".join(map(_spelled, text.lower().split())).replace("&", " and ")
        letters = unicodedata.normalize("NFD", text.translate(LETTERS))
        text = "".join(character for character in letters if unicodedata.category(character) != "Mn")
    elif language in ("tr", "az"):
        text = text.replace("I", "ı").replace("İ", "i").lower()  # two letters there, with a dot and without one
    else:
        text = text.lower()
    if any(_is_unsure(character, language) for character in text):
        return ""
    kept = "".join(c if c == "'" or unicodedata.category(c)[0] in "LM" else " " for c in text)
    words = [word for word in (word.strip("'") for word in kept.split()) if word]
    return " ".join(TITLES.get(word, word) if language == "en" else word for word in words)


def read_aloud(word: str, language: str = "en") -> str:
    """The words that are most likely spoken for a written one: `spoken_words`, and a guess where that gives none.

    Prices, abbreviations and other numbers are read as in English; in other languages numbers only.
    """
    if (spoken := spoken_words(word, language)) or language != "en":
        return spoken or " ".join(_digits_read(word, language).lower().split())
    bare = word.strip(AROUND_NUMBERS).lower()
    if price := PRICE.fullmatch(bare):
        unit, part = CURRENCIES[price[1]]
        counts = [(price[2].replace(",", ""), unit), (price[3] or "", part)]
        read = [
            f"{count} {'pence' if name == 'penny' else name + 's' * (count.lstrip('0') != '1')}"
            for count, name in counts
            if count
        ]
        return spoken_words(_digits_read(" ".join(read), language), language)
    return EXPANDED.get(bare) or spoken_words(_digits_read(word, language), language)


def _digits_read(text: str, language: str) -> str:
    from unicode_rbnf import RbnfEngine

    try:
        engine = RbnfEngine.for_language(language)
    except ValueError:  # a language without such rules
        return text
    return READ_NUMBER.sub(lambda match: f" {engine.format_number(int(match[0])).text} ", text)


def without_noises(transcript: str) -> str:
    """A transcript without what is no word: {NOISE}, [laughter], and (2), the second way to pronounce a word."""
    return NOISES.sub(" ", transcript)


def language_of(name: str) -> str:
    """The language of a code like en, sv-SE or zh_TW. RecipeError if it is none."""
    language = re.split("[-_]", name)[0].lower()
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
