"""Recordings as plain files: those below a folder, and copies of what is none, such as standard input or bytes."""

import io
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from asr.errors import ArgumentError, AsrError, AudioError, one_line
from asr.files import open_input, temporary_file, walk

STANDARD_INPUT = "-"
AUDIO_SUFFIXES = (
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".m4a", ".m4b", ".aac",
    ".ac3", ".wma", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".amr", ".awb", ".ape", ".wv", ".tta", ".voc",
    ".sph", ".gsm", ".mka", ".weba", ".mpga", ".m4r", ".3ga", ".dts", ".eac3", ".ra", ".mpc", ".dsf", ".tak", ".shn",
    ".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".flv", ".f4v", ".wmv", ".asf", ".mpg", ".mpeg", ".vob", ".3gp",
    ".3g2", ".ogv", ".ogm", ".ts", ".mts", ".m2ts", ".m2t", ".mxf", ".rm", ".rmvb", ".dv", ".divx",
    ".qt", ".mpe", ".mp1", ".f4a", ".bwf", ".nut", ".wtv", ".tod",
)  # fmt: skip
COPY_BYTES = 2**20  # at a time, of what is not a plain file
OPEN_FILES = "/proc/self/fd"  # on Linux, where a file can be opened again without a name

AudioFile = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]


def find_audio(folder: str | Path, on_error: Callable[[AsrError], object] | None = None) -> list[Path]:
    """The audio and video files below `folder`, told by suffix, sorted; hidden files and folders are left out.

    on_error: called for each folder below it that cannot be read; without it the first one is raised.
    """

    if not os.path.isdir(folder):
        raise AudioError(f"{folder}: no such folder; name an existing one")
    found = []
    for path, below, names in walk(folder, on_error, AudioError):
        below[:] = (name for name in below if not name.startswith("."))
        found += [Path(path, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in AUDIO_SUFFIXES and _is_audio(path))


def _is_audio(path: Path) -> bool:
    """Whether it is a file, and if it is called .ts, not one of TypeScript."""
    if not os.path.isfile(path):
        return False
    if path.suffix.lower() != ".ts":
        return True
    with suppress(OSError), path.open("rb") as file:
        return file.read(189)[::188] == b"GG"  # each packet of a transport stream begins so
    return True  # reading it says what is wrong


@contextmanager
def plain_file(source: AudioFile) -> Iterator[tuple[Path, str]]:
    """The path of a non-empty regular file with the content of `source`, and the name of `source` for messages."""
    with ExitStack() as stack:
        stream: IO[bytes]
        if isinstance(source, str | os.PathLike) and str(source) != STANDARD_INPUT:
            path, name = as_path(source), one_line(str(source), 4096)
            if not str(source):  # an unset variable; Path("") would be the current folder
                raise ArgumentError("source: an empty name; name a file")
            stream = stack.enter_context(_open(path, name))
            if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                yield path, name
                return
        elif isinstance(source, str | os.PathLike):
            if sys.stdin is None:
                raise AudioError("standard input is closed; name a file, or give it audio")
            stream, name = sys.stdin.buffer, "standard input"
        elif isinstance(source, bytes | bytearray | memoryview):
            stream, name = io.BytesIO(source), "bytes"
        elif isinstance(source, io.TextIOBase):
            raise ArgumentError("source: a text file; open it with mode 'rb'")
        else:
            stream, name = source, one_line(getattr(source, "name", "file object"), 4096)
        yield temporary_copy(stream, name, stack), name


def local_name(source: str) -> str:
    """The path in the address of a file (file:///…, RFC 8089); any other name as it is."""
    address = re.match("file://(?:localhost)?(/.*)", source, re.IGNORECASE | re.DOTALL)
    return unquote(address[1]) if address else source


def as_path(source: str | os.PathLike[str]) -> Path:
    """The path of a file, which may be given as an address."""
    return Path(local_name(source) if isinstance(source, str) else source)


def _open(path: Path, name: str) -> IO[bytes]:
    """The file, if it is a regular one with anything in it, or a pipe."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{name}: a folder, not a file; name the files in it")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
            raise AudioError(f"{name}: a device, not an audio file; name a file")
        if stat.S_ISREG(status.st_mode) and status.st_size == 0:
            raise AudioError(f"{name}: empty file (0 bytes); record or copy it again")
        return open_input(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        raise AudioError(f"{name}: no such file") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be opened: {error.strerror}") from None


def temporary_copy(stream: IO[bytes], name: str, stack: ExitStack) -> Path:
    """The path of a file, there until `stack` ends, with all of `stream`: decoders go back and forth, a pipe cannot.

    On Linux the file has no name in any folder, so that whatever kills the process leaves nothing behind. Raises
    AudioError, which names the stream `name`, if it cannot be read or is empty.
    """
    try:
        if os.path.isdir(OPEN_FILES):
            file: IO[bytes] = stack.enter_context(temporary_file())
            path = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")  # not "self": ffmpeg opens it, too
        else:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asr-"))) / "audio"
            file = stack.enter_context(path.open("wb"))
        while data := _read(stream, name):
            file.write(data)
        file.flush()
    except OSError as error:
        raise AudioError(
            f"{name}: cannot be copied to a temporary file: {error.strerror}; save it as a file, or set TMPDIR"
        ) from None
    if file.tell() == 0:
        raise AudioError(f"{name}: empty (0 bytes); give it audio")
    return path


def _read(stream: IO[bytes], name: str) -> bytes:
    try:
        data = stream.read(COPY_BYTES)
    except (OSError, ValueError, TypeError) as error:  # a closed file object; one whose `read` takes no size
        raise AudioError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ArgumentError(f"{name}: gives {type(data).__name__}; open it in binary mode")
    return data
