import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.resample import SAMPLE_RATE, Mixer, Resampler, to_mono
from asr.errors import AudioError

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000]


def noise(seconds: float, rate: int, channels: int | None = None) -> np.ndarray:
    samples = round(seconds * rate)
    shape = samples if channels is None else (samples, channels)
    return (0.2 * np.random.default_rng(7).standard_normal(shape)).astype(np.float32)


def tone(seconds: float, rate: int) -> np.ndarray:
    """A 440 Hz and a 1 kHz tone, both below half of every rate here."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)


def resample(samples: np.ndarray, rate: int, cuts: list[int] | None = None) -> np.ndarray:
    resampler = Resampler(rate)
    parts = np.split(samples, sorted(cut % (len(samples) + 1) for cut in cuts or []))
    return np.concatenate([*(resampler.push(part) for part in parts), resampler.flush()])


@pytest.mark.parametrize("rate", RATES)
def test_stream_equals_soxr_on_the_whole_signal(rate):
    samples = noise(1.0, rate)
    out = resample(samples, rate, list(range(0, len(samples), 777)))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ"), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([8000, 16000, 44100]), st.lists(st.integers(0, 10**6), max_size=20))
def test_any_way_of_cutting_the_stream_gives_the_same_samples(rate, cuts):
    samples = noise(0.2, rate)
    np.testing.assert_array_equal(resample(samples, rate, cuts), resample(samples, rate))


@pytest.mark.parametrize("rate", RATES)
def test_tone_keeps_its_frequency_and_level(rate):
    out, wanted = resample(tone(1.0, rate), rate), tone(1.0, SAMPLE_RATE)
    assert len(out) == pytest.approx(len(wanted), abs=1)
    middle = slice(1000, 15000)
    np.testing.assert_allclose(out[middle], wanted[middle], atol=2e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_agrees_with_torchaudio(rate):
    torchaudio = pytest.importorskip("torchaudio", reason="torchaudio is not installed")
    import torch

    samples = tone(1.0, rate)
    out = resample(samples, rate)
    wanted = torchaudio.functional.resample(torch.from_numpy(samples), rate, SAMPLE_RATE, lowpass_filter_width=64)
    np.testing.assert_allclose(out[500:15500], wanted.numpy()[500:15500], atol=2e-3)


def test_what_16_khz_cannot_hold_is_filtered_out_and_does_not_alias():
    time = np.arange(48000) / 48000
    out = resample(np.sin(2 * np.pi * 11000 * time).astype(np.float32), 48000)
    assert np.abs(out[500:-500]).max() < 1e-4


def test_16_khz_mono_passes_through_unchanged():
    samples = noise(0.5, SAMPLE_RATE)
    np.testing.assert_array_equal(resample(samples, SAMPLE_RATE), samples)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_mixed_to_their_mean(channels):
    samples = noise(0.3, 48000, channels)
    np.testing.assert_allclose(to_mono(samples), samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_no_numbers_count_as_silence_and_do_not_smear(bad, rate):
    samples = tone(0.5, rate)
    silenced, broken = samples.copy(), samples.copy()
    silenced[1000:1010], broken[1000:1010] = 0, bad
    np.testing.assert_array_equal(resample(broken, rate), resample(silenced, rate))
    assert np.isnan(broken[1000]) or np.isinf(broken[1000]), "the caller's array is left alone"


def test_samples_beyond_one_are_not_clipped():
    assert resample(4 * tone(0.5, 48000), 48000).max() > 1.5


@pytest.mark.parametrize("rate", [8000, 44100])
def test_flush_gives_the_tail(rate):
    resampler = Resampler(rate)
    begin, tail = resampler.push(noise(0.3, rate)), resampler.flush()
    assert len(begin) < len(begin) + len(tail) == pytest.approx(0.3 * SAMPLE_RATE, abs=1)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_nothing_in_gives_nothing_out(rate):
    resampler = Resampler(rate)
    assert len(resampler.push(np.zeros(0))) == len(resampler.flush()) == len(to_mono(np.zeros((0, 2)))) == 0


@pytest.mark.parametrize("rate", [0, -16000])
def test_a_rate_that_is_not_positive_is_an_audio_error(rate):
    with pytest.raises(AudioError, match="sample rate"):
        Resampler(rate)


@pytest.mark.parametrize("damage", [np.nan, np.inf, 1e25, -1e30, 3e38])
def test_what_cannot_be_audio_is_silence(damage):
    samples = np.full(16_000, 0.1, dtype=np.float32)
    samples[500] = damage
    heard = Resampler(16_000).push(samples)
    assert heard[500] == 0
    assert np.array_equal(np.delete(heard, 500), np.delete(samples, 500))


# Channels of a stream


def mix(stereo: np.ndarray, cuts: list[int] | None = None, rate: int = SAMPLE_RATE) -> np.ndarray:
    mixer = Mixer()
    parts = np.split(stereo, sorted(cut % (len(stereo) + 1) for cut in cuts or []))
    return np.concatenate([mixer.push(part, rate) for part in parts])


def in_phase_then_inverted() -> np.ndarray:
    """2 s of loud music on both channels, 2 s of quieter speech that is inverted on the right, and music again."""
    loud, quiet = 3 * tone(2.0, SAMPLE_RATE), 0.3 * tone(2.0, SAMPLE_RATE)
    return np.concatenate([np.stack([loud, loud], 1), np.stack([quiet, -quiet], 1), np.stack([loud, loud], 1)])


def test_inverted_channels_after_loud_ones_in_phase_are_heard_within_half_a_second():
    stereo = in_phase_then_inverted()
    mono = mix(stereo)
    second = SAMPLE_RATE
    np.testing.assert_array_equal(mono[round(2.51 * second) : 4 * second], stereo[round(2.51 * second) : 4 * second, 0])
    np.testing.assert_allclose(mono[: 2 * second], stereo[: 2 * second, 0], atol=1e-6)
    np.testing.assert_allclose(mono[4 * second :], stereo[4 * second :, 0], atol=1e-6)


def test_a_stream_that_was_inverted_is_mixed_again():
    speech, other = tone(1.0, SAMPLE_RATE), noise(2.0, SAMPLE_RATE, 2)
    mono = mix(np.concatenate([np.stack([speech, -speech], 1), other]))
    np.testing.assert_allclose(
        mono[round(1.51 * SAMPLE_RATE) :], other.mean(axis=1)[round(0.51 * SAMPLE_RATE) :], atol=1e-6
    )


def test_digital_silence_changes_no_choice():
    speech, pause = tone(1.0, SAMPLE_RATE), np.zeros((2 * SAMPLE_RATE, 2), dtype=np.float32)
    inverted = np.stack([speech, -speech], 1)
    np.testing.assert_array_equal(mix(np.concatenate([inverted, pause, inverted]))[3 * SAMPLE_RATE :], speech)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_any_way_of_cutting_a_stream_mixes_it_the_same_way(cuts):
    stereo = in_phase_then_inverted()
    np.testing.assert_array_equal(mix(stereo, cuts), mix(stereo))
