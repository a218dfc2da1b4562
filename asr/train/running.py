"""The epoch under way."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Running:
    """What the epoch's line of the curve needs, and where its data goes on, in all processes; checkpoints hold it."""

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

    def count_skipped(self) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1

    def summary(self) -> dict[str, Any]:
        """Fields of `Epoch`, by their names there."""
        return {
            "step": self.step,
            "train_loss": self.loss / max(1, self.tokens),
            "gradient_norm": self.norm / max(1, self.updates),
            "clipped": self.clipped / max(1, self.updates),
            "skipped": self.skipped,
            "speed": self.amount / max(self.seconds, 1e-9),
            "waiting": self.waited / max(self.seconds, 1e-9),
        }
