"""Errors that a user can act on. Each message is one line: what is wrong, where, and what to do."""

import errno
import os
import re

MESSAGE_CHARACTERS = 300


class AsrError(Exception):
    """Base of every error that `asr` raises on purpose; the command line prints it as one line.

    The message is one printable line of at most 300 characters: of a longer one the middle is left out, since it begins
    with where and ends with what to do.
    """

    def __init__(self, message: object = ""):
        line = printable(str(message))
        if len(line) > MESSAGE_CHARACTERS:
            half = (MESSAGE_CHARACTERS - 1) // 2
            line = f"{line[:half]}…{line[-half:]}"
        super().__init__(line)


class ArgumentError(AsrError, ValueError):
    """A wrong argument of a function; the message names the argument and says what it may be."""


class AudioError(AsrError):
    """An audio file that is missing, is not audio, or cannot be decoded."""


class BundleError(AsrError):
    """A model bundle that is missing, incomplete, or made by an incompatible version."""


class LanguageModelError(AsrError):
    """A language model or lexicon, or a text to make one from, that is missing, damaged or cannot be used."""


class RecipeError(AsrError):
    """A recipe, manifest or override that cannot be trained from."""


class DeviceError(AsrError):
    """A microphone that is absent, busy, or vanished."""


def printable(text: str) -> str:
    """A text as a terminal can show it: one line, no tabs or escape sequences, no half characters."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def one_line(text: object, characters: int = 160) -> str:
    """A library's message or a file name as it fits into an error: one line, printable, not long."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", str(text))  # onnxruntime colours its messages
    line = printable(" ".join(plain.split())).rstrip(".")
    return line if len(line) <= characters else line[: characters - 1] + "…"


def os_error_code(error: Exception) -> int | None:
    """Of an OSError, also of the one that is named in a message of safetensors."""
    named = re.search(r"\(os error (\d+)\)", str(error))
    return int(named[1]) if named else getattr(error, "errno", None)


def describe_os_error(error: Exception) -> str:
    """What the system says and of which file, for a message: "Permission denied: /runs/en"."""
    code, file = os_error_code(error), getattr(error, "filename", None)
    problem = getattr(error, "strerror", None) or (os.strerror(code) if code else error)
    return one_line(f"{problem}{f': {file}' if file else ''}")


def is_disk_full(error: Exception) -> bool:
    """Whether room on the disk, or in the user's quota of it, is what is missing."""
    return os_error_code(error) in (errno.ENOSPC, errno.EDQUOT)
