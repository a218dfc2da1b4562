"""Marks and case of words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MARKS = ("", ",", ".", "?", "!", ":", ";", "–")


@dataclass(frozen=True)
class Tag:
    """The mark after a word, one of MARKS, and the word in its case."""

    mark: str
    form: str
    case: str


class Tagger:
    """Puts marks after words, and words in their case."""

    language: str

    def __init__(self, source: str | Path = "en-written"):
        raise NotImplementedError

    def tag(
        self,
        words: Sequence[str],
        pauses: Sequence[float] | None = None,
        confidences: Sequence[float] | None = None,
    ) -> list[Tag]:
        """One Tag a word. pauses: seconds of silence after each word."""
        raise NotImplementedError


def find_tagger(language: str) -> Tagger | None:
    """The packaged tagger of a language, if it is installed."""
    return None
