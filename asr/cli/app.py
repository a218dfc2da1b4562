"""The commands of `asr`."""

from typing import Annotated

import typer
from typer import Option

import asr
from asr.cli.align import align
from asr.cli.average import average
from asr.cli.bulk import bulk
from asr.cli.evaluate import evaluate
from asr.cli.export import export
from asr.cli.lexicon import lexicon
from asr.cli.listen import listen
from asr.cli.lm import lm
from asr.cli.models import models
from asr.cli.options import Command, spread
from asr.cli.plot import plot
from asr.cli.prepare import prepare
from asr.cli.punctuate import punctuate
from asr.cli.runs import runs
from asr.cli.serve import serve
from asr.cli.train import train
from asr.cli.transcribe import transcribe
from asr.cli.tune import tune

app = typer.Typer(
    help="Speech to text: transcribe recordings, listen to a microphone, serve both, time texts, train models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts faster, and reads the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands = (transcribe, listen, serve, bulk, align, punctuate, evaluate, models, train, runs, average, export, tune)
for command in commands:
    app.command(cls=Command)(spread(command))
app.add_typer(lm, name="lm")
app.add_typer(lexicon, name="lexicon")
app.add_typer(plot, name="plot")
app.add_typer(prepare, name="prepare")


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"asr {asr.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
