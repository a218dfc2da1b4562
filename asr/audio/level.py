"""How loud a recording is."""

import math
from dataclasses import dataclass

import numpy as np

from asr.audio.resample import SAMPLE_RATE

TENTH = SAMPLE_RATE // 10  # samples
FULL_SCALE = 0.99
SILENCE = 1e-3  # RMS of the loudest tenth of a second, −60 dB; no utterance of Common Voice or LibriSpeech is below
DISTORTED = 0.01  # of the samples at full scale: hard to recognize


@dataclass
class Level:
    """Of a recording, block by block: samples, those at full scale, and the RMS of the loudest tenth of a second."""

    samples: int = 0
    clipped: int = 0
    loudest: float = 0.0

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE

    def add(self, block: np.ndarray) -> None:
        """The next samples, mono at 16 kHz or about it."""
        self.samples += len(block)
        self.clipped += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
        for tenth in np.array_split(block, max(1, len(block) // TENTH)):
            if len(tenth):
                self.loudest = max(self.loudest, math.sqrt(np.vdot(tenth, tenth) / len(tenth)))

    def problem(self, recognized: bool = True) -> str | None:
        """What makes it hard to recognize, if anything does. recognized: whether there were any words."""
        if not self.samples:
            return "empty (0 samples); record it again"
        if self.loudest < SILENCE:
            loudest = (
                f"{20 * math.log10(self.loudest):.0f} dB where it is loudest" if self.loudest else "all samples are 0"
            )
            return f"almost silent ({loudest}); record it louder"
        if self.clipped > DISTORTED * self.samples:
            return f"distorted ({self.clipped / self.samples:.0%} of it at full scale); record it with less gain"
        return None if recognized else "no speech was found in it"
