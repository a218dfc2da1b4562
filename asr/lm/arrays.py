"""Files of arrays, little-endian, after a line that says of what kind the file is and a line of JSON.

They are mapped into memory: a file opens at once, processes share its pages, and only pages that are used are loaded.
"""

import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import LanguageModelError, one_line

MAX_LINE = 1 << 16  # bytes of a first line: of any file, also of one without lines
PIECE = 1 << 24  # numbers to write at a time
ALIGNMENT = 64  # bytes: where arrays start in the file


def map_arrays(
    path: Path, magic: bytes, header: bytes, dtypes: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON and the arrays of a file that starts with the lines `magic` and `header`.

    dtypes: the arrays that it has, in this order, and the types that each may have, such as "f4 u2".
    Raises LanguageModelError if it is no file or compressed; within `explain_damage` also if it is damaged.
    """
    # An ordinary array of the mapped memory: np.memmap itself is slower.
    plain = path.is_file() and path.stat().st_size > 0
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r")) if plain else np.zeros(0, dtype=np.uint8)
    if data[: len(magic)].tobytes() != magic:
        raise LanguageModelError(f"{path}: is to be mapped into memory; it must be a file, and not compressed")
    described = json.loads(header)
    arrays = {}
    begin = len(magic) + len(header)
    for name, allowed in dtypes.items():
        dtype, length = described["arrays"][name]
        if dtype not in allowed.split() or type(length) is not int or length < 0:
            raise ValueError(f"{name} cannot be {one_line(length, 20)} numbers of type {one_line(dtype, 20)}")
        begin += -begin % ALIGNMENT
        end = begin + length * np.dtype(dtype).itemsize
        if end > len(data):
            raise ValueError(f"{name} ends at byte {end:,} of {len(data):,}")
        arrays[name] = data[begin:end].view(f"<{dtype}")
        begin = end
    return described, arrays


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """LanguageModelError in place of what is raised where the contents of a file do not fit together."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise LanguageModelError(f"{path}: truncated or damaged ({one_line(error)}); copy or build it again") from error


def write_arrays(path: Path, magic: bytes, described: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file that `map_arrays` reads. OSError."""
    stored = {name: [array.dtype.str[1:], len(array)] for name, array in arrays.items()}
    with path.open("wb") as file:
        file.write(magic + json.dumps({**described, "arrays": stored}).encode() + b"\n")
        for array in arrays.values():
            file.write(bytes(-file.tell() % ALIGNMENT))
            for begin in range(0, len(array), PIECE):
                file.write(np.ascontiguousarray(array[begin : begin + PIECE]).data)
                forget_pages(array)


def forget_pages(array: np.ndarray) -> None:
    """Take an array that is mapped from a file out of memory until it is read again."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
