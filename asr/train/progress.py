"""The progress bar of an epoch."""

import math

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class EpochBar(Progress):
    """On a terminal, unless it is not `shown`; `unit` is that of `total`."""

    def __init__(self, title: str, total: float, unit: str, console: Console, shown: bool):
        super().__init__(
            TextColumn(title),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} " + f"{unit}/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (shown and console.is_terminal),
        )
        self.bar = self.add_task("", total=total, loss=math.nan, speed=0.0)

    def show(self, done: float, loss: float, speed: float) -> None:
        self.update(self.bar, completed=done, loss=loss, speed=speed)
