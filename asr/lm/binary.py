"""Opens and saves n-gram models: in a binary format, or ARPA.

A binary file is the arrays of `asr.lm.ngram` and of the vocabulary, mapped into memory (`asr.lm.arrays`).
"""

import gzip
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError
from asr.files import replacing
from asr.lm.arpa import MAX_ORDER, read_arpa, write_arpa
from asr.lm.arrays import ALIGNMENT, MAX_LINE, explain_damage, map_arrays, write_arrays
from asr.lm.ngram import CODES, MEMBERS, SMALL_CODES, NgramModel
from asr.lm.source import open_source

MAGIC = b"asr n-grams 1\n"
MAGIC_PACKED = b"asr n-grams 2\n"  # of files that version 1 of the format could not hold: see `NgramModel.packed`
MAGICS = MAGIC, MAGIC_PACKED  # of the same length
MAX_HEADER = 1 << 10  # bytes of the lines before the arrays
DTYPES = {
    "text": "u1",
    "starts": "u4",
    "words": "u2 u4",
    "first": "u4",
    "suffixes": "u4",
    "log_probs": "f4 u2 u1",  # a number, or its place in the table
    "backoffs": "f4 u2 u1",
    "log_prob_table": "f4",  # empty where the numbers themselves are stored
    "backoff_table": "f4",
    "members": "u4",  # empty where all words are; only in version 2
}


def load_model(path: Path | str) -> NgramModel:
    """Open a binary model, or ARPA, which may be gzip, xz or a pipe. LanguageModelError if it is neither."""
    path = Path(path)
    with open_source(path) as file:
        first = file.readline(MAX_LINE)
        if first in MAGICS:
            return _map(path, first, file.readline(MAX_LINE))
        return read_arpa(chain([first], iter(partial(file.readline, MAX_LINE), b"")), path)


def _map(path: Path, magic: bytes, header: bytes) -> NgramModel:
    with explain_damage(path):
        described, arrays = map_arrays(path, magic, header, _dtypes(magic))
        counts = described["counts"]
        if not isinstance(counts, list) or not 1 <= len(counts) <= MAX_ORDER:
            raise ValueError(f"counts are not of 1 to {MAX_ORDER} orders")
        if not all(type(count) is int and 0 <= count < 1 << 32 for count in counts):
            raise ValueError("counts are not all numbers of 32 bits")
        arrays.setdefault("members", arrays["first"][:0])
        _check_ends(counts, arrays)
        return NgramModel(counts, arrays, path)


def _check_ends(counts: list[int], arrays: dict[str, np.ndarray]) -> None:
    """ValueError if arrays do not fit together: of large ones the lengths and ends, so that a file opens at once."""
    inner, nodes = 1 + sum(counts[:-1]), 1 + sum(counts)
    third = 1 + sum(counts[: min(2, len(counts) - 1)])
    lengths = {
        "words": nodes,
        "log_probs": nodes,
        "first": inner + 1,
        "backoffs": inner,
        "starts": counts[0] + 1,
        "suffixes": inner - third,
    }
    if any(len(arrays[name]) != length for name, length in lengths.items()):
        raise ValueError("lengths differ")
    first, members = arrays["first"], arrays["members"]
    if first[0] != 1 or first[1] != 1 + counts[0] or first[-1] != nodes:
        raise ValueError("ends differ")
    if len(members) > MEMBERS or (members[1:] <= members[:-1]).any() or (members[-1:] >= counts[0]).any():
        raise ValueError("members not ascending")
    for values, table in (("log_probs", "log_prob_table"), ("backoffs", "backoff_table")):
        codes = 0 if arrays[values].dtype.kind == "f" else 1 << 8 * arrays[values].itemsize
        if (
            (codes > 0) != (len(arrays[table]) > 0)
            or len(arrays[table]) > codes
            or not np.isfinite(arrays[table]).all()
        ):
            raise ValueError(f"{table} does not fit")
    if arrays["log_probs"].dtype != arrays["backoffs"].dtype:
        raise ValueError("types differ")


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
                packed = len(model.arrays["members"]) > 0 or model.arrays["log_probs"].itemsize == 1
                magic = MAGIC_PACKED if packed else MAGIC
                arrays = {name: model.arrays[name] for name in _dtypes(magic)}
                write_arrays(part, magic, {"counts": model.counts}, arrays)
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be written ({error.strerror}); choose another output") from error


def _dtypes(magic: bytes) -> dict[str, str]:
    """Of the arrays of a version of the format."""
    return {name: dtype for name, dtype in DTYPES.items() if name != "members" or magic == MAGIC_PACKED}


def packed_size(counts: Sequence[int], text: int) -> int:
    """The most bytes that the file of a packed model has (`NgramModel.packed`).

    counts: n-grams of each order; at most 65,535 words end those of two words or more.
    text: bytes of all words.
    """
    words, nodes = counts[0], 1 + sum(counts)
    inner = 1 + sum(counts[:-1])
    suffixes = max(0, inner - 1 - sum(counts[:2]))
    members = MEMBERS if words > CODES else 0
    tables = 2 * SMALL_CODES
    room = MAX_HEADER + ALIGNMENT * len(DTYPES)
    return room + text + 4 * (words + 1 + inner + 1 + suffixes + members + tables) + 3 * nodes + inner
