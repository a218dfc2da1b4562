"""The form in which an n-gram model opens in an instant, and the way to open any form.

A file is the arrays of `asr.lm.ngram` and of the vocabulary, little-endian, behind a line of JSON. It is mapped, not
read: processes share its pages, and only pages that are asked for are ever loaded.
"""

import json
from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError, one_line
from asr.lm.arpa import read_arpa
from asr.lm.files import writing
from asr.lm.ngram import NgramModel

MAGIC = b"asr n-grams 1\n"  # the number is raised when an old `asr` could not read a new file
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
    """Open a language model: the mapped form, or ARPA, plain or compressed. LanguageModelError if it is neither."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return _map(path, file.readline())
    except OSError as error:
        raise LanguageModelError(
            f"{path}: cannot read the language model ({error.strerror}); check the path"
        ) from error
    return read_arpa(path)


def _map(path: Path, header: bytes) -> NgramModel:
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))  # a plain array is faster
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


def write_mapped(model: NgramModel, path: Path) -> None:
    """Write the mapped form; a file of that name stays as it was until the new one is complete."""
    arrays = {name: np.ascontiguousarray(model.arrays[name]) for name in DTYPES}
    stored = {name: [array.dtype.str[1:], len(array)] for name, array in arrays.items()}
    header = MAGIC + json.dumps({"counts": model.counts, "arrays": stored}).encode() + b"\n"
    with writing(path) as part, part.open("wb") as file:
        file.write(header)
        for array in arrays.values():
            file.write(bytes(-file.tell() % ALIGNMENT))
            file.write(array.data)
