"""Log-mel features: equal to torchaudio's and librosa's, and each frame made of its own 400 samples only."""

import math

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.nn.frontend import DFT_LENGTH, ENERGY_FLOOR, HOP_LENGTH, SAMPLE_RATE, WINDOW_LENGTH, LogMel

BANDS = 80
# torch.stft and librosa put the 400-sample window in the middle of the 512 points of the transform, this model at
# their start: a power spectrum does not see the shift, but frame t then lies 56 samples later in the waveform.
SHIFT = (DFT_LENGTH - WINDOW_LENGTH) // 2


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def voice_like(samples: int = 8_000) -> Tensor:
    """Harmonics of 140 Hz over faint noise: loud and quiet bands side by side."""
    time = torch.arange(samples) / SAMPLE_RATE
    return 0.01 * noise(samples) + sum(torch.sin(2 * torch.pi * 140 * k * time) * 0.3 / k**2 for k in range(1, 20))


# In float32, bands 70 dB under the loudest one keep two digits, whichever way the transform is computed.
@pytest.mark.parametrize(
    ("waveform", "tolerance"), [(noise(8_000), 1e-4), (voice_like(), 1e-2)], ids=["noise", "voice"]
)
def test_equals_torchaudio(waveform: Tensor, tolerance: float):
    reference = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE,
        n_fft=DFT_LENGTH,
        win_length=WINDOW_LENGTH,
        hop_length=HOP_LENGTH,
        center=False,
        n_mels=BANDS,
        norm="slaney",
        mel_scale="slaney",
    )(torch.nn.functional.pad(waveform, (SHIFT, SHIFT)))
    log_mel = LogMel(BANDS).log_mel(waveform.unsqueeze(0))[0]
    torch.testing.assert_close(log_mel, reference.T.clamp(min=ENERGY_FLOOR).log(), atol=tolerance, rtol=0)


def test_equals_librosa():
    import librosa

    filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=DFT_LENGTH, n_mels=BANDS)
    np.testing.assert_allclose(LogMel(BANDS).mel.numpy(), filters.T, atol=1e-6)

    waveform = noise(8_000)
    reference = librosa.feature.melspectrogram(
        y=np.pad(waveform.numpy(), SHIFT),
        sr=SAMPLE_RATE,
        n_fft=DFT_LENGTH,
        win_length=WINDOW_LENGTH,
        hop_length=HOP_LENGTH,
        center=False,
        n_mels=BANDS,
    )
    log_mel = LogMel(BANDS).log_mel(waveform.unsqueeze(0))[0]
    np.testing.assert_allclose(log_mel.numpy(), np.log(np.maximum(reference.T, ENERGY_FLOOR)), atol=1e-4)


@pytest.mark.parametrize("frame", [0, 1, 7, 12])
def test_a_frame_depends_on_its_own_400_samples_only(frame: int):
    waveform = noise(2_400).requires_grad_()
    LogMel(BANDS).log_mel(waveform.unsqueeze(0))[0, frame].sum().backward()
    assert waveform.grad is not None
    reached = waveform.grad.nonzero().flatten()
    # A periodic Hann window is 0 at its first sample.
    assert reached.tolist() == list(range(HOP_LENGTH * frame + 1, HOP_LENGTH * frame + WINDOW_LENGTH))


@given(slices=st.integers(5, 60))
@settings(deadline=None, max_examples=20)
def test_there_is_a_frame_for_every_whole_window(slices: int):
    samples = 80 * slices
    starts = [start for start in range(0, samples, HOP_LENGTH) if start + WINDOW_LENGTH <= samples]
    assert LogMel(BANDS).log_mel(torch.zeros(1, samples)).shape[1] == len(starts)


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (480, 1), (560, 2), (16_000, 98)])
def test_frames_of_some_numbers_of_samples(samples: int, frames: int):
    assert LogMel(BANDS).log_mel(torch.zeros(1, samples)).shape[1] == frames


@pytest.mark.parametrize("level", [0.0, 1e-7])
def test_silence_is_the_floor_in_every_band(level: float):
    log_mel = LogMel(BANDS).log_mel(level * torch.ones(2, 1_600))
    torch.testing.assert_close(log_mel, torch.full_like(log_mel, math.log(ENERGY_FLOOR)))


def test_full_scale_audio_is_finite():
    square = torch.ones(1, 8_000)
    square[:, ::2] = -1
    assert LogMel(BANDS)(square).isfinite().all()


def test_fit_gives_every_band_mean_0_and_variance_1_over_the_data():
    waveforms = [noise(samples, seed) * 2.0**-seed for seed, samples in enumerate([16_000, 4_000, 9_600, 1_200])]
    model = LogMel(BANDS)
    model.fit(waveforms)
    frames = np.concatenate([model(waveform.unsqueeze(0))[0].numpy() for waveform in waveforms])
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(frames.std(0), 1, atol=1e-3)


def test_fit_equals_numpy_and_passes_over_what_is_shorter_than_a_window():
    waveforms = [noise(16_000, 1), noise(399, 2), noise(8_079, 3) * 0.01, noise(0)]
    model = LogMel(BANDS)
    model.fit(waveforms)
    usable = [waveforms[0], waveforms[2][:8_000]]
    raw = np.concatenate([model.log_mel(waveform[None])[0].double().numpy() for waveform in usable])
    np.testing.assert_allclose(model.mean.numpy(), raw.mean(0), rtol=1e-4)
    np.testing.assert_allclose(model.deviation.numpy(), raw.std(0), rtol=1e-3)


@pytest.mark.parametrize("waveforms", [[], [torch.zeros(100)]], ids=["nothing", "too short"])
def test_fit_on_no_frames_changes_nothing(waveforms: list[Tensor]):
    model = LogMel(BANDS)
    model.fit(waveforms)
    assert model.mean.eq(0).all()
    assert model.deviation.eq(1).all()


def test_fit_on_silence_alone_leaves_features_finite():
    model = LogMel(BANDS)
    model.fit([torch.zeros(8_000)])
    assert model(noise(1_600).unsqueeze(0)).isfinite().all()


def test_features_stay_float32_and_exact_under_bfloat16_autocast():
    waveform = voice_like().unsqueeze(0)
    model = LogMel(BANDS)
    with torch.autocast("cpu", torch.bfloat16):
        features = model(waveform)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, model(waveform), atol=0, rtol=0)
