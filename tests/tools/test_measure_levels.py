"""Levels: what a file in each container has of its samples."""

import numpy as np
import pytest
from developer_tools import load_tool

from asr.audio.sources import read

tool = load_tool("measure_levels")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24"])
def test_samples_are_rounded_to_the_nearest_value(subtype: str) -> None:
    """Rounded down they would be half a step lower on average, and up to a step off."""
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 5000).astype(np.float32)
    steps = (read(tool.wav(samples, subtype)) - samples.astype(np.float64)) * 2 ** (tool.BITS[subtype] - 1)
    assert np.abs(steps).max() < 0.51
    assert abs(steps.mean()) < 0.03


def test_floats_stay_as_they_are() -> None:
    samples = np.random.default_rng(1).uniform(-0.01, 0.01, 5000).astype(np.float32)
    assert np.array_equal(read(tool.wav(samples, "FLOAT")), samples)
