"""`asr runs`: list of training runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.messages import complain, print_table
from asr.train.runs import Run, find_runs

BEST: dict[str, Callable[[float], str]] = {  # how the best result of a kind is written
    "acoustic": "WER {:.2%}".format,
    "language": "perplexity {:.1f}".format,
    "tagger": lambda error: f"F1 {1 - error:.3f}",
}
COLUMNS = ("run", "kind", "epochs", "best on dev", "steps", "minutes", "changed")


def runs(
    folder: Annotated[Path, typer.Argument(help="A folder with runs at any depth, or a run's own.")] = Path("runs"),
) -> None:
    """List training runs and their results, the latest last.

    A damaged run gives lines on standard error as well, and the exit code is 1.
    """
    damage: list[object] = []
    found = find_runs(folder, damage.append)
    print_table([COLUMNS, *map(cells, found)])
    damage += [line for run in found for line in run.damage]
    for line in damage:
        complain(line)
    if damage:
        raise typer.Exit(1)


def cells(run: Run) -> tuple[str, ...]:
    best = "–"
    if run.best is not None:
        best = f"{BEST[run.kind](run.best)} (epoch {run.best_epoch})"
    return (
        str(run.folder),
        run.kind,
        f"{run.epochs} of {run.planned or '?'}",
        best,
        f"{run.step:,}",
        f"{run.minutes:.1f}",
        f"{run.changed:%Y-%m-%d %H:%M}",
    )
