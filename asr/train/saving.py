"""The weights that a run leaves in its folder: to go on from, to export, to take elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from asr.errors import RecipeError
from asr.train import distributed
from asr.train.checkpoint import (
    BEST,
    CONSTANT,
    LAST,
    WINDOW,
    kept_checkpoint,
    kept_checkpoints,
    load_checkpoint,
    save_checkpoint,
    save_half,
)
from asr.train.config import Recipe
from asr.train.ema import MovingAverage
from asr.train.running import Running
from asr.train.schedule import decay_done
from asr.train.task import Epoch, Task

WINDOW_SECONDS = 60.0


class Saver:
    """Saves and restores model, optimiser, moving average and what the task carries from batch to batch.

    Only the main process writes.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task[Any, Any],
        optimizer: torch.optim.Optimizer,
        average: MovingAverage | None,
        scaler: torch.amp.GradScaler,
    ):
        self.recipe = recipe
        self.task = task
        self.optimizer = optimizer
        self.average = average
        self.scaler = scaler
        self.last = recipe.folder / LAST
        self.saved = self.windowed = time.monotonic()
        self.batches = recipe.accumulate * distributed.count()  # that make an update, in all processes

    @property
    def measured_model(self) -> nn.Module:
        """The one that is validated, kept as the best and exported."""
        return self.average.module if self.average else self.task.model

    @property
    def due(self) -> bool:
        return distributed.is_main() and time.monotonic() - self.saved >= 60 * self.recipe.checkpoint_minutes

    def save(self, curve: Sequence[Epoch], running: Running, name: str = LAST) -> None:
        """All that the run needs to go on."""
        distributed.collect(self.task.carried.values())
        if distributed.is_main():
            carried = self.task.carried | (self.average.state() if self.average else {})
            progress = self._progress(curve, running)
            save_checkpoint(self.recipe.folder / name, self.task.model, self.optimizer, progress, carried)
            self.saved = time.monotonic()

    def save_best(self, curve: Sequence[Epoch], running: Running) -> None:
        """The measured weights as the model's."""
        distributed.collect(self.task.carried.values())
        if distributed.is_main():
            progress, best = self._progress(curve, running), self.recipe.folder / BEST
            save_checkpoint(best, self.measured_model, self.optimizer, progress, self.task.carried)

    def keep(self, curve: Sequence[Epoch], running: Running) -> None:
        """Keep the checkpoints of the last epochs, which can be averaged."""
        if self.recipe.keep_last > 1:
            folder, epoch = self.recipe.folder, len(curve)
            self.save(curve, running, kept_checkpoint(folder, epoch).name)
            kept = {kept_checkpoint(folder, epoch - back) for back in range(self.recipe.keep_last)}
            for old in set(kept_checkpoints(folder)) - kept if distributed.is_main() else ():
                old.unlink()

    def begin(self) -> None:
        """Delete what a run that left no checkpoint had written."""
        for name in (CONSTANT, WINDOW) if distributed.is_main() else ():
            (self.recipe.folder / name).unlink(missing_ok=True)

    def save_weights(self, curve: Sequence[Epoch], running: Running, done: float, now: bool = False) -> None:
        """The measured weights alone: every minute where the run has a budget, and once before a decay begins.

        done: share of the run. now: also within the minute.
        """
        if not distributed.is_main():
            return
        folder, optimizer = self.recipe.folder, self.recipe.optimizer
        if self.recipe.budget_minutes and (now or time.monotonic() - self.windowed >= WINDOW_SECONDS):
            save_half(folder / WINDOW, self.measured_model, self._progress(curve, running))
            self.windowed = time.monotonic()
        decays = optimizer.schedule == "constant" and decay_done(optimizer, done)
        if decays and not (folder / CONSTANT).exists():
            save_half(folder / CONSTANT, self.measured_model, self._progress(curve, running))

    def _progress(self, curve: Sequence[Epoch], running: Running) -> dict[str, Any]:
        return {
            "curve": [asdict(epoch) for epoch in curve],
            "tokens": self.task.tokens.symbols,
            "running": asdict(running),
            "batches": self.batches,
            "scaler": self.scaler.state_dict(),
        }

    def restore(self) -> tuple[list[Any], Running]:
        """Load the last checkpoint; returns the curve and the epoch under way. RecipeError if it is of another run."""
        tokens, carried = self.task.tokens.symbols, self.task.carried | (self.average.state() if self.average else {})
        progress = load_checkpoint(self.last, self.task.model, self.optimizer, carried)
        if tuple(progress.get("tokens", tokens)) != tokens:
            raise RecipeError(f"{self.last}: made with other tokens; a run keeps its tokenizer, set another name")
        if (batches := progress.get("batches", self.batches)) != self.batches:
            raise RecipeError(
                f"{self.last}: {batches} batches made an update, now {self.batches} would (accumulate times the "
                "processes); start as many processes as before, or set accumulate"
            )
        try:
            curve = [self.task.epoch_type(**epoch) for epoch in progress["curve"]]
            if "running" in progress:
                running = Running(**progress["running"])
            else:  # saved by a version that saved whole epochs only
                running = Running(curve[-1].step, curve[-1].minutes) if curve else Running()
            if state := progress.get("scaler"):  # of float16, which may not be what the run goes on with
                self.scaler.load_state_dict(state)
            return curve, running
        except (KeyError, TypeError, AttributeError) as error:
            raise RecipeError(
                f"{self.last}: made by another version of asr; go on with that, or set another name"
            ) from error
