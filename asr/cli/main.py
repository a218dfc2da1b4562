"""The command `asr`."""

import io
import os
import sys

import typer

from asr.cli.align import align
from asr.cli.average import average
from asr.cli.evaluate import evaluate
from asr.cli.export import export
from asr.cli.listen import listen
from asr.cli.lm import lm
from asr.cli.models import models
from asr.cli.options import complain
from asr.cli.prepare import prepare
from asr.cli.runs import runs
from asr.cli.train import train
from asr.cli.transcribe import transcribe
from asr.errors import AsrError

app = typer.Typer(
    help="Speech to text: transcribe recordings, listen to a microphone, time texts, measure models, train new ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts faster, and reads the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (transcribe, listen, align, evaluate, train, runs, average, export, models):
    app.command()(command)
app.add_typer(lm, name="lm")
app.add_typer(prepare, name="prepare")


def main() -> None:
    """Run the command line. Exit codes: 0, 1 when something failed, 2 on wrong usage, 130 on Ctrl-C."""
    if sys.stdout is None:
        complain("standard output is closed, so there is nowhere to write")
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # any text in any locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app()  # turns Ctrl-C and a reader that went away into an exit code by itself
    except AsrError as error:
        complain(error)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}cannot write: {error.strerror or error}; make room, or write elsewhere")
        # What could not be written is still in the buffer; Python would try again at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
