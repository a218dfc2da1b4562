"""Mozilla Common Voice (Ardila et al. 2020), the folder of one language, as cv-corpus-17.0-2024-03-15/en.

Lhotse's reader knows 24 languages and the columns of some releases, and passes over missing clips, so the tables are
read here. Mozilla asks for consent before each download, so there is no other way than by hand.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from asr.data.corpora.corpus import Corpus, Splits
from asr.data.manifest import Entry
from asr.data.text import language_of, spoken_words
from asr.errors import RecipeError

SPLITS = ("train", "dev", "test")


def read(root: Path, _output: Path) -> Splits:
    """The splits of the corpus, which share no speakers. The folder's name is the language whose texts these are."""
    tables = {split: root / f"{split}.tsv" for split in SPLITS}
    if not all(table.is_file() for table in tables.values()):
        raise RecipeError(f"{root}: not all of train.tsv, dev.tsv and test.tsv; give {COMMONVOICE.origin}")
    try:
        language = language_of(root.name)
    except RecipeError as error:
        raise RecipeError(f"{root}: {error}: rename the folder as it is in the archive") from error
    seconds = _durations(root / "clip_durations.tsv")
    return {split: _entries(table, seconds, language) for split, table in tables.items()}


def _durations(table: Path) -> dict[str, float]:
    """Seconds by clip; none in old releases."""
    try:
        return {row["clip"]: int(row["duration[ms]"]) / 1000 for row in _rows(table, ("clip", "duration[ms]"))}
    except ValueError as error:
        raise RecipeError(f"{table}: a duration is not a number ({error}); unpack the archive again") from error


def _entries(table: Path, seconds: dict[str, float], language: str) -> Iterator[Entry]:
    for row in _rows(table, ("client_id", "path", "sentence")):
        clip = row["path"]
        text = spoken_words(row["sentence"], language)
        yield Entry(Path(clip).stem, table.parent / "clips" / clip, text, seconds.get(clip), row["client_id"])


def _rows(table: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a table, none if it is not there. Quotation marks in it have no meaning."""
    if not table.is_file():
        return
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            for row in rows:
                if any(row.get(column) is None for column in columns):
                    raise RecipeError(
                        f"{table}:{rows.line_num}: a row without {', '.join(columns)}; unpack the archive again"
                    )
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{table}: cannot be read ({error}); unpack the archive again") from error


COMMONVOICE = Corpus(
    "Sentences of many speakers, one language",
    "the folder of one language, as cv-corpus-17.0-2024-03-15/en, of commonvoice.mozilla.org",
    read,
)
