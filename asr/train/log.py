"""Logging of a run: statistics of the current epoch, console, JSON lines, TensorBoard, progress bar."""

import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.files import replacing
from asr.train.runs import CURVE, SKIPPED, STEPS
from asr.train.task import Epoch


@dataclass
class EpochStats:
    """Statistics of the current epoch, over all processes, and where its data goes on; checkpoints hold them."""

    step: int = 0  # updates of the run
    minutes: float = 0.0  # that the epochs before took
    batches: int = 0  # taken from the data
    updates: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss: float = 0.0  # sums from here on
    tokens: int = 0
    too_short: int = 0
    norm: float = 0.0
    clipped: int = 0
    amount: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0  # seconds without a batch

    @property
    def spent(self) -> float:
        """Seconds of the run."""
        return 60 * self.minutes + self.seconds

    def count_update(self, loss: float, tokens: int, norm: float, clipped: bool) -> None:
        self.step += 1
        self.updates += 1
        self.skipped_in_a_row = 0
        self.loss += loss
        self.tokens += tokens
        self.norm += norm
        self.clipped += clipped

    def summary(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "train_loss": self.loss / max(1, self.tokens),
            "gradient_norm": self.norm / max(1, self.updates),
            "clipped": self.clipped / max(1, self.updates),
            "too_short": self.too_short,
            "skipped": self.skipped,
            "speed": self.amount / max(self.seconds, 1e-9),
            "waiting": self.waited / max(self.seconds, 1e-9),
        }


class RunLog:
    """Writes the lines and TensorBoard's events of a run, and to the console; only in the main process."""

    def __init__(self, folder: Path, console: Console, main: bool):
        self.folder = folder
        self.console = console
        self.main = main

    def say(self, text: str) -> None:
        if self.main:
            self.console.print(text)

    @contextmanager
    def opened(self, step: int) -> Iterator[None]:
        """Events from update `step` on; what an earlier process wrote from there on is hidden or cut off.

        On a full disk the writer raises OSError; the thread that found out would print a traceback besides.
        """
        if not self.main:
            yield
            return
        from torch.utils.tensorboard import SummaryWriter  # which takes a second to import

        def raised_again(thrown: threading.ExceptHookArgs) -> None:
            if not isinstance(thrown.exc_value, OSError):
                hook(thrown)

        hook, threading.excepthook = threading.excepthook, raised_again
        try:
            keep_lines(self.folder / STEPS, lambda _, line: line["step"] < step)
            # Unbuffered: what a checkpoint knows is in the file, whenever the process is killed.
            with (
                SummaryWriter(str(self.folder), purge_step=step) as self.board,
                open(self.folder / STEPS, "ab", buffering=0) as self.steps,
            ):
                yield
        finally:
            threading.excepthook = hook

    def update(self, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Of an update: numbers, and dicts of them."""
        if self.main:
            self.steps.write(json.dumps({"step": step, "epoch": epoch} | values).encode() + b"\n")
            self._draw("train", step, values)

    def skipped(self, epoch: int, batches: int, loss: float, norm: float, ids: Sequence[str]) -> None:
        """batches: how many of the epoch had been taken. ids: the utterances of the update."""
        line = {"epoch": epoch, "batches": batches, "loss": str(loss), "gradient_norm": str(norm), "ids": ids}
        if self.main:
            with open(self.folder / SKIPPED, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def keep_skipped(self, count: int) -> None:
        """Keep the first ones, which the checkpoint knows: the others come again."""
        keep_lines(self.folder / SKIPPED, lambda number, _: number < count)

    def curve(self, curve: Sequence[Epoch]) -> None:
        if self.main:
            with replacing(self.folder / CURVE) as part:
                part.write_text("".join(json.dumps(asdict(line)) + "\n" for line in curve), encoding="utf-8")

    def epoch(self, epoch: Epoch) -> None:
        values = {name: value for name, value in asdict(epoch).items() if name not in ("epoch", "step")}
        if self.main:
            self._draw("epoch", epoch.epoch, values)
        self.say(
            f"epoch {epoch.epoch:3d}  train {epoch.train_loss:.3f}  dev {epoch.dev_loss:.3f}  {epoch.outcome}  "
            f"gradient {epoch.gradient_norm:.2f}  {epoch.speed:,.0f} {epoch.unit}/s  {epoch.minutes:.1f} min  "
            f"waiting {epoch.waiting:.0%}  utilization {epoch.utilization:.0%}"
            + (f"  skipped: {epoch.skipped}" if epoch.skipped else "")
        )
        if epoch.advice:
            self.say(epoch.advice)

    @contextmanager
    def progress(self, title: str, total: float, unit: str) -> Iterator[Callable[..., None]]:
        """Bar of an epoch, on a terminal; to be called with completed (of `total`, in `unit`), loss and speed."""
        with Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} " + f"{unit}/s"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not (self.main and self.console.is_terminal),
        ) as bar:
            yield partial(bar.update, bar.add_task("", total=total, loss=math.nan, speed=0.0))

    def _draw(self, name: str, step: int, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                self._draw(f"{name}/{key}", step, inner)
        else:
            self.board.add_scalar(name, value, step)


def keep_lines(file: Path, kept: Callable[[int, dict[str, Any]], bool]) -> None:
    """Cut off a file of JSON lines where one is damaged, or is not to be kept: `kept` gets its number and values."""
    size = 0
    if file.exists():
        with open(file, "rb") as lines:
            for number, line in enumerate(lines):
                try:
                    if not line.endswith(b"\n") or not kept(number, json.loads(line)):
                        break
                except (ValueError, KeyError, TypeError):  # no JSON, or not what this file's lines hold
                    break
                size += len(line)
        os.truncate(file, size)
