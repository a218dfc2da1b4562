"""`asr train`: a recipe in, a model bundle out."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import training_packages


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[a.b=value]...", help="Fields to set.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the recipe's output folder.")] = False,
) -> None:
    """Train a model from a recipe and make its bundle."""
    with training_packages():
        from asr.train.run import run_recipe
    run_recipe(recipe, overrides or [], resume)
