"""Noise beside the speech: coloured, a babble of other utterances, or recorded."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.audio.sources import read
from asr.data.augment.batch import VOICES
from asr.data.augment.filters import SLOPES
from asr.data.augment.recordings import list_recordings
from asr.data.shards import read_recording


class Noises:
    """sources: of `config.NOISES`, or manifests; snr_db: from … to; voices: recordings that a babble is made of."""

    def __init__(self, sources: Sequence[str], snr_db: Sequence[float], voices: Sequence[str | Path]):
        self.sources = sources
        self.lowest_snr_db, self.highest_snr_db = snr_db
        self.voices = voices
        self.recordings = list_recordings(sources)

    def __call__(self, samples: np.ndarray, draw: random.Random) -> np.ndarray:
        """The same with noise from a source and at a ratio that are drawn. AudioError for an unreadable recording."""
        source = draw.choice(self.sources)
        snr_db = draw.uniform(self.lowest_snr_db, self.highest_snr_db)
        if source in SLOPES:
            noise = coloured(len(samples), SLOPES[source], draw)
        elif source == "babble":
            noise = self._babble(len(samples), draw)
        else:
            noise = _span(read(draw.choice(self.recordings[source])), len(samples), draw)
        return add_noise(samples, noise, snr_db)

    def _babble(self, length: int, draw: random.Random) -> np.ndarray:
        """Some utterances at once, all equally loud."""
        babble = np.zeros(length, np.float32)
        for _ in range(draw.randint(*VOICES)):
            voice = _span(read_recording(draw.choice(self.voices)), length, draw)
            if voice.any():
                babble += voice / np.float32(np.sqrt(_power(voice)))
        return babble


def coloured(length: int, slope: float, draw: random.Random) -> np.ndarray:
    """Gaussian noise (length,) whose amplitude falls with frequency^slope; nothing at 0 Hz."""
    white = np.random.default_rng(draw.getrandbits(64)).standard_normal(length, np.float32)
    spectrum = np.fft.rfft(white)
    spectrum[0] = 0
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    return np.fft.irfft(spectrum, length).astype(np.float32)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """The sum. The power of the samples, pauses included, is `snr_db` above that of the noise, unless it is silence."""
    if not noise.any():
        return samples
    return samples + noise * np.float32(np.sqrt(_power(samples) / _power(noise)) * 10 ** (-snr_db / 20))


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def _span(recording: np.ndarray, length: int, draw: random.Random) -> np.ndarray:
    """`length` samples from a place that is drawn, repeated if there are fewer; silence if there are none."""
    if not len(recording):
        return np.zeros(length, np.float32)
    return np.resize(recording[draw.randrange(max(1, len(recording) - length + 1)) :], length)
