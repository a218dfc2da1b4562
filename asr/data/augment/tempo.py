"""Faster or slower speech at the same pitch."""

import math

import torch
from torch import Tensor
from torchaudio.functional import phase_vocoder

WINDOW = 512  # samples, 32 ms: a few periods of a voice, and no longer than a sound lasts
HOP = WINDOW // 4


def change_tempo(samples: Tensor, factor: float) -> Tensor:
    """samples (n,) → (round(n / factor),): `factor` times as fast, by a phase vocoder (Flanagan & Golden 1966)."""
    window = torch.hann_window(WINDOW)
    # Padding by reflection would need samples to reflect.
    spectra = torch.stft(samples, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * HOP, WINDOW // 2 + 1).unsqueeze(1)  # of the phases from hop to hop
    return torch.istft(
        phase_vocoder(spectra, factor, advance), WINDOW, HOP, window=window, length=round(len(samples) / factor)
    )
