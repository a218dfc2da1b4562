"""A whole run: recipe → training → bundle."""

import shlex
import warnings
from pathlib import Path

from rich.console import Console

from asr.train.config import load_recipe
from asr.train.report import make_bundle
from asr.train.trainer import Trainer


def run_recipe(path: Path, overrides: list[str], resume: bool) -> None:
    """`asr train`. A run that is complete is not trained again: with `resume` only its bundle is made anew."""
    # Lhotse suggests lazy manifests, which sorting and counting would have to read anyway.
    warnings.filterwarnings("ignore", message="You are using Dynamic", category=UserWarning)
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    recipe = load_recipe(path, overrides)
    trainer = Trainer(recipe, console, resume)
    try:
        curve = trainer.run()
    except KeyboardInterrupt:
        console.print(f"stopped after {len(trainer.curve)} of {recipe.epochs} epochs; --resume goes on from there")
        raise
    command = shlex.join(["asr", "train", str(path), *overrides])
    bundle = make_bundle(recipe, curve, command, console)
    console.print(f"the model is in {bundle}: try  asr transcribe --model {bundle} FILE")
