"""A whole run: recipe → training → bundle and report; the bundle of any of its checkpoints."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from asr.errors import AsrError, RecipeError, describe_os_error
from asr.nn.config import validated
from asr.signals import ended_by_signals
from asr.train import distributed
from asr.train.acoustic import AcousticTask
from asr.train.config import AnyRecipe, load_recipe
from asr.train.export import Trained, machine, make_bundle, make_language_bundle, make_tagger
from asr.train.language import LanguageTask
from asr.train.process import prepare_process
from asr.train.report.page import write_acoustic_page, write_language_page, write_tagger_page
from asr.train.runs import BEST, RECIPE, Record, read_curve
from asr.train.tagging import TaggingTask
from asr.train.task import Task
from asr.train.trainer import Trainer


@dataclass(frozen=True)
class Kind:
    """What there is for a kind of recipe."""

    task: type[Task]
    make_bundle: Callable[[Trained, Path, Console], Any]
    write_page: Callable[[Trained, Any, Path], Path]  # from what `make_bundle` returns
    use: str  # command that tries the model


KINDS = {
    "acoustic": Kind(AcousticTask, make_bundle, write_acoustic_page, "asr transcribe --model {} FILE"),
    "language": Kind(
        LanguageTask, make_language_bundle, write_language_page, 'asr lm generate {} --prompt "once upon a"'
    ),
    "tagger": Kind(TaggingTask, make_tagger, write_tagger_page, "asr punctuate --tagger {} FILE"),
}


def run_recipe(path: Path, overrides: list[str]) -> None:
    """`asr train`."""
    train(load_recipe(path, overrides), shlex.join(["asr", "train", str(path), *overrides]), resume=False)


def resume_run(folder: Path, overrides: list[str]) -> None:
    """`asr train --resume RUN`, by the run's own recipe. Of a complete run only bundle and report are made."""
    recipe = load_own_recipe(folder, overrides)
    folder = folder.resolve()
    if recipe.folder.resolve() != folder:  # another current directory, or the folder has moved
        recipe = replace(recipe, output=str(folder.parent))
    if recipe.name != folder.name:
        raise RecipeError(f"{folder}: holds the run '{recipe.name}'; rename the folder to that")
    train(recipe, load_record(folder, recipe).command, resume=True)


def train(recipe: AnyRecipe, command: str, resume: bool) -> None:
    """Train, then make bundle and report. command: for the model card."""
    prepare_process(recipe.threads)
    kind = KINDS[recipe.kind]
    console, record = make_console(), Record(recipe.kind, recipe.epochs, command, machine())
    with distributed.processes(), alone(recipe.folder):
        trainer = Trainer(kind.task, recipe, console, resume)
        if trainer.main:
            record.save(recipe.folder)
        stop = Event()
        with ended_by_signals(stop.set):
            curve = trainer.run(stop)
    if not trainer.main:
        return
    run, bundle = Trained(recipe, curve, record, recipe.folder / BEST), recipe.folder / "bundle"
    page = kind.write_page(run, kind.make_bundle(run, bundle, console), bundle)
    console.print(f"the report is in {page}")
    say_where(recipe, bundle, console)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """RecipeError if a run has this folder already, for instance of a job that was started twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be made ({describe_os_error(error)}); set output to another") from error
    # The system's own, which is gone with the processes that hold it; a soft one would outlive a run that was killed.
    lock = FileLock(folder / "lock", timeout=0, fallback_to_soft=False)
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
        with suppress(OSError):  # the folder may be gone
            if distributed.is_main() and [path.name for path in folder.iterdir()] == ["lock"]:  # nothing came of it
                (folder / "lock").unlink()
                folder.rmdir()


def export_checkpoint(source: Path, output: Path | None) -> None:
    """`asr export`: the best checkpoint of a run's folder, or another one in it, as the end of the run makes it."""
    checkpoint = source / BEST if source.is_dir() else source
    run = checkpoint.parent
    if not checkpoint.is_file():
        raise RecipeError(f"{checkpoint}: no such checkpoint; name a run's folder or a .safetensors file in one")
    recipe, console = load_own_recipe(run, []), make_console()
    target = output or run / ("bundle" if checkpoint.name == BEST else f"bundle-{checkpoint.stem}")
    curve = load_curve(run, KINDS[recipe.kind].task.epoch_type)
    KINDS[recipe.kind].make_bundle(Trained(recipe, curve, load_record(run, recipe), checkpoint), target, console)
    say_where(recipe, target, console)


def load_own_recipe(run: Path, overrides: list[str]) -> AnyRecipe:
    if not (run / RECIPE).is_file():
        raise RecipeError(f"{run}: no {RECIPE} there; name the folder of a run, or a checkpoint in it")
    return load_recipe(run / RECIPE, overrides)


def load_record(run: Path, recipe: AnyRecipe) -> Record:
    """What run.json says, or what is known without it: it is not needed to go on, nor for a bundle."""
    try:
        return Record.load(run)
    except AsrError:
        return Record(recipe.kind, recipe.epochs, f"asr train {run / RECIPE}", "on a machine that was not recorded")


def load_curve(run: Path, epoch_type: type[Any]) -> list[Any]:
    try:
        return [validated(epoch_type, epoch) for epoch in read_curve(run)]
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{run}: its curve was written by another version of asr; export it with that") from error


def make_console() -> Console:
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def say_where(recipe: AnyRecipe, bundle: Path, console: Console) -> None:
    console.print(f"the model is in {bundle}: try  {KINDS[recipe.kind].use.format(bundle)}")
