"""`asr export`: bundle of a checkpoint."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def export(
    source: Annotated[Path, Argument(metavar="RUN|CHECKPOINT", help="A run's folder (best epoch), or a checkpoint.")],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Folder to write, else RUN/bundle or RUN/bundle-NAME.")
    ] = None,
) -> None:
    """Make the model bundle of a run's checkpoint.

    It is measured on the dev data as at the end of the run, so the data of the run's recipe must be where it was. Of a
    run with ema_decay the moving average is taken, which was validated. A bundle that is there is replaced.
    """
    from asr.train.run import export_checkpoint

    export_checkpoint(source, output)
