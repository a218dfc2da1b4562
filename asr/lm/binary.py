"""Opens and saves n-gram models: in a binary format, or ARPA.

A binary file is the arrays of `asr.lm.ngram` and of the vocabulary, little-endian, after a line of JSON. It is mapped
into memory: it opens at once, processes share its pages, and only pages that are used are loaded.
"""

import gzip
import json
import mmap
from itertools import chain
from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError, one_line
from asr.files import replacing
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.ngram import NgramModel
from asr.lm.source import open_source

MAGIC = b"asr n-grams 1\n"  # the number is raised when an old `asr` could not read a new file
MAX_LINE = 1 << 16  # bytes of a first line: of any file, also of one without lines
PIECE = 1 << 24  # numbers to write at a time
ALIGNMENT = 64  # bytes: where arrays start in the file
DTYPES = {
    "text": "u1",
    "starts": "u4",
    "words": "u2 u4",
    "first": "u4",
    "suffixes": "u4",
    "log_probs": "f4 u2",  # a number, or its place in the table
    "backoffs": "f4 u2",
    "log_prob_table": "f4",  # empty where the numbers themselves are stored
    "backoff_table": "f4",
}


def load_model(path: Path | str) -> NgramModel:
    """Open a binary model, or ARPA, which may be gzip, xz or a pipe. LanguageModelError if it is neither."""
    path = Path(path)
    with open_source(path) as file:
        first = file.readline(MAX_LINE)
        return _map(path, file.readline()) if first == MAGIC else read_arpa(chain([first], file), path)


def _map(path: Path, header: bytes) -> NgramModel:
    # An ordinary array of the mapped memory: np.memmap itself is slower.
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r")) if path.is_file() else np.zeros(0, dtype=np.uint8)
    if data[: len(MAGIC)].tobytes() != MAGIC:
        raise LanguageModelError(f"{path}: is to be mapped into memory; it must be a file, and not compressed")
    try:
        described = json.loads(header)
        counts, arrays = described["counts"], {}
        begin = len(MAGIC) + len(header)
        for name, dtypes in DTYPES.items():
            dtype, length = described["arrays"][name]
            begin += -begin % ALIGNMENT
            end = begin + length * np.dtype(dtype).itemsize
            if dtype not in dtypes.split() or end > len(data):
                raise ValueError(f"no room for {name}")
            arrays[name] = data[begin:end].view(f"<{dtype}")
            begin = end
        inner, nodes = 1 + sum(counts[:-1]), 1 + sum(counts)
        lengths = {"words": nodes, "log_probs": nodes, "first": inner + 1, "backoffs": inner, "starts": counts[0] + 1}
        if any(len(arrays[name]) != length for name, length in lengths.items()):
            raise ValueError("lengths differ")
        if arrays["first"][-1] != nodes or arrays["starts"][-1] != len(arrays["text"]):
            raise ValueError("ends differ")
        return NgramModel(counts, arrays)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise LanguageModelError(f"{path}: truncated or damaged ({one_line(error)}); copy or build it again") from error


def save_model(model: NgramModel, path: Path) -> None:
    """Write ARPA if the name ends in .arpa or .arpa.gz, else a binary file. An older file stays until the new one is
    complete. LanguageModelError if it cannot be written.
    """
    try:
        with replacing(path) as part:
            if path.name.endswith((".arpa", ".arpa.gz")):
                with (gzip.open if path.suffix == ".gz" else open)(part, "wt", encoding="utf-8") as file:
                    write_arpa(model, file)
            else:
                _write_binary(model, part)
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be written ({error.strerror}); choose another output") from error


def _write_binary(model: NgramModel, path: Path) -> None:
    arrays = {name: np.ascontiguousarray(model.arrays[name]) for name in DTYPES}
    stored = {name: [array.dtype.str[1:], len(array)] for name, array in arrays.items()}
    with path.open("wb") as file:
        file.write(MAGIC + json.dumps({"counts": model.counts, "arrays": stored}).encode() + b"\n")
        for array in arrays.values():
            file.write(bytes(-file.tell() % ALIGNMENT))
            for begin in range(0, len(array), PIECE):
                file.write(array[begin : begin + PIECE].data)
                forget_pages(array)


def forget_pages(array: np.ndarray) -> None:
    """Take an array that is mapped from a file out of memory until it is read again."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
