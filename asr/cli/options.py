"""Options, messages and the progress bar that several commands share."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.audio.sources import STANDARD_INPUT
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DEFAULT_DECODER, DecoderOptions
from asr.errors import AsrError, one_line
from asr.output.writers import EXACT_NAMES, FORMATS, LIVE_FORMATS
from asr.recognize.offline import BATCH_SIZE, DEFAULT_MODEL, OnProgress


class DecoderChoice(StrEnum):
    greedy = "greedy"
    beam = "beam"


Format = StrEnum("Format", {name: name for name in FORMATS})  # type: ignore[misc]
LiveFormat = StrEnum("LiveFormat", {name: name for name in LIVE_FORMATS})  # type: ignore[misc]

Model = Annotated[str, typer.Option(help="A packaged model's name (see `asr models`) or a bundle's folder.")]
Decoder = Annotated[
    DecoderChoice, typer.Option(help="beam asks a language model and makes fewer errors; greedy is fastest.")
]
BeamWidth = Annotated[int, typer.Option(min=1, max=1024, help="Hypotheses that the beam decoder keeps.")]
LanguageModel = Annotated[
    str | None,
    typer.Option("--lm", help="For beam: a packaged language model's name, a file, or NONE; else the model's own."),
]
Hotwords = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="For beam: words and phrases to prefer, as in 'Ivanhoe, knee jerk:8'."),
]
HotwordsFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The same from a file, one a line.")]
Rescore = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="For beam: a recurrent language model that weighs the hypotheses again."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows recognised together; the text does not depend on it.")]

MODEL = DEFAULT_MODEL
DECODER = DecoderChoice(DEFAULT_DECODER)
BEAM = BEAM_WIDTH
BATCH = BATCH_SIZE
FORMAT = Format("txt")
LIVE_FORMAT = LiveFormat("txt")
WORD_TIMES = Format("ctm")


def decoder_options(
    decoder: DecoderChoice,
    beam_width: int,
    lm: str | None,
    hotwords: str | None,
    hotwords_file: Path | None,
    rescore: Path | None,
    nbest: int = 1,
) -> DecoderOptions:
    """What the options say. BadParameter for those that need another decoder, AsrError for a file that is none."""
    text = hotwords or ""
    if hotwords_file is not None:
        try:
            text += "\n" + hotwords_file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise AsrError(f"{hotwords_file}: cannot read the hotwords ({one_line(error)})") from error
    given = {
        "--lm": lm is not None,
        "--hotwords": bool(text.strip()),
        "--rescore": rescore is not None,
        "--nbest": nbest > 1,
    }
    if decoder is DecoderChoice.greedy and any(given.values()):
        option = next(option for option, used in given.items() if used)
        raise typer.BadParameter("goes with --decoder beam", param_hint=option)
    return DecoderOptions(decoder.value, beam_width, lm, text, nbest, rescore)


def check_names(format: Format, sources: Iterable[str]) -> None:
    """BadParameter if a manifest would have to name audio that is no file."""
    if format.value == "jsonl" and STANDARD_INPUT in sources:
        raise typer.BadParameter("standard input cannot be named in jsonl; save it as a file first", param_hint="-")


def complain(problem: object) -> None:
    """One line on standard error, if anybody reads that."""
    if sys.stderr is not None:  # `print` would take standard output instead
        with suppress(OSError, ValueError):
            print(f"asr: {problem}", file=sys.stderr, flush=True)


def printable(name: str) -> str:
    """A file's name as text can hold it: one line, no tabs, none of the half characters of a name that is not UTF-8."""
    return "".join(character if character.isprintable() else "?" for character in name)


def name_in(format: Format, name: str) -> str:
    """A file's name as the format can hold it: in JSON as it is, so that the file is found again, unless not UTF-8."""
    exact = format.value in EXACT_NAMES and name.encode("utf-8", "replace").decode() == name
    return name if exact else printable(name)


@contextmanager
def audio_progress(lengths: Callable[[], list[float | None]]) -> Iterator[OnProgress | None]:
    """A progress bar in seconds of audio on a terminal's standard error, nothing in a pipe.

    `lengths` gives the seconds of each source; one unknown length makes the bar one without an end.
    """
    if sys.stderr is None or not sys.stderr.isatty():  # None where the caller closed it
        yield None
        return
    # Here, because a short transcription in a pipe should not wait for imports that it does not need.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    seconds = lengths()
    known = [length for length in seconds if length is not None]
    with Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:.0f} s of audio"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # While the bar is drawn, rich prints above it, but to standard error: text for a pipe must not go there.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task("", total=sum(known) if len(known) == len(seconds) else None)
        yield lambda _source, done: progress.advance(task, done)


@contextmanager
def training_packages() -> Iterator[None]:
    """AsrError that says what to install if one of the imports inside fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise AsrError(f"training needs more packages ({error.name} is missing): pip install 'asr[train]'") from error
