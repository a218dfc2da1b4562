"""The sound of a room: its impulse response, simulated or measured, convolved with the speech."""

import random
from collections.abc import Sequence

import numpy as np
from scipy.signal import oaconvolve

from asr.audio.files import read
from asr.audio.resample import SAMPLE_RATE
from asr.errors import RecipeError
from asr.train.augment.recordings import list_recordings

SMALLEST, LARGEST = (3.0, 3.0, 2.4), (8.0, 6.0, 3.5)  # metres
TO_A_WALL = 0.5  # metres, at least, from speaker and microphone
REFLECTIONS = 25  # of a sound, at most: with more, a room that rings for half a second takes four times as long


class Rooms:
    """sources: `simulated`, or manifests of impulse responses; reverberation: of simulated rooms, s, from … to."""

    def __init__(self, sources: Sequence[str], reverberation: Sequence[float]):
        self.sources = sources
        self.shortest, self.longest = reverberation
        self.responses = list_recordings(sources)
        if "simulated" in sources:
            try:
                import pyroomacoustics
            except ModuleNotFoundError as error:
                raise RecipeError(
                    f"augment.rooms: 'simulated' needs {error.name}; pip install 'asr[train]', or name a manifest"
                ) from error
            pyroomacoustics.constants.set("num_threads", 1)  # a sum by several would not be the same bits everywhere

    def __call__(self, samples: np.ndarray, draw: random.Random) -> np.ndarray:
        """The same in a room that is drawn. AudioError for an unreadable impulse response."""
        source = draw.choice(self.sources)
        if source == "simulated":
            return reverberate(samples, simulate(draw.uniform(self.shortest, self.longest), draw))
        return reverberate(samples, read(draw.choice(self.responses[source])))


def simulate(reverberation: float, draw: random.Random) -> np.ndarray:
    """Impulse response (n,) of a box drawn at random that takes `reverberation` seconds to fall silent by 60 dB.

    Image-source method (Allen & Berkley 1979), as pyroomacoustics has it (Scheibler et al. 2018).
    """
    import pyroomacoustics

    size = [draw.uniform(smallest, largest) for smallest, largest in zip(SMALLEST, LARGEST, strict=True)]
    absorption, reflections = pyroomacoustics.inverse_sabine(reverberation, size)
    room = pyroomacoustics.ShoeBox(
        size,
        fs=SAMPLE_RATE,
        materials=pyroomacoustics.Material(absorption),
        max_order=min(reflections, REFLECTIONS),
    )
    room.add_source([draw.uniform(TO_A_WALL, side - TO_A_WALL) for side in size])
    room.add_microphone([draw.uniform(TO_A_WALL, side - TO_A_WALL) for side in size])
    room.compute_rir()
    return room.rir[0][0].astype(np.float32)


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The convolution, as long and as loud as the samples and without delay: it begins with the direct sound."""
    if not response.any():
        return samples
    wet = oaconvolve(samples, response[np.abs(response).argmax() :])[: len(samples)]
    energy, wet_energy = (np.sum(np.square(sound, dtype=np.float64)) for sound in (samples, wet))
    return wet * np.float32(np.sqrt(energy / wet_energy))
