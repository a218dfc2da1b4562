"""Options that several commands share, and how a command parses and shows its own."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import update_wrapper
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import click
import numpy as np
import typer
from typer import Option
from typer.core import TyperCommand

from asr.audio.files import STANDARD_INPUT
from asr.audio.resample import to_mono
from asr.audio.sources import Excerpt, count_channels, duration
from asr.audio.stream import is_address
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DEFAULT_DECODER, WIDEST, DecoderName, DecoderOptions
from asr.errors import AsrError, AudioError, one_line
from asr.files import read_text
from asr.model.bundle import Bundle, load_bundle
from asr.model.session import MAX_THREADS
from asr.model.tagger import find_tagger
from asr.normalize import primary_language
from asr.output import transcript
from asr.output.subtitles import LAYOUT, Layout
from asr.output.writers import FORMATS, LIVE_FORMATS
from asr.recognize.offline import MAX_BATCH_SIZE

NO_SECOND_PASS = "none"
LANGUAGES = {"en": "English"}  # codes of the packaged models
CHANNELS = {"mix": None, "left": 1, "right": 2}


def parse_time(text: str) -> float:
    """Seconds of "90", "1:30" or "0:01:30.5"; BadParameter for anything else."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = [-1.0]
    seconds = sum(part * 60**place for place, part in enumerate(reversed(parts)))
    if min(parts) < 0 or not seconds < float("inf"):
        raise typer.BadParameter(f"'{text}' is no time; write seconds, or 1:02:03.5")
    return seconds


def format_option(formats: Iterable[str], default: str, more: str = "") -> Any:
    about = f"Format to write; without it that of --output's suffix, else {default}.{more}"
    return Option("--format", "-f", click_type=click.Choice([*formats]), help=about)


Formats = Annotated[list[str] | None, format_option(FORMATS, "txt", " May be given several times.")]
WordFormats = Annotated[list[str] | None, format_option(FORMATS, "ctm", " For many, several times.")]
LiveFormat = Annotated[str | None, format_option(LIVE_FORMATS, "txt", " json is one object a line.")]
Output = Annotated[Path | None, Option("--output", "-o", help="File to write instead of standard output.")]
Force = Annotated[bool, Option("--force", help="Replace files that exist.")]
SkipExisting = Annotated[bool, Option("--skip-existing", help="Leave out recordings whose files are written already.")]
Model = Annotated[str, Option("--model", "-m", help="Packaged model (English; see `asr models`) or bundle.")]
Language = Annotated[str | None, Option(help="Language that is spoken: an error if the model does not know it.")]
Style = Annotated[
    str | None,
    Option(
        click_type=click.Choice(get_args(transcript.Style)),
        help="written: sentences, capitals and numbers, the default where a model for that is installed; ctm, textgrid"
        " and jsonl are always spoken.",
    ),
]
Threads = Annotated[int, Option(min=0, max=MAX_THREADS, help="Processor threads; 0 for one per core.")]
BatchSize = Annotated[
    int, Option(min=1, max=MAX_BATCH_SIZE, help="Windows recognized together; the text does not depend on it.")
]

Lexicon = Annotated[
    Path | None,
    Option(metavar="FILE", help="For a model that spells phones: words and phones, to add to its own lexicon."),
]


