"""A reference for the augmentation of batches: one utterance at a time, float32 (n,), in numpy, scipy and soxr."""

import io
import random
from collections.abc import Mapping, Sequence

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, oaconvolve, sosfiltfilt

from asr.data.augment.batch import SLOPES, VOICES, draw_gain, happens
from asr.data.augment.filters import TELEPHONE_BAND, TELEPHONE_ORDER, TELEPHONE_RATE
from asr.data.config import AugmentConfig
from asr.nn.frontend import SAMPLE_RATE

FILTER = butter(TELEPHONE_ORDER, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
TELEPHONE_CODECS = {"telephone-mu-law": ("WAV", "ULAW", None), "telephone-gsm": ("WAV", "GSM610", None)}
CODECS = {"opus": ("OGG", "OPUS", 0.95), "mp3": ("MP3", "MPEG_LAYER_III", 0.9)}


class UtteranceAugment:
    """Noise of recordings, a codec, each for its share of utterances, then the volume."""

    def __init__(self, config: AugmentConfig, recordings: Mapping[str, Sequence[np.ndarray]]):
        self.config = config
        self.recordings = recordings

    def __call__(self, samples: np.ndarray, name: str) -> np.ndarray:
        if draw := happens("noise", self.config, name):
            samples = self.add_noise(samples, draw)
        if draw := happens("codec", self.config, name):
            samples = encode_decode(samples, draw.choice(self.config.codecs))
        return samples * draw_gain(self.config.gain_db, name)

    def add_noise(self, samples: np.ndarray, draw: random.Random) -> np.ndarray:
        source = draw.choice(self.config.noises)
        assert source not in SLOPES, "its samples are drawn for a whole batch"
        snr_db, spans = draw.uniform(*self.config.snr_db), []
        for _ in range(draw.randint(*VOICES) if source == "babble" else 1):
            recording = draw.choice(self.recordings[source])
            start = draw.randrange(max(1, len(recording) - len(samples) + 1))
            spans.append(np.resize(recording[start : start + len(samples)], len(samples)))
        if source == "babble":  # all equally loud
            spans = [span / np.float32(np.sqrt(_power(span))) for span in spans if span.any()]
        noise = sum(spans, np.zeros(len(samples), np.float32))
        return samples + noise * np.float32(np.sqrt(_power(samples) / _power(noise)) * 10 ** (-snr_db / 20))


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The convolution, as loud as the samples; the response begins with the direct sound."""
    wet = oaconvolve(samples, response)[: len(samples)]
    return wet * np.float32(np.sqrt(_power(samples) / _power(wet)))


def encode_decode(samples: np.ndarray, codec: str) -> np.ndarray:
    """Samples (n,) after a codec of `config.CODECS`, (n,), without delay."""
    if codec in CODECS:
        return through_libsndfile(samples, SAMPLE_RATE, *CODECS[codec])
    line = sosfiltfilt(FILTER, soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE), padtype=None)
    if codec in TELEPHONE_CODECS:
        line = through_libsndfile(line, TELEPHONE_RATE, *TELEPHONE_CODECS[codec])
    return _fit(soxr.resample(line.astype(np.float32), TELEPHONE_RATE, SAMPLE_RATE), len(samples))


def through_libsndfile(
    samples: np.ndarray, rate: int, file_format: str, subtype: str, compression: float | None
) -> np.ndarray:
    peak = max(1.0, float(np.abs(samples).max()))
    file = io.BytesIO()
    soundfile.write(file, samples / peak, rate, format=file_format, subtype=subtype, compression_level=compression)
    file.seek(0)
    return _fit(soundfile.read(file, dtype="float32")[0] * np.float32(peak), len(samples))


def _fit(samples: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
