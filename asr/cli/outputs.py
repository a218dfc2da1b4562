"""The files that commands write: a text at once, and what `asr listen` hears, while it listens."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import soundfile

from asr.audio.resample import SAMPLE_RATE
from asr.cli import options
from asr.errors import AsrError, one_line
from asr.output.transcript import Segment
from asr.output.writers import LiveWriter

# What soundfile raises when a file cannot be written; AssertionError for a write that was cut short.
SOUNDFILE_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError, OSError)


class TextOutput:
    """Where finished utterances go, each as one complete piece: a file, or standard output.

    When the file cannot be written any more, what is there stays and the rest goes to standard output.
    Raises AsrError when it cannot be written to begin with.
    """

    def __init__(self, path: Path | None, writer: LiveWriter):
        self._path, self._writer = path, writer
        self._file: io.FileIO | None = None
        self._size = 0  # bytes of complete pieces
        self.failed = False
        if path is not None:
            try:
                self._file = io.FileIO(path, "a")  # an older text stays until there is a new one
            except OSError as error:
                raise AsrError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error

    def begin(self) -> None:
        """Replace what the file held."""
        if self._file is not None:
            with suppress(OSError):  # a pipe has no older text
                self._file.truncate(0)
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
            options.complain(
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
    """The audio as heard, in a file that grows; when it cannot grow any more, one line says so and listening goes on.

    The name's suffix is the format. Raises AsrError when it cannot be written to begin with.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._file: soundfile.SoundFile | None = None
        self.failed = False
        if path is not None:
            self._open(io.BytesIO(), SAMPLE_RATE).close()
            try:
                path.open("ab").close()  # as above, an older recording stays for now
            except OSError as error:
                raise AsrError(f"{path}: cannot be written ({error.strerror}); choose another --save-audio") from error

    def begin(self, rate: int) -> None:
        """Replace what the file held by audio at `rate` hertz."""
        if self._path is not None:
            self._file = self._open(str(self._path), rate)

    def write(self, samples: np.ndarray) -> None:
        """Samples (n,), −1…1."""
        if self._file is not None:
            with self._failure_told(self._file):
                self._file.write(samples)

    def close(self) -> None:
        if self._file is not None:
            with self._failure_told(self._file):
                self._file.close()

    def _open(self, target: str | io.BytesIO, rate: int) -> soundfile.SoundFile:
        assert self._path is not None
        try:
            return soundfile.SoundFile(target, "w", rate, 1, format=self._path.suffix[1:])
        except SOUNDFILE_ERRORS as error:
            raise AsrError(
                f"{self._path}: audio cannot be saved there ({_reason(error)}); name a .wav or .flac file"
            ) from error

    @contextmanager
    def _failure_told(self, file: soundfile.SoundFile) -> Iterator[None]:
        """Tell of the first failure, and write no more."""
        try:
            yield
        except SOUNDFILE_ERRORS as error:
            options.complain(f"{self._path}: cannot be written ({_reason(error)}); audio from here on is not saved")
            self._file, self.failed = None, True
            with suppress(*SOUNDFILE_ERRORS):
                file.close()


def _reason(error: BaseException) -> str:
    return one_line(getattr(error, "error_string", "") or str(error) or "no room")


def write_text(path: Path, text: str, mode: str = "w") -> None:
    """AsrError if it cannot be written. With mode "a" and no text it is only tried."""
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise AsrError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error
