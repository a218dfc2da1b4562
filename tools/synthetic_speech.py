"""Make speech of texts with many voices, to train on: hibari-tts, whose one voice is changed for each speaker.

    pip install hibari-tts==0.2.1
    python tools/synthetic_speech.py text/*.txt OUT --hours 20

OUT gets FLAC files of 16 kHz and train.jsonl. hibari-tts (Apache-2.0) predicts a pitch, a harmonic and a noise spectrum
for each frame; a speaker has another pitch, length of the vocal tract, spectral tilt, breath, pace and liveliness. The
texts have one sentence a line, as `language_model_text.py` writes them.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from hibari import Hibari, dsp

RATE = 16_000
WORDS = (4, 30)  # of a sentence
SENTENCES_EACH = 20  # of a speaker


@dataclass(frozen=True)
class Speaker:
    name: str
    pitch: float  # factor
    tract: float  # factor of the frequencies of formants
    liveliness: float  # how far the pitch moves from its median
    tilt: float  # nats from 0 to 12 kHz
    breath: float  # nats more noise
    pace: float

    @classmethod
    def draw(cls, name: str, rng: random.Random) -> "Speaker":
        """A man, a woman or a child; the voice that is changed is a woman's."""
        pitch, tract = rng.choice([((0.45, 0.75), (0.8, 0.92)), ((0.8, 1.25), (0.93, 1.1)), ((1.2, 1.6), (1.1, 1.25))])
        return cls(
            name,
            rng.uniform(*pitch),
            rng.uniform(*tract),
            rng.uniform(0.4, 1.5),
            rng.uniform(-2.0, 1.0),
            rng.uniform(-1.0, 1.5),
            rng.uniform(0.8, 1.3),
        )


def speak(voice: Hibari, text: str, speaker: Speaker, seed: int) -> np.ndarray:
    """Samples (n,) at 24 kHz."""
    parts = []
    for phonemes in voice.phonemize(text):
        inputs = {"ids": np.array([voice.ids(phonemes)]), "speed": np.array([speaker.pace], np.float32)}
        *spectra, f0 = (output[0] for output in voice.sess.run(None, inputs))
        bins = np.arange(spectra[0].shape[0]) / speaker.tract
        below = np.minimum(bins.astype(int), len(bins) - 2)
        share = np.minimum(bins - below, 1.0)[:, None].astype(np.float32)
        harmonic, turn, noise, rest, phase = (
            spectrum[below] * (1 - share) + spectrum[below + 1] * share for spectrum in spectra
        )
        tilt = np.linspace(0, speaker.tilt, len(bins), dtype=np.float32)[:, None]
        voiced = f0 > 40
        middle = np.median(f0[voiced]) if voiced.any() else 1.0
        moved = middle * speaker.pitch * (np.maximum(f0, 1.0) / middle) ** speaker.liveliness
        f0 = np.where(voiced, np.maximum(moved, 45.0), f0).astype(np.float32)
        noise = noise + tilt + speaker.breath * np.linspace(0, 1, len(bins), dtype=np.float32)[:, None]
        rng = np.random.default_rng(seed)
        parts.append(dsp.synth(harmonic + tilt, turn, noise, rest + tilt, phase, f0, rng))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def sentences(texts: list[Path], rng: random.Random) -> Iterator[str]:
    """Of all texts in equal shares, from random places; never the same line twice."""
    lines = [path.read_text().splitlines() for path in texts]
    for each in lines:
        rng.shuffle(each)
    while all(lines):
        for each in lines:
            if each and WORDS[0] <= len((line := each.pop()).split()) <= WORDS[1]:
                yield line


def written(line: str) -> str:
    """As the voice's pronunciation rules take it: capitals are spelled."""
    line = line.lower()
    return re.sub(r"\bi\b", "I", line[:1].upper() + line[1:]) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("output", type=Path)
    parser.add_argument("--hours", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, voice, seconds, number = random.Random(arguments.seed), Hibari(), 0.0, -1
    (arguments.output / "audio").mkdir(parents=True, exist_ok=True)
    with (arguments.output / "train.jsonl").open("w") as manifest:
        for number, text in enumerate(sentences(arguments.texts, rng)):
            if number % SENTENCES_EACH == 0:
                speaker = Speaker.draw(f"hibari-{arguments.seed}-{number // SENTENCES_EACH}", rng)
            samples = soxr.resample(speak(voice, written(text), speaker, number), dsp.SR, RATE)
            if not len(samples):
                continue
            name = f"hibari-{arguments.seed}-{number:06d}"
            peak = max(1e-3, float(np.abs(samples).max()))
            soundfile.write(arguments.output / f"audio/{name}.flac", 0.5 * samples / peak, RATE)
            seconds_here = round(len(samples) / RATE, 3)
            entry = {"id": name, "audio": f"audio/{name}.flac", "seconds": seconds_here, "text": text.lower()}
            manifest.write(json.dumps(entry | {"speaker": speaker.name, "source": "hibari"}) + "\n")
            seconds += len(samples) / RATE
            if seconds > 3600 * arguments.hours:
                break
    print(f"{arguments.output}: {number + 1:,} sentences, {seconds / 3600:.2f} h")


if __name__ == "__main__":
    main()
