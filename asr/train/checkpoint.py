"""Checkpoints: safetensors files of tensors, with the rest as JSON in the header. No pickle."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.errors import RecipeError, describe_os_error, is_disk_full, one_line
from asr.files import replacing
from asr.nn.config import validated
from asr.train import distributed
from asr.train.log import EpochStats
from asr.train.optim import decay_done
from asr.train.runs import BEST, LAST

if TYPE_CHECKING:
    from asr.train.trainer import Trainer

CONSTANT = "constant.safetensors"  # weights from before the decay of the learning rate, half precision
WINDOW = "window.safetensors"  # of a run with a budget of minutes: weights that are never older than a minute
WINDOW_SECONDS = 60.0
PHONES, ATTENTION = "phones_head.", "attention."  # of the weights of the second output layer, and of a decoder
MODEL, AVERAGE = "model.", "carried.average.module."  # of the names of the weights and of their moving average


def kept_checkpoint(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.safetensors"


def kept_checkpoints(folder: Path) -> list[Path]:
    """Those of the last epochs that a run keeps, the latest last."""
    return sorted(folder.glob("epoch-*.safetensors"))


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any], carried: dict[str, Tensor]
) -> None:
    tensors = {f"{MODEL}{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    write_checkpoint(path, tensors | {f"carried.{name}": value for name, value in carried.items()}, progress)


def save_half(path: Path, model: nn.Module, progress: dict[str, Any]) -> None:
    """The weights alone, in half precision: to be exported, or gone on from with `init_from`."""
    write_checkpoint(path, {f"{MODEL}{name}": value.half() for name, value in model.state_dict().items()}, progress)


def write_checkpoint(path: Path, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    """Write atomically: after a crash at any moment `path` holds the old or the new checkpoint, whole. RecipeError."""
    whole = {name: value.contiguous() for name, value in tensors.items()}
    try:
        with replacing(path) as part:
            save_file(whole, part, metadata={"progress": json.dumps(progress)})
            with open(part, "rb") as written:
                os.fsync(written.fileno())
    except (OSError, SafetensorError) as error:
        raise RecipeError(
            f"{path}: cannot be written ({describe_os_error(error)}), the one before is kept; "
            f"{'make room and ' if is_disk_full(error) else ''}go on with asr train --resume {path.parent}"
        ) from error


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, carried: dict[str, Tensor]
) -> dict[str, Any]:
    """Put the tensors into `model`, `optimizer` and `carried`, return the progress. RecipeError if it does not fit."""
    tensors, progress = read_checkpoint(path)
    fill_model(model, _below(MODEL, tensors), path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index) if index.isdecimal() else -1, {})[key] = value
    try:
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        for name, value in carried.items():
            value.copy_(tensors.get(f"carried.{name}", value))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{path}: the checkpoint is of another model; {_instead(path)}") from error
    return progress


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load the weights as they were validated, return the progress. RecipeError if they do not fit."""
    weights, progress = read_weights(path)
    fill_model(model, weights, path)
    return progress


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights as they were validated, and the progress: their moving average where the run keeps one."""
    tensors, progress = read_checkpoint(path, (MODEL, AVERAGE))
    return _below(AVERAGE, tensors) or _below(MODEL, tensors), progress


def read_checkpoint(path: Path, prefixes: str | tuple[str, ...] = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors whose names begin so, and the progress. RecipeError if it cannot be read."""
    if path.exists() and not path.is_file():  # of a pipe safetensors would wait for the end
        raise RecipeError(f"{path}: not a file; name a checkpoint")
    try:
        with safe_open(path, "pt") as file:
            if "progress" not in (file.metadata() or {}):
                raise RecipeError(f"{path}: holds weights only, as a bundle does; name a checkpoint in a run's folder")
            progress = json.loads(file.metadata()["progress"])
            check_progress(progress)
            names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118 (not a mapping)
            return {name: file.get_tensor(name) for name in names}, progress
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: cannot read the checkpoint ({one_line(error)}); {_instead(path)}") from error


def check_progress(progress: Any) -> None:
    """ValueError if the parts of a checkpoint's progress are not of their types."""
    if not isinstance(progress, dict):
        raise ValueError(f"progress is {progress!r:.40}")
    tokens, averaged = progress.get("tokens") or [], progress.get("averaged", [])
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError("tokens is not a list of texts")
    if not isinstance(averaged, list) or not all(isinstance(name, str) for name in averaged):
        raise ValueError("averaged is not a list of names")
    if type(progress.get("batches", 1)) is not int or not isinstance(progress.get("curve", []), list):
        raise ValueError("batches is not a number, or curve not a list")
    if not isinstance(progress.get("stats", {}), dict):
        raise ValueError("stats is not a table")


