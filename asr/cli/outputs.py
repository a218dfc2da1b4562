"""The files that commands write, and what they must not replace."""

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import typer

from asr.audio.files import STANDARD_INPUT
from asr.cli.messages import complain
from asr.errors import AsrError, one_line
from asr.files import replacing
from asr.output.subtitles import LAYOUT, Layout
from asr.output.transcript import Segment
from asr.output.writers import LAYOUT_FORMATS, Writer

# What soundfile raises when a file cannot be written; AssertionError for a write that was cut short.
SOUNDFILE_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError, OSError)


class Guard:
    """Keeps a command's outputs from replacing what it reads, and without `force` from replacing anything.

    An empty file has nothing to lose; a pipe or a device is written to.
    """

    def __init__(self, reads: Iterable[str | Path | None], force: bool):
        self._force = force
        self._used = {_identity(source): source for source in reads if source}

    def refusal(self, target: Path) -> str | None:
        """Why the target must not be written; None if it may be."""
        if (used := self._used.get(_identity(target))) is not None:
            return f"{target}: is the same file as {used}; choose another --output"
        if not self._force and self.is_there(target):
            return f"{target}: exists; choose another name, or replace it with --force"
        return None

    @staticmethod
    def is_there(target: Path) -> bool:
        """Whether the target exists and holds something."""
        return target.is_file() and target.stat().st_size > 0

    def check(self, target: Path | None, option: str = "--output") -> None:
        """AsrError if the target must not or cannot be written, or was the target before."""
        if target is not None:
            if problem := self.refusal(target):
                raise AsrError(problem)
            check_writable(target, option)
            self._used[_identity(target)] = target


def _identity(name: str | Path) -> object:
    """The same for all names of one file: its number on the disk, or its path without links if it does not exist."""
    try:
        status = os.stat(0 if str(name) == STANDARD_INPUT else name)
    except OSError:
        return os.path.realpath(name)
    is_terminal = stat.S_ISCHR(status.st_mode)  # which may be read and written
    return object() if is_terminal else (status.st_dev, status.st_ino)


def check_writable(path: Path, option: str = "--output", make_folder: bool = False) -> None:
    """Try to write beside `path`, before hours of work are done for nothing. AsrError."""
    with _explained(path.parent if make_folder else path, option):
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.is_file() or not path.exists():  # else it is a pipe or a device
            with tempfile.TemporaryFile(dir=path.parent):
                pass


def check_layout(layout: Layout, formats: Collection[str]) -> None:
    """BadParameter for an option of the layout that changes none of the formats."""
    for name, changed in LAYOUT_FORMATS.items():
        if getattr(layout, name) != getattr(LAYOUT, name) and not {*formats} & {*changed}:
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"goes with --format {' or '.join(changed)}", param_hint=option)


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a file, whole or not at all, with the folders above it; into a pipe or a device as it is. AsrError.

    text: also in parts.
    """
    with _explained(path, "--output"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("w", encoding="utf-8") as file:
            file.writelines([text] if isinstance(text, str) else text)


@contextmanager
def _explained(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AsrError(f"{path}: cannot be written ({error.strerror or error}); choose another {option}") from error


class TextOutput:
    """Writes finished utterances, each as one complete piece, to a file or to standard output.

    When a file cannot be written any more, what is there stays and the rest goes to standard output.
    """

    def __init__(self, path: Path | None, writer: Writer):
        self._path, self._writer = path, writer
        self._file: IO[bytes] | None = None
        self._size = 0  # bytes of complete pieces
        self.failed = False
        if path is not None:
            with _explained(path, "--output"):
                self._file = path.open("wb")
        self._write(writer.begin(), "")

    def add(self, segment: Segment, heard: float) -> None:
        """The next utterance, after so many seconds of audio."""
        self._write(self._writer.add(segment, heard=heard), f"{segment.written}\n")

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # of what could not be written before
                self._file.close()
            self._file = None

    def _write(self, piece: str, shown: str) -> None:
        """The piece to where it belongs; a terminal beside a file is shown the plain text."""
        if self._path is not None and self._file is not None:
            data = piece.encode()
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                complain(
                    f"{self._path}: cannot be written ({error.strerror});"
                    " what is there stays, the rest goes to standard output"
                )
                self.failed = True
                self.close()
                with suppress(OSError):
                    os.truncate(self._path, self._size)
            else:
                self._size += len(data)
                piece = shown if sys.stdout.isatty() else ""
        if piece:
            print(piece, end="", flush=True)


class AudioOutput:
    """Writes audio at `rate` hertz to a file in the format of its suffix; one line when it cannot grow any more."""

    def __init__(self, path: Path | None, rate: int, channels: int = 1):
        self._path = path
        self._file: soundfile.SoundFile | None = None
        self.failed = False
        if path is not None:
            try:
                self._file = soundfile.SoundFile(str(path), "w", rate, channels, format=path.suffix[1:])
            except SOUNDFILE_ERRORS as error:
                raise AsrError(
                    f"{path}: audio cannot be saved there ({_reason(error)}); "
                    "name a .wav or .flac file where there is room"
                ) from error

    def write(self, samples: np.ndarray) -> None:
        """Samples (n,) or (n, channels), −1…1."""
        if self._file is not None:
            with self._stop_on_failure(self._file):
                self._file.write(samples)

    def close(self) -> None:
        if self._file is not None:
            with self._stop_on_failure(self._file):
                self._file.close()

    @contextmanager
    def _stop_on_failure(self, file: soundfile.SoundFile) -> Iterator[None]:
        """Report the first failure, and write no more."""
        try:
            yield
        except SOUNDFILE_ERRORS as error:
            complain(f"{self._path}: cannot be written ({_reason(error)}); audio from here on is not saved")
            self._file, self.failed = None, True
            with suppress(*SOUNDFILE_ERRORS):
                file.close()


def _reason(error: BaseException) -> str:
    return one_line(getattr(error, "error_string", "") or str(error) or "only a part could be written")
