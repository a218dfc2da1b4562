"""`asr average`: mean of several checkpoints."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.cli import options
from asr.cli.outputs import Guard


def average(
    sources: Annotated[list[Path], Argument(metavar="RUN|CHECKPOINT...", help="Folders of runs, or checkpoints.")],
    last: Annotated[int | None, Option(min=1, help="Take the last so many epochs of each run.")] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", help="File to write; averaged.safetensors beside the first.")
    ] = None,
    force: options.Force = False,
) -> None:
    """Average the weights of checkpoints, for `asr export`.

    A run keeps its last epochs' checkpoints if its recipe says so, keep_last=5 for example. Checkpoints of several runs
    must go back to the same weights: those of models that began at random have no meaningful mean. Of a run with
    ema_decay it is the mean of the moving averages, which were validated.
    """
    if last is not None and any(source.is_file() for source in sources):
        raise typer.BadParameter("goes with folders of runs, not with checkpoints", param_hint="--last")
    from asr.train.checkpoint import average_checkpoints, find_checkpoints
    from asr.train.runs import RECIPE

    checkpoints = find_checkpoints(sources, last)
    target = output or checkpoints[0].parent / "averaged.safetensors"
    Guard(checkpoints, force).check(target)
    average_checkpoints(checkpoints, target)
    names = ", ".join(path.name for path in checkpoints)
    in_run = (target.parent / RECIPE).is_file()
    advice = f"try  asr export {target}" if in_run else "to export it, put it into its run's folder"
    print(f"{target}: the mean of {names}; {advice}")
