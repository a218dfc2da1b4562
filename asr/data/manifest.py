"""Manifests: which audio has which text, one JSON object a line, for training and evaluation alike.

    {"audio": "clips/0001.flac", "text": "good morning", "seconds": 1.9, "speaker": "ada", "id": "0001"}

`audio` is absolute or relative to the manifest. `audio` and `text` are required, the rest is optional, and keys of
other programs are ignored. With an `offset` or a `duration` (seconds) the utterance is that part of the recording.
Blank lines are skipped. The text may be empty: audio without speech.
`asr transcribe --format jsonl` adds a `confidence`.
"""

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.audio.sources import MAX_SECONDS, Excerpt
from asr.errors import RecipeError, one_line
from asr.files import open_input

PART = ("offset", "duration")  # seconds, where a row of a table is a part of its recording
COLUMNS = {name: name for name in ("audio", "text", "speaker", *PART)}


@dataclass(frozen=True)
class Entry:
    """One utterance. Optional fields are None where the manifest has none."""

    id: str
    audio: Path
    text: str
    seconds: float | None
    speaker: str | None
    confidence: float | None = None  # 0…1, of the text
    phones: str | None = None  # the text as it is pronounced, one letter a phone
    offset: float = 0.0  # seconds of the recording before the utterance
    duration: float | None = None  # seconds of the utterance, if it is not all that follows

    @property
    def source(self) -> Path | Excerpt:
        """The recording, or the part of it that holds the utterance."""
        if not self.offset and self.duration is None:
            return self.audio
        end = None if self.duration is None else self.offset + self.duration
        return Excerpt(self.audio, start=self.offset, end=end)

    def spelled(self, spelling: str) -> str:
        """The text in "letters" or "phones"; nothing if it has no phones."""
        return self.text if spelling == "letters" else self.phones or ""


def read_manifest(path: Path | str, check_files: bool = False) -> list[Entry]:
    """Read a manifest in its own order.

    Without an `id`, the audio path as written there, less its suffix and with the offset, is the id; ids are unique.
    `check_files` also asks the file system whether each audio file is there, without opening it.

    Raises RecipeError, one line that starts with `manifest:line:`, for the first line that is wrong.
    """
    path = Path(path)
    try:
        with open_input(path) as file:
            content = file.read()
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the manifest ({error.strerror}); check the path") from error

    entries: list[Entry] = []
    line_of: dict[str, int] = {}
    # Only \n ends a line: a JSON string may hold U+2028 and others that str.splitlines would break at.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = parse_entry(line, path.parent)
            if entry.id in line_of:
                raise RecipeError(
                    f'the id "{entry.id}" is on line {line_of[entry.id]} too; give each line its own "id"'
                )
        except RecipeError as error:
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


class UnquotedTable(csv.excel):
    quoting = csv.QUOTE_NONE


def read_table(table: Path, names: Mapping[str, str] = COLUMNS) -> Iterator[Entry]:
    """The utterances of a CSV file in UTF-8, a row for each; audio is absolute or relative to the table.

    The delimiter is the comma, semicolon or tab, whatever the header has most. names: of the columns for audio and
    text, and of those that may be missing, see `COLUMNS`; in any case. RecipeError for a table or row that is wrong.
    """
    with table.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        if header.startswith("{"):
            raise RecipeError(f"{table}: JSON Lines, not a table; name it .jsonl, and for training in data.train")
        file.seek(0)
        # Common Voice's tables have quotation marks that nothing closes, and none that mean anything.
        dialect = UnquotedTable if "client_id" in header.split("\t") else csv.excel
        rows = csv.DictReader(file, dialect=dialect, delimiter=max("\t;,", key=header.count))
        yield from _rows(rows, table, names)


