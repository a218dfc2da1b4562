"""The updates that were skipped because loss or gradient were not finite."""

import json
from collections.abc import Sequence
from pathlib import Path

from asr.files import replacing


class Skipped:
    """`skipped.jsonl` in a run's folder, a line for each update. It is not there before the first one."""

    def __init__(self, folder: Path):
        self.file = folder / "skipped.jsonl"

    def add(self, epoch: int, batches: int, loss: float, norm: float, ids: Sequence[str]) -> None:
        """batches: how many of the epoch had been taken. ids: the utterances of the update."""
        line = {"epoch": epoch, "batches": batches, "loss": str(loss), "gradient_norm": str(norm), "ids": ids}
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def keep(self, count: int) -> None:
        """Keep the first ones, which the checkpoint knows: the others come again."""
        if self.file.exists():
            lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
            with replacing(self.file) as part:
                part.write_text("".join(lines[:count]), encoding="utf-8")
