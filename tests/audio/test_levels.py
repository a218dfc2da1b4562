"""The level of a recording changes nothing else: no clipping, no dither, no rounding beyond the container's."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_sources import mixture, run_ffmpeg

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
