"""Options that several commands share, and how a command parses and shows its own."""

import inspect
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import click
import typer
from typer import Option
from typer.core import TyperCommand

from asr.audio.sources import STANDARD_INPUT
from asr.decode.build import WIDEST, DecoderName, DecoderOptions
from asr.errors import AsrError, one_line
from asr.files import read_text
from asr.model.bundle import Bundle, load_bundle
from asr.model.session import MAX_THREADS
from asr.output.writers import FORMATS, LIVE_FORMATS
from asr.recognize.offline import MAX_BATCH_SIZE

NO_SECOND_PASS = "none"
LANGUAGES = {"en": "English"}  # codes of the packaged models


def parse_time(text: str) -> float:
    """Seconds of "90", "1:30" or "0:01:30.5"; BadParameter for anything else."""
    seconds = 0.0
    try:
        for part in text.split(":"):
            seconds = 60 * seconds + float(part)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise typer.BadParameter(f"'{text}' is no time; write seconds, or 1:02:03.5")
    return seconds


def format_option(formats: Iterable[str], default: str, more: str = "") -> Any:
    about = f"Format to write; without it that of --output's suffix, else {default}.{more}"
    return Option("--format", "-f", click_type=click.Choice([*formats]), help=about)


Formats = Annotated[list[str] | None, format_option(FORMATS, "txt", " May be given several times.")]
WordFormat = Annotated[str | None, format_option(FORMATS, "ctm")]
LiveFormat = Annotated[str | None, format_option(LIVE_FORMATS, "txt", " json is one object a line.")]
Output = Annotated[Path | None, Option("--output", "-o", help="File to write instead of standard output.")]
Force = Annotated[bool, Option("--force", help="Replace files that exist.")]
Model = Annotated[str, Option("--model", "-m", help="Packaged model (English; see `asr models`) or bundle.")]
Language = Annotated[str | None, Option(help="Language that is spoken: an error if the model does not know it.")]
Threads = Annotated[int, Option(min=0, max=MAX_THREADS, help="Processor threads; 0 for one per core.")]
BatchSize = Annotated[
    int, Option(min=1, max=MAX_BATCH_SIZE, help="Windows recognized together; the text does not depend on it.")
]

Track = Annotated[int | None, Option(min=1, help="Audio track of a video, from 1; else the one that a player plays.")]
Start = Annotated[float | None, Option(metavar="TIME", parser=parse_time, help="Begin there: seconds, or 1:02:03.5.")]
End = Annotated[float | None, Option(metavar="TIME", parser=parse_time, help="End there.")]
Timestamps = Annotated[bool, Option("--timestamps", help="For txt: the times of each segment before its text.")]
LineWidth = Annotated[int, Option(min=10, max=200, help="For srt and vtt: characters in a line.")]
Lines = Annotated[int, Option(min=1, max=9, help="For srt and vtt: lines in a subtitle.")]

Decoder = Annotated[
    str,
    Option(
        click_type=click.Choice(get_args(DecoderName)),
        help="beam: uses a language model, more accurate; greedy: fastest; attention: to compare, if a model has it.",
    ),
]
BeamWidth = Annotated[int, Option(min=1, max=WIDEST, help="Hypotheses that the beam keeps.")]
LanguageModel = Annotated[
    str | None, Option("--lm", help="For beam: packaged language model, file or NONE; else the model's own.")
]
Hotwords = Annotated[str | None, Option(help="For beam: phrases to prefer, as in 'Ivanhoe, knee jerk:8'.")]
HotwordsFile = Annotated[Path | None, Option(metavar="FILE", help="For beam: a file of them, one a line.")]
Lexicon = Annotated[
    Path | None,
    Option(metavar="FILE", help="For a model that spells phones: words and phones, to add to its own lexicon."),
]
Rescore = Annotated[Path | None, Option(metavar="FOLDER", help="For beam: recurrent language model that rescores.")]
SecondPass = Annotated[
    str | None,
    Option(
        click_type=click.Choice([NO_SECOND_PASS]), help="For beam: without the attention decoder of a model with one."
    ),
]


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
        for word, following in pairwise([*args, ""]):
            if word in options and not options[word].is_flag and following in ("", *options):
                ctx.fail(f"{word} needs a value: {options[word].help}")
        return super().parse_args(ctx, args)


def decoder_options(
    decoder: str,
    beam_width: int,
    lm: str | None,
    hotwords: str | None,
    hotwords_file: Path | None,
    rescore: Path | None,
    lexicon: Path | None,
    nbest: int = 1,
    second_pass: str | None = None,
) -> DecoderOptions:
    """BadParameter for options of another decoder, AsrError for hotwords that cannot be read."""
    text = hotwords or ""
    if hotwords_file is not None:
        try:
            text += "\n" + read_text(hotwords_file, "utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise AsrError(f"{hotwords_file}: cannot read the hotwords ({one_line(error)})") from error
    several = nbest > 1 and decoder == "greedy"
    given = {"--lm": lm, "--hotwords": text.strip(), "--rescore": rescore, "--nbest": several}
    for option, value in given.items():
        if value and decoder != "beam":
            raise typer.BadParameter("goes with --decoder beam", param_hint=option)
    first_pass_only = second_pass == NO_SECOND_PASS
    return DecoderOptions(
        cast(DecoderName, decoder), beam_width, lm, text, nbest, rescore, lexicon, second_pass=not first_pass_only
    )


def load_model(model: str, language: str | None) -> Bundle:
    """The bundle of a packaged name or a folder. AsrError if there is none, or for a language that it does not know."""
    bundle = load_bundle(model)
    known = language_name(bundle)
    spoken = (language or known).lower().replace("_", "-").split("-")[0]  # de of de-AT
    if spoken not in (known.lower(), bundle.config.language):
        raise AsrError(f"{bundle.config.name}: {known} only; for '{language}' name another model with --model")
    return bundle


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
