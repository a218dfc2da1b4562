"""Random choices for an utterance, seeded by its name (which has seed and epoch in it), and constants of changes."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.data.config import AugmentConfig
from asr.data.manifest import read_manifest

SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # the amplitude of noise falls with the frequency to this power
VOICES = 3, 7  # of a babble, from … to, as in Kaldi's augmentation (Snyder et al. 2018)
TELEPHONE_RATE = 8000  # hertz
TELEPHONE_BAND = 300.0, 3400.0  # hertz
TELEPHONE_ORDER = 6  # of the Butterworth prototype


@dataclass
class Noise:
    """Noise that is added to one utterance: colored, or the sum of parts of recordings."""

    source: str
    snr_db: float
    spans: list[Any]  # (n,) each, at most as long as the utterance, to be repeated; none for colored noise


def happens(kind: str, config: AugmentConfig, name: str) -> random.Random | None:
    """The generator for a change to this utterance, None if it is not of the share. Each change draws for itself.

    kind: `room`, `noise` or `codec`.
    """
    share = getattr(config, f"{kind}_share") if getattr(config, f"{kind}s") else 0.0
    draw = random.Random(f"{kind} {name}")
    return draw if draw.random() < share else None


def draw_noise(
    config: AugmentConfig,
    recordings: Mapping[str, Sequence[Any]],
    length: int,
    draw: random.Random,
    read: Callable[[Any], Any] = lambda recording: recording,
) -> Noise:
    """Draws source, ratio and parts of recordings for `length` samples.

    recordings: by source, in whatever form `read` makes samples (n,) of.
    """
    source = draw.choice(config.noises)
    noise = Noise(source, draw.uniform(*config.snr_db), [])
    if source not in SLOPES:
        for _ in range(draw.randint(*VOICES) if source == "babble" else 1):
            recording = read(draw.choice(recordings[source]))
            if len(recording):
                start = draw.randrange(max(1, len(recording) - length + 1))
                noise.spans.append(recording[start : start + length])
    return noise


def draw_gain(gain_db: Sequence[float], name: str) -> float:
    """The factor of the volume; gain_db: from … to."""
    return 10 ** (random.Random(name).uniform(*gain_db) / 20)


def list_recordings(sources: Sequence[str]) -> dict[str, list[Path]]:
    """The audio files of those sources that are manifests. RecipeError for one that cannot be read."""
    return {
        source: [entry.audio for entry in read_manifest(source, check_files=True)]
        for source in sources
        if source.endswith(".jsonl")
    }
