"""How loud a recording is."""

import math
from dataclasses import dataclass, field

import numpy as np

from asr.audio.resample import SAMPLE_RATE

TENTH = SAMPLE_RATE // 10  # samples
FULL_SCALE = 0.99
ALMOST_SILENT = 1e-4  # RMS of the loudest tenth of a second, −80 dB; speech that is 40 dB too quiet is above it
DISTORTED = 0.01  # of the samples at full scale, or cut off below it: hard to recognize
# What was cut off and then attenuated or mixed with silence has edges: a step to the highest or lowest sample of all,
# and several samples there. Rounded to 8 bits, the top of a tone is as flat, but without a step.
EDGE = 3  # samples
STEP = 0.1  # of the highest sample
LOWEST_PEAK = 0.1  # below it so large a step may be one of 8 bits
EDGES = 0.1  # of the samples at the peaks: in cut speech a fifth or more


@dataclass
class Level:
    """Of a recording, block by block: samples, those at full scale, and the RMS of the loudest tenth of a second.

    peaks: the highest sample, and minus the lowest one. flat, edges: samples at each of them, and those of edges. last:
    the samples at the end, since an edge may lie across two blocks.
    """

    samples: int = 0
    clipped: int = 0
    loudest: float = 0.0
    peaks: list[float] = field(default_factory=lambda: [0.0, 0.0])
    flat: list[int] = field(default_factory=lambda: [0, 0])
    edges: list[int] = field(default_factory=lambda: [0, 0])
    last: list[float] = field(default_factory=list)

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
        joined = np.concatenate([np.asarray(self.last, dtype=np.float32), block])
        for side, samples in enumerate((joined, -joined)):
            if (peak := float(samples.max(initial=0))) > self.peaks[side]:
                self.peaks[side], self.flat[side], self.edges[side] = peak, 0, 0
            high = samples == np.float32(self.peaks[side])
            self.flat[side] += int(np.count_nonzero(high[len(self.last) :]))
            begins = high[1:-2] & high[2:-1] & high[3:] & (samples[:-EDGE] < (1 - STEP) * self.peaks[side])
            self.edges[side] += EDGE * int(np.count_nonzero(begins))
        self.last = joined[-EDGE:].tolist()

    def problem(self, recognized: bool = True) -> str | None:
        """What makes it hard to recognize, if anything does. recognized: whether there were any words."""
        if not self.samples:
            return "empty (0 samples); record it again"
        if self.loudest < ALMOST_SILENT:
            loudest = (
                f"{20 * math.log10(self.loudest):.0f} dB where it is loudest" if self.loudest else "all samples are 0"
            )
            return f"almost silent ({loudest}); record it louder"
        if self.clipped > DISTORTED * self.samples:
            return f"distorted ({self.clipped / self.samples:.0%} of it at full scale); record it with less gain"
        cut, peak = sum(self.flat), max(self.peaks)
        if cut > DISTORTED * self.samples and peak >= LOWEST_PEAK and sum(self.edges) > EDGES * cut:
            share, highest = cut / self.samples, 20 * math.log10(peak)
            return f"distorted ({share:.0%} of it cut off at {highest:.0f} dB); record it with less gain"
        return None if recognized else "no speech was found in it"
