"""Augmentation of one utterance, samples (n,) float32 at 16 kHz, in numpy and scipy.

The last bits of torch's sums and Fourier transforms change with the number of its threads, which is another one in a
loader's worker.
"""

import io
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from scipy.signal import butter, sosfiltfilt
from torch import Tensor
from torchaudio.functional import phase_vocoder

from asr.audio.resample import SAMPLE_RATE
from asr.data.augment.draws import (
    SLOPES,
    TELEPHONE_BAND,
    TELEPHONE_ORDER,
    TELEPHONE_RATE,
    draw_gain,
    draw_noise,
    happens,
    list_recordings,
)
from asr.data.augment.room import Rooms
from asr.data.config import AugmentConfig
from asr.data.shards import read_recording

TELEPHONE = butter(TELEPHONE_ORDER, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
# Format, subtype and compression (0…1) of libsndfile's codecs; opus so makes some 18 kbit/s, mp3 24.
TELEPHONE_CODECS = {"telephone-mu-law": ("WAV", "ULAW", None), "telephone-gsm": ("WAV", "GSM610", None)}
CODECS = {"opus": ("OGG", "OPUS", 0.95), "mp3": ("MP3", "MPEG_LAYER_III", 0.9)}
TEMPO_WINDOW = 512  # samples, 32 ms: a few periods of a voice, and no longer than a sound lasts
TEMPO_HOP = TEMPO_WINDOW // 4


class WaveformAugment:
    """A room, noise, a codec, each for its share of utterances, then the volume."""

    def __init__(self, config: AugmentConfig, voices: Sequence[str | Path]):
        """voices: recordings to make babble of. RecipeError for a manifest that cannot be read."""
        self.config = config
        self.recordings = {**list_recordings(config.noises), "babble": voices}
        self.reverberate = Rooms(config.rooms, config.reverberation)

    def __call__(self, samples: np.ndarray, name: str) -> np.ndarray:
        """Raises AudioError when a recording of noise, a voice or an impulse response cannot be read."""
        for kind, change in (("room", self.reverberate), ("noise", self.add_noise), ("codec", self.code)):
            draw = happens(kind, self.config, name)
            if draw and samples.any():
                samples = change(samples, draw)
        return samples * draw_gain(self.config.gain_db, name)

    def add_noise(self, samples: np.ndarray, draw: random.Random) -> np.ndarray:
        drawn = draw_noise(self.config, self.recordings, len(samples), draw, read_recording)
        if drawn.source in SLOPES:
            noise = colored(len(samples), SLOPES[drawn.source], draw)
        else:
            spans = [np.resize(span, len(samples)) for span in drawn.spans]
            if drawn.source == "babble":  # all equally loud
                spans = [span / np.float32(np.sqrt(_power(span))) for span in spans if span.any()]
            noise = sum(spans, np.zeros(len(samples), np.float32))
        return add_noise(samples, noise, drawn.snr_db)

    def code(self, samples: np.ndarray, draw: random.Random) -> np.ndarray:
        return encode_decode(samples, draw.choice(self.config.codecs))


def colored(length: int, slope: float, draw: random.Random) -> np.ndarray:
    """Gaussian noise (length,) whose amplitude falls with frequency^slope; nothing at 0 Hz."""
    white = np.random.default_rng(draw.getrandbits(64)).standard_normal(length, np.float32)
    spectrum = np.fft.rfft(white)
    spectrum[0] = 0
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    return np.fft.irfft(spectrum, length).astype(np.float32)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """The sum. The power of the samples, pauses included, is `snr_db` above that of the noise, unless it is silence."""
    if not noise.any():
        return samples
    return samples + noise * np.float32(np.sqrt(_power(samples) / _power(noise)) * 10 ** (-snr_db / 20))


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def encode_decode(samples: np.ndarray, codec: str) -> np.ndarray:
    """Samples (n,) after a codec of `config.CODECS`, (n,), without delay."""
    if codec in CODECS:
        return _through_libsndfile(samples, SAMPLE_RATE, *CODECS[codec])
    line = sosfiltfilt(TELEPHONE, soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE), padtype=None)
    if codec in TELEPHONE_CODECS:
        line = _through_libsndfile(line, TELEPHONE_RATE, *TELEPHONE_CODECS[codec])
    return _fit(soxr.resample(line.astype(np.float32), TELEPHONE_RATE, SAMPLE_RATE), len(samples))


def _through_libsndfile(
    samples: np.ndarray, rate: int, file_format: str, subtype: str, compression: float | None
) -> np.ndarray:
    peak = max(1.0, float(np.abs(samples).max()))  # beyond 1 they would be clipped
    file = io.BytesIO()
    soundfile.write(file, samples / peak, rate, format=file_format, subtype=subtype, compression_level=compression)
    file.seek(0)
    return _fit(soundfile.read(file, dtype="float32")[0] * np.float32(peak), len(samples))


def _fit(samples: np.ndarray, length: int) -> np.ndarray:
    """Without what fills a codec's last block, or with the few samples that a resampler rounded off."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def change_tempo(samples: Tensor, factor: float) -> Tensor:
    """samples (n,) → (round(n / factor),): `factor` times as fast, by a phase vocoder (Flanagan & Golden 1966)."""
    window = torch.hann_window(TEMPO_WINDOW)
    # Padding by reflection would need samples to reflect.
    spectra = torch.stft(samples, TEMPO_WINDOW, TEMPO_HOP, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * TEMPO_HOP, TEMPO_WINDOW // 2 + 1).unsqueeze(1)  # of the phases, per hop
    changed = phase_vocoder(spectra, factor, advance)
    return torch.istft(changed, TEMPO_WINDOW, TEMPO_HOP, window=window, length=round(len(samples) / factor))
