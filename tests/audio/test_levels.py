"""The level of a recording changes nothing else: no clipping, no dither, no rounding beyond the container's."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sources import mixture, run_ffmpeg

from asr.audio.level import Level
from asr.audio.resample import SAMPLE_RATE, Resampler
from asr.audio.sources import read
from asr.data.manifest import Entry

LEVELS = (0, -10, -20, -30, -40)  # dB
STEPS = {"PCM_U8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 2**-24, "FLOAT": 0.0}  # of what is read


def gain(level: float) -> np.float32:
    return np.float32(10 ** (level / 20))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("subtype", STEPS)
def test_a_container_keeps_the_samples_to_its_own_step(tmp_path: Path, subtype: str, level: float) -> None:
    quiet = gain(level) * mixture(1.0)
    soundfile.write(tmp_path / "talk.wav", quiet, SAMPLE_RATE, subtype)
    np.testing.assert_allclose(read(tmp_path / "talk.wav"), quiet, rtol=1e-6, atol=STEPS[subtype])


@pytest.mark.parametrize("level", [*LEVELS, 12])
@pytest.mark.parametrize("codec", [["pcm_s24le"], ["pcm_f32le"], ["flac", "-sample_fmt", "s32"], ["alac"]])
def test_what_ffmpeg_decodes_is_neither_rounded_to_16_bits_nor_clipped(
    tmp_path: Path, codec: list[str], level: float
) -> None:
    samples = gain(level) * mixture(1.0)
    soundfile.write(tmp_path / "talk.wav", samples, SAMPLE_RATE, "FLOAT")
    run_ffmpeg("-i", tmp_path / "talk.wav", "-c:a", *codec, tmp_path / "talk.mkv")
    whole = samples if codec == ["pcm_f32le"] else samples.clip(-1, 1)
    np.testing.assert_allclose(read(tmp_path / "talk.mkv"), whole, atol=0.0 if codec == ["pcm_f32le"] else 2**-22)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_resampling_and_gain_can_be_exchanged(rate: int) -> None:
    samples = mixture(1.0, rate)
    loud = Resampler(rate).push(samples)
    for level in (*LEVELS, 20):
        # The resampler rounds in single precision, relative to the level; 16 bits would be 30 times as coarse.
        quiet = Resampler(rate).push(gain(level) * samples)
        np.testing.assert_allclose(quiet, gain(level) * loud, rtol=1e-4, atol=1e-6 * gain(level))


def test_int16_samples_of_real_speech_are_the_file(recorded_entries: list[Entry]) -> None:
    speech = read(recorded_entries[0].audio)
    for level in LEVELS:
        quiet = np.rint(gain(level) * speech * 32767).astype(np.int16)
        np.testing.assert_allclose(read(quiet, SAMPLE_RATE), quiet / np.float32(32768), rtol=1e-6)


def speech_like(seconds: float = 5.0) -> np.ndarray:
    """Noise bursts through two resonances, with pauses: as uneven as speech."""
    noise = np.random.default_rng(3).standard_normal(round(seconds * SAMPLE_RATE))
    time = np.arange(len(noise)) / SAMPLE_RATE
    formants = np.sin(2 * np.pi * 500 * time) + 0.5 * np.sin(2 * np.pi * 1700 * time)
    swelling = np.clip(np.sin(2 * np.pi * 2.3 * time), 0, None) ** 2
    return (0.1 * swelling * (formants * (1 + 0.3 * np.sin(2 * np.pi * 110 * time)) + 0.2 * noise)).astype(np.float32)


def problem(samples: np.ndarray, cuts: Sequence[int] = (), bits: int = 16) -> str | None:
    level, steps = Level(), 2 ** (bits - 1)
    rounded = np.rint(samples * steps).clip(-steps, steps - 1) / np.float32(steps)
    for block in np.split(rounded.astype(np.float32), sorted(cuts)):
        level.add(block)
    return level.problem()


@pytest.mark.parametrize("after", [-6, -12, -18])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_was_cut_off_before_it_was_attenuated_is_distorted(after: float, bits: int) -> None:
    cut = (gain(25) * speech_like()).clip(-1, 1)
    assert re.fullmatch(
        rf"distorted \(\d+% of it cut off at {after} dB\); record it with less gain",
        problem(gain(after) * cut, bits=bits) or "",
    )


def test_a_cut_channel_beside_a_silent_one_is_distorted(tmp_path: Path) -> None:
    left = (gain(25) * speech_like()).clip(-1, 1)
    soundfile.write(tmp_path / "left.wav", np.stack([left, 0 * left], axis=1), SAMPLE_RATE)
    assert "cut off at -6 dB" in (problem(read(tmp_path / "left.wav")) or "")


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 5 * SAMPLE_RATE), max_size=20))
def test_a_level_does_not_depend_on_the_blocks(cuts: list[int]) -> None:
    samples = gain(-12) * (gain(25) * speech_like()).clip(-1, 1)
    assert problem(samples, cuts) == problem(samples)
    assert problem(samples[:60], [cut % 60 for cut in cuts]) == problem(samples[:60])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("level", [0.05, 0.12, 0.5, 0.97])
def test_speech_tones_and_a_constant_are_not_distorted(bits: int, level: float) -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    speech = speech_like()
    assert problem(level / np.abs(speech).max() * speech, bits=bits) is None
    for frequency in (20, 50, 100, 220, 440, 1000, 4000):
        assert problem(level * np.sin(2 * np.pi * frequency * time), bits=bits) is None
    harmonics = range(1, 35, 2)
    square = sum(np.sin(2 * np.pi * 220 * number * time) / number for number in harmonics)
    assert problem(level / np.abs(square).max() * square, bits=bits) is None
    assert problem(np.full(SAMPLE_RATE, level), bits=bits) is None


def test_real_speech_is_not_distorted_at_any_level(recorded_entries: list[Entry]) -> None:
    for entry in recorded_entries[:10]:
        speech = read(entry.audio)
        for level in LEVELS:
            assert "almost silent" not in (problem(gain(level) * speech) or "")
        for bits in (8, 16):
            assert problem(0.9 / np.abs(speech).max() * speech, bits=bits) is None


@pytest.mark.parametrize("amplitude", [0.0, 2**-15, 5e-5])
def test_digital_near_silence_is_almost_silent(amplitude: float) -> None:
    noise = amplitude * np.random.default_rng(0).choice([-1, 0, 1], 5 * SAMPLE_RATE)
    assert (problem(noise) or "").startswith("almost silent")
