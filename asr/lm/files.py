"""Files that language models come from and go to: compressed or not, and never half written."""

import gzip
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from asr.errors import LanguageModelError, one_line
from asr.files import replacing

STDIN = "-"
OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
}  # by the first bytes, whatever the name says


@contextmanager
def reading(path: Path | str) -> Iterator[IO[bytes]]:
    """The bytes of a plain, gzip or xz file, or of standard input. LanguageModelError where they cannot be read."""
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with open(path, "rb") as file:
            first = file.read(max(map(len, OPENERS)))
        opener = next((opener for magic, opener in OPENERS.items() if first.startswith(magic)), Path.open)
        with opener(Path(path), "rb") as file:
            yield file
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(f"{path}: truncated or damaged ({one_line(error)}); copy or make it again") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Where to write the new `path`: the old one stays until the new one is complete. LanguageModelError."""
    try:
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be written ({error.strerror}); choose another output") from error
