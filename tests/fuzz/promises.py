"""What is promised of every input, whatever it holds: `kept` fails where a promise is broken."""

import os
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr.errors import MESSAGE_CHARACTERS, AsrError

SECONDS = 10  # for one input
GROWTH = 300 << 20  # bytes of memory, over all inputs of a harness
ROOT = Path(__file__).parents[2]
# What the program itself consists of and reads; everything else belongs to somebody.
OWN = (str(ROOT), *map(os.path.realpath, {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}))
SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/usr/lib", "/usr/share/zoneinfo", "/etc/localtime")

_allowed: tuple[str, ...] = ()  # nothing is watched while it is empty
_opened: list[str] = []


class BrokenPromise(AssertionError):
    pass


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook (PEP 578): sees what Python opens; what ffmpeg opens `tests/audio/test_self_contained.py` shows."""
    if not _allowed or threading.current_thread() is not threading.main_thread():
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if os.path.lexists(path) and not path.startswith((*_allowed, *OWN, *SYSTEM)):
            _opened.append(path)
    elif event in ("os.system", "os.exec", "socket.connect", "socket.getaddrinfo", "pickle.find_class"):
        _opened.append(event)


sys.addaudithook(_watch)


def memory() -> int:
    """Bytes in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _left() -> set[str]:
    """What is in the temporary folder, and processes that were started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    processes = children.read_text().split() if children.exists() else []
    return {str(path) for path in Path(tempfile.gettempdir()).rglob("*")} | {f"process {each}" for each in processes}


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """While an input in `folder` is used: only errors of ours, in one line, soon, nothing else opened, nothing left."""
    global _allowed
    before, files, started = _left(), len(os.listdir("/proc/self/fd")), time.monotonic()
    _opened.clear()
    _allowed = (str(folder), os.path.realpath(tempfile.gettempdir()))
    try:
        yield
    except AsrError as error:
        message = str(error)
        if not message.isprintable() or not 0 < len(message) <= MESSAGE_CHARACTERS:
            raise BrokenPromise(f"a message of {len(message)} characters: {message!r:.500}") from error
    finally:
        _allowed = ()
    seconds = time.monotonic() - started
    if seconds > SECONDS:
        raise BrokenPromise(f"{seconds:.1f} s")
    if _opened:
        raise BrokenPromise(f"opened outside the input: {_opened[:3]}")
    if left := _left() - before:
        raise BrokenPromise(f"left behind: {sorted(left)[:3]}")
    if len(os.listdir("/proc/self/fd")) > files + 3:  # a mapped file may be closed a little later
        raise BrokenPromise("files left open")
