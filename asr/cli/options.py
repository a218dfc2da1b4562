"""Options that several commands share; a group of them is a dataclass (`asr.cli.command.with_groups`)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from asr.audio.sources import STANDARD_INPUT
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DEFAULT_DECODER, DecoderOptions
from asr.errors import AsrError, one_line
from asr.model.bundle import Bundle, load_bundle
from asr.output.writers import FORMATS, LIVE_FORMATS
from asr.recognize.offline import BATCH_SIZE, DEFAULT_MODEL

LANGUAGES = {"en": "English"}  # codes of the packaged models


class DecoderChoice(StrEnum):
    greedy = "greedy"
    beam = "beam"


DECODER = DecoderChoice(DEFAULT_DECODER)
FormatChoice = StrEnum("FormatChoice", {name: name for name in FORMATS})  # type: ignore[misc]
LiveFormatChoice = StrEnum("LiveFormatChoice", {name: name for name in LIVE_FORMATS})  # type: ignore[misc]

FORMAT_HELP = "Format to write; without it that of --output's suffix, else {}."
Format = Annotated[FormatChoice | None, Option("--format", "-f", help=FORMAT_HELP.format("txt"))]
WordFormat = Annotated[FormatChoice | None, Option("--format", "-f", help=FORMAT_HELP.format("ctm"))]
LiveFormat = Annotated[
    LiveFormatChoice | None, Option("--format", "-f", help=f"{FORMAT_HELP.format('txt')} json is one object a line.")
]
Output = Annotated[Path | None, Option("--output", "-o", help="File to write instead of standard output.")]
Force = Annotated[bool, Option("--force", help="Replace files that exist.")]
Model = Annotated[str, Option("--model", "-m", help="Packaged model (English; see `asr models`) or bundle.")]
Language = Annotated[str | None, Option(help="Language that is spoken: an error if the model does not know it.")]
Threads = Annotated[int, Option(min=0, help="Processor threads; 0 for one per core.")]
BatchSize = Annotated[int, Option(min=1, help="Windows recognized together; the text does not depend on it.")]

MODEL = DEFAULT_MODEL
BATCH = BATCH_SIZE


@dataclass(frozen=True)
class Decoding:
    """How log-probabilities become words."""

    decoder: Annotated[DecoderChoice, Option(help="beam: uses a language model, more accurate; greedy: fastest.")] = (
        DECODER
    )
    beam_width: Annotated[int, Option(min=1, max=1024, help="Hypotheses that the beam keeps.")] = BEAM_WIDTH
    lm: Annotated[
        str | None, Option("--lm", help="For beam: packaged language model, file or NONE; else the model's own.")
    ] = None
    hotwords: Annotated[str | None, Option(help="For beam: phrases to prefer, as in 'Ivanhoe, knee jerk:8'.")] = None
    hotwords_file: Annotated[Path | None, Option(metavar="FILE", help="For beam: a file of them, one a line.")] = None
    rescore: Annotated[
        Path | None, Option(metavar="FOLDER", help="For beam: recurrent language model that rescores.")
    ] = None

    @property
    def files(self) -> tuple[str | Path | None, ...]:
        """Files that these options read."""
        return self.lm, self.hotwords_file

    def options(self, nbest: int = 1) -> DecoderOptions:
        """BadParameter for options of another decoder, AsrError for hotwords that cannot be read."""
        text = self.hotwords or ""
        if self.hotwords_file is not None:
            try:
                text += "\n" + self.hotwords_file.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise AsrError(f"{self.hotwords_file}: cannot read the hotwords ({one_line(error)})") from error
        given = {
            "--lm": self.lm is not None,
            "--hotwords": bool(text.strip()),
            "--rescore": self.rescore is not None,
            "--nbest": nbest > 1,
        }
        if self.decoder is DecoderChoice.greedy and any(given.values()):
            option = next(option for option, used in given.items() if used)
            raise typer.BadParameter("goes with --decoder beam", param_hint=option)
        return DecoderOptions(self.decoder.value, self.beam_width, self.lm, text, nbest, self.rescore)


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


def chosen_format(choice: StrEnum | None, output: str | Path | None, default: str, known: Mapping = FORMATS) -> str:
    """The format that was asked for, or that the output's suffix names. A file named .txt may hold any."""
    suffix = Path(output or "").suffix[1:].lower()
    return choice.value if choice else suffix if suffix in known and suffix != "txt" else default


def check_names(format: str, sources: Iterable[str]) -> None:
    """BadParameter if a manifest would have to name audio that is no file."""
    if format == "jsonl" and STANDARD_INPUT in sources:
        raise typer.BadParameter("standard input cannot be named in jsonl; save it as a file first", param_hint="-")
