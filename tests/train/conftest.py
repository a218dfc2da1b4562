"""A tiny corpus and a run over it, and real recordings where they are there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_corpus import SENTENCES, TEXTS, write_audio, write_manifest

from asr.nn.acoustic import AcousticConfig
from asr.nn.language import LanguageConfig
from asr.train.config import AcousticRecipe, AugmentConfig, DataConfig, LanguageRecipe, TextConfig, TokenizerConfig


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
def recipe(corpus: Path, tmp_path: Path) -> AcousticRecipe:
    """A run of some seconds that uses everything a long one does: speeds, gain, masks, dropout."""
    return AcousticRecipe(
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


@pytest.fixture
def language_recipe(tmp_path: Path) -> LanguageRecipe:
    """A run of some seconds over a few sentences, three passes of them."""
    (tmp_path / "text.txt").write_text("".join(f"{sentence}\n" for sentence in SENTENCES), encoding="utf-8")
    text = str(tmp_path / "text.txt")
    return LanguageRecipe(
        name="tiny",
        output=str(tmp_path / "runs"),
        epochs=3,
        precision="float32",
        threads=1,
        data=TextConfig(train=[text], dev=text, lanes=2, span=8, epoch_batches=5),
        model=LanguageConfig(layers=1, size=16),
    )


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """`recipe.threads` is set for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
