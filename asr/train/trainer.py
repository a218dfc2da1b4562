"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from asr.errors import RecipeError, describe_os_error, is_disk_full, one_line
from asr.train import distributed, optim
from asr.train.budget import Budget, Utilization
from asr.train.checkpoint import CONSTANT, LAST, WINDOW, Saver
from asr.train.config import Recipe, check_resumed, save_recipe
from asr.train.log import EpochStats, RunLog
from asr.train.process import seed_all, translate_memory_errors
from asr.train.runs import RECIPE, SKIPPED
from asr.train.task import Batch, Task, best_epoch


@dataclass(frozen=True)
class UpdateBatches:
    """The usable batches of an update in this process; of all processes how many were taken, and the amount of data."""

    batches: list[Batch]
    taken: int
    amount: float


@dataclass(frozen=True)
class PendingUpdate:
    """An update that may still be computed; values: summed loss, norm of the gradient, norm of each parameter's."""

    rate: float
    tokens: int
    too_short: int
    values: Tensor


class Trainer:
    """A run: its task, optimizer and folder. `run()` trains to the last epoch of the recipe.

    Checkpoints hold the model, the optimizer, what the task carries from batch to batch, the curve and the statistics
    of the current epoch; all that is drawn depends on seed, epoch and batch alone. So on a CPU a run that was stopped
    at any moment and resumed equals one that was not, bit for bit.

    In a run of several processes (`asr.train.distributed`) each has a trainer, and all do the same but for the batches
    that they learn from; the main one writes the files, prints and validates.
    """

    def __init__(self, task: Callable[..., Task], recipe: Recipe, console: Console, resume: bool = False):
        self.recipe = recipe
        self.folder = recipe.folder
        if (begun := (self.folder / LAST).exists()) and not resume:
            raise RecipeError(
                f"{self.folder} holds a run already; go on with asr train --resume {self.folder}, or set name or output"
            )
        if begun:
            check_resumed(recipe, self.folder / RECIPE)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.main = distributed.is_main()
        self.log = RunLog(self.folder, console, self.main)
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        self.precision = optim.choose_precision(recipe.precision, self.device)
        self.scaler = optim.make_scaler(self.precision, self.device)
        self.curve: list[Any] = []  # of the task's epoch_type
        self.stats = EpochStats()
        self.utilization = Utilization(self.device)
        with translate_memory_errors(self.folder), torch.random.fork_rng([]):
            torch.default_generator.manual_seed(recipe.seed)  # for the weights, which are made on the CPU
            self.task = task(recipe, self.device, self.log.say)
        self.model = self.task.model
        precision = getattr(torch, self.precision)
        self.optimizer = optim.make_optimizer(self.model, recipe.optimizer, precision)  # `update` sets the rate
        self.average = optim.MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.best_weights = self.average.module if self.average else self.model  # are validated, kept, exported
        optim.check_kernels(self.best_weights, self.device)
        self.saver = Saver(self)
        if begun:
            self.saver.restore()
        elif self.main:
            for name in (CONSTANT, WINDOW):  # of a run that left no checkpoint
                (self.folder / name).unlink(missing_ok=True)
            with translate_memory_errors(self.folder):
                self.task.begin()
        distributed.share_weights(self.model)
        here = (self.stats, len(self.curve), self.task.tokens.symbols, self.task.epoch_amount)
        if any(there != here for there in distributed.gather(here)):
            raise RecipeError(f"{self.folder}: another process has another run or data; put both on shared storage")
        if self.main:
            self.log.keep_skipped(sum(epoch.skipped for epoch in self.curve) + self.stats.skipped)
            self.task.tokens.save(self.folder / "tokens.txt")
            save_recipe(recipe, self.folder / RECIPE)

    def run(self, stop: Event | None = None) -> list[Any]:
        """Train until the last epoch, or until the time is up; returns the curve, `Epoch`s of the task's type.

        stop: once it is set, in any process, the run is saved and ends with KeyboardInterrupt.
        """
        self.stop = stop or Event()
        self.budget = Budget(self.recipe.budget_minutes, self.stats.spent)
        self._say_plan()
        self.task.accelerate(getattr(torch, self.precision))
        try:
            with self.log.opened(self.stats.step + 1), translate_memory_errors(self.folder):
                self.log.curve(self.curve)
                if self.recipe.budget_minutes:
                    self._validate()  # so that it is known how long it will take at the end
                # An epoch that has begun is finished, also where the time is up.
                while len(self.curve) < self.recipe.epochs and (self.stats.batches or not self._time_is_up):
                    self._train_epoch()
                    self._finish_epoch()
        except OSError as error:
            room = "make room, then " if is_disk_full(error) else ""
            raise RecipeError(
                f"{self.folder}: cannot go on ({describe_os_error(error)}); {room}go on with "
                f"asr train --resume {self.folder}"
            ) from error
        if not self.curve:
            raise RecipeError(f"budget_minutes={self.recipe.budget_minutes} is over before an update is made; raise it")
        return self.curve

    def _train_epoch(self) -> None:
        number, stats = len(self.curve) + 1, self.stats
        batches = self.task.start_epoch(self.curve, stats.batches)
        self.epoch_started = time.monotonic() - stats.seconds  # without interruptions
        title = f"epoch {number}/{self.recipe.epochs}"
        with self.log.progress(title, self.task.epoch_amount, self.task.epoch_type.unit) as show:
            self.model.train()
            self.utilization.restart()
            drawn = self.draw(batches)
            while drawn and not self._time_is_up:
                rate = optim.learning_rate(self.recipe.optimizer, self._done)
                update = self.update(drawn.batches, rate) if drawn.amount else None
                following = self.draw(batches)  # while the device computes
                if update:
                    loss = self.record(drawn, update)
                    stats.seconds = time.monotonic() - self.epoch_started
                    show(completed=stats.amount, loss=loss, speed=stats.amount / stats.seconds)
                stats.batches += drawn.taken
                self._save_if_due()
                drawn = following

    def draw(self, batches: Iterator[Batch]) -> UpdateBatches | None:
        """The batches of the next update; None if no process has any left."""
        started = time.monotonic()
        drawn = list(islice(batches, self.recipe.accumulate))
        self.stats.waited += time.monotonic() - started
        group = [batch for batch in drawn if batch.ids]
        taken, amount = distributed.totals(len(drawn), sum(batch.amount for batch in group))
        return UpdateBatches(group, int(taken), amount) if taken else None

    def update(self, batches: list[Batch], rate: float) -> PendingUpdate:
        """One step of the optimizer on the loss per token of all the batches, those of other processes included.

        If loss or gradient is not finite, nothing is learned. On a GPU this returns before the step is computed.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        counts = [self.task.count(batch) for batch in batches]
        tokens, too_short = map(int, distributed.totals(sum(n for n, _ in counts), sum(short for _, short in counts)))
        loss = torch.zeros((), device=self.device)
        for batch in batches:
            # Dropout and masks depend on the batch, not on the process or on the batches before.
            seed_all(self.recipe.seed, len(self.curve) + 1, *batch.ids)
            half = self.precision != "float32"
            with torch.autocast(self.device.type, getattr(torch, self.precision), enabled=half):
                summed = self.task.loss(batch)
            self.scaler.scale(summed / max(1, tokens)).backward()
            loss += summed.detach()
        distributed.sum_up(loss)
        distributed.sum_gradients(self.model.parameters())
        self.scaler.unscale_(self.optimizer)
        values = torch.cat([loss.unsqueeze(0), optim.clip_gradients(self.model, self.recipe.optimizer.clip)])
        # The fused optimizer leaves all as it was where this is 1, without a wait for the device.
        self.optimizer.found_inf = (~values[:2].isfinite().all()).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.scaler.update()
        return PendingUpdate(rate, tokens, too_short, values)

    def record(self, drawn: UpdateBatches, update: PendingUpdate) -> float:
        """Wait for an update, count and log it. Returns the loss per token."""
        stats, clip = self.stats, self.recipe.optimizer.clip
        loss, norm, *norms = update.values.tolist()  # the one wait for the device
        per_token = loss / max(1, update.tokens)
        stats.amount += drawn.amount
        stats.too_short += update.too_short
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._record_skipped(drawn, loss, norm)
            return per_token
        if self.average:
            self.average.update_parameters(self.model)
        stats.count_update(loss, update.tokens, norm, norm > clip)
        self.utilization.sample()
        values = {"loss": per_token, "learning_rate": update.rate, "gradient_norm": norm, "clipped": int(norm > clip)}
        self.log.update(stats.step, len(self.curve) + 1, values | {"layer_norm": optim.layer_norms(self.model, norms)})
        return per_token

    def _record_skipped(self, drawn: UpdateBatches, loss: float, norm: float) -> None:
        stats = self.stats
        stats.skipped += 1
        stats.skipped_in_a_row += 1
        here = [name for batch in drawn.batches for name in batch.ids]
        ids = [name for ids in distributed.gather(here) for name in ids]
        self.log.skipped(len(self.curve) + 1, stats.batches + drawn.taken, loss, norm, ids)
        if stats.skipped_in_a_row > self.recipe.max_skipped:
            raise RecipeError(
                f"loss or gradient not finite {stats.skipped_in_a_row} times in a row, {self.folder / SKIPPED} names "
                "the batches; set precision=float32, or lower optimizer.learning_rate in a new run"
            )
        self.log.say(f"skipped, loss {loss} and gradient norm {norm} are not finite: {one_line(', '.join(ids))}")

    def _validate(self) -> dict[str, Any]:
        """Fields of the epoch on dev data, in all processes."""
        with self.budget.timing("validation"):
            return distributed.from_main(self.task.validate(self.best_weights) if self.main else None)

    def _finish_epoch(self) -> None:
        number, stats = len(self.curve) + 1, self.stats
        with self.budget.timing("saving before"):
            self.saver.save()  # validation takes a while
        measured = self._validate()
        done = self._done if self.recipe.budget_minutes else number / self.recipe.epochs
        epoch = self.task.epoch_type(
            epoch=number,
            learning_rate=optim.learning_rate(self.recipe.optimizer, done),
            minutes=stats.minutes + (time.monotonic() - self.epoch_started) / 60,
            utilization=self.utilization.mean(),
            **stats.summary(),
            **measured,
        )
        self.curve.append(epoch)
        self.stats = EpochStats(epoch.step, epoch.minutes, skipped_in_a_row=stats.skipped_in_a_row)
        with self.budget.timing("saving after"):
            self.saver.save_epoch(best=best_epoch(self.curve) is epoch)
            self.saver.save_weights(self._done, now=True)
        self.log.curve(self.curve)
        self.log.epoch(epoch)
        if any(distributed.totals(self.stop.is_set())):
            self._end()

    def _save_if_due(self) -> None:
        """Save if it is time, or if the run is to stop: a signal may have come to any process."""
        stopping, due = map(bool, distributed.totals(self.stop.is_set(), self.saver.due))
        if stopping or due:
            self.saver.save()
        if stopping:
            self._end()
        self.saver.save_weights(self._done)

    def _end(self) -> None:
        where = f" and {self.stats.batches} batches" if self.stats.batches else ""
        self.log.say(
            f"stopped after {len(self.curve)} of {self.recipe.epochs} epochs{where}; "
            f"asr train --resume {self.folder} goes on there"
        )
        raise KeyboardInterrupt

    @property
    def _done(self) -> float:
        """Share of the run, 0…1: of its time where it has a budget, else of its data."""
        if self.recipe.budget_minutes:
            return distributed.from_main(self.budget.done)
        # The amount of an epoch is not exact: perturbed speeds make it longer or shorter.
        share = min(1.0, self.stats.amount / self.task.epoch_amount)
        return min(1.0, (len(self.curve) + share) / self.recipe.epochs)

    @property
    def _time_is_up(self) -> bool:
        return self.recipe.budget_minutes > 0 and self._done >= 1

    def _say_plan(self) -> None:
        parameters = optim.count_parameters(self.model)
        several = f", {distributed.count()} processes" if distributed.count() > 1 else ""
        self.log.say(f"{parameters:,} parameters, {self.precision} on {self.device}{several}")
        updates = math.ceil(self.task.epoch_batches / self.saver.batches)
        ahead = updates * (self.recipe.epochs - len(self.curve)) - self.stats.updates
        if self.recipe.budget_minutes:
            left = max(0.0, self.recipe.budget_minutes - self.stats.spent / 60)
            self.log.say(f"{left:.3g} minutes to train, about {updates:,} updates an epoch")
        elif ahead > 0:
            self.log.say(f"about {ahead:,} updates to make, {updates:,} an epoch")
