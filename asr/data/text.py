"""Texts of corpora: what is no word in them, and their languages; `asr.spoken` has the rule for their words."""

import re

from asr.errors import RecipeError
from asr.normalize import primary_language

NOISES = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\(\d+\)")
LANGUAGE = re.compile(r"[a-z]{2,3}")


def without_noises(transcript: str) -> str:
    """A transcript without what is no word: {NOISE}, [laughter], and (2), the second way to pronounce a word."""
    return NOISES.sub(" ", transcript)


def language_of(name: str) -> str:
    """The language of a code like en, sv-SE or zh_TW. RecipeError if it is none."""
    language = primary_language(name)
    if not LANGUAGE.fullmatch(language):
        raise RecipeError(f"'{name}' is no language; name it by its code, such as en, de or sv-SE")
    return language
