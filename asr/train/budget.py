"""A run that has so many minutes: its share that is used, and utilization of the processor."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

FIRST_RESERVE = 0.05  # share of the budget kept for validating and saving at the end, until one was timed
MARGIN = 1.5  # of the longest time that validating and saving took, kept for the end
SAMPLE_SECONDS = 1.0  # between two looks at a GPU's utilization


class Budget:
    """Time of a run of `minutes`, of which `spent` seconds had passed before this process."""

    def __init__(self, minutes: float = 0.0, spent: float = 0.0):
        self.seconds = 60 * minutes
        self.started = time.monotonic() - spent
        self.longest: dict[str, float] = {}  # seconds, by what was timed

    @property
    def done(self) -> float:
        """Share of the training time that has passed, 0…1; the rest of the budget is for validating and saving."""
        reserve = MARGIN * sum(self.longest.values()) or FIRST_RESERVE * self.seconds
        return min(1.0, (time.monotonic() - self.started) / max(1e-9, self.seconds - reserve))

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Something that will be done once more when the training time is over."""
        started = time.monotonic()
        yield
        self.longest[what] = max(self.longest.get(what, 0.0), time.monotonic() - started)


class Utilization:
    """Share of the time that the device computes: of a GPU as its driver says, of a CPU's threads by their time."""

    def __init__(self, device: torch.device):
        self.device = device
        self.restart()

    def restart(self) -> None:
        self.started, self.computed = time.monotonic(), time.process_time()
        self.sampled = self.started
        self.samples: list[float] = []

    def sample(self) -> None:
        """Often, between updates."""
        if self.device.type == "cuda" and time.monotonic() - self.sampled >= SAMPLE_SECONDS:
            self.sampled = time.monotonic()
            with suppress(Exception):  # pynvml may be missing, and raises an error of its own where it may not look
                self.samples.append(torch.cuda.utilization(self.device) / 100)

    def mean(self) -> float:
        """Since the last `restart`; 0 where it is unknown."""
        if self.device.type == "cuda":
            return sum(self.samples) / max(1, len(self.samples))
        elapsed = time.monotonic() - self.started
        return (time.process_time() - self.computed) / max(1e-9, elapsed * torch.get_num_threads())
