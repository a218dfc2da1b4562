"""Audio and manifests made on the spot: tones and noise, enough to see what the training code does with them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from asr.nn.features import SAMPLE_RATE

SENTENCES = (
    "the cat sat on the mat",
    "a dog ran after the cat",
    "once upon a time there was a small dog",
    "nobody saw where the cat went",
    "it rained and the mat was wet",
)
TEXTS = ("ab", "ba ab", "a", "bab", "b a", "abba ab", "aa", "bb ab")


def write_audio(path: Path, seconds: float, seed: int = 0, rate: int = SAMPLE_RATE, channels: int = 1) -> Path:
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 110 * (seed + 1) * time) + 0.02 * generator.standard_normal(len(time))
    soundfile.write(path, np.tile(samples[:, None], (1, channels)), rate)
    return path


def write_manifest(path: Path, entries: Sequence[tuple[Path, str]]) -> Path:
    lines = [json.dumps({"audio": str(audio), "text": text, "id": audio.stem}) for audio, text in entries]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
