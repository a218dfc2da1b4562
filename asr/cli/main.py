"""The command `asr`."""

import sys

import typer

from asr.cli.evaluate import evaluate
from asr.cli.models import models
from asr.cli.options import complain
from asr.cli.train import train
from asr.cli.transcribe import transcribe
from asr.errors import AsrError

app = typer.Typer(
    help="Speech to text: transcribe recordings, measure models, train new ones from recipes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts faster, and reads the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (transcribe, evaluate, train, models):
    app.command()(command)


def main() -> None:
    """Run the command line. Exit codes: 0, 1 when something failed, 2 on wrong usage, 130 on Ctrl-C."""
    try:
        app()  # turns Ctrl-C and a reader that went away into an exit code by itself
    except AsrError as error:
        complain(error)
        sys.exit(1)
