"""Reads text and ARPA files: plain, gzip or xz, from a file, a pipe or standard input. Each is opened and read once."""

import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

from asr.errors import LanguageModelError, one_line
from asr.files import open_input
from asr.lm.vocabulary import SPECIAL
from asr.model.tokens import CONTROL
from asr.normalize import normalize

STDIN = "-"
BUFFER = 1 << 16  # bytes
MAX_LINE = 1 << 26
CACHED = 1 << 18  # words; some 50 MB
GZIP, XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"  # the first bytes of compressed files, whatever their names say
UNSUPPORTED = re.compile(rb"BZh[1-9]1A|\x28\xb5\x2f\xfd|PK\x03\x04|7z\xbc\xaf")  # of bzip2, zstd, zip, 7z


class _Reported(io.RawIOBase):
    """A file; `on_read` is called with the number of bytes at each reading."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], None]):
        self._file, self._on_read = file, on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._on_read(size)
        return size


@contextmanager
def open_source(path: Path | str, on_read: Callable[[int], None] | None = None) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a file, a pipe, or `-`, standard input. LanguageModelError if they cannot be read.

    on_read: called with the number of bytes, compressed if they are, each time that some were read.
    """
    try:
        if str(path) == STDIN and sys.stdin is None:
            raise LanguageModelError("-: there is no standard input; name a file")
        with nullcontext(sys.stdin.buffer) if str(path) == STDIN else open_input(path) as file:
            # A second buffer: that of a pipe itself peeks at no more than was written first, perhaps one byte.
            whole: Any = io.BufferedReader(file if on_read is None else _Reported(file, on_read), BUFFER)
            first = whole.peek(len(XZ))
            if UNSUPPORTED.match(first):
                raise LanguageModelError(f"{path}: compressed, but not by gzip or xz; decompress it first")
            if first.startswith(GZIP):
                yield gzip.GzipFile(fileobj=whole)  # type: ignore[misc]
            else:
                yield lzma.LZMAFile(whole) if first.startswith(XZ) else whole  # noqa: SIM115 (closed with the file)
            whole.detach()  # leaves standard input open
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise LanguageModelError(f"{path}: truncated or damaged ({one_line(error)}); copy or make it again") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def read_sentences(
    paths: Iterable[Path | str], as_is: bool = False, on_read: Callable[[int], None] | None = None
) -> Iterator[str]:
    """The lines of UTF-8 texts that have words in them, each normalized (`asr.normalize`) if not `as_is`.

    on_read: see `open_source`. Raises LanguageModelError, which names the file and, where it helps, the line.
    """
    normalized = lru_cache(CACHED)(normalize)  # a text has few different words: twenty times as fast as its lines
    for path in paths:
        with open_source(path, on_read) as file:
            # A compressed file of some MB may hold a line of many GB.
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE), b""), start=1):
                if len(line) == MAX_LINE:
                    raise LanguageModelError(
                        f"{path}:{number}: a line of over {MAX_LINE >> 20} MB; cut it at sentences"
                    )
                try:
                    # Some editors begin a file with a byte order mark, which would be a part of the first word.
                    sentence = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise LanguageModelError(f"{path}:{number}: not UTF-8; convert the text with iconv") from None
                if as_is and CONTROL.search(sentence.strip().replace("\t", " ")):
                    raise LanguageModelError(f"{path}:{number}: the text has control characters; remove them")
                if not as_is:
                    if "<" in sentence and (marks := set(SPECIAL).intersection(sentence.split())):
                        raise LanguageModelError(
                            f"{path}:{number}: the text has {marks.pop()} in it; remove such marks"
                        )
                    sentence = " ".join(filter(None, map(normalized, sentence.split())))
                if sentence.strip():
                    yield sentence
