"""A whole run: recipe → training → bundle and report; and the bundle of any of its checkpoints."""

import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from asr.errors import RecipeError, one_line
from asr.train import distributed
from asr.train.acoustic import AcousticEpoch, AcousticTask
from asr.train.checkpoint import BEST
from asr.train.config import AcousticRecipe, LanguageRecipe, load_recipe
from asr.train.export import machine, make_bundle
from asr.train.language import LanguageEpoch, LanguageTask
from asr.train.language_report import make_language_bundle
from asr.train.page import write_acoustic_page, write_language_page
from asr.train.runs import RECIPE, Record, read_curve
from asr.train.trainer import Trainer

LOCK_SECONDS = 10  # the workers of a run that was killed hold its lock for a second or two


def run_recipe(path: Path, overrides: list[str], resume: bool) -> None:
    """`asr train`. A run that is complete is not trained again: with `resume` only its bundle and report are made."""
    # Lhotse suggests lazy manifests, which sorting and counting would have to read anyway.
    warnings.filterwarnings("ignore", message="You are using Dynamic", category=UserWarning)
    console = make_console()
    recipe = load_recipe(path, overrides)
    record = Record(recipe.kind, recipe.epochs, shlex.join(["asr", "train", str(path), *overrides]), machine())
    best, bundle = recipe.folder / BEST, recipe.folder / "bundle"
    task: type[Any] = AcousticTask if isinstance(recipe, AcousticRecipe) else LanguageTask
    with distributed.processes(), alone(recipe.folder):
        trainer: Trainer[Any] = Trainer(task, recipe, console, resume)
        if trainer.main:
            record.save(recipe.folder)
        curve = trainer.run()
    if not trainer.main:
        return
    if isinstance(recipe, AcousticRecipe):
        measured = make_bundle(recipe, curve, best, bundle, record, console)
        page = write_acoustic_page(recipe, curve, record, measured, bundle)
    else:
        rows = make_language_bundle(recipe, curve, best, bundle, record, console)
        page = write_language_page(recipe, curve, record, rows)
    console.print(f"the report is in {page}")
    say_where(recipe, bundle, console)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """RecipeError if a run has this folder already, for instance of a job that was started twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be made ({one_line(error)}); set output to another") from error
    # The system's own, which is gone with the processes that hold it; a soft one would outlive a run that was killed.
    lock = FileLock(folder / "lock", timeout=LOCK_SECONDS, fallback_to_soft=False)
    try:
        if distributed.is_main():
            lock.acquire()
    except Timeout as error:
        raise RecipeError(f"{folder}: another run is at work there; wait for its end, or set name or output") from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()


def export_checkpoint(source: Path, output: Path | None) -> None:
    """`asr export`: the best checkpoint of a run's folder, or another one in it, as the end of the run makes it."""
    checkpoint = source / BEST if source.is_dir() else source
    run = checkpoint.parent
    if not checkpoint.is_file():
        raise RecipeError(f"{checkpoint}: no such checkpoint; name a run's folder or a .safetensors file in one")
    if not (run / RECIPE).is_file():
        raise RecipeError(f"{run}: no {RECIPE} beside the checkpoint; export it from its run's folder")
    recipe = load_recipe(run / RECIPE, [])
    target = output or run / ("bundle" if checkpoint.name == BEST else f"bundle-{checkpoint.stem}")
    try:
        record = Record.load(run)
    except FileNotFoundError:  # trained by an older version
        record = Record(recipe.kind, recipe.epochs, f"asr train {run / RECIPE}", "on a machine that was not recorded")
    console = make_console()
    if isinstance(recipe, AcousticRecipe):
        make_bundle(recipe, load_curve(run, AcousticEpoch), checkpoint, target, record, console)
    else:
        make_language_bundle(recipe, load_curve(run, LanguageEpoch), checkpoint, target, record, console)
    say_where(recipe, target, console)


def load_curve(run: Path, epoch_type: type[Any]) -> list[Any]:
    try:
        return [epoch_type(**epoch) for epoch in read_curve(run)]
    except TypeError as error:
        raise RecipeError(f"{run}: its curve was written by another version of asr; export it with that") from error


def make_console() -> Console:
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def say_where(recipe: AcousticRecipe | LanguageRecipe, bundle: Path, console: Console) -> None:
    use = f"asr transcribe --model {bundle} FILE"
    if isinstance(recipe, LanguageRecipe):
        use = f'asr lm generate {bundle} --prompt "once upon a"'
    console.print(f"the model is in {bundle}: try  {use}")
