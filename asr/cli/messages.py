"""What commands print beside their results: messages, a progress bar, tables."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError, printable
from asr.output.writers import EXACT_NAMES

if TYPE_CHECKING:  # recognition takes a while to import, and an error before it should not wait
    from rich.progress import Progress

    from asr.recognize.offline import OnProgress

NAME_CHARACTERS = 30  # of a file's name beside a progress bar
OnStage = Callable[[str, float], None]  # called with the name of a stage and the share of it that is done


def complain(problem: object) -> None:
    """One line on standard error, if anybody reads that."""
    if sys.stderr is not None:  # `print` would take standard output instead
        with suppress(OSError, ValueError):
            print(f"asr: {AsrError(problem)}", file=sys.stderr, flush=True)


def complain_of_counts(written: int, folder: str | Path, **counts: int) -> None:
    """The line that closes a run over many recordings: "9 written to texts/, 1 failed"."""
    rest = "".join(f", {count} {what}" for what, count in counts.items() if count)
    complain(f"{written} written to {os.path.join(folder, '')}{rest}")


@contextmanager
def shown_warnings(logger: str, once: bool = False) -> Iterator[None]:
    """What a part of the package logs as a warning is a line on standard error.

    once: of equal lines the first: a file whose channels are recognized apart is read once for each.
    """
    told = set()

    class Complaints(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = record.getMessage()
            if not once or line not in told:
                told.add(line)
                complain(line)

    handler = Complaints(logging.WARNING)
    logging.getLogger(logger).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(logger).removeHandler(handler)


def name_in(format: str, name: str) -> str:
    """A file's name as the format can hold it: in JSON as it is, so that the file is found again, unless not UTF-8."""
    exact = format in EXACT_NAMES and name.encode("utf-8", "replace").decode() == name
    return name if exact else printable(name)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _progress(with_seconds: bool = False, **options: Any) -> "Progress":
    # Here, because a short transcription in a pipe should not wait for imports that it does not need.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    # While the bar is drawn, rich prints above it, but to standard error: text for a pipe must not go there.
    options |= {"console": Console(stderr=True), "transient": True, "redirect_stdout": sys.stdout.isatty()}
    about = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    seconds = [TextColumn("{task.completed:.0f} s of audio")] if with_seconds else []
    return Progress(*about, *seconds, TimeRemainingColumn(), **options)


@contextmanager
def audio_progress(
    lengths: Callable[[], list[float | None]], names: Sequence[str] | None = None
) -> "Iterator[OnProgress | None]":
    """A progress bar in seconds of audio on a terminal's standard error, nothing in a pipe.

    Of several sources the number and the name of the current one are shown.

    Args:
        lengths: gives the seconds of each source; one that is unknown counts as long as the others on average.
        names: of the recordings, where some have several sources or none is read of some; the number is that of the
            recording. Without it sources are counted as they come.
    """
    if sys.stderr is None or not sys.stderr.isatty():  # None where the caller closed it
        yield None
        return
    seconds = lengths()
    known = [length for length in seconds if length is not None]
    current, number = None, 0
    total = len(seconds if names is None else names)
    numbers = {name: place for place, name in enumerate(names or (), 1)}

    def advance(source: object, done: float) -> None:
        nonlocal current, number
        if source is not current and total > 1:
            current, number = source, numbers.get(str(source), number + 1)
            name = printable(os.path.basename(str(source)))
            progress.update(task, description=f"{number}/{total} {name[:NAME_CHARACTERS]} ")
        progress.advance(task, done)

    with _progress(with_seconds=True) as progress:
        task = progress.add_task("", total=sum(known) / len(known) * len(seconds) if known else None)
        yield advance


@contextmanager
def stage_progress(stages: Mapping[str, float]) -> Iterator[OnStage]:
    """A progress bar with the time left on a terminal's standard error, nothing in a pipe.

    stages: in order, each with its usual share of the time.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda stage, share: None
        return
    before = dict(zip(stages, accumulate(stages.values(), initial=0.0), strict=False))
    with _progress(speed_estimate_period=600) as progress:  # seconds; some steps are long
        task = progress.add_task("", total=sum(stages.values()))
        yield lambda stage, share: progress.update(
            task, description=stage, completed=before[stage] + share * stages[stage]
        )
