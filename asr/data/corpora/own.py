"""One's own recordings: listed in a table, or each beside its text."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.audio.sources import find_audio
from asr.data.corpora.corpus import Corpus, hold_out
from asr.data.manifest import Entry
from asr.data.text import language_of, spoken_words
from asr.errors import RecipeError


def csv_corpus(language: str) -> Corpus:
    """A table with the columns audio and text, and optionally speaker; audio is absolute or relative to the table."""
    return Corpus(
        "Your own recordings, listed in a table",
        "a CSV file with the columns audio, text and perhaps speaker",
        lambda table, _output: hold_out(_listed(table, language_of(language))),
    )


def folder_corpus(language: str) -> Corpus:
    """Recordings with their texts beside them, a.wav and a.txt. Folders in it are the speakers' names."""
    return Corpus(
        "Your own recordings, each beside its text",
        "recordings, and their texts in .txt files of the same names; folders in it are speakers",
        lambda folder, _output: hold_out(_beside(folder, language_of(language))),
    )


def read_table(table: Path, columns: tuple[str, ...], **options: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Each row of a table in UTF-8, behind its place for messages: FILE:LINE. RecipeError for one without a column.

    options: of csv.DictReader; without a delimiter, it is the comma, semicolon or tab, whatever the header has most.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, **{"delimiter": max("\t;,", key=header.count)} | options)
            if missing := [column for column in columns if column not in (rows.fieldnames or ())]:
                found = ", ".join(rows.fieldnames or ()) or "none"
                raise RecipeError(f"{table}: no column {missing[0]} (found: {found}); name it in the first row")
            for row in rows:
                if any(row[column] is None for column in columns):
                    raise RecipeError(f"{table}:{rows.line_num}: no {' or no '.join(columns)}; fill or delete the row")
                yield f"{table}:{rows.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{table}: cannot be read ({error}); save it as CSV in UTF-8") from error


def _listed(table: Path, language: str) -> Iterator[Entry]:
    for place, row in read_table(table, ("audio", "text")):
        if not row["audio"]:
            raise RecipeError(f"{place}: no audio; fill or delete the row")
        if any(row.get(None) or ()):  # a comma in the text would cut it there
            raise RecipeError(f"{place}: more fields than columns; put such a text in quotation marks")
        if "\n" in row["audio"] + row["text"]:  # a quotation mark that nothing closes takes in the rows below
            raise RecipeError(f"{place}: a field of several lines; close its quotes, or make it one line")
        name = row["audio"].strip()
        text = spoken_words(row["text"], language)
        yield Entry(os.path.splitext(name)[0], table.parent / name, text, None, row.get("speaker") or None)


def _beside(folder: Path, language: str) -> Iterator[Entry]:
    found = find_audio(folder)
    if not found:
        raise RecipeError(f"{folder}: no audio in it; put recordings there, and their texts beside them")
    for audio in found:
        written = audio.with_suffix(".txt")
        try:
            text = written.read_text(encoding="utf-8-sig") if written.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{written}: cannot be read ({error}); save it in UTF-8") from error
        name = audio.relative_to(folder).with_suffix("")
        speaker = name.parts[0] if len(name.parts) > 1 else None
        yield Entry(name.as_posix(), audio, spoken_words(text, language), None, speaker)
