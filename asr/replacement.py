"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write the new `path`: the old one stays until the new one is complete, also if that fails. OSError."""
    part = path.with_name(f"{path.name}.partial")
    try:
        yield part
        os.replace(part, path)
    finally:
        with suppress(OSError):  # half of it would take what room there is
            part.unlink()
