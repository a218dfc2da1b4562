"""Checksums of a model's files, in the form that `sha256sum -c` reads too: written at export, verified when asked."""

import hashlib
import re
from pathlib import Path

from asr.errors import BundleError
from asr.files import open_input, read_text
from asr.model.bundle import find_inside

SUMS = "SHA256SUMS"  # a line for each other file of the folder: checksum, two spaces, name


def checksum(path: Path) -> str:
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def write_checksums(folder: Path) -> None:
    """For all files of a model's folder. OSError."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{checksum(path)}  {path.name}\n" for path in files), encoding="utf-8")


def verify_checksums(folder: Path) -> bool:
    """Whether the folder has checksums. BundleError names the first file that differs, is missing, or has none."""
    path = find_inside(folder, SUMS)
    if path is None:
        return False
    try:
        lines = read_text(path).splitlines()
        named = {line[66:]: line[:64] for line in lines if re.fullmatch(r"[0-9a-f]{64}  [^/]+", line)}
        if len(named) != len(lines):
            raise BundleError(f"{path}: damaged; copy the model again")
        for name in sorted({file.name for file in folder.iterdir()} - {SUMS} | named.keys()):
            file = find_inside(folder, name)
            if file is None or name not in named or checksum(file) != named[name]:
                problem = "missing" if file is None else "has no checksum" if name not in named else "was changed"
                raise BundleError(f"{folder / name}: {problem}; copy the model again")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder}: cannot be verified ({error}); copy the model again") from error
    return True
