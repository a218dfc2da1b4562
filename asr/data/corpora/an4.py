"""AN4 (Acero 1990), the archive of Sphere files: spelled words, numbers and commands of 84 speakers."""

import re
from pathlib import Path

from asr.data.corpora.corpus import Corpus, Splits, hold_out
from asr.data.manifest import Entry
from asr.errors import RecipeError

LINE = re.compile(r"(.*?)\s*\(([^()\s]+)\)")  # <s> RUBOUT G M </s> (an251-fash-b)
MARKS = re.compile(r"<[^>]*>")  # sentence ends and silences, not words


def read(root: Path, _output: Path) -> Splits:
    """The corpus's test set, and its training set with some speakers set aside as dev."""
    return hold_out(_entries(root, "train"), lambda entry: entry.speaker) | {"test": _entries(root, "test")}


def _entries(root: Path, part: str) -> list[Entry]:
    """Texts are A to Z already, with numbers and letters as words; only the case changes."""
    lists = [root / "etc" / f"an4_{part}.{suffix}" for suffix in ("fileids", "transcription")]
    try:
        names, lines = (path.read_text(encoding="utf-8").splitlines() for path in lists)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{lists[0]}: cannot be read with {lists[1].name} beside it; give the folder an4") from error
    texts = {match[2]: MARKS.sub(" ", match[1]) for line in lines if (match := LINE.fullmatch(line.strip()))}
    entries = []
    for name in filter(None, map(str.strip, names)):  # an4_clstk/fash/an251-fash-b
        audio = root / "wav" / f"{name}.sph"
        if audio.stem not in texts:
            raise RecipeError(f"{lists[1]}: no line for {audio.stem}; unpack the archive again")
        entries.append(Entry(audio.stem, audio, " ".join(texts[audio.stem].lower().split()), None, audio.parent.name))
    return entries


AN4 = Corpus("English spelling and numbers, 1 h", "an4_sphere.tar.gz of speech.cs.cmu.edu/databases/an4", read, "an4")