@dataclass(frozen=True)
class Decoding:
    """Options of the decoder."""

    decoder: Annotated[
        str,
        Option(
            click_type=click.Choice(get_args(DecoderName)),
            help="beam: uses a language model, more accurate; greedy: fastest; attention: to compare, if a model has"
            " it.",
        ),
    ] = DEFAULT_DECODER
    beam_width: Annotated[int, Option(min=1, max=WIDEST, help="Hypotheses that the beam keeps.")] = BEAM_WIDTH
    lm: Annotated[
        str | None, Option("--lm", help="For beam: packaged language model, file or NONE; else the model's own.")
    ] = None
    hotwords: Annotated[
        str | None, Option(help="For beam: phrases to prefer, in the case to write, as in 'Ivanhoe, knee jerk:8'.")
    ] = None
    hotwords_file: Annotated[Path | None, Option(metavar="FILE", help="For beam: a file of them, one a line.")] = None
    rescore: Annotated[
        Path | None, Option(metavar="FOLDER", help="For beam: recurrent language model that rescores.")
    ] = None
    lexicon: Lexicon = None

    @property
    def files(self) -> list[str | Path | None]:
        """What is read, and must not be written to."""
        return [self.lm, self.hotwords_file, self.lexicon]

    def options(self, nbest: int = 1, second_pass: str | None = None) -> DecoderOptions:
        """BadParameter for options of another decoder, AsrError for hotwords that cannot be read."""
        text = self.hotwords or ""
        if self.hotwords_file is not None:
            try:
                text += "\n" + read_text(self.hotwords_file, "utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise AsrError(f"{self.hotwords_file}: cannot read the hotwords ({one_line(error)})") from error
        given = {
            "--lm": self.lm,
            "--hotwords": text.strip(),
            "--rescore": self.rescore,
            "--nbest": nbest > 1 and self.decoder == "greedy",
        }
        for option, value in given.items():
            reject_if(value and self.decoder != "beam", option, "goes with --decoder beam")
        name, two = cast(DecoderName, self.decoder), second_pass != NO_SECOND_PASS
        return DecoderOptions(name, self.beam_width, self.lm, text, nbest, self.rescore, self.lexicon, second_pass=two)


@dataclass(frozen=True)
class FileDecoding(Decoding):
    """Options of the decoder where no other model may be the second pass."""

    second_pass: Annotated[
        str | None,
        Option(
            click_type=click.Choice([NO_SECOND_PASS]),
            help="For beam: without the attention decoder of a model with one.",
        ),
    ] = None

    def options(self, nbest: int = 1, second_pass: str | None = None) -> DecoderOptions:
        return super().options(nbest, second_pass or self.second_pass)


@dataclass(frozen=True)
class TextLayout(Layout):
    """Options of the layout of texts and subtitles."""

    line_width: Annotated[int, Option(min=10, max=200, help="For srt, vtt and ass: characters in a line.")] = (
        LAYOUT.line_width
    )
    lines: Annotated[int, Option(min=1, max=9, help="For srt, vtt and ass: lines in a subtitle.")] = LAYOUT.lines
    timestamps: Annotated[bool, Option("--timestamps", help="For txt: the times of each segment before its text.")] = (
        LAYOUT.timestamps
    )
    highlight_words: Annotated[
        bool, Option("--highlight-words", help="For vtt and ass: light up each word when it is spoken.")
    ] = LAYOUT.highlight_words


@dataclass(frozen=True)
class Selection:
    """Options that say which sound of a recording is read."""

    channels: Annotated[
        str, Option(metavar="mix|left|right|N|each", help="each: recognize channels apart, and label them.")
    ] = "mix"
    track: Annotated[
        int | None, Option(min=1, help="Audio track of a video, from 1; else the one that a player plays.")
    ] = None

    def __post_init__(self) -> None:
        if self.channels not in (*CHANNELS, "each") and not re.fullmatch("[1-9][0-9]?", self.channels):
            raise typer.BadParameter("choose mix, left, right, each, or a number from 1", param_hint="--channels")

    @property
    def channel(self) -> int | None:
        """The one that is chosen, from 1; None for all."""
        return int(self.channels) if self.channels.isdigit() else CHANNELS.get(self.channels)

    def of(self, frames: np.ndarray, name: str) -> np.ndarray:
        """What is recognized of frames (n, channels): (n,), or (n, channels) if there are several and each is."""
        several = self.channels == "each" and frames.shape[1] > 1
        return frames if several else to_mono(frames, self.channel, name)

    def whole(self, source: Any) -> Excerpt:
        """What is read of a recording; of an excerpt of one all."""
        return source if isinstance(source, Excerpt) else Excerpt(source)

    def excerpts(self, source: Any) -> list[Excerpt]:
        """The parts of a recording, or of an excerpt of one, that are recognized apart. AudioError if it has none."""
        whole = self.whole(source)
        chosen: list[int | None] = [self.channel]
        if self.channels == "each":
            name = str(whole)
            if name == STANDARD_INPUT or is_address(name) or Path(name).is_fifo():
                raise AudioError(f"{name}: --channels each takes files only; save it as one, or name a channel")
            count = count_channels(name, self.track)
            chosen = [*range(1, count + 1)] if count > 1 else [None]
        return [dataclasses.replace(whole, channel=channel, track=self.track) for channel in chosen]


@dataclass(frozen=True)
class Part(Selection):
    """Options that say which part of a recording is read."""

    start: Annotated[
        float | None, Option(metavar="TIME", parser=parse_time, help="Begin there: seconds, or 1:02:03.5.")
    ] = None
    end: Annotated[float | None, Option(metavar="TIME", parser=parse_time, help="End there.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        reject_if(self.end is not None and self.end <= (self.start or 0.0), "--end", "is not after --start")

    def whole(self, source: Any) -> Excerpt:
        return source if isinstance(source, Excerpt) else Excerpt(source, start=self.start or 0.0, end=self.end)

    def seconds(self, source: Any) -> float | None:
        """How long it is, if that is known."""
        whole = self.whole(source)
        seconds = duration(str(whole))
        return seconds and max(0.0, min(seconds, whole.end or seconds) - whole.start)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of its arguments that are dataclasses, as those above."""
    declared = inspect.signature(command).parameters
    groups: dict[str, Any] = {}
    for name, option in declared.items():
        if dataclasses.is_dataclass(option.annotation):
            groups[name] = option.annotation

    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        command(**values)

    options: list[inspect.Parameter] = []
    kind = inspect.Parameter.KEYWORD_ONLY
    for name, option in declared.items():
        fields = dataclasses.fields(groups[name]) if name in groups else ()
        own = [inspect.Parameter(field.name, kind, default=field.default, annotation=field.type) for field in fields]
        options += own or [option.replace(kind=kind)]
    update_wrapper(run, command)
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def reject_if(wrong: object, option: str, problem: str) -> None:
    """BadParameter that names the option and what is wrong with it, if anything is."""
    if wrong:
        raise typer.BadParameter(problem, param_hint=option)


class Command(TyperCommand):
    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        assert self.callback is not None
        declared = inspect.signature(self.callback).parameters
        for argument in self.params:  # click 8.5 and later drop the help that typer gave them
            if isinstance(argument, click.Argument):
                argument.help = declared[str(argument.name)].annotation.__metadata__[0].help

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing here: typer shows the arguments before the options, and click 8.5 would once more."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Wrong usage if an option comes without its value; click would take the option after it for that."""
        options = {name: option for option in self.params for name in option.opts if isinstance(option, click.Option)}
        for word, following in pairwise([*takewhile(lambda word: word != "--", args), ""]):
            if word in options and not options[word].is_flag and following in ("", *options):
                ctx.fail(f"{word} needs a value: {options[word].help}")
        return super().parse_args(ctx, args)


def load_model(model: str, language: str | None) -> Bundle:
    """The bundle of a packaged name or a folder. AsrError if there is none, or for a language that it does not know."""
    bundle = load_bundle(model)
    known = language_name(bundle)
    spoken = primary_language(language or known)
    if spoken not in (known.lower(), bundle.config.language):
        raise AsrError(f"{bundle.config.name}: {known} only; for '{language}' name another model with --model")
    return bundle


def chosen_style(style: str | None, bundle: Bundle) -> transcript.Style:
    """The style that was asked for, or the one that can be had. BadParameter if it cannot."""
    if style != "spoken" and find_tagger(bundle.config.language) is not None:
        return "written"
    problem = f"no model of written {language_name(bundle)} is installed; choose spoken"
    reject_if(style == "written", "--style", problem)
    return "spoken"


def language_name(bundle: Bundle) -> str:
    return LANGUAGES.get(bundle.config.language, bundle.config.language)


def chosen_format(choice: str | None, output: str | Path | None, default: str, known: Collection[str] = FORMATS) -> str:
    """The format that was asked for, or that the output's suffix names. A file named .txt may hold any."""
    suffix = Path(output or "").suffix[1:].lower()
    return choice or (suffix if suffix in known and suffix != "txt" else default)


def check_names(formats: Iterable[str], sources: Iterable[str]) -> None:
    """BadParameter if a manifest would have to name audio that is no file."""
    if "jsonl" in formats and STANDARD_INPUT in sources:
        raise typer.BadParameter("standard input cannot be named in jsonl; save it as a file first", param_hint="-")
