"""A tiny corpus and a run over it, and real recordings where they are there."""

from pathlib import Path

import pytest
from tiny_corpus import TEXTS, write_audio, write_manifest

from asr.nn.acoustic import AcousticConfig
from asr.train.config import AugmentConfig, DataConfig, Recipe, TokenizerConfig


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder of real recordings beside the repository; a test that needs it is skipped where it is missing."""
    folder = Path(__file__).parents[2] / "../shared/data"
    if not (folder / "train.jsonl").is_file():
        pytest.skip(f"needs real recordings in {folder}")
    return folder.resolve()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest of eight utterances of 0.5 to 1.2 s."""
    entries = [
        (write_audio(tmp_path / f"u{index}.wav", 0.5 + 0.1 * index, seed=index), text)
        for index, text in enumerate(TEXTS)
    ]
    return write_manifest(tmp_path / "corpus.jsonl", entries)


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> Recipe:
    """A run of some seconds that uses everything a long one does: speeds, gain, masks, dropout."""
    return Recipe(
        name="tiny",
        output=str(tmp_path / "runs"),
        epochs=3,
        precision="float32",
        threads=1,
        data=DataConfig(train=[str(corpus)], dev=str(corpus), batch_seconds=3.0, buckets=2, workers=0),
        tokenizer=TokenizerConfig(kind="characters", alphabet="ab"),
        model=AcousticConfig(layers=1, size=16, bands=20),
        augment=AugmentConfig(mask_below_wer=100.0, time_width=5, frequency_width=4),
    )
