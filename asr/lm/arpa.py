"""ARPA, the text format of n-gram models that SRILM, KenLM and others exchange: log10 numbers, one n-gram a line."""

import math
import re
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import numpy as np

from asr.errors import LanguageModelError, one_line
from asr.lm.arrays import MAX_LINE
from asr.lm.ngram import Level, NgramModel
from asr.lm.vocabulary import SPECIAL, UNKNOWN

LN10 = math.log(10)
MAX_ORDER = 16
LARGEST = 1e9  # of a log10: further off there is no probability
HEADING_LINES = 50  # before the counts, at most
UNKNOWN_LOG10 = -100.0  # <unk> in a model that does not have it, as in KenLM


class _Lines:
    """The lines of a file, stripped and without blank ones, and errors that name them."""

    def __init__(self, file: Iterable[bytes], path: Path):
        self._file = iter(file)
        self.path = path
        self.number = 0

    def __next__(self) -> bytes:
        for line in self._file:
            self.number += 1
            if len(line) >= MAX_LINE:
                raise self.error(f"longer than {MAX_LINE} bytes")
            if line := line.strip():
                return line
        raise LanguageModelError(f"{self.path}: ends too early; copy or make it again")

    def expect(self, expected: bytes) -> None:
        if (line := next(self)) != expected:
            raise self.error(f"expected “{_shown(expected)}”, found “{_shown(line)}”")

    def error(self, problem: str) -> LanguageModelError:
        return LanguageModelError(f"{self.path}: line {self.number}: {problem}")


def read_arpa(file: Iterable[bytes], path: Path) -> NgramModel:
    """Read a model from the lines of `file`; KenLM's rules of what is valid. LanguageModelError names `path`, line."""
    lines = _Lines(file, path)
    counts = _read_counts(lines)
    index: dict[bytes, int] = {}
    for order, count in enumerate(counts[1:], start=2):
        if count > counts[0] ** order:
            raise LanguageModelError(f"{path}: there cannot be {count:,} {order}-grams of {counts[0]:,} words")
    sections = [_read_section(lines, order, count, index) for order, count in enumerate(counts, start=1)]
    lines.expect(b"\\end\\")
    try:
        return _build(index, sections)
    except ValueError as error:
        raise LanguageModelError(f"{path}: {error}") from None


def _read_counts(lines: _Lines) -> list[int]:
    """The number of n-grams of each order, from the header."""
    line = b""
    while line != b"\\data\\":  # after a heading, or as Windows saves it
        try:
            line = next(lines).removeprefix(b"\xef\xbb\xbf")
        except LanguageModelError:
            line = b"\0"
        if lines.number > HEADING_LINES or b"\0" in line:
            raise LanguageModelError(f"{lines.path}: not a language model: neither ARPA nor made by `asr lm build`")
    counts: list[int] = []
    while (line := next(lines)) != b"\\1-grams:":
        matched = re.fullmatch(rb"ngram\s+(\d{1,2})\s*=\s*(\d{1,10})", line)
        if not matched or int(matched[1]) != len(counts) + 1 or len(counts) == MAX_ORDER:
            raise lines.error(f"expected “ngram {len(counts) + 1}=…”, found “{_shown(line)}”")
        counts.append(int(matched[2]))
    if not counts:
        raise lines.error("the header names no n-grams")
    return counts


