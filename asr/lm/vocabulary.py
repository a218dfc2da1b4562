"""The words of a language model, sorted by their UTF-8 bytes; a word's id is its rank.

Words with a common prefix have consecutive ids: a decoder finds the words that can follow from the letters so far.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from asr.model.tokens import CONTROL

UNKNOWN = "<unk>"
SENTENCE_START = "<s>"
SENTENCE_END = "</s>"
SPECIAL = (UNKNOWN, SENTENCE_START, SENTENCE_END)
ASCII_CONTROL = bytes(range(32)) + b"\x7f"
PADDED = 64  # bytes; strings that are all shorter are found several times faster
AFTER_ALL = b"\xff"  # sorts after every byte of UTF-8


class SortedStrings:
    """Strings sorted by their UTF-8 bytes, numbered by rank.

    text: the bytes of all end to end, uint8. starts: where each begins, and the length of `text`, uint32.

    ValueError if they do not fit together, or a string has characters that a terminal obeys.
    """

    def __init__(self, text: np.ndarray, starts: np.ndarray):
        # Slices of bytes and items of a memoryview are several times faster than those of an array.
        self._text, self._starts = text.tobytes(), starts.data
        if len(starts) == 0 or starts[0] != 0 or starts[-1] != len(text) or (starts[1:] < starts[:-1]).any():
            raise ValueError("strings do not follow each other")
        plain = len(self._text.translate(None, ASCII_CONTROL)) == len(text)
        if not plain or (not self._text.isascii() and CONTROL.search(self._text.decode())):
            raise ValueError("a string has control characters")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> bytes:
        return self._text[self._starts[number] : self._starts[number + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return (self._text[start:end] for start, end in pairwise(self._starts.tolist()))

    @cached_property
    def words(self) -> list[bytes]:
        """All of them, 3 MB for 40,000: `narrow` is then several times faster."""
        return [*self]

    @property
    def letters(self) -> set[str]:
        return {*self._text.decode()}

    def get(self, string: str) -> int | None:
        """The number of a string, of the first of equal ones; None if it is not there."""
        spelled = string.encode("utf-8", "replace")
        found = bisect_left(self, spelled)
        return found if found < len(self) and self[found] == spelled else None

    def find(self, others: "SortedStrings") -> np.ndarray:
        """The number of each of other strings among these, −1 where it is not one of them: int32 (others,)."""
        width = max(int(np.diff(strings._starts).max(initial=1)) for strings in (self, others))
        if width > PADDED or not len(self):
            numbers = {string: number for number, string in enumerate(self)}
            return np.array([numbers.get(string, -1) for string in others], dtype=np.int32)
        mine, theirs = self._padded(width), others._padded(width)
        places = np.searchsorted(mine, theirs).clip(max=len(self) - 1)
        return np.where(mine[places] == theirs, places, -1).astype(np.int32)

    def _padded(self, width: int) -> np.ndarray:
        """The strings as an array of numpy's, (strings,)."""
        padded = np.zeros((len(self), width), dtype=np.uint8)
        padded[np.arange(width) < np.diff(self._starts)[:, None]] = np.frombuffer(self._text, dtype=np.uint8)
        return padded.view(f"S{width}").ravel()

    def narrow(self, prefix: str, within: range | None = None) -> range:
        """The numbers of the strings that start with `prefix`; if one of them is `prefix` itself, it comes first.

        `within`: the result for a shorter prefix, for speed.
        """
        spelled = prefix.encode("utf-8", "replace")
        low, high = (0, len(self)) if within is None else (within.start, within.stop)
        low = bisect_left(self.words, spelled, low, high)
        return range(low, bisect_left(self.words, spelled + AFTER_ALL, low, high))


class Vocabulary(SortedStrings):
    """The words of a model; a word's id is its number. ValueError if <unk>, <s> or </s> is missing."""

    def __init__(self, text: np.ndarray, starts: np.ndarray):
        super().__init__(text, starts)
        special = [self.get(word) for word in SPECIAL]
        if None in special:
            raise ValueError(f"no {SPECIAL[special.index(None)]} in the vocabulary")
        self.unknown, self.sentence_start, self.sentence_end = (word for word in special if word is not None)

    def word(self, word: int) -> str:
        return self[word].decode("utf-8", "replace")  # a damaged file may cut a character

    def id(self, word: str) -> int:
        """The id of a word; that of <unk> if it is not in the vocabulary."""
        found = self.get(word)
        return self.unknown if found is None else found


def join(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """`text` and `starts` of strings."""
    return np.frombuffer(b"".join(strings), dtype=np.uint8), np.cumsum([0, *map(len, strings)], dtype=np.uint32)
