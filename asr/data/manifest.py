"""Manifests: which audio has which text, one JSON object a line, for training and evaluation alike.

    {"audio": "clips/0001.flac", "text": "good morning", "seconds": 1.9, "speaker": "ada", "id": "0001"}

`asr transcribe --format jsonl` adds a `confidence`, from 0 to 1.

`audio` is absolute or relative to the manifest. `audio` and `text` are required, the rest is optional, and
keys of other programs are ignored. Blank lines are skipped. The text may be empty: audio without speech.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import RecipeError


@dataclass(frozen=True)
class Entry:
    """One utterance. `seconds`, `speaker` and `confidence` (0…1, of the text) are None where the manifest has none."""

    id: str
    audio: Path
    text: str
    seconds: float | None
    speaker: str | None
    confidence: float | None = None
    phones: str | None = None  # the text as it is pronounced, one letter a phone


def read_manifest(path: Path | str, check_files: bool = False) -> list[Entry]:
    """Read a manifest in its own order.

    Without an `id`, the audio path as written there, less its suffix, is the id; ids are unique.
    `check_files` also asks the file system whether each audio file is there, without opening it.

    Raises RecipeError, one line that starts with `manifest:line:`, for the first line that is wrong.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the manifest ({error.strerror}); check the path") from error

    entries: list[Entry] = []
    line_of: dict[str, int] = {}
    # Only \n ends a line: a JSON string may hold U+2028 and others that str.splitlines would break at.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = _parse_entry(line, path.parent)
            if entry.id in line_of:
                raise _BadLine(f'the id "{entry.id}" is on line {line_of[entry.id]} too; give each line its own "id"')
        except _BadLine as error:
            raise RecipeError(f"{path}:{number}: {error}") from error
        line_of[entry.id] = number
        entries.append(entry)
    if not entries:
        raise RecipeError(f'{path}: the manifest is empty; write one {{"audio": …, "text": …}} a line')

    if check_files:
        missing = [entry for entry in entries if not os.path.isfile(entry.audio)]
        if missing:
            raise RecipeError(
                f"{path}:{line_of[missing[0].id]}: no audio file {missing[0].audio} ({len(missing)} of {len(entries)}"
                " are missing); paths count from the manifest's folder"
            )
    return entries


class _BadLine(ValueError):
    """What is wrong with a line; `read_manifest` knows which line it is."""


def _parse_entry(line: bytes, folder: Path) -> Entry:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _BadLine(f"not UTF-8 at byte {error.start + 1}; save the manifest as UTF-8") from error
    except json.JSONDecodeError as error:
        raise _BadLine(f"not JSON at column {error.colno} ({error.msg}); write one object a line") from error
    except (RecursionError, ValueError) as error:  # nested too deep; a number of too many digits
        raise _BadLine("not readable JSON; write one flat object a line") from error
    if not isinstance(fields, dict):
        raise _BadLine(f'not an object but {json.dumps(fields)[:40]}; write {{"audio": …, "text": …}}')

    audio = _required_text(fields, "audio")
    if not audio.strip() or "\0" in audio:
        raise _BadLine('"audio" is not a path; write the path of an audio file')
    text = _required_text(fields, "text")
    identifier = _optional_text(fields, "id")
    if identifier is None:
        identifier = os.path.splitext(audio)[0]
    if not identifier.strip():
        raise _BadLine('"id" is empty; give it a value or leave it out')
    return Entry(
        id=identifier,
        audio=folder / audio,  # an absolute path replaces the folder
        text=text,
        seconds=_seconds(fields.get("seconds")),
        speaker=_optional_text(fields, "speaker"),
        confidence=_confidence(fields.get("confidence")),
        phones=_optional_text(fields, "phones"),
    )


def _required_text(fields: dict[str, Any], key: str) -> str:
    if key not in fields:
        found = ", ".join(fields)[:80] or "none"
        raise _BadLine(f'no "{key}" (keys here: {found}); add "{key}": "…"')
    return _checked_text(key, fields[key])


def _optional_text(fields: dict[str, Any], key: str) -> str | None:
    return None if fields.get(key) is None else _checked_text(key, fields[key])


def _checked_text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _BadLine(f'"{key}" must be text, found {json.dumps(value)[:40]}; put it in quotation marks')
    if any("\ud800" <= character <= "\udfff" for character in value):
        # JSON can spell half a character, and then no file could be written with it.
        raise _BadLine(f'"{key}" holds half of a surrogate pair; write the character itself in UTF-8')
    return value


def _number(value: Any) -> float:
    """NaN for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)  # True is an int to Python
    try:
        return float(value) if is_number else math.nan
    except OverflowError:
        return math.inf


def _confidence(value: Any) -> float | None:
    if value is None:
        return None
    if not 0 <= (confidence := _number(value)) <= 1:
        raise _BadLine(f'"confidence" must be from 0 to 1, found {json.dumps(value)[:40]}; or leave it out')
    return confidence


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    seconds = _number(value)
    if not math.isfinite(seconds) or seconds <= 0:
        raise _BadLine(
            f'"seconds" must be a number above 0, found {json.dumps(value)[:40]}; write the length of the audio'
        )
    return seconds
