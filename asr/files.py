"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