def _read_section(lines: _Lines, order: int, count: int, index: dict[bytes, int]) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams of one order as they come: words (n-grams, order), numbered by place in the 1-grams, which fill
    `index`; log10 of probability and back-off weight (n-grams, 2).
    """
    if order > 1:
        lines.expect(b"\\%d-grams:" % order)
    ids, numbers = array("I"), array("d")
    for place in range(count):
        line = next(lines)
        if line.startswith(b"\\"):
            raise lines.error(f"the header promises {count} {order}-grams, here are {place}; copy the file again")
        fields = line.split()
        try:
            prob, backoff = float(fields[0]), float(fields[order + 1]) if len(fields) > order + 1 else 0.0
            if not (len(fields) in (order + 1, order + 2) and -LARGEST <= prob <= 0 and abs(backoff) <= LARGEST):
                raise ValueError
        except ValueError:
            raise lines.error(f"not a {order}-gram with its log10 probability: “{_shown(line)}”") from None
        if order == 1:
            word = UNKNOWN.encode() if fields[1] == b"<UNK>" else fields[1]
            if index.setdefault(word, place) != place:
                raise lines.error(f"“{_shown(word)}” is among the 1-grams twice")
        try:
            ids.extend([index[word] for word in fields[1 : order + 1]] if order > 1 else [place])
        except KeyError as error:
            raise lines.error(f"“{_shown(error.args[0])}” is not among the 1-grams") from None
        numbers.extend((prob, backoff))
    return np.array(ids, dtype=np.int64).reshape(-1, order), np.array(numbers).reshape(-1, 2)


def _build(index: dict[bytes, int], sections: list[tuple[np.ndarray, np.ndarray]]) -> NgramModel:
    """Sort words and n-grams, and find the context of each n-gram in the level below. ValueError says what is wrong."""
    missing = [word for word in SPECIAL if word.encode() not in index]
    if missing == [UNKNOWN]:
        index[UNKNOWN.encode()] = len(index)
        ids, numbers = sections[0]
        sections[0] = np.append(ids, [[len(ids)]], axis=0), np.append(numbers, [[UNKNOWN_LOG10, 0.0]], axis=0)
    elif missing:
        raise ValueError(f"no {missing[-1]} among the 1-grams; make the model from whole sentences")
    words = sorted(index)
    try:
        b" ".join(words).decode()
    except UnicodeDecodeError:
        raise ValueError("the words are not UTF-8; convert the file with iconv") from None
    rank = np.empty(len(words), dtype=np.int64)
    rank[[index[word] for word in words]] = np.arange(len(words))

    levels: list[Level] = []
    keys: list[np.ndarray] = []  # of each level, context × vocabulary + word, ascending
    for places, numbers in sections:
        ids = rank[places]
        context = np.zeros(len(ids), dtype=np.int64)
        for column in range(ids.shape[1] - 1):
            key = context * len(words) + ids[:, column]
            context = np.searchsorted(keys[column], key)
            known = np.append(keys[column], -1)[context] == key
            if not known.all():
                ngram = _shown(b" ".join(words[word] for word in ids[~known][0]))
                raise ValueError(f"“{ngram}” is there, but not the {column + 1}-gram that it starts with")
        key = context * len(words) + ids[:, -1]
        sorting = np.argsort(key)
        key = key[sorting]
        twice = np.flatnonzero(key[1:] == key[:-1])
        if len(twice):
            ngram = _shown(b" ".join(words[word] for word in ids[sorting[twice[0]]]))
            raise ValueError(f"“{ngram}” is there twice")
        levels.append(Level(context[sorting], ids[sorting, -1], *LN10 * numbers[sorting].T))
        keys.append(key)
    return NgramModel.of(words, levels)


def _shown(text: bytes) -> str:
    return one_line(text.decode("utf-8", "replace"), characters=60)


def write_arpa(model: NgramModel, file: TextIO) -> None:
    words = [model.vocabulary.word(word) for word in range(len(model.vocabulary))]
    file.write("\\data\\\n")
    file.writelines(f"ngram {order}={count}\n" for order, count in enumerate(model.counts, start=1))
    contexts = [""]
    for order, level in enumerate(model.levels(), start=1):
        file.write(f"\n\\{order}-grams:\n")
        pairs = zip(level.context.tolist(), level.word.tolist(), strict=True)
        contexts = [f"{contexts[context]}{words[word]} " for context, word in pairs]
        log10 = ((values / LN10).tolist() for values in (level.log_prob, level.backoff))
        for ngram, prob, backoff in zip(contexts, *log10, strict=True):
            file.write(f"{prob:.7g}\t{ngram[:-1]}" + (f"\t{backoff:.7g}\n" if order < model.order else "\n"))
    file.write("\n\\end\\\n")
