"""Options that several commands share."""

import math
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from asr.decode.beam import BEAM_WIDTH
from asr.recognizer import BATCH_SIZE, DEFAULT_MODEL


class DecoderChoice(StrEnum):
    greedy = "greedy"
    beam = "beam"


Model = Annotated[str, typer.Option(help="A packaged model's name (see `asr models`) or a bundle's folder.")]
Decoder = Annotated[DecoderChoice, typer.Option(help="greedy is fastest; beam sums over alignments.")]
BeamWidth = Annotated[int, typer.Option(min=1, help="Hypotheses that the beam decoder keeps.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows recognised together; the text does not depend on it.")]

MODEL = DEFAULT_MODEL
DECODER = DecoderChoice.greedy
BEAM = BEAM_WIDTH
BATCH = BATCH_SIZE


def audio_progress(seconds: list[float | None]) -> tuple[Progress, "AudioTask"]:
    """A progress bar in seconds of audio on a terminal's standard error, nothing in a pipe.

    `seconds` are the lengths of the sources; one unknown length makes the bar one without an end.
    """
    console = Console(stderr=True)
    known = [length for length in seconds if length is not None]
    total = sum(known) if len(known) == len(seconds) else math.nan
    progress = Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:.0f} s of audio"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    return progress, AudioTask(progress, total)


class AudioTask:
    """Advances a progress bar by seconds of audio."""

    def __init__(self, progress: Progress, total: float):
        self._progress = progress
        self._task = progress.add_task("", total=None if math.isnan(total) else total)

    def __call__(self, _source: object, seconds: float) -> None:
        self._progress.advance(self._task, seconds)
