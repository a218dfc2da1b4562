"""A tiny corpus and a run over it, and real recordings where they are there."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_runs
import torch
from tiny_corpus import TEXTS, write_audio, write_corpus

from asr.train.config import AcousticRecipe, LanguageRecipe
from asr.train.run import run_recipe


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder of real recordings beside the repository; a test that needs it is skipped where it is missing."""
    folder = Path(__file__).parents[2] / "../shared/data"
    if not (folder / "train.jsonl").is_file():
        pytest.skip(f"needs real recordings in {folder}")
    return folder.resolve()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


@pytest.fixture
def recipe(corpus: Path) -> AcousticRecipe:
    return tiny_runs.acoustic_recipe(corpus)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs over four utterances of two speakers, which kept two epochs' checkpoints.

    Masks and speeds are on. Tests leave it as it is.
    """
    folder = tmp_path_factory.mktemp("finished")
    audio = [write_audio(folder / f"u{index}.wav", 0.5 + 0.6 * index, seed=index) for index in range(4)]
    lines = [
        {"id": path.stem, "audio": path.name, "text": text, "speaker": "ada" if index % 2 else "bob <b>"}
        for index, (path, text) in enumerate(zip(audio, TEXTS[:4], strict=True))
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "recipe.yaml").write_text(
        f"""
        name: finished
        output: {folder / "runs"}
        description: Tones & noise.
        epochs: 3
        keep_last: 2
        precision: float32
        threads: 1
        data: {{train: {folder / "corpus.jsonl"}, dev: {folder / "corpus.jsonl"}, batch_seconds: 6, workers: 0}}
        tokenizer: {{kind: characters, alphabet: ab}}
        model: {{layers: 1, size: 16, bands: 20}}
        """,
        encoding="utf-8",
    )
    before = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_recipe(folder / "recipe.yaml", ["seed=5"], resume=False)
    torch.set_num_threads(before)
    return folder / "runs" / "finished"


@pytest.fixture
def language_recipe(tmp_path: Path) -> LanguageRecipe:
    return tiny_runs.language_recipe(tmp_path)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """`recipe.threads` is set for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
