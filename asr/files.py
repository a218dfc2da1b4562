"""Files that may be read, and files that are there whole or not at all."""

import errno
import os
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from asr.errors import AsrError
from asr.signals import held_back

PIPE_SECONDS = 5.0  # to wait for a program that opens a pipe for writing
TEXT_BYTES = 1 << 24  # most of a file that is read whole


def open_input(path: str | Path) -> IO[bytes]:
    """Open a regular file, or a pipe that is written to. OSError, also for devices, which need not end."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise OSError(errno.ENOTSUP, "a device, not a file", str(path))
    return open_pipe(path) if stat.S_ISFIFO(mode) else open(path, "rb")


def open_pipe(path: str | Path) -> IO[bytes]:
    """OSError if no program opens the pipe for writing within 5 s: opening it would wait for one without end."""
    late = []

    def write_nothing() -> None:
        late.append(True)
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    timer = threading.Timer(PIPE_SECONDS, write_nothing)
    timer.daemon = True
    timer.start()
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    finally:
        timer.cancel()
    if late:
        file.close()
        raise OSError(errno.ETIMEDOUT, "no program writes to this pipe", str(path))
    return file


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """The text of a file as `open_input` opens it. OSError, also for one above 16 MB; UnicodeDecodeError."""
    with open_input(path) as file:
        content = file.read(TEXT_BYTES + 1)
    if len(content) > TEXT_BYTES:
        raise OSError(errno.EFBIG, f"larger than {TEXT_BYTES >> 20} MB", str(path))
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def stand_in(head: bytes) -> str | None:
    """What a file that begins so is in place of a recording or a model: "a web page, not …; what to do"; else None."""
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`"
    if re.match(rb"\s*<(!doctype )?html", head, re.IGNORECASE):
        return "a web page, not the file itself; download that"
    if head and not any(head):
        return "only zero bytes, as an unfinished download has them; download it again"
    return None


def walk(
    folder: str | Path, on_error: Callable[[AsrError], object] | None, kind: type[AsrError] = AsrError
) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`; on_error is called for each folder that cannot be read, else the first is raised, as `kind`."""

    def report(error: OSError) -> None:
        problem = kind(f"{error.filename}: cannot be read: {error.strerror}; check who may read the folder")
        if on_error is None:
            raise problem from error
        on_error(problem)

    return os.walk(folder, onerror=report)


def temporary_file() -> IO[bytes]:
    """A file that is gone when it is closed, on Linux without a name in any folder. OSError.

    `tempfile` chooses its folder by writing a file there, which an exception out of a signal would leave behind.
    """
    with held_back():
        return tempfile.TemporaryFile()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write the new `path`: the old one stays until the new one is complete, also if that fails. OSError.

    Who may read it is as for any new file, whatever the writer made of that (safetensors: none but the owner). Of a
    link the file is replaced, and a pipe or a device is written to itself: both are shared with other programs.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = Path(os.path.realpath(path))
    part = path.with_name(f"{path.name}.partial")
    part.unlink(missing_ok=True)  # of a process that was killed
    part.touch()
    mode = part.stat().st_mode
    try:
        yield part
        part.chmod(mode)
        os.replace(part, path)
    finally:
        with suppress(OSError):  # an incomplete file is of no use
            part.unlink()
