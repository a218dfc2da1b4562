"""Impulse responses of simulated rooms."""

import random

import numpy as np

from asr.audio.resample import SAMPLE_RATE

SMALLEST, LARGEST = (3.0, 3.0, 2.4), (8.0, 6.0, 3.5)  # meters
TO_A_WALL = 0.5  # meters, at least, from speaker and microphone
REFLECTIONS = 25  # of a sound, at most: with more, a room that rings for half a second takes four times as long


def simulate(reverberation: float, draw: random.Random) -> np.ndarray:
    """Impulse response (n,) of a box drawn at random that takes `reverberation` seconds to fall silent by 60 dB.

    Image-source method (Allen & Berkley 1979), as pyroomacoustics has it (Scheibler et al. 2018).
    """
    import pyroomacoustics

    pyroomacoustics.constants.set("num_threads", 1)  # a sum by several would not be the same bits everywhere
    size = [draw.uniform(smallest, largest) for smallest, largest in zip(SMALLEST, LARGEST, strict=True)]
    absorption, reflections = pyroomacoustics.inverse_sabine(reverberation, size)
    material, order = pyroomacoustics.Material(absorption), min(reflections, REFLECTIONS)
    room = pyroomacoustics.ShoeBox(size, fs=SAMPLE_RATE, materials=material, max_order=order)
    room.add_source([draw.uniform(TO_A_WALL, side - TO_A_WALL) for side in size])
    room.add_microphone([draw.uniform(TO_A_WALL, side - TO_A_WALL) for side in size])
    room.compute_rir()
    return room.rir[0][0].astype(np.float32)
