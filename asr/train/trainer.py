"""The one training loop."""

import json
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.errors import RecipeError, one_line
from asr.train import parallel
from asr.train.checkpoint import (
    BEST,
    LAST,
    kept_checkpoint,
    kept_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from asr.train.config import Recipe
from asr.train.ema import MovingAverage
from asr.train.events import Events, run_events
from asr.train.gradients import clip_gradients
from asr.train.randomness import seed_all
from asr.train.recipe import check_resumed, save_recipe
from asr.train.task import Batch, Epoch, EpochType, Task

FIRST_LEARNING_RATE = 0.01  # of the peak, at the first step
FINAL_LEARNING_RATE = 0.01  # of the peak, at the last step


@dataclass
class Running:
    """The epoch under way in all processes: what its line of the curve needs, and where its data goes on."""

    step: int = 0  # updates of the run
    minutes: float = 0.0  # that the epochs before took
    batches: int = 0  # taken from the data
    updates: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss: float = 0.0  # sums from here on
    tokens: int = 0
    norm: float = 0.0
    clipped: int = 0
    amount: float = 0.0
    seconds: float = 0.0


class Trainer(Generic[EpochType]):
    """Owns a run: its task, optimiser and folder. `run()` trains to the last epoch of the recipe.

    Checkpoints hold the model, the optimiser, what the task carries from batch to batch, the curve and the epoch under
    way; all that is drawn depends on seed, epoch and batch alone. So on a CPU a run that was stopped at any moment and
    resumed equals one that was not, bit for bit.

    In a run of several processes (`asr.train.parallel`) each has a trainer, and all do the same but for the batches
    that they learn from; the main one writes, speaks and measures.
    """

    def __init__(self, task: type[Task[Any, EpochType]], recipe: Recipe, console: Console, resume: bool = False):
        self.recipe = recipe
        self.console = console
        self.folder = recipe.folder
        self.last, self.best = self.folder / LAST, self.folder / BEST
        if self.last.exists() and not resume:
            raise RecipeError(f"{self.folder} holds a run already; add --resume to go on, or set name or output")
        if self.last.exists():
            check_resumed(recipe, self.folder / "recipe.yaml")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(f"{self.folder}: cannot be made ({one_line(error)}); set output to another") from error
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.main = parallel.is_main()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = choose_precision(recipe.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16")
        self.curve: list[EpochType] = []
        self.running = Running()
        self.saved = time.monotonic()
        self.stopping = False
        self.started = False
        self.task = task(recipe, self.device, self._say_for_task)
        self.model = self.task.model
        optimizer = recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay, fused=True
        )
        self.average = MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        if self.last.exists():
            self._restore()
        elif self.main:
            self.task.begin()
        parallel.share_weights(self.model)
        here = (self.running, len(self.curve), self.task.tokens.symbols, self.task.epoch_amount)
        if any(there != here for there in parallel.gather(here)):
            raise RecipeError(f"{self.folder}: another process has another run or data; put both on shared storage")
        if self.main:
            self._keep_skipped()
            self.task.tokens.save(self.folder / "tokens.txt")
            save_recipe(recipe, self.folder / "recipe.yaml")

    def run(self) -> list[EpochType]:
        """Train until the last epoch; after each one validate, keep the last and the best checkpoint.

        KeyboardInterrupt when SIGINT or SIGTERM asked to stop; the run is then saved.
        """
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        several = f", {parallel.count()} processes" if parallel.count() > 1 else ""
        self._say(f"{parameters:,} parameters, {self.precision} on {self.device}{several}")
        self.started = True
        try:
            with (
                run_events(self.folder, self.running.step + 1) if self.main else nullcontext() as events,
                self._until_told_to_stop(),
            ):
                self._write_curve()
                while len(self.curve) < self.recipe.epochs:
                    epoch = self._epoch(events)
                    self.curve.append(epoch)
                    in_a_row = self.running.skipped_in_a_row
                    self.running = Running(epoch.step, epoch.minutes, skipped_in_a_row=in_a_row)
                    if best_epoch(self.curve) is epoch:
                        self._save(self.best)
                    self._keep(epoch.epoch)
                    self._save(self.last)
                    self._report(epoch, events)
                    if any(parallel.totals(self.stopping)):
                        self._stop()
        except OSError as error:
            raise RecipeError(
                f"{self.folder}: cannot go on ({one_line(error)}); if there is no room make some, then --resume"
            ) from error
        return self.curve

    def _epoch(self, events: Events | None) -> EpochType:
        number, running = len(self.curve) + 1, self.running
        seed_all(self.recipe.seed, number)  # for the loader
        batches = self.task.start_epoch(self.curve, running.batches)
        started = time.monotonic() - running.seconds
        with self._progress(number) as progress:
            bar = progress.add_task("", total=self.task.epoch_amount, loss=math.nan, speed=0.0)
            self.model.train()
            while True:
                drawn = list(islice(batches, self.recipe.accumulate))
                group = [batch for batch in drawn if batch.ids]
                amount = sum(batch.amount for batch in group)
                all_drawn, all_usable, amount = parallel.totals(len(drawn), len(group), amount)
                if not all_drawn:
                    break
                running.batches += int(all_drawn)
                if all_usable:
                    # What a batch amounts to is not exact: perturbed speeds make an epoch longer or shorter.
                    share = min(1.0, running.amount / self.task.epoch_amount)
                    loss = self._learn(group, self.learning_rate((number - 1 + share) / self.recipe.epochs), events)
                    running.amount += amount
                    running.seconds = time.monotonic() - started
                    speed = running.amount / running.seconds
                    progress.update(bar, completed=running.amount, loss=loss, speed=speed)
                due = self.main and time.monotonic() - self.saved >= 60 * self.recipe.checkpoint_minutes
                stopping, due = map(bool, parallel.totals(self.stopping, due))  # a signal comes to any of them
                if stopping or due:
                    self._save(self.last)
                if stopping:
                    self._stop()
        self._save(self.last)  # measuring takes a while
        measured = parallel.from_main(self._validate() if self.main else None)
        return self.task.epoch_type(
            epoch=number,
            step=running.step,
            train_loss=running.loss / max(1, running.tokens),
            gradient_norm=running.norm / max(1, running.updates),
            clipped=running.clipped / max(1, running.updates),
            learning_rate=self.learning_rate(number / self.recipe.epochs),
            speed=running.amount / max(running.seconds, 1e-9),
            minutes=running.minutes + (time.monotonic() - started) / 60,
            skipped=running.skipped,
            **measured,
        )

    def _learn(self, batches: list[Batch], learning_rate: float, events: Events | None) -> float:
        """Update and keep the books. Returns the loss per token."""
        running = self.running
        loss, tokens, norm, layers = self.update(batches, learning_rate)
        per_token = loss / max(1, tokens)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._skip(batches, loss, norm)
            return per_token
        running.step += 1
        running.updates += 1
        running.skipped_in_a_row = 0
        running.loss += loss
        running.tokens += tokens
        running.norm += norm
        clipped = norm > self.recipe.optimizer.clip
        running.clipped += clipped
        values = {"loss": per_token, "learning_rate": learning_rate, "gradient_norm": norm, "clipped": int(clipped)}
        if events:
            events.update(running.step, len(self.curve) + 1, values | {"layer_norm": layers})
        return per_token

    def update(self, batches: list[Batch], learning_rate: float) -> tuple[float, int, float, dict[str, float]]:
        """One step of the optimiser on the loss per token of all the batches, those of other processes included.

        Returns the summed loss, the tokens, the gradient's norm before clipping and that of each layer. If loss or
        norm is not finite, nothing is learned.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        (tokens,) = map(int, parallel.totals(sum(self.task.count(batch) for batch in batches)))
        total = 0.0
        for batch in batches:
            # Dropout and masks are those of the batch, whichever process learns from it and after what.
            seed_all(self.recipe.seed, len(self.curve) + 1, *batch.ids)
            with self._autocast():
                loss = self.task.loss(batch)
            self.scaler.scale(loss / max(1, tokens)).backward()
            total += loss.item()
        (total,) = parallel.totals(total)
        parallel.sum_gradients(self.model.parameters())
        self.scaler.unscale_(self.optimizer)
        norm, layers = clip_gradients(self.model, self.recipe.optimizer.clip)
        if math.isfinite(total) and math.isfinite(norm):
            self.optimizer.step()
            if self.average:
                self.average.update_parameters(self.model)
        self.scaler.update()
        return total, tokens, norm, layers

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, getattr(torch, self.precision), enabled=self.precision != "float32")

    def learning_rate(self, done: float) -> float:
        """Linear warm-up, then half a cosine. `done`, 0…1, is the share of the run's data that has been seen."""
        optimizer = self.recipe.optimizer
        if done < optimizer.warmup or optimizer.warmup == 1:
            return optimizer.learning_rate * max(done / optimizer.warmup, FIRST_LEARNING_RATE)
        progress = (done - optimizer.warmup) / (1 - optimizer.warmup)
        share = FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * (1 + math.cos(math.pi * progress)) / 2
        return optimizer.learning_rate * share

    @property
    def skipped_file(self) -> Path:
        return self.folder / "skipped.jsonl"

    def _skip(self, batches: list[Batch], loss: float, norm: float) -> None:
        """Write down an update that was skipped; too many in a row stop the run."""
        running = self.running
        running.skipped += 1
        running.skipped_in_a_row += 1
        ids = [name for ids in parallel.gather([name for batch in batches for name in batch.ids]) for name in ids]
        line = {"epoch": len(self.curve) + 1, "batches": running.batches, "loss": str(loss), "gradient_norm": str(norm)}
        if self.main:
            with open(self.skipped_file, "a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"ids": ids}, ensure_ascii=False) + "\n")
        if running.skipped_in_a_row > self.recipe.max_skipped:
            raise RecipeError(
                f"loss or gradient not finite {running.skipped_in_a_row} times in a row, {self.skipped_file} names the "
                "batches; set precision=float32, or lower optimizer.learning_rate in a new run"
            )
        self._say(f"skipped, loss {loss} and gradient norm {norm} are not finite: {one_line(', '.join(ids))}")

    def _keep_skipped(self) -> None:
        """Of the updates that were skipped, keep those that the checkpoint knows: the others come again."""
        if self.skipped_file.exists():
            count = sum(epoch.skipped for epoch in self.curve) + self.running.skipped
            lines = self.skipped_file.read_text(encoding="utf-8").splitlines(keepends=True)
            self.skipped_file.write_text("".join(lines[:count]), encoding="utf-8")

    @property
    def measured_model(self) -> torch.nn.Module:
        """The one that is validated, kept as the best and exported."""
        return self.average.module if self.average else self.model

    def _validate(self) -> dict[str, Any]:
        self.task.model = self.measured_model
        try:
            return self.task.validate()
        finally:
            self.task.model = self.model

    @property
    def _carried(self) -> dict[str, torch.Tensor]:
        """What goes from update to update beside the model and the optimiser."""
        return self.task.carried | (self.average.state() if self.average else {})

    @property
    def _batches(self) -> int:
        """That make an update, in all processes."""
        return self.recipe.accumulate * parallel.count()

    def _save(self, path: Path) -> None:
        parallel.collect(self.task.carried.values())
        if not self.main:
            return
        progress = {
            "curve": [asdict(epoch) for epoch in self.curve],
            "tokens": self.task.tokens.symbols,
            "running": asdict(self.running),
            "batches": self._batches,
            "scaler": self.scaler.state_dict(),
        }
        if path == self.best:
            save_checkpoint(path, self.measured_model, self.optimizer, progress, self.task.carried)
        else:
            save_checkpoint(path, self.model, self.optimizer, progress, self._carried)
        self.saved = time.monotonic()

    def _keep(self, epoch: int) -> None:
        """Keep the checkpoints of the last epochs, which can be averaged."""
        if self.recipe.keep_last > 1:
            self._save(kept_checkpoint(self.folder, epoch))
            kept = {kept_checkpoint(self.folder, epoch - back) for back in range(self.recipe.keep_last)}
            for old in set(kept_checkpoints(self.folder)) - kept if self.main else ():
                old.unlink()

    def _restore(self) -> None:
        tokens = self.task.tokens.symbols
        progress = load_checkpoint(self.last, self.model, self.optimizer, self._carried)
        if tuple(progress.get("tokens", tokens)) != tokens:
            raise RecipeError(f"{self.last}: made with other tokens; a run keeps its tokenizer, set another name")
        if (batches := progress.get("batches", self._batches)) != self._batches:
            raise RecipeError(
                f"{self.last}: {batches} batches made an update, now {self._batches} would (accumulate times the "
                "processes); start as many processes as before, or set accumulate"
            )
        try:
            self.curve = [self.task.epoch_type(**epoch) for epoch in progress["curve"]]
            if running := progress.get("running"):
                self.running = Running(**running)
            elif self.curve:  # saved by a version that saved whole epochs only
                self.running = Running(self.curve[-1].step, self.curve[-1].minutes)
            if state := progress.get("scaler"):  # of float16, which may not be what the run goes on with
                self.scaler.load_state_dict(state)
        except (KeyError, TypeError) as error:
            raise RecipeError(f"{self.last}: made by another version of asr; train without --resume") from error

    @contextmanager
    def _until_told_to_stop(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run after the update under way; the second one ends it at once."""

        def stop(number: int, frame: object) -> None:
            self.stopping = True
            restore()

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            restore()

    def _stop(self) -> None:
        where = f" and {self.running.batches} batches" if self.running.batches else ""
        self._say(f"stopped after {len(self.curve)} of {self.recipe.epochs} epochs{where}; --resume goes on there")
        raise KeyboardInterrupt

    def _progress(self, number: int) -> Progress:
        return Progress(
            TextColumn(f"epoch {number}/{self.recipe.epochs}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} " + f"{self.task.unit}/s"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not (self.main and self.console.is_terminal),
        )

    def _say(self, text: str) -> None:
        if self.main:
            self.console.print(text)

    def _say_for_task(self, text: str) -> None:
        """At first all processes would say the same, later each speaks of its own batches."""
        if self.main or self.started:
            self.console.print(text)

    def _write_curve(self) -> None:
        if not self.main:
            return
        temporary = self.folder / "curve.partial"
        temporary.write_text("".join(json.dumps(asdict(line)) + "\n" for line in self.curve), encoding="utf-8")
        os.replace(temporary, self.folder / "curve.jsonl")

    def _report(self, epoch: Epoch, events: Events | None) -> None:
        values = {name: value for name, value in asdict(epoch).items() if name not in ("epoch", "step")}
        if events:
            events.epoch(epoch.epoch, values)
        self._write_curve()
        self._say(
            f"epoch {epoch.epoch:3d}  train {epoch.train_loss:.3f}  dev {epoch.dev_loss:.3f}  {epoch.outcome}  "
            f"gradient {epoch.gradient_norm:.2f}  {epoch.speed:,.0f} {self.task.unit}/s  {epoch.minutes:.1f} min"
            + (f"  skipped: {epoch.skipped}" if epoch.skipped else "")
        )


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto`: bfloat16 where the hardware multiplies it faster than float32. RecipeError for float16 there."""
    if precision == "float16" and device.type != "cuda":
        raise RecipeError(f"precision=float16 is for CUDA, not for the {device.type}; set precision=auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Torch has no public name for this yet.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bfloat16" if has_amx() else "float32"


def best_epoch(curve: Sequence[EpochType]) -> EpochType:
    return min(curve, key=lambda epoch: epoch.rank)
