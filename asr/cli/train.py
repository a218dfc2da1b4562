"""`asr train`: a recipe in, a model bundle out."""

from pathlib import Path
from typing import Annotated

import typer

from asr.errors import AsrError


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe's YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[a.b=value]...", help="Fields to set.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the recipe's output folder.")] = False,
) -> None:
    """Train a model from a recipe and make its bundle."""
    try:
        from asr.train.run import run_recipe
    except ModuleNotFoundError as error:
        raise AsrError(f"training needs more packages ({error.name} is missing): pip install 'asr[train]'") from error
    run_recipe(recipe, overrides or [], resume)
