"""Files here, in a bucket or on the web, through fsspec."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from asr.audio.files import temporary_copy
from asr.errors import AsrError, AudioError, is_disk_full, one_line
from asr.files import open_input, replacing

TRIES = 4  # to read or write something far away; after each the wait is twice as long
FIRST_WAIT = 0.5  # seconds


def is_url(path: str) -> bool:
    return "://" in path


def open_system(path: str) -> tuple[Any, str]:
    """The file system of a path or address, and the path there; AsrError if there is none of that kind."""
    try:
        system, inside = fsspec.core.url_to_fs(path if is_url(path) else str(Path(path).absolute()))
    except (ImportError, ValueError) as error:
        raise AsrError(f"{path}: {one_line(error)}") from None
    return system, inside


class Store:
    """A folder or a bucket. What is written is there whole or not at all. AsrError, also without access."""

    def __init__(self, path: str):
        self.path = path if path.endswith("://") else path.rstrip("/") or path
        self.system, self.root = open_system(self.path)
        self._local = isinstance(self.system, LocalFileSystem)

    def names(self, folder: str = "") -> list[str]:
        """Of the files in a folder, sorted; none if there is no such folder."""
        self.system.invalidate_cache()
        try:
            found = self._try("list", lambda: self.system.ls(self._place(folder), detail=False))
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        place = self._place(name)

        def get() -> bytes:
            if not self._local:
                return self.system.cat_file(place)
            with open_input(place) as file:
                return file.read()

        try:
            return self._try("read", get)
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        return bool(self._try("read", lambda: self.system.exists(self._place(name))))

    def write(self, name: str, content: bytes) -> None:
        place = self._place(name)

        def put() -> None:
            if not self._local:
                self.system.pipe_file(place, content)  # a bucket shows an object when all of it has arrived
                return
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            with replacing(Path(place)) as part:
                part.write_bytes(content)

        self._try("write", put)

    def remove(self, folder: str) -> None:
        """A folder with all that is in it, if there is one."""
        if self.exists(folder):
            self._try("remove", lambda: self.system.rm(self._place(folder), recursive=True))

    def _place(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def _try(self, what: str, action: Any) -> Any:
        try:
            return action() if self._local else patiently(action)
        except Exception as error:  # each bucket's library has errors of its own
            if isinstance(error, FileNotFoundError) and what != "write":
                raise
            place = "folder" if self._local else "address"
            advice = "make room" if is_disk_full(error) else f"check the {place} and the access, or name another"
            raise AsrError(f"{self.path}: cannot {what}: {one_line(error)}; {advice}") from None


def patiently(action: Any) -> Any:
    """The result of an action that may fail for a moment: a bucket throttles, a connection breaks off."""
    wait = FIRST_WAIT
    for _ in range(TRIES - 1):
        try:
            return action()
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception:  # as above
            time.sleep(wait)
            wait *= 2
    return action()


@contextmanager
def local_file(path: str) -> Iterator[str]:
    """The path of a recording, of one at an address that of a copy. AudioError."""
    if not is_url(path):
        yield path
        return

    def fetch() -> tuple[ExitStack, Path]:
        with ExitStack() as attempt, system.open(inside, "rb") as remote:
            copy = temporary_copy(remote, path, attempt)
            return attempt.pop_all(), copy

    try:
        system, inside = open_system(path)
        stack, copy = patiently(fetch)
    except AudioError:
        raise
    except Exception as error:  # each bucket's library has errors of its own
        message = f"{path}: cannot be fetched: {one_line(error)}; check the address and the access"
        raise AudioError(message) from None
    with stack:
        yield str(copy)
