"""All that happens to the audio of an utterance, in the order in which it would on its way to a recogniser."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from asr.data.augment.batch import gain_range
from asr.data.augment.codec import Codecs
from asr.data.augment.noise import Noises
from asr.data.augment.room import Rooms
from asr.data.config import AugmentConfig

Change = Callable[[np.ndarray, random.Random], np.ndarray]


class WaveformAugment:
    """samples (n,) float32 → (n,): the sound of a room, noise, a codec, each for its share of utterances; the volume.

    What is drawn depends on the name of the utterance, which has seed and epoch in it, and on nothing else: each change
    draws for itself. They compute in numpy and scipy, because the last bits of torch's sums and Fourier
    transforms change with the number of its threads, which is another in a loader's worker.
    """

    def __init__(self, config: AugmentConfig, voices: Sequence[str | Path]):
        """voices: recordings to make babble of. RecipeError for a manifest that cannot be read."""
        self.gain_db = gain_range(config.gain_db)
        self.changes: list[tuple[str, float, Change]] = []
        if config.rooms:
            self.changes.append(("room", config.room_share, Rooms(config.rooms, config.reverberation)))
        if config.noises:
            self.changes.append(("noise", config.noise_share, Noises(config.noises, config.snr_db, voices)))
        if config.codecs:
            self.changes.append(("codec", config.codec_share, Codecs(config.codecs)))

    def __call__(self, samples: np.ndarray, name: str) -> np.ndarray:
        """Raises AudioError when a recording of noise, a voice or an impulse response cannot be read."""
        for kind, share, change in self.changes:
            draw = random.Random(f"{kind} {name}")
            if draw.random() < share and samples.any():
                samples = change(samples, draw)
        gain = random.Random(name).uniform(*self.gain_db)
        return samples * 10 ** (gain / 20)
