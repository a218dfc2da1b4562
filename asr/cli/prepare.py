"""`asr prepare`: manifests of corpora, and checks of them.

The imports that only these commands need are inside: the other commands start faster.
"""

import dataclasses
import json as json_module
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from typer import Argument, Option
from typer.core import TyperGroup

from asr.cli.messages import audio_progress, shown_warnings
from asr.cli.options import Command, Force, spread
from asr.cli.outputs import Guard
from asr.data.manifest import COLUMNS
from asr.errors import AsrError

if TYPE_CHECKING:
    from asr.data.corpora.corpus import Corpus, Splits

Source = Annotated[Path, Argument(metavar="SRC")]
Output = Annotated[Path, Argument(metavar="OUT")]
Download = Annotated[bool, Option("--download", help="First download it into SRC, as far as it is not there.")]
Language = Annotated[
    str, Option(help="Language of the texts. English: numbers are spelled out, ambiguous texts left out.")
]


class CorpusGroup(TyperGroup):
    """A command for each corpus beside those written below; the readers are imported when one is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from asr.data.corpora import CORPORA

        return [*CORPORA, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from asr.data.corpora import CORPORA

        if cmd_name not in CORPORA:
            return super().get_command(ctx, cmd_name)
        corpus = CORPORA[cmd_name]

        def read_corpus(source: Source, output: Output, download: Download = False, force: Force = False) -> None:
            run(corpus, source, output, force, download)

        about = f"{corpus.about}\n\nSRC holds {corpus.origin}. OUT is the folder for the manifests, one a split.\n"
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(cmd_name, cls=Command, help=about)(read_corpus)
        return typer.main.get_command(one)


prepare = typer.Typer(cls=CorpusGroup, help="Make manifests of corpora, and check them.", no_args_is_help=True)


@dataclass(frozen=True)
class Columns:
    """Options that name the columns of a table."""

    audio_column: Annotated[str, Option(help="Of a table: name of the column with the recordings, in any case.")] = (
        "audio"
    )
    text_column: Annotated[str, Option(help="Name of the column with their texts.")] = "text"
    offset_column: Annotated[
        str, Option(help="Name of the column with the seconds where a part of a recording begins, if there is one.")
    ] = "offset"
    duration_column: Annotated[str, Option(help="Name of the column with its seconds, if there is one.")] = "duration"

    @property
    def names(self) -> dict[str, str]:
        """As `read_table` takes them."""
        return COLUMNS | {option.removesuffix("_column"): column for option, column in vars(self).items()}


def read_csv(
    source: Source,
    output: Output,
    language: Language = "en",
    *,
    columns: Columns,
    speaker_column: Annotated[str, Option(help="Name of the column with the speakers, if there is one.")] = "speaker",
    force: Force = False,
) -> None:
    """Your own recordings, listed in a table.

    SRC is a CSV file with the columns audio, text and perhaps speaker; audio is absolute or relative to the table. With
    offset and duration, in seconds, a row is a part of its recording. Recordings that are missing are reported and left
    out. No recording is in both train and dev.
    """
    from asr.data.corpora import csv_corpus

    run(csv_corpus(language, columns.names | {"speaker": speaker_column}), source, output, force)


prepare.command("csv", cls=Command)(spread(read_csv))


@prepare.command("folder", cls=Command)
def read_folder(source: Source, output: Output, language: Language = "en", force: Force = False) -> None:
    """Your own recordings, each beside its text.

    SRC is a folder of recordings with their texts, a.wav and a.txt; folders in it are speakers.
    """
    from asr.data.corpora import folder_corpus

    run(folder_corpus(language), source, output, force)


@prepare.command("lhotse", cls=Command)
def read_lhotse(
    name: Annotated[str, Argument(metavar="NAME", help="As in `lhotse prepare NAME`, such as libritts or vctk.")],
    source: Source,
    output: Output,
    language: Language = "en",
    download: Download = False,
    force: Force = False,
) -> None:
    """Any corpus that Lhotse has a recipe for.

    They are listed at lhotse.readthedocs.io/en/latest/corpus.html. SRC is the corpus's folder, with --download an
    empty one. What the recipe passes over is reported, not an error.
    """
    from asr.data.corpora import lhotse_corpus

    run(lhotse_corpus(name, language), source, output, force, download)


@prepare.command(cls=Command)
def check(
    manifests: Annotated[list[Path], Argument(metavar="MANIFEST...", help="Training data.")],
    dev: Annotated[Path | None, Option(help="Dev data, which must share nothing with the training data.")] = None,
    recipe: Annotated[Path | None, Option(help="Recipe whose alphabet or lexicon is used; else a to z and '.")] = None,
    json: Annotated[bool, Option("--json", help="Print one JSON object with every finding.")] = False,
) -> None:
    """Validate training data; errors and warnings.

    Finds bad files, texts outside the alphabet, what train and dev share, …. Every recording is decoded. The exit code
    is 1 if there are errors; warnings are only shown.
    """
    from asr.data.check import check as check_manifests
    from asr.data.pronunciation import PhoneSpeller
    from asr.train.config import AcousticRecipe, load_recipe

    settings = load_recipe(recipe, []) if recipe else AcousticRecipe()
    if not isinstance(settings, AcousticRecipe):
        raise AsrError(f"{recipe}: not an acoustic model's recipe; name one, by whose alphabet texts are checked")
    phones = settings.tokenizer.spelling == "phones"
    speller = PhoneSpeller(settings.tokenizer.lexicon, settings.language) if phones else None
    with audio_progress(lambda: [None]) as on_progress:
        report = check_manifests(manifests, dev, settings.tokenizer, on_progress, speller)
    print(json_module.dumps(report.as_json(), ensure_ascii=False) if json else report)
    if report.has_errors:
        raise typer.Exit(1)


@prepare.command(cls=Command)
def shar(
    manifest: Annotated[Path, Argument(metavar="MANIFEST", help="Training data.")],
    output: Annotated[Path, Argument(metavar="OUT", help="A new folder.")],
) -> None:
    """Pack recordings into large files (Lhotse Shar).

    Training reads them from a disk or from object storage: copy OUT wherever you like, and set data.train to its folder
    or URL. Recordings that cannot be read are left out.
    """
    from asr.data.shards import write_shards

    print(write_shards(manifest, output))


def run(corpus: "Corpus", source: Path, output: Path, force: bool, download: bool = False) -> None:
    """Read a corpus and write its manifests."""
    from asr.data.corpora import prepare

    def read(root: Path, folder: Path) -> "Splits":
        splits = corpus.read(root, folder)
        guard = Guard([source], force)
        for problem in filter(None, (guard.refusal(folder / f"{split}.jsonl") for split in splits)):
            raise AsrError(problem)
        return splits

    with shown_warnings("asr.data.corpora"):
        for prepared in prepare(dataclasses.replace(corpus, read=read), source, output, download):
            print(prepared)
