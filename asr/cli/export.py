"""`asr export`: a checkpoint in, a model bundle out."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import training_packages


def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN|CHECKPOINT", help="A run's folder (its best epoch) or a checkpoint in one."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The folder to write, else RUN/bundle, or RUN/bundle-NAME of a checkpoint."),
    ] = None,
) -> None:
    """Make the bundle of any checkpoint of a run, measured on the dev data, as the end of the run does.

    Of a run with ema_decay that is the moving average, which was validated. The data of the run's recipe must be where
    it was. A bundle that is there is replaced.
    """
    with training_packages():
        from asr.train.run import export_checkpoint
    export_checkpoint(source, output)
