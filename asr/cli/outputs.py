"""The files that commands write, and what they must not replace."""

import errno
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import soundfile

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import STANDARD_INPUT
from asr.cli.messages import complain
from asr.errors import AsrError, one_line
from asr.files import replacing
from asr.output.transcript import Segment
from asr.output.writers import LiveWriter

# What soundfile raises when a file cannot be written; AssertionError for a write that was cut short.
SOUNDFILE_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError, OSError)


class Guard:
    """Keeps a command's outputs from replacing what it reads, and without `force` from replacing anything.

    An empty file has nothing to lose; a pipe or a device is written to.
    """

    def __init__(self, reads: Iterable[str | Path | None], force: bool):
        self._force = force
        self._used = {identity: source for source in reads if source for identity in _identities(source)}

    def refusal(self, target: Path) -> str | None:
        """Why the target must not be written; None if it may be."""
        for identity in _identities(target):
            if identity in self._used:
                return f"{target}: is the same file as {self._used[identity]}; choose another --output"
        if not self._force and target.is_file() and target.stat().st_size:
            return f"{target}: exists; choose another name, or replace it with --force"
        return None

    def check(self, *targets: Path | None) -> None:
        """AsrError for the first target that must not be written, or is the same as one before it."""
        for target in filter(None, targets):
            if problem := self.refusal(target):
                raise AsrError(problem)
            self._used |= dict.fromkeys(_identities(target), target)


def _identities(name: str | Path) -> list[object]:
    """What all names of one file have in common: its path without links, and its number on the disk if it exists."""
    is_input, found = str(name) == STANDARD_INPUT, list[object]()
    with suppress(OSError, ValueError):  # also for words that are no file's name
        found += [] if is_input else [os.path.realpath(name)]
        status = os.stat(0 if is_input else name)
        found += (
            [] if stat.S_ISCHR(status.st_mode) else [(status.st_dev, status.st_ino)]
        )  # a terminal is read and written
    return found


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


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the folders above it; into a pipe or a device as it is. AsrError."""
    with _explained(path, "--output"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")


@contextmanager
def _explained(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AsrError(f"{path}: cannot be written ({error.strerror or error}); choose another {option}") from error


class TextOutput:
    """Writes finished utterances, each as one complete piece, to a file or to standard output.

    An older file stays until `begin`. When a file cannot be written any more, what is there stays and the rest goes to
    standard output. AsrError when it cannot be written to begin with.
    """

    def __init__(self, path: Path | None, writer: LiveWriter):
        self._path, self._writer = path, writer
        self._file: io.FileIO | None = None
        self._size = 0  # bytes of complete pieces
        self.failed = False
        if path is not None:
            check_writable(path)

    def begin(self) -> None:
        if self._path is not None:
            with _explained(self._path, "--output"):
                self._file = io.FileIO(self._path, "w")
        self._write(self._writer.begin(), "")

    def add(self, segment: Segment) -> None:
        self._write(self._writer.add(segment), f"{segment.text}\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, piece: str, shown: str) -> None:
        """The piece to where it belongs; a terminal beside a file is shown the plain text."""
        if self._file is not None and self._append(self._file, piece.encode()):
            piece = shown if sys.stdout.isatty() else ""
        if piece:
            print(piece, end="", flush=True)

    def _append(self, file: io.FileIO, piece: bytes) -> bool:
        """Whether the file took it; if not, none of it is left there, and nothing more will be written."""
        rest = piece
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            complain(
                f"{self._path}: cannot be written ({error.strerror});"
                " what is there stays, the rest goes to standard output"
            )
            with suppress(OSError):
                file.truncate(self._size)
            file.close()
            self._file, self.failed = None, True
            return False
        self._size += len(piece)
        return True


class AudioOutput:
    """Writes audio to a file in the format of its suffix. AsrError when it cannot be written to begin with.

    An older file stays until `begin`. When the file cannot grow any more, one line says so and listening goes on.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._file: soundfile.SoundFile | None = None
        self.failed = False
        if path is not None:
            self._open(io.BytesIO(), SAMPLE_RATE).close()
            check_writable(path, "--save-audio")

    def begin(self, rate: int) -> None:
        """rate: of the samples, in hertz."""
        if self._path is not None:
            self._file = self._open(str(self._path), rate)

    def write(self, samples: np.ndarray) -> None:
        """Samples (n,), −1…1."""
        if self._file is not None:
            with self._stop_on_failure(self._file):
                self._file.write(samples)

    def close(self) -> None:
        if self._file is not None:
            with self._stop_on_failure(self._file):
                self._file.close()

    def _open(self, target: str | io.BytesIO, rate: int) -> soundfile.SoundFile:
        assert self._path is not None
        try:
            return soundfile.SoundFile(target, "w", rate, 1, format=self._path.suffix[1:])
        except SOUNDFILE_ERRORS as error:
            # The format was tried in memory; then it is the disk, and libsndfile does not say why.
            advice = (
                "name a .wav or .flac file" if isinstance(target, io.BytesIO) else "make room, or choose another one"
            )
            raise AsrError(f"{self._path}: audio cannot be saved there ({_reason(error)}); {advice}") from error

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
