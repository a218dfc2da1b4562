"""`asr prepare`: corpora to manifests, and manifests looked over before a training.

The imports that only these commands need are inside: the other commands start faster.
"""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from typer.core import TyperGroup

from asr.cli.options import audio_progress, training_packages
from asr.errors import AsrError

if TYPE_CHECKING:
    from asr.data.corpora import Corpus

Source = Annotated[Path, typer.Argument(metavar="SRC")]
Output = Annotated[Path, typer.Argument(metavar="OUT")]
Download = Annotated[bool, typer.Option("--download", help="First download it into SRC, as far as it is not there.")]
Language = Annotated[str, typer.Option(help="Of the texts; in English, numbers are spelled out and accents go.")]


class CorpusGroup(TyperGroup):
    """A command for each corpus beside those written below; the readers are imported when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*known_corpora(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        corpus = known_corpora().get(cmd_name)
        if corpus is None:
            return super().get_command(ctx, cmd_name)

        def read_corpus(source: Source, output: Output, download: Download = False) -> None:
            run(corpus, source, output, download)

        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(cmd_name, help=describe(corpus))(read_corpus)
        return typer.main.get_command(one)


def known_corpora() -> "dict[str, Corpus]":
    with training_packages():
        from asr.data.corpora import CORPORA
    return CORPORA


def describe(corpus: "Corpus") -> str:
    return f"""{corpus.about}

    SRC holds {corpus.origin}. OUT is the folder for the manifests, one for each split.
    """


prepare = typer.Typer(cls=CorpusGroup, help="Make manifests of corpora, and check them.", no_args_is_help=True)


@prepare.command("csv")
def read_csv(source: Source, output: Output, language: Language = "en") -> None:
    """Your own recordings, listed in a table.

    SRC is a CSV file with the columns audio, text and perhaps speaker; audio is absolute or relative to the table.
    """
    from asr.data.corpora import csv_corpus

    run(csv_corpus(language), source, output)


@prepare.command("folder")
def read_folder(source: Source, output: Output, language: Language = "en") -> None:
    """Your own recordings, each beside its text.

    SRC is a folder of recordings with their texts, a.wav and a.txt; folders in it are speakers.
    """
    from asr.data.corpora import folder_corpus

    run(folder_corpus(language), source, output)


@prepare.command("lhotse")
def read_lhotse(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in `lhotse prepare NAME`, such as libritts or vctk.")],
    source: Source,
    output: Output,
    language: Language = "en",
    download: Download = False,
) -> None:
    """Any corpus that Lhotse has a recipe for.

    They are listed at lhotse.readthedocs.io/en/latest/corpus.html. SRC is the corpus's folder, with --download an
    empty one. What the recipe passes over is reported, not an error.
    """
    from asr.data.corpora import lhotse_corpus

    run(lhotse_corpus(name, language), source, output, download)


@prepare.command()
def check(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="What a model is to learn from.")],
    dev: Annotated[Path | None, typer.Option(help="The dev manifest, which must share nothing with them.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Take the alphabet of this recipe instead of a to z and the apostrophe.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object with every finding.")] = False,
) -> None:
    """Validate training data: bad files, texts outside the alphabet, what train and dev share, ….

    Every recording is decoded. Exits 1 when there are errors; warnings are only shown.
    """
    with training_packages():
        from asr.data.check import check as check_manifests
        from asr.train.config import AcousticRecipe, load_recipe
    settings = load_recipe(recipe, []) if recipe else AcousticRecipe()
    if not isinstance(settings, AcousticRecipe):
        raise AsrError(f"{recipe}: a language model's recipe, which has no alphabet; name an acoustic model's")
    with audio_progress(lambda: [None]) as on_progress:
        report = check_manifests(manifests, dev, settings.tokenizer, on_progress)
    print(json_module.dumps(report.as_json(), ensure_ascii=False) if json else report)
    if report.has_errors:
        raise typer.Exit(1)


@prepare.command()
def shar(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="What a model is to learn from.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
) -> None:
    """Pack recordings into large files, which training reads from a disk or from object storage (Lhotse Shar).

    Copy OUT wherever you like, and set data.train to its folder or URL. Recordings that cannot be read are left out.
    """
    with training_packages():
        from asr.data.shards import write_shards
    print(write_shards(manifest, output))


def run(corpus: "Corpus", source: Path, output: Path, download: bool = False) -> None:
    with training_packages():
        from asr.data.corpora import prepare

        for prepared in prepare(corpus, source, output, download):
            print(prepared)
