"""Error rates of a model by condition: clean, babble, noise, a room, a telephone line, quiet.

    python tools/measure_conditions.py en-bilstm ../shared/data/dev.jsonl --every 2

Needs the extra `train`, whose augmentations make the conditions, the same for every model: each utterance has its own
draw. Babble is four other utterances of the manifest together.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.data.augment.filters import colored, convolve, telephone
from asr.data.augment.room import simulate
from asr.data.manifest import read_manifest
from asr.evaluate.wer import Utterance, evaluate
from asr.recognize.offline import Recognizer

SNR_DB = 10.0
REVERBERATION = 0.4  # seconds to fall by 60 dB
QUIET_DB = -30.0
TALKERS = 4

Condition = Callable[[np.ndarray, random.Random], np.ndarray]


def conditions(recordings: Sequence[np.ndarray]) -> dict[str, Condition]:
    """Each takes the samples (n,) of an utterance, and what its draws come from."""

    def add(samples: np.ndarray, noise: np.ndarray) -> np.ndarray:
        power = np.mean(samples**2) / max(float(np.mean(noise**2)), 1e-12)
        return samples + np.float32(np.sqrt(power * 10 ** (-SNR_DB / 10))) * noise

    def babble(samples: np.ndarray, draw: random.Random) -> np.ndarray:
        talkers = draw.sample([other for other in recordings if other is not samples], TALKERS)
        others = [np.resize(other, len(samples)) for other in talkers]
        return add(samples, np.sum([other / np.sqrt(np.mean(other**2) + 1e-12) for other in others], axis=0))

    def noise(samples: np.ndarray, draw: random.Random) -> np.ndarray:
        generator = torch.Generator().manual_seed(draw.randrange(1 << 30))
        return add(samples, colored([len(samples)], [0.5], len(samples), generator)[0].numpy())

    def room(samples: np.ndarray, draw: random.Random) -> np.ndarray:
        response = torch.from_numpy(simulate(REVERBERATION, draw))[None]
        return convolve(torch.from_numpy(samples)[None], response / response.abs().max())[0].numpy()

    return {
        "clean": lambda samples, draw: samples,
        f"babble of {TALKERS}, {SNR_DB:g} dB": babble,
        f"pink noise, {SNR_DB:g} dB": noise,
        f"room, {REVERBERATION:g} s": room,
        "telephone, G.711": lambda samples, draw: telephone(torch.from_numpy(samples)[None], "telephone-mu-law")[
            0
        ].numpy(),
        f"{QUIET_DB:g} dB": lambda samples, draw: samples * np.float32(10 ** (QUIET_DB / 20)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Error rates of a model by condition.")
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--every", type=int, default=1, help="use every so many recordings")
    options = parser.parse_args()
    recognizer = Recognizer(options.model, threads=1)
    entries = read_manifest(options.manifest)[:: options.every]
    recordings = [read(entry.audio) for entry in entries]
    print(f"| {recognizer.bundle.config.name}, {len(entries)} utterances | WER | 95 % interval |\n| --- | --- | --- |")
    for name, change in conditions(recordings).items():
        utterances = []
        for entry, samples in zip(entries, recordings, strict=True):
            changed = change(samples, random.Random(entry.id)).astype(np.float32)
            text = recognizer.transcribe(changed / max(1.0, float(np.abs(changed).max())), SAMPLE_RATE).text
            utterances.append(Utterance(entry.id, entry.text, text, len(samples) / SAMPLE_RATE))
        result = evaluate(utterances)
        print(f"| {name} | {result.wer:.1%} | {result.interval[0]:.1%} – {result.interval[1]:.1%} |", flush=True)


if __name__ == "__main__":
    main()
