"""What a run tells while it goes on: TensorBoard's events, and `steps.jsonl` with a line for each update."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from torch.utils.tensorboard import SummaryWriter

STEPS = "steps.jsonl"


class Events:
    def __init__(self, board: SummaryWriter, steps: BinaryIO):
        self.board = board
        self.steps = steps

    def update(self, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Of an update: numbers, and dicts of them."""
        self.steps.write(json.dumps({"step": step, "epoch": epoch} | values).encode() + b"\n")
        self._draw("train", step, values)

    def epoch(self, number: int, values: dict[str, Any]) -> None:
        self._draw("epoch", number, values)

    def _draw(self, name: str, step: int, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                self._draw(f"{name}/{key}", step, inner)
        else:
            self.board.add_scalar(name, value, step)


@contextmanager
def run_events(folder: Path, step: int) -> Iterator[Events]:
    """Events of a run from update `step` on; what an earlier process wrote from there on is hidden or cut off.

    On a full disk the writer raises OSError; the thread that found out would print a traceback besides.
    """

    def raised_again(thrown: threading.ExceptHookArgs) -> None:
        if not isinstance(thrown.exc_value, OSError):
            hook(thrown)

    hook, threading.excepthook = threading.excepthook, raised_again
    try:
        cut_steps(folder / STEPS, step)
        # Unbuffered: what a checkpoint knows is in the file, whenever the process is killed.
        with SummaryWriter(str(folder), purge_step=step) as board, open(folder / STEPS, "ab", buffering=0) as steps:
            yield Events(board, steps)
    finally:
        threading.excepthook = hook


def cut_steps(file: Path, step: int) -> None:
    """Cut off what is there of update `step` and those after it: they come again."""
    kept = 0
    if file.exists():
        with open(file, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n") or json.loads(line)["step"] >= step:
                    break
                kept += len(line)
        os.truncate(file, kept)
