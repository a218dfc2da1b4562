"""A whole run: recipe → training → bundle."""

import shlex
import warnings
from pathlib import Path

from rich.console import Console

from asr.train.acoustic import AcousticTask
from asr.train.config import AcousticRecipe, load_recipe
from asr.train.language import LanguageTask
from asr.train.language_report import make_language_bundle
from asr.train.report import make_bundle
from asr.train.trainer import Trainer


def run_recipe(path: Path, overrides: list[str], resume: bool) -> None:
    """`asr train`. A run that is complete is not trained again: with `resume` only its bundle is made anew."""
    # Lhotse suggests lazy manifests, which sorting and counting would have to read anyway.
    warnings.filterwarnings("ignore", message="You are using Dynamic", category=UserWarning)
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    recipe = load_recipe(path, overrides)
    command = shlex.join(["asr", "train", str(path), *overrides])
    if isinstance(recipe, AcousticRecipe):
        bundle = make_bundle(recipe, Trainer(AcousticTask, recipe, console, resume).run(), command, console)
        console.print(f"the model is in {bundle}: try  asr transcribe --model {bundle} FILE")
    else:
        bundle = make_language_bundle(recipe, Trainer(LanguageTask, recipe, console, resume).run(), command, console)
        console.print(f'the model is in {bundle}: try  asr lm generate {bundle} --prompt "once upon a"')
