"""The one training loop."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Generic

import torch
from rich.console import Console
from torch import Tensor

from asr.data.workers import explained
from asr.errors import RecipeError, one_line
from asr.files import replacing
from asr.train import distributed
from asr.train.budget import Budget, Utilization
from asr.train.checkpoint import LAST
from asr.train.config import Recipe, check_resumed, save_recipe
from asr.train.ema import MovingAverage
from asr.train.events import Events, run_events
from asr.train.gradients import clip_gradients, layer_norms
from asr.train.memory import keep_freed_memory
from asr.train.precision import check_kernels, choose_precision
from asr.train.progress import EpochBar
from asr.train.randomness import seed_all
from asr.train.running import Running
from asr.train.runs import CURVE, RECIPE
from asr.train.saving import Saver
from asr.train.schedule import learning_rate
from asr.train.skipped import Skipped
from asr.train.stop import StopSignals
from asr.train.task import Batch, Epoch, EpochType, Task, best_epoch

FIRST_SCALE, GROWTH = 2.0**10, 500  # of the loss in half precision, and updates after which it is doubled


@dataclass(frozen=True)
class UpdateBatches:
    """The batches of an update in this process; how many were taken in all processes, and what they amount to."""

    batches: list[Batch]
    taken: int
    usable: bool
    amount: float


@dataclass(frozen=True)
class PendingUpdate:
    """An update that may still be computed; values: summed loss, norm of the gradient, norm of each parameter's."""

    tokens: int
    values: Tensor


