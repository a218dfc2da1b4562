"""What a telephone and a lossy codec leave of speech."""

import io
import random
from collections.abc import Sequence

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, sosfiltfilt

from asr.audio.resample import SAMPLE_RATE

TELEPHONE_RATE = 8000
TELEPHONE_BAND = butter(6, (300, 3400), "bandpass", fs=TELEPHONE_RATE, output="sos")  # hertz
# Format, subtype and compression (0…1) of libsndfile's codecs; opus so makes some 18 kbit/s, mp3 24.
TELEPHONE_CODECS = {"telephone-mu-law": ("WAV", "ULAW", None), "telephone-gsm": ("WAV", "GSM610", None)}
CODECS = {"opus": ("OGG", "OPUS", 0.95), "mp3": ("MP3", "MPEG_LAYER_III", 0.9)}


class Codecs:
    """names: of `config.CODECS`."""

    def __init__(self, names: Sequence[str]):
        self.names = names

    def __call__(self, samples: np.ndarray, draw: random.Random) -> np.ndarray:
        """The same after a codec that is drawn."""
        return through(samples, draw.choice(self.names))


def through(samples: np.ndarray, name: str) -> np.ndarray:
    """16 kHz samples (n,) after the codec, (n,), without delay."""
    if name in CODECS:
        return _code(samples, SAMPLE_RATE, *CODECS[name])
    line = sosfiltfilt(TELEPHONE_BAND, soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE), padtype=None)
    if name in TELEPHONE_CODECS:
        line = _code(line, TELEPHONE_RATE, *TELEPHONE_CODECS[name])
    return _fit(soxr.resample(line.astype(np.float32), TELEPHONE_RATE, SAMPLE_RATE), len(samples))


def _code(samples: np.ndarray, rate: int, file_format: str, subtype: str, compression: float | None) -> np.ndarray:
    peak = max(1.0, float(np.abs(samples).max()))  # beyond 1 they would be clipped
    file = io.BytesIO()
    soundfile.write(file, samples / peak, rate, format=file_format, subtype=subtype, compression_level=compression)
    file.seek(0)
    return _fit(soundfile.read(file, dtype="float32")[0] * np.float32(peak), len(samples))


def _fit(samples: np.ndarray, length: int) -> np.ndarray:
    """Without what fills a codec's last block, or with the few samples that a resampler rounded off."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
