"""The sound of a room: its impulse response, simulated or measured, convolved with the speech."""

import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
from scipy.signal import oaconvolve

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.data.augment.draws import list_recordings
from asr.errors import RecipeError

SMALLEST, LARGEST = (3.0, 3.0, 2.4), (8.0, 6.0, 3.5)  # meters
TO_A_WALL = 0.5  # meters, at least, from speaker and microphone
REFLECTIONS = 25  # of a sound, at most: with more, a room that rings for half a second takes four times as long
LONGEST_RESPONSE = SAMPLE_RATE // 2  # samples of a response in a bank


class Rooms:
    """sources: `simulated`, or manifests of impulse responses; reverberation: of simulated rooms, s, from … to."""

    def __init__(self, sources: Sequence[str], reverberation: Sequence[float]):
        self.sources = sources
        self.reverberation = reverberation
        self.recordings = list_recordings(sources)
        if "simulated" in sources:
            try:
                import pyroomacoustics
            except ModuleNotFoundError as error:
                raise RecipeError(
                    f"augment.rooms: 'simulated' needs {error.name}; "
                    "pip install 'recurrent-asr[train]', or name a manifest"
                ) from error
            pyroomacoustics.constants.set("num_threads", 1)  # a sum by several would not be the same bits everywhere

    def __call__(self, samples: np.ndarray, draw: random.Random) -> np.ndarray:
        """The same in a room that is drawn. AudioError for an unreadable impulse response."""
        source = draw.choice(self.sources)
        if source == "simulated":
            return reverberate(samples, self.simulate(draw))
        return reverberate(samples, read(draw.choice(self.recordings[source])))

    def simulate(self, draw: random.Random) -> np.ndarray:
        return simulate(draw.uniform(*self.reverberation), draw)

    def for_bank(self, seed: int, number: int) -> np.ndarray:
        """The response of that number in a bank, from its direct sound on."""
        source = self.sources[number % len(self.sources)]
        if source == "simulated":
            response = self.simulate(random.Random(f"bank {seed} {number}"))
        else:
            recordings = self.recordings[source]
            response = read(recordings[number // len(self.sources) % len(recordings)])
        return direct_sound_on(response)[:LONGEST_RESPONSE] if response.any() else np.zeros(1, np.float32)


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


def direct_sound_on(response: np.ndarray) -> np.ndarray:
    return response[np.abs(response).argmax() :]


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The convolution, as long and as loud as the samples and without delay: it begins with the direct sound."""
    if not response.any():
        return samples
    wet = oaconvolve(samples, direct_sound_on(response))[: len(samples)]
    energy, wet_energy = (np.sum(np.square(sound, dtype=np.float64)) for sound in (samples, wet))
    return wet * np.float32(np.sqrt(energy / wet_energy))


def room_bank(
    sources: Sequence[str], reverberation: Sequence[float], seed: int, count: int, workers: int = 0
) -> np.ndarray:
    """Impulse responses (count, taps), float32, that begin with the direct sound, padded with zeros to at most 0.5 s.

    Args:
        sources: `simulated`, or manifests of impulse responses; all have an equal share of the bank.
        reverberation: of simulated rooms, seconds, from … to.
        seed: of what is drawn; the bank does not depend on `workers`.
        count: rooms, at least 1.
        workers: processes that simulate; 0 means one for each core.

    Raises:
        RecipeError: a source that cannot be used.
        AudioError: a recorded response that cannot be read.
    """
    rooms = Rooms(sources, reverberation)
    for recordings in rooms.recordings.values():
        random.Random(seed).shuffle(recordings)
    response = partial(rooms.for_bank, seed)
    workers = min(workers or len(os.sched_getaffinity(0)), count)
    if workers == 1 or "simulated" not in sources:
        responses = [response(number) for number in range(count)]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:  # nothing is imported anew
            responses = list(pool.map(response, range(count), chunksize=4))
    bank = np.zeros((count, max(map(len, responses))), np.float32)
    for row, samples in zip(bank, responses, strict=True):
        row[: len(samples)] = samples
    return bank
