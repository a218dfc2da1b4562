"""Audio and manifests made on the spot: tones and noise, enough to see what the training code does with them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from asr.data.batch import read_sources
from asr.data.config import CODECS, NOISES, AugmentConfig
from asr.data.manifest import Entry
from asr.data.tokenizer import CharacterTokenizer, TextRule
from asr.nn.frontend import SAMPLE_RATE
from asr.train.config import AcousticRecipe
from asr.train.loader import CorpusData

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


def write_augment(folder: Path) -> AugmentConfig:
    """Every kind of change to the audio, each for most utterances; features are masked too."""
    noise = write_manifest(folder / "noise.jsonl", [(write_audio(folder / "hum.wav", 0.7, seed=40), "")])
    echo = np.zeros(4_000)
    echo[[100, 900, 2_000]] = 0.8, 0.4, -0.2
    soundfile.write(folder / "echo.wav", echo, SAMPLE_RATE)
    rooms = write_manifest(folder / "rooms.jsonl", [(folder / "echo.wav", "")])
    return AugmentConfig(
        **dict.fromkeys(["join_share", "room_share", "noise_share", "codec_share"], 0.8),
        tempos=[0.9, 1.0, 1.1],
        join_seconds=2.0,
        rooms=[str(rooms)],
        noises=[*NOISES, str(noise)],
        codecs=list(CODECS),
        mask_below_wer=100.0,
        time_width=5,
        frequency_width=4,
    )


def write_corpus(folder: Path) -> Path:
    """A manifest of eight utterances of 0.5 to 1.2 s."""
    entries = [
        (write_audio(folder / f"u{index}.wav", 0.5 + 0.1 * index, seed=index), text) for index, text in enumerate(TEXTS)
    ]
    return write_manifest(folder / "corpus.jsonl", entries)


def write_manifest(path: Path, entries: Sequence[tuple[Path, str]]) -> Path:
    lines = [json.dumps({"audio": str(audio), "text": text, "id": audio.stem}) for audio, text in entries]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def load_data(recipe: AcousticRecipe) -> CorpusData:
    """The data of a recipe with characters for tokens, on the CPU."""
    sources = read_sources(recipe.data.train, TextRule(recipe.tokenizer))
    ids = {entry.id for _, entries in sources for entry in entries}
    tokenizer = CharacterTokenizer(recipe.tokenizer)
    return CorpusData(recipe, tokenizer, None, sources, ids, [sources], torch.device("cpu"), print)


def read_entries(manifests: Iterable[str], rule: TextRule) -> list[Entry]:
    """Of all manifests, one behind the other."""
    return [entry for _, entries in read_sources(manifests, rule) for entry in entries]