def _rows(rows: csv.DictReader, table: Path, names: Mapping[str, str]) -> Iterator[Entry]:
    found = {name.strip().lower(): name for name in rows.fieldnames or ()}
    for column in (names["audio"], names["text"]):
        if column.lower() not in found:
            raise RecipeError(
                f"{table}: no column {column} (found: {', '.join(found.values())}); rename the right one, or"
                " give its name as an option"
            )
    columns = {kind: found.get(name.lower()) for kind, name in names.items()}
    for row in rows:
        audio, text = row[columns["audio"]], row[columns["text"]]
        # A comma in the text would cut it there; a quotation mark that nothing closes takes in the rows below.
        if not audio or text is None or any(row.get(None) or ()) or "\n" in audio + text:
            raise RecipeError(
                f"{table}:{rows.line_num}: not one line with an audio and a text; fill or delete the row, and put a"
                " text with separators in quotation marks"
            )
        name = audio.strip()
        offset, duration = (_seconds(row, columns[kind], f"{table}:{rows.line_num}") for kind in PART)
        yield Entry(
            os.path.splitext(name)[0] + ("" if offset is None else f"-{offset:.10g}"),
            table.parent / name,
            text,
            None,
            row.get(columns["speaker"]) or None,
            offset=offset or 0.0,
            duration=duration or None,
        )


def _seconds(row: Mapping[str | None, str], column: str | None, place: str) -> float | None:
    text = (row.get(column) or "").strip() if column else ""
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = -1.0
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise RecipeError(f"{place}: {column} is “{text}”; write seconds, or leave it empty")
    return seconds


def parse_entry(line: bytes, folder: Path) -> Entry:
    """The utterance of a line. RecipeError for a wrong one, to which `read_manifest` adds its number."""
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"not JSON in UTF-8 ({one_line(error)}); write one flat object a line") from error
    if not isinstance(fields, dict):
        raise RecipeError(f'not an object but {json.dumps(fields)[:40]}; write {{"audio": …, "text": …}}')
    for key in ("audio", "text"):
        if key not in fields:
            found = ", ".join(fields)[:80] or "none"
            raise RecipeError(f'no "{key}" (keys here: {found}); add "{key}": "…"')
    for key in ("audio", "text", "id", "speaker", "phones"):
        if fields.get(key) is not None or key in ("audio", "text"):
            _check_text(key, fields[key])
    audio = fields["audio"]
    if not audio.strip() or "\0" in audio:
        raise RecipeError('"audio" is not a path; write the path of an audio file')
    seconds = read_number(fields, "seconds", sys.float_info.min, MAX_SECONDS)
    confidence = read_number(fields, "confidence", 0, 1)
    offset = read_number(fields, "offset", 0, MAX_SECONDS)
    duration = read_number(fields, "duration", sys.float_info.min, MAX_SECONDS)
    name = os.path.splitext(audio)[0] + ("" if offset is None else f"-{offset:.10g}")
    name = name if fields.get("id") is None else fields["id"]
    if not name.strip():
        raise RecipeError('"id" is empty; give it a value or leave it out')
    # An absolute path replaces the folder.
    return Entry(
        name,
        folder / audio,
        fields["text"],
        seconds or duration,
        fields.get("speaker"),
        confidence,
        fields.get("phones"),
        offset or 0.0,
        duration,
    )


def _check_text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise RecipeError(f'"{key}" must be text, found {json.dumps(value)[:40]}; put it in quotation marks')
    if any("\ud800" <= character <= "\udfff" for character in value):
        # JSON can spell half a character, and then no file could be written with it.
        raise RecipeError(f'"{key}" holds half of a surrogate pair; write the character itself in UTF-8')


def read_number(fields: dict[str, Any], key: str, lowest: float, highest: float) -> float | None:
    """A number of a row, None if it has none; RecipeError, which names no row, if it is out of range or no number."""
    value = fields.get(key)
    if value is not None and not (type(value) in (int, float) and lowest <= value <= highest):  # not True, an int, too
        limits = f"from 0 to {highest:g}" if lowest == 0 else f"above 0 and at most {highest:g}"
        raise RecipeError(f'"{key}" must be a number {limits}, found {json.dumps(value)[:40]}; or leave it out')
    return None if value is None else float(value)
