"""Lossy codecs of libsndfile, applied to a batch of waveforms."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import soundfile
import torch
from torch import Tensor

from asr.audio.resample import SAMPLE_RATE

# Format, subtype and compression (0…1) in libsndfile; opus makes some 18 kbit/s, mp3 24.
CODECS = {
    "telephone-gsm": ("WAV", "GSM610", None),
    "opus": ("OGG", "OPUS", 0.95),
    "mp3": ("MP3", "MPEG_LAYER_III", 0.9),
}


def encode_decode(waveforms: Tensor, lengths: Sequence[int], codec: str, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """(B, N) → (B, N) without delay, zero after lengths[b]. The rows are coded on the CPU, one a thread."""
    coded = torch.zeros_like(waveforms, device="cpu")
    rows = [row[:length].numpy() for row, length in zip(waveforms.cpu(), lengths, strict=True)]
    with ThreadPoolExecutor() as threads:
        for row, samples in zip(coded, threads.map(partial(_encode_decode, codec, sample_rate), rows), strict=True):
            row[: len(samples)] = torch.from_numpy(samples)
    return coded.to(waveforms.device)


def _encode_decode(codec: str, sample_rate: int, samples: np.ndarray) -> np.ndarray:
    if not samples.any():
        return samples
    name, subtype, compression = CODECS[codec]
    peak = np.float32(max(1.0, np.abs(samples).max()))  # beyond 1 they would be clipped
    file = io.BytesIO()
    soundfile.write(file, samples / peak, sample_rate, format=name, subtype=subtype, compression_level=compression)
    file.seek(0)
    decoded = soundfile.read(file, dtype="float32")[0] * peak
    return decoded[: len(samples)]  # without what fills the last block
