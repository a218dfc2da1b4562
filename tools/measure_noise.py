"""Count the words that models write where nobody speaks.

    python tools/measure_noise.py en-bilstm en-gru path/to/bundle [--noises W/noise.jsonl]

White noise: 25 clips of 3 s at each of three levels. Recorded noise: the first 30 s of each recording of a manifest.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import Excerpt
from asr.recognize.offline import Recognizer

LEVELS = (0.003, 0.01, 0.05)  # standard deviations; full scale is 1
CLIPS, SECONDS = 25, 3
RECORDED_SECONDS = 30.0


def white_noise() -> Iterator[np.ndarray]:
    for level in LEVELS:
        for seed in range(CLIPS):
            yield level * np.random.default_rng(seed).standard_normal(SECONDS * SAMPLE_RATE, dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Words that are written where nobody speaks.")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--noises", type=Path, help="manifest of recorded noise")
    arguments = parser.parse_args()
    recorded: list[Excerpt] = []
    if arguments.noises is not None:
        lines = map(json.loads, arguments.noises.read_text(encoding="utf-8").splitlines())
        recorded = [Excerpt(arguments.noises.parent / line["audio"], end=RECORDED_SECONDS) for line in lines]
    print("| model | white noise: clips with words | recorded noise: words |\n| --- | --- | --- |")
    for model in arguments.models:
        recognizer = Recognizer(model)
        clips = [bool(recognizer.transcribe(clip, SAMPLE_RATE).words) for clip in white_noise()]
        words = sum(len(recognizer.transcribe(noise).words) for noise in recorded)
        print(f"| {model} | {sum(clips)} of {len(clips)} | {words if recorded else '–'} |", flush=True)


if __name__ == "__main__":
    main()
