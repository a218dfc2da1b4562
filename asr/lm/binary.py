"""Opens and saves n-gram models: in a binary format, or ARPA.

A binary file is the arrays of `asr.lm.ngram` and of the vocabulary, mapped into memory (`asr.lm.arrays`).
"""

import gzip
from itertools import chain
from pathlib import Path

from asr.errors import LanguageModelError
from asr.files import replacing
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.arrays import MAX_LINE, explain_damage, map_arrays, write_arrays
from asr.lm.ngram import NgramModel
from asr.lm.source import open_source

MAGIC = b"asr n-grams 1\n"  # the number is raised when an old `asr` could not read a new file
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
    with explain_damage(path):
        described, arrays = map_arrays(path, MAGIC, header, DTYPES)
        counts = described["counts"]
        inner, nodes = 1 + sum(counts[:-1]), 1 + sum(counts)
        lengths = {"words": nodes, "log_probs": nodes, "first": inner + 1, "backoffs": inner, "starts": counts[0] + 1}
        if any(len(arrays[name]) != length for name, length in lengths.items()):
            raise ValueError("lengths differ")
        if arrays["first"][-1] != nodes or arrays["starts"][-1] != len(arrays["text"]):
            raise ValueError("ends differ")
        return NgramModel(counts, arrays)


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
                write_arrays(part, MAGIC, {"counts": model.counts}, {name: model.arrays[name] for name in DTYPES})
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be written ({error.strerror}); choose another output") from error