class Trainer(Generic[EpochType]):
    """Owns a run: its task, optimiser and folder. `run()` trains to the last epoch of the recipe.

    Checkpoints hold the model, the optimiser, what the task carries from batch to batch, the curve and the epoch under
    way; all that is drawn depends on seed, epoch and batch alone. So on a CPU a run that was stopped at any moment and
    resumed equals one that was not, bit for bit.

    In a run of several processes (`asr.train.distributed`) each has a trainer, and all do the same but for the batches
    that they learn from; the main one writes, speaks and measures.
    """

    def __init__(self, task: type[Task[Any, EpochType]], recipe: Recipe, console: Console, resume: bool = False):
        self.recipe = recipe
        self.console = console
        self.folder = recipe.folder
        if (begun := (self.folder / LAST).exists()) and not resume:
            raise RecipeError(f"{self.folder} holds a run already; add --resume to go on, or set name or output")
        if begun:
            check_resumed(recipe, self.folder / RECIPE)
        self.folder.mkdir(parents=True, exist_ok=True)
        keep_freed_memory()
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.main = distributed.is_main()
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        self.precision = choose_precision(recipe.precision, self.device)
        # cuDNN computes LSTMs in float16 under any autocast, and their gradients are small.
        scaled = self.precision == "float16" or (self.device.type == "cuda" and self.precision != "float32")
        self.scaler = torch.amp.GradScaler(self.device.type, FIRST_SCALE, growth_interval=GROWTH, enabled=scaled)
        self.curve: list[EpochType] = []
        self.running = Running()
        self.skipped = Skipped(self.folder)
        self.utilization = Utilization(self.device)
        self.signals = StopSignals()
        self.started = False
        with explained(self.folder):
            self.task = task(recipe, self.device, self._say_for_task)
        self.model = self.task.model
        optimizer = recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay, fused=True
        )
        self.average = MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.saver = Saver(recipe, self.task, self.optimizer, self.average, self.scaler)
        check_kernels(self.saver.measured_model, self.device)
        if self.saver.last.exists():
            self.curve, self.running = self.saver.restore()
        elif self.main:
            self.saver.begin()
            with explained(self.folder):
                self.task.begin()
        distributed.share_weights(self.model)
        here = (self.running, len(self.curve), self.task.tokens.symbols, self.task.epoch_amount)
        if any(there != here for there in distributed.gather(here)):
            raise RecipeError(f"{self.folder}: another process has another run or data; put both on shared storage")
        if self.main:
            self.skipped.keep(sum(epoch.skipped for epoch in self.curve) + self.running.skipped)
            self.task.tokens.save(self.folder / "tokens.txt")
            save_recipe(recipe, self.folder / RECIPE)

    def run(self) -> list[EpochType]:
        """Train until the last epoch, or until the time is up; after each one validate, keep the last and the best.

        KeyboardInterrupt when SIGINT or SIGTERM asked to stop; the run is then saved.
        """
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        several = f", {distributed.count()} processes" if distributed.count() > 1 else ""
        self._say(f"{parameters:,} parameters, {self.precision} on {self.device}{several}")
        self.started = True
        self.budget = Budget(self.recipe.budget_minutes, self.running.spent)
        self.task.accelerate(getattr(torch, self.precision))
        try:
            with (
                run_events(self.folder, self.running.step + 1) if self.main else nullcontext() as events,
                self.signals,
                explained(self.folder),
            ):
                self._write_curve()
                if self.recipe.budget_minutes:
                    with self.budget.timing("measuring"):  # so that it is known how long it will take at the end
                        self._measure()
                # An epoch under way is measured and finished, also where the time is up.
                while len(self.curve) < self.recipe.epochs and (self.running.batches or not self._time_is_up):
                    started = self._epoch(events)
                    self._finish(started, events)
        except OSError as error:
            raise RecipeError(
                f"{self.folder}: cannot go on ({one_line(error)}); if there is no room make some, then --resume"
            ) from error
        if not self.curve:
            raise RecipeError(f"budget_minutes={self.recipe.budget_minutes} is over before an update is made; raise it")
        return self.curve

    def _epoch(self, events: Events | None) -> float:
        """Train to the end of the epoch. Returns when it began, by the monotonic clock, without interruptions."""
        number, running = len(self.curve) + 1, self.running
        seed_all(self.recipe.seed, number)  # for the loader
        batches = self.task.start_epoch(self.curve, running.batches)
        started = time.monotonic() - running.seconds
        title = f"epoch {number}/{self.recipe.epochs}"
        with EpochBar(title, self.task.epoch_amount, self.task.unit, self.console, self.main) as bar:
            self.model.train()
            self.utilization.restart()
            drawn = self._draw(batches)
            while drawn and not self._time_is_up:
                rate = learning_rate(self.recipe.optimizer, self._done)
                sent = self.update(drawn.batches, rate) if drawn.usable else None
                following = self._draw(batches)  # while the device computes
                if sent:
                    loss = self._record(drawn, sent, rate, events)
                    running.seconds = time.monotonic() - started
                    bar.show(running.amount, loss, running.amount / running.seconds)
                running.batches += drawn.taken
                self._save_in_time()
                drawn = following
        return started

    def _measure(self) -> dict[str, Any]:
        """Fields of the epoch on dev data, in all processes."""
        return distributed.from_main(self.task.validate(self.saver.measured_model) if self.main else None)

    def _draw(self, batches: Iterator[Batch]) -> UpdateBatches | None:
        """The batches of the next update; None if no process has any left."""
        started = time.monotonic()
        drawn = list(islice(batches, self.recipe.accumulate))
        self.running.waited += time.monotonic() - started
        group = [batch for batch in drawn if batch.ids]
        taken, usable, amount = distributed.totals(len(drawn), len(group), sum(batch.amount for batch in group))
        return UpdateBatches(group, int(taken), bool(usable), amount) if taken else None

    def update(self, batches: list[Batch], learning_rate: float) -> PendingUpdate:
        """One step of the optimiser on the loss per token of all the batches, those of other processes included.

        If loss or gradient is not finite, nothing is learned. On a GPU this returns before the step is computed.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        (tokens,) = map(int, distributed.totals(sum(self.task.count(batch) for batch in batches)))
        loss = torch.zeros((), device=self.device)
        for batch in batches:
            # Dropout and masks are those of the batch, whichever process learns from it and after what.
            seed_all(self.recipe.seed, len(self.curve) + 1, *batch.ids)
            with self._autocast():
                summed = self.task.loss(batch)
            self.scaler.scale(summed / max(1, tokens)).backward()
            loss += summed.detach()
        distributed.sum_up(loss)
        distributed.sum_gradients(self.model.parameters())
        self.scaler.unscale_(self.optimizer)
        values = torch.cat([loss.unsqueeze(0), clip_gradients(self.model, self.recipe.optimizer.clip)])
        # The fused optimiser leaves all as it was where this is 1, without a wait for the device.
        self.optimizer.found_inf = (~values[:2].isfinite().all()).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.scaler.update()
        return PendingUpdate(tokens, values)

    def _record(self, drawn: UpdateBatches, sent: PendingUpdate, rate: float, events: Events | None) -> float:
        """Wait for an update, count and log it. Returns the loss per token."""
        running = self.running
        loss, norm, *norms = sent.values.tolist()  # the one wait for the device
        per_token = loss / max(1, sent.tokens)
        running.amount += drawn.amount
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._skip(drawn, loss, norm)
            return per_token
        if self.average:
            self.average.update_parameters(self.model)
        clipped = norm > self.recipe.optimizer.clip
        running.count_update(loss, sent.tokens, norm, clipped)
        self.utilization.sample()
        values = {"loss": per_token, "learning_rate": rate, "gradient_norm": norm, "clipped": int(clipped)}
        if events:
            layers = {"layer_norm": layer_norms(self.model, norms)}
            events.update(running.step, len(self.curve) + 1, values | layers)
        return per_token

    def _finish(self, started: float, events: Events | None) -> None:
        """Measure and save the epoch that began at `started`."""
        number, running = len(self.curve) + 1, self.running
        with self.budget.timing("saving before"):
            self.saver.save(self.curve, running)  # measuring takes a while
        with self.budget.timing("measuring"):
            measured = self._measure()
        done = self._done if self.recipe.budget_minutes else number / self.recipe.epochs
        epoch = self.task.epoch_type(
            epoch=number,
            learning_rate=learning_rate(self.recipe.optimizer, done),
            minutes=running.minutes + (time.monotonic() - started) / 60,
            utilization=self.utilization.mean(),
            **running.summary(),
            **measured,
        )
        self.curve.append(epoch)
        self.running = Running(epoch.step, epoch.minutes, skipped_in_a_row=running.skipped_in_a_row)
        with self.budget.timing("saving after"):
            if best_epoch(self.curve) is epoch:
                self.saver.save_best(self.curve, self.running)
            self.saver.keep(self.curve, self.running)
            self.saver.save(self.curve, self.running)
            self.saver.save_weights(self.curve, self.running, self._done, now=True)
        self._report(epoch, events)
        if any(distributed.totals(self.signals.came)):
            self._stop()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, getattr(torch, self.precision), enabled=self.precision != "float32")

    @property
    def _done(self) -> float:
        """Share of the run, 0…1: of its time where it has a budget, else of its data."""
        if self.recipe.budget_minutes:
            return distributed.from_main(self.budget.done)
        # What a batch amounts to is not exact: perturbed speeds make an epoch longer or shorter.
        share = min(1.0, self.running.amount / self.task.epoch_amount)
        return min(1.0, (len(self.curve) + share) / self.recipe.epochs)

    @property
    def _time_is_up(self) -> bool:
        return self.recipe.budget_minutes > 0 and self._done >= 1

    def _skip(self, drawn: UpdateBatches, loss: float, norm: float) -> None:
        """Write down an update that was skipped; too many in a row stop the run."""
        running = self.running
        running.count_skipped()
        here = [name for batch in drawn.batches for name in batch.ids]
        ids = [name for ids in distributed.gather(here) for name in ids]
        if self.main:
            self.skipped.add(len(self.curve) + 1, running.batches + drawn.taken, loss, norm, ids)
        if running.skipped_in_a_row > self.recipe.max_skipped:
            raise RecipeError(
                f"loss or gradient not finite {running.skipped_in_a_row} times in a row, {self.skipped.file} names the "
                "batches; set precision=float32, or lower optimizer.learning_rate in a new run"
            )
        self._say(f"skipped, loss {loss} and gradient norm {norm} are not finite: {one_line(', '.join(ids))}")

    def _save_in_time(self) -> None:
        """Save what is due, and if a signal came end the run."""
        stopping, due = map(
            bool, distributed.totals(self.signals.came, self.saver.due)
        )  # a signal comes to any of them
        if stopping or due:
            self.saver.save(self.curve, self.running)
        if stopping:
            self._stop()
        self.saver.save_weights(self.curve, self.running, self._done)

    def _stop(self) -> None:
        where = f" and {self.running.batches} batches" if self.running.batches else ""
        self._say(f"stopped after {len(self.curve)} of {self.recipe.epochs} epochs{where}; --resume goes on there")
        raise KeyboardInterrupt

    def _say(self, text: str) -> None:
        if self.main:
            self.console.print(text)

    def _say_for_task(self, text: str) -> None:
        """At first all processes would say the same, later each speaks of its own batches."""
        if self.main or self.started:
            self.console.print(text)

    def _write_curve(self) -> None:
        if self.main:
            with replacing(self.folder / CURVE) as part:
                part.write_text("".join(json.dumps(asdict(line)) + "\n" for line in self.curve), encoding="utf-8")

    def _report(self, epoch: Epoch, events: Events | None) -> None:
        values = {name: value for name, value in asdict(epoch).items() if name not in ("epoch", "step")}
        if events:
            events.epoch(epoch.epoch, values)
        self._write_curve()
        self._say(
            f"epoch {epoch.epoch:3d}  train {epoch.train_loss:.3f}  dev {epoch.dev_loss:.3f}  {epoch.outcome}  "
            f"gradient {epoch.gradient_norm:.2f}  {epoch.speed:,.0f} {self.task.unit}/s  {epoch.minutes:.1f} min  "
            f"waiting {epoch.waiting:.0%}  utilization {epoch.utilization:.0%}"
            + (f"  skipped: {epoch.skipped}" if epoch.skipped else "")
        )
