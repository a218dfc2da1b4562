"""`asr train`: a model bundle from a recipe."""

import json
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.messages import training_packages


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [a.b=value]...", help="A recipe's YAML file, and fields to set; no RECIPE with --resume."
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue the run in this folder, with its own recipe.")
    ] = None,
) -> None:
    """Train a model from a recipe and make its bundle.

    asr train recipes/starter/bilstm.yaml epochs=10

    asr train --resume runs/NAME
    """
    overrides = words or []
    if resume is None:
        if not overrides or "=" in Path(overrides[0]).name:
            raise typer.BadParameter("name a recipe's YAML file first, or a run with --resume", param_hint="RECIPE")
        recipe, overrides = Path(overrides[0]), overrides[1:]
    else:
        recipe = resume / "recipe.yaml"
        if not recipe.is_file():
            raise typer.BadParameter(f"{resume} is no run: it has no recipe.yaml", param_hint="--resume")
        if named := [word for word in overrides if "=" not in word]:
            raise typer.BadParameter(f"leave out {named[0]}: the run has its own recipe", param_hint="--resume")
        # Where it is now: the run may have been moved, or begun from another folder. In JSON, which YAML can read.
        overrides = [*overrides, f"output={json.dumps(str(resume.resolve().parent), ensure_ascii=False)}"]
    with training_packages():
        from asr.train.run import run_recipe
    run_recipe(recipe, overrides, resume is not None)