def _instead(path: Path) -> str:
    """Advice for a checkpoint that cannot be used."""
    kept = [checkpoint for checkpoint in kept_checkpoints(path.parent) if checkpoint != path]
    if path.name != LAST:
        return "copy it again, or take another checkpoint of the run"
    if kept:
        return f"copy {kept[-1].name} over it and go on from there, or delete the folder to begin anew"
    return "copy it again, or delete the folder to begin anew"


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def fill_model(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    for prefix in (PHONES, ATTENTION):  # which the acoustic model does without
        if not any(name.startswith(prefix) for name in model.state_dict()):
            weights = {name: value for name, value in weights.items() if not name.startswith(prefix)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RecipeError(f"{path}: the checkpoint is of another model; {_instead(path)}") from error


class Saver:
    """Saves and restores a trainer's run: model, optimizer, moving average, statistics, and the task's `carried`."""

    def __init__(self, trainer: "Trainer"):
        self.trainer = trainer
        self.folder = trainer.folder
        self.saved = self.windowed = time.monotonic()
        self.batches = trainer.recipe.accumulate * distributed.count()  # that make an update, in all processes

    @property
    def due(self) -> bool:
        return distributed.is_main() and time.monotonic() - self.saved >= 60 * self.trainer.recipe.checkpoint_minutes

    def save(self, name: str = LAST) -> None:
        """All that the run needs to go on."""
        trainer = self.trainer
        if distributed.is_main():
            save_checkpoint(self.folder / name, trainer.model, trainer.optimizer, self._progress(), self._carried())
            self.saved = time.monotonic()

    def save_epoch(self, best: bool) -> None:
        """At the end of an epoch, also the best weights, and the checkpoints of the last epochs, to be averaged."""
        if not distributed.is_main():
            return
        trainer, keep = self.trainer, self.trainer.recipe.keep_last
        if best:
            path, carried = self.folder / BEST, trainer.task.carried
            save_checkpoint(path, trainer.best_weights, trainer.optimizer, self._progress(), carried)
        if keep > 1:
            kept = [kept_checkpoint(self.folder, len(trainer.curve) - back) for back in range(keep)]
            self.save(kept[0].name)
            for old in set(kept_checkpoints(self.folder)) - set(kept):
                old.unlink()
        self.save()

    def save_weights(self, done: float, now: bool = False) -> None:
        """The best weights alone: every minute (or `now`) where the run has a budget, and once before a decay."""
        if not distributed.is_main():
            return
        recipe, weights = self.trainer.recipe, self.trainer.best_weights
        if recipe.budget_minutes and (now or time.monotonic() - self.windowed >= WINDOW_SECONDS):
            self.windowed = time.monotonic()
            save_half(self.folder / WINDOW, weights, self._progress())
        decays = recipe.optimizer.schedule == "constant" and decay_done(recipe.optimizer, done)
        if decays and not (self.folder / CONSTANT).exists():
            save_half(self.folder / CONSTANT, weights, self._progress())

    def _carried(self) -> dict[str, Tensor]:
        average = self.trainer.average
        return self.trainer.task.carried | (average.state_dict(prefix="average.") if average else {})

    def _progress(self) -> dict[str, Any]:
        return {
            "curve": [asdict(epoch) for epoch in self.trainer.curve],
            "tokens": self.trainer.task.tokens.symbols,
            "stats": asdict(self.trainer.stats),
            "batches": self.batches,
            "scaler": self.trainer.scaler.state_dict(),
        }

    def restore(self) -> None:
        """Load the last checkpoint. RecipeError if it is of another run."""
        trainer, last, tokens = self.trainer, self.folder / LAST, self.trainer.task.tokens.symbols
        progress = load_checkpoint(last, trainer.model, trainer.optimizer, self._carried())
        if tuple(progress.get("tokens") or tokens) != tokens:
            raise RecipeError(f"{last}: made with other tokens; a run keeps its tokenizer, set another name")
        if (batches := progress.get("batches", self.batches)) != self.batches:
            raise RecipeError(f"{last}: {batches} batches made an update, now {self.batches} would; set accumulate")
        try:
            trainer.curve = [validated(trainer.task.epoch_type, epoch) for epoch in progress["curve"]]
            trainer.stats = validated(EpochStats, progress["stats"])
            if state := progress.get("scaler"):  # of float16, which may not be what the run goes on with
                trainer.scaler.load_state_dict(state)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise RecipeError(f"{last}: made by another version of asr; go on with that, or set name") from error


def find_checkpoints(sources: Sequence[Path], last: int | None = None) -> list[Path]:
    """The checkpoints themselves, and of each run's folder those of its last epochs, by default all that it kept."""
    found: list[Path] = []
    for source in sources:
        if not source.exists():
            raise RecipeError(f"{source}: no such run or checkpoint; name a run's folder or a .safetensors file in one")
        if not source.is_dir():
            found.append(source)
            continue
        kept = kept_checkpoints(source)
        if len(kept) < (last or 2):
            raise RecipeError(
                f"{source}: has kept the checkpoints of {len(kept)} epochs; train with keep_last={last or 5}, "
                "or name the checkpoints"
            )
        found += kept[-last:] if last else kept
    return found


def average_checkpoints(paths: Sequence[Path], target: Path) -> None:
    """Write the mean of several checkpoints' weights (Vaswani et al. 2017, section 6.1): to be exported, not resumed.

    Of a run with `ema_decay` it is the mean of the moving averages. RecipeError if the checkpoints do not fit.
    """
    first, progress = read_weights(paths[0])
    tokens = progress.get("tokens")
    total = {name: value.to(torch.float64, copy=True) for name, value in first.items()}
    for path in paths[1:]:
        weights, progress = read_weights(path)
        if {name: value.shape for name, value in weights.items()} != {name: sum.shape for name, sum in total.items()}:
            raise RecipeError(f"{path}: of another model than {paths[0]}; average checkpoints of one recipe")
        if progress.get("tokens") != tokens:
            raise RecipeError(f"{path}: has other tokens than {paths[0]}; average checkpoints of one tokenizer")
        for name, value in weights.items():
            total[name] += value
    mean = {f"{MODEL}{name}": (value / len(paths)).to(first[name].dtype) for name, value in total.items()}
    names = [path.name if path.parent == paths[0].parent else str(path) for path in paths]
    write_checkpoint(target, mean, {"tokens": tokens, "averaged": names})
