"""What the readers of Lhotse and torchaudio need here: their errors become one line, their sets become entries."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from asr.data.manifest import Entry
from asr.errors import RecipeError, one_line


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """RecipeError for whatever a reader stumbles over: of a corpus that is not whole, they tell by any exception.

    Their progress bars are for a terminal; a log would keep every state of them.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    try:
        with nullcontext() if is_terminal else redirect_stderr(StringIO()):
            yield
    except Exception as error:
        reason = one_line(error, 240) or type(error).__name__
        raise RecipeError(f"{root}: cannot be read ({reason}); unpack the archive again") from error


def count_lines(paths: Iterable[Path]) -> int:
    """As Lhotse reads them, where only the end of a line ends it."""
    total = 0
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            total += sum(1 for _ in lines)
    return total


def entries_of(manifests: dict[str, Any], text: Callable[[Any], str], expected: int, root: Path) -> list[Entry]:
    """Entries of Lhotse's RecordingSet and SupervisionSet, sorted by id; `text` of a supervision is what was said.

    Lhotse passes over recordings that are missing, so their number is compared with the transcripts' lines.
    """
    recordings = {recording.id: recording for recording in manifests["recordings"]}
    entries = []
    for supervision in manifests["supervisions"]:
        recording = recordings[supervision.recording_id]
        audio = Path(recording.sources[0].source)
        entries.append(Entry(supervision.id, audio, text(supervision), recording.duration, supervision.speaker))
    if len(entries) != expected:
        raise RecipeError(
            f"{root}: {len(entries):,} recordings for {expected:,} lines of transcripts; unpack the archive again"
        )
    return sorted(entries, key=lambda entry: entry.id)
