"""`asr bulk`: thousands of recordings, on this machine or on a cluster."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import click
import typer
from typer import Argument, Option

from asr.cli import options
from asr.cli.messages import complain
from asr.decode.build import make_decoder
from asr.output.writers import FORMATS
from asr.recognize.offline import DEFAULT_MODEL

REPORT_SECONDS = 30.0  # between two lines of progress in a log

PATHS = "SOURCE... OUTPUT"


def bulk(
    paths: Annotated[
        list[str],
        Argument(
            metavar=PATHS,
            help="Files, folders, patterns, manifests (.jsonl, .parquet, .txt) or addresses (s3://…), then the folder"
            " or bucket to write to.",
        ),
    ],
    decoding: options.FileDecoding,
    rows: Annotated[str, Option(click_type=click.Choice(["jsonl", "parquet"]), help="How rows are written.")] = "jsonl",
    format: Annotated[
        list[str] | None,
        Option("--format", "-f", click_type=click.Choice([*FORMATS]), help="Files to write for each recording, too."),
    ] = None,
    style: options.Style = None,
    model: options.Model = DEFAULT_MODEL,
    workers: Annotated[int, Option(min=0, help="Processes; 0 for one per core.")] = 0,
    cluster: Annotated[
        str | None,
        Option(
            metavar="auto|local|ray://…",
            help="Run on a Ray cluster, whose machines have `asr`, too: auto is the one here, local starts one.",
        ),
    ] = None,
    patience: Annotated[
        float | None,
        Option(min=1, metavar="SECONDS", help="For a job before its process is ended; else its audio's and a minute."),
    ] = None,
    retry_errors: Annotated[bool, Option("--retry-errors", help="Do recordings again that had an error.")] = False,
) -> None:
    """Transcribe thousands of recordings; go on where a run ended.

    The output gets parts of up to 200 rows (path, text, spoken, segments, words, confidence, duration, error, problem,
    model, version; spoken only beside a written text; problem: too quiet, distorted or without speech), errors.jsonl
    and summary.json. A part is there whole or not at all; the same command again does what is missing, and recordings
    whose file was replaced. A recording that cannot be read, or twice ends the process that reads it, is a row with an
    error. The exit code is 1 as long as the output has errors.
    """
    *sources, output = paths
    if not sources or not all(paths):  # an empty one is an unset variable of a shell
        raise typer.BadParameter("give one source or more, and where to write", param_hint=PATHS)
    from asr.bulk.run import transcribe_all
    from asr.bulk.worker import Settings

    if cluster is not None and cluster not in ("auto", "local") and not cluster.startswith("ray://"):
        raise typer.BadParameter("write auto, local, or an address: ray://HOST:10001", param_hint="--cluster")
    decoder = decoding.options()
    bundle = options.load_model(model, None)
    make_decoder(decoder, bundle)  # says what is wrong before the processes start
    name = model if not Path(model).is_dir() else str(Path(model).absolute())
    formats, chosen = tuple(dict.fromkeys(format or ())), options.chosen_style(style, bundle)
    settings = Settings(name, decoder, output, formats, patience, chosen)
    warnings.filterwarnings("ignore", "resource_tracker: ")  # Python's own, which a hang-up ends before this program
    problems = 0

    def report(problem: object) -> None:
        nonlocal problems
        problems += 1
        complain(problem)

    with progress_line() as show:
        done = transcribe_all(sources, settings, rows == "parquet", workers, cluster, retry_errors, report, show)
    complain(f"{done}, written to {output}")
    if done.errors_in_output > done.errors:
        complain(f"{done.errors_in_output} errors in all: errors.jsonl; --retry-errors tries these recordings again")
    if problems or done.errors_in_output:
        raise typer.Exit(1)


@contextmanager
def progress_line() -> Iterator[Callable[[object], None]]:
    """Shows progress: on a terminal in a line that changes, else every half minute in a new one."""
    if sys.stderr is not None and sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("") as status:
            yield lambda progress: status.update(Text(str(progress)))
        return
    shown = -REPORT_SECONDS

    def show(progress: object) -> None:
        nonlocal shown
        if time.monotonic() >= shown + REPORT_SECONDS:
            shown = time.monotonic()
            complain(progress)

    yield show
