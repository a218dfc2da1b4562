"""Bundles and recordings that several test modules share."""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from asr.data.manifest import Entry, read_manifest

if TYPE_CHECKING:
    from asr.train.config import AcousticRecipe, LanguageRecipe

SHARED_DATA = Path(__file__).parents[1] / "../shared/data"
SAMPLE = Path(__file__).parent / "data/sample.flac"
SAMPLE_HALVES = (
    "the birds were singing in the garden",
    "and the old man sat down by the river to read his letter",
)

# No test is about time: a busy machine must not fail any.
settings.register_profile("asr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("asr")


@pytest.fixture(scope="session", autouse=True)
def spoken_words() -> Iterator[None]:
    """Texts are as they are spoken, whatever is packaged: tests of the written form ask for a tagger (`rule_tagger`).

    Programs that tests start in processes of their own have the packaged one: see `written_words`.
    """
    from asr.cli import options
    from asr.recognize import written

    with pytest.MonkeyPatch.context() as patch:
        for module in (written, options):
            patch.setattr(module, "find_tagger", lambda language: None)
        yield


@pytest.fixture
def written_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of this process are written as those of other processes."""
    from asr.cli import options
    from asr.model.tagger import find_tagger
    from asr.recognize import written

    for module in (written, options):
        monkeypatch.setattr(module, "find_tagger", find_tagger)


@pytest.fixture(scope="session")
def carrier_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that reads the audio of `carrier.speech`."""
    from carrier import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "carrier")


@pytest.fixture(scope="session")
def streaming_carrier_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a live model."""
    from carrier import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "live-carrier", streaming=True)


@pytest.fixture(scope="session")
def live_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A live model with random weights, a hidden state and a look-ahead; int8 weights."""
    from live_model import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "live", int8=True)


@pytest.fixture(scope="session")
def dev_entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Speech with its text: real, in the order of the manifest; where that is missing, the bundled sample's parts."""
    manifest = SHARED_DATA / "dev.jsonl"
    return read_manifest(manifest) if manifest.is_file() else sample_entries(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def recorded_entries() -> list[Entry]:
    """Real speech, where a program's voice will not do; a skip where the data is missing."""
    manifest = SHARED_DATA / "dev.jsonl"
    if not manifest.is_file():
        pytest.skip(f"no real speech here: {manifest} is missing")
    return read_manifest(manifest)


def sample_entries(folder: Path) -> list[Entry]:
    """The bundled sample, its first half and its second, each loud and quiet."""
    import soundfile

    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    cut = round(1.86 * rate)  # in the pause
    parts = [
        (slice(None), " ".join(SAMPLE_HALVES)),
        (slice(cut), SAMPLE_HALVES[0]),
        (slice(cut, None), SAMPLE_HALVES[1]),
    ]
    entries = []
    for name, volume in (("loud", 1.0), ("quiet", 0.3)):
        for number, (part, text) in enumerate(parts):
            path = folder / f"{name}-{number}.flac"
            soundfile.write(path, volume * samples[part], rate)
            entries.append(Entry(path.stem, path, text, len(samples[part]) / rate, name))
    return entries


@pytest.fixture(scope="session")
def speech_data() -> Path | None:
    """The folder of real recordings beside the repository, if it is there."""
    return SHARED_DATA.resolve() if (SHARED_DATA / "train.jsonl").is_file() else None


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    from tiny_corpus import write_corpus

    return write_corpus(tmp_path)


@pytest.fixture
def recipe(corpus: Path) -> "AcousticRecipe":
    import tiny_runs

    return tiny_runs.acoustic_recipe(corpus)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs over four utterances of two speakers, which kept two epochs' checkpoints.

    Masks and speeds are on. Tests leave it as it is.
    """
    import torch
    from tiny_corpus import TEXTS, write_audio

    from asr.train.run import run_recipe

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
        data: {{train: {folder / "corpus.jsonl"}, dev: {folder / "corpus.jsonl"}, batch_seconds: 6}}
        tokenizer: {{kind: characters, alphabet: ab}}
        model: {{layers: 1, hidden_size: 16, n_mels: 20}}
        """,
        encoding="utf-8",
    )
    before = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_recipe(folder / "recipe.yaml", ["seed=5"])
    torch.set_num_threads(before)
    return folder / "runs" / "finished"


@pytest.fixture
def language_recipe(tmp_path: Path) -> "LanguageRecipe":
    import tiny_runs

    return tiny_runs.language_recipe(tmp_path)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """`recipe.threads` is set for the whole process: put it back."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    yield
    if torch:
        torch.set_num_threads(before)
