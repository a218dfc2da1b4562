"""`asr train`: a model bundle from a recipe."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option


def train(
    words: Annotated[
        list[str] | None,
        Argument(metavar="[RECIPE] [a.b=value]...", help="A YAML file, not with --resume; fields to set."),
    ] = None,
    resume: Annotated[
        Path | None, Option(metavar="RUN", help="Continue the run in this folder, with its own recipe.")
    ] = None,
) -> None:
    """Train a model from a recipe and make its bundle.

    asr train recipes/starter/bilstm.yaml epochs=10

    asr train --resume runs/NAME
    """
    recipe, *overrides = words or [""] if resume is None else ["", *(words or [])]
    if resume is None and (not recipe or "=" in Path(recipe).name):
        raise typer.BadParameter("name a recipe's YAML file first, or a run with --resume", param_hint="RECIPE")
    if resume is not None and (named := [word for word in overrides if "=" not in word]):
        raise typer.BadParameter(f"leave out {named[0]}: a run has its own recipe", param_hint="--resume")
    from asr.train.run import resume_run, run_recipe

    if resume is None:
        run_recipe(Path(recipe), overrides)
    else:
        resume_run(resume, overrides)
