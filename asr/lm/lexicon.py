"""Words with their pronunciations: dictionaries as text, and a form that opens in an instant.

A pronunciation is a string of phone letters (`asr.model.phones`). An entry is a word with one of its pronunciations.
Entries are sorted by pronunciation, so those whose pronunciations have a common prefix are consecutive: a decoder finds
the words that can follow from the phones so far. Arrays:

    phones, phone_starts  the pronunciations of the entries (`asr.lm.vocabulary.SortedStrings`)
    words                 the word of each entry, its rank among the words
    text, starts          the words (`asr.lm.vocabulary.SortedStrings`)
    given                 the entries word by word, the most usual pronunciation of a word first
    first                 the first place of each word in `given`
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from asr.errors import ArgumentError, LanguageModelError, one_line
from asr.files import replacing
from asr.lm.arrays import MAX_LINE, explain_damage, map_arrays, write_arrays
from asr.lm.source import open_source
from asr.lm.vocabulary import SortedStrings, join
from asr.model.phones import LETTERS, parse
from asr.model.tokens import CONTROL, MAX_WORD

MAGIC = b"asr lexicon 1\n"  # the number is raised when an old `asr` could not read a new file
DTYPES = {
    "phones": "u1",
    "phone_starts": "u4",
    "words": "u4",
    "text": "u1",
    "starts": "u4",
    "given": "u4",
    "first": "u4",
}
Entry = tuple[str, str]  # a word and its pronunciation


class Lexicon:
    """Words and pronunciations; `arrays` as above. ValueError or IndexError if they do not fit together."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays
        self.vocabulary = SortedStrings(arrays["text"], arrays["starts"])
        self._pronunciations = SortedStrings(arrays["phones"], arrays["phone_starts"])
        self._words, self._given, self._first = (arrays[name].data for name in ("words", "given", "first"))
        lengths = {len(self._pronunciations), len(self._words), len(self._given)}
        if len(lengths) != 1 or len(self._first) != len(self.vocabulary):
            raise ValueError("lengths differ")
        entries = len(self._words)
        limits = {"words": len(self.vocabulary), "given": entries, "first": entries}
        if any((arrays[name] >= limit).any() for name, limit in limits.items()):
            raise ValueError("entries differ")

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Lexicon":
        """The lexicon of words and pronunciations; a word's most usual pronunciation comes first, and of homophones the
        most usual word. ArgumentError for what is no word or no pronunciation.
        """
        by_word: dict[str, dict[str, None]] = {}
        for word, pronunciation in entries:
            if [word] != word.split() or CONTROL.search(word) or len(word) > MAX_WORD:
                raise ArgumentError(
                    f"'{one_line(word, 40)}' is not a word; it must not have a space or over {MAX_WORD} letters"
                )
            if not pronunciation or not {*LETTERS}.issuperset(pronunciation):
                raise ArgumentError(f"'{one_line(pronunciation)}' is not a pronunciation of '{word}' in {LETTERS}")
            by_word.setdefault(word, {})[pronunciation] = None
        vocabulary = sorted(word.encode() for word in by_word)
        ranks = {word.decode(): rank for rank, word in enumerate(vocabulary)}
        given = [(pronunciation.encode(), ranks[word]) for word in by_word for pronunciation in by_word[word]]
        sorting = sorted(range(len(given)), key=lambda place: given[place][0])
        place = np.empty(len(given), dtype=np.uint32)
        place[sorting] = np.arange(len(given))
        first = np.empty(len(vocabulary), dtype=np.uint32)
        first[[ranks[word] for word in by_word]] = np.cumsum([0, *map(len, by_word.values())])[:-1]
        text, starts = join(vocabulary)
        phones, phone_starts = join([given[place][0] for place in sorting])
        words = np.array([given[place][1] for place in sorting], dtype=np.uint32)
        arrays = (phones, phone_starts, words, text, starts, place, first)
        return cls(dict(zip(DTYPES, arrays, strict=True)))

    @classmethod
    def load(cls, path: Path | str) -> "Lexicon":
        """Open a binary lexicon, or read a dictionary (`read_dictionary`). LanguageModelError if it is neither."""
        path = Path(path)
        with open_source(path) as file:
            first = file.readline(MAX_LINE)
            if first == MAGIC:
                with explain_damage(path):
                    return cls(map_arrays(path, MAGIC, file.readline(MAX_LINE), DTYPES)[1])
            return cls.of(read_dictionary(chain([first], iter(partial(file.readline, MAX_LINE), b"")), path))

    def save(self, path: Path) -> None:
        """Write the binary form. An older file stays until it is complete. LanguageModelError."""
        try:
            with replacing(path) as part:
                write_arrays(part, MAGIC, {}, self.arrays)
        except OSError as error:
            raise LanguageModelError(f"{path}: cannot be written ({error.strerror}); choose another output") from error

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._words)

    def __iter__(self) -> Iterator[Entry]:
        """The entries in the order in which they were given, those of a word together."""
        return ((self.word(entry), self.pronunciation(entry)) for entry in self._given)

    def word(self, entry: int) -> str:
        return self.vocabulary[self._words[entry]].decode("utf-8", "replace")

    def pronunciation(self, entry: int) -> str:
        return self._pronunciations[entry].decode("utf-8", "replace")

    def narrow(self, prefix: str, within: range | None = None) -> range:
        """The entries whose pronunciations start with `prefix`; those that are pronounced so come first.

        `within`: the result for a shorter prefix, for speed.
        """
        return self._pronunciations.narrow(prefix, within)

    def pronunciations(self, word: str) -> list[str]:
        """How a word is pronounced, most usual first; empty for a word that is not in the lexicon."""
        number = self.vocabulary.get(word)
        if number is None:
            return []
        found = []
        for place in range(self._first[number], len(self)):
            if self._words[entry := self._given[place]] != number:
                break
            found.append(self.pronunciation(entry))
        return found

    def words(self, pronunciation: str) -> list[str]:
        """The words that are pronounced so, the most usual first."""
        found = []
        for entry in self.narrow(pronunciation):
            if self.pronunciation(entry) != pronunciation:
                break
            found.append(self.word(entry))
        return found


def read_dictionary(lines: Iterable[bytes], path: Path) -> Iterator[Entry]:
    """The entries of a text in UTF-8: on each line a word, white space and its pronunciation in ARPAbet.

    As in CMUdict, further pronunciations of a word may be marked "word(2)", lines that start with ;;; and what follows
    # after the phones are comments. LanguageModelError names `path` and line.
    """
    for number, line in enumerate(lines, start=1):
        try:
            # Some editors begin a file with a byte order mark, which would be a part of the first word.
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if not text or text.startswith(";;;"):
                continue
            word, _, phones = text.partition("\t") if "\t" in text else text.partition(" ")
            word, pronunciation = re.sub(r"(?<=.)\(\d+\)$", "", word.strip()), parse(phones.split("#")[0])
        except UnicodeDecodeError:
            raise LanguageModelError(f"{path}:{number}: not UTF-8; convert the dictionary with iconv") from None
        except ArgumentError as error:
            raise LanguageModelError(f"{path}:{number}: {error}") from None
        if [word] != word.split() or CONTROL.search(word) or len(word) > MAX_WORD or not pronunciation:
            raise LanguageModelError(f"{path}:{number}: not a word, a tab and its phones: '{one_line(text, 60)}'")
        yield word, pronunciation
