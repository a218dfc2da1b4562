"""Any of Lhotse's recipes by its name: splits, texts, parts of recordings, and what the recipe passes over."""

import logging
import tarfile
from pathlib import Path
from typing import Any

import lhotse.recipes.yesno
import numpy as np
import pytest
import soundfile
from corpus_trees import RATE, record, yesno
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr.data.corpora import lhotse_corpus, prepare
from asr.data.corpora.lhotse_recipes import entries, flatten
from asr.data.manifest import read_manifest
from asr.errors import RecipeError


def test_a_recipe_of_lhotse_makes_manifests_of_its_splits(tmp_path: Path):
    yesno(tmp_path / "src")
    results = prepare(lhotse_corpus("yesno", "en"), tmp_path / "src", tmp_path / "out")
    assert {result.manifest.name: result.utterances for result in results} == {"train.jsonl": 30, "test.jsonl": 30}
    first = read_manifest(tmp_path / "out/train.jsonl", check_files=True)[0]
    assert (first.id, first.text, first.seconds) == ("0_0_0_0_0_0_0_0", "no no no no no no no no", 0.2)


def test_what_a_recipe_passes_over_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    yesno(tmp_path / "src")
    forgotten = record(tmp_path / "src/more/0_0_0_0_0_0_0_0.wav")
    with caplog.at_level(logging.WARNING):
        prepare(lhotse_corpus("yesno", "en"), tmp_path / "src", tmp_path / "out")
    assert f"1 problems, the first: {forgotten}: a recording without a text" in caplog.text


@pytest.mark.parametrize(
    ("name", "language", "problem"),
    [
        ("yesno", "en", "src: cannot be read (AssertionError)"),
        ("yesno", "klingon", "'klingon' is no language"),
        ("nothing", "en", "Lhotse cannot prepare 'nothing'; choose one of lhotse.readthedocs.io"),
        ("no.such/name", "en", "Lhotse cannot prepare 'no.such/name'"),
        ("broadcast-news", "en", "recipe broadcast_news also needs transcripts_dir"),
    ],
)
def test_a_recipe_that_cannot_read_is_one_line(tmp_path: Path, name: str, language: str, problem: str):
    (tmp_path / "src").mkdir()
    with pytest.raises(RecipeError) as caught:
        prepare(lhotse_corpus(name, language), tmp_path / "src", tmp_path / "out")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_downloading_needs_an_empty_folder_and_lhotses_address(tmp_path: Path):
    yesno(tmp_path / "src/waves_yesno")
    with pytest.raises(RecipeError, match=r"src: not empty; download into a new folder"):
        prepare(lhotse_corpus("yesno", "en"), tmp_path / "src", tmp_path / "out", download=True)
    assert len(list((tmp_path / "src/waves_yesno").iterdir())) == 60
    with pytest.raises(RecipeError, match="Lhotse cannot download 'babel'"):
        prepare(lhotse_corpus("babel", "en"), tmp_path / "empty", tmp_path / "out", download=True)


def test_what_is_downloaded_is_read_where_lhotse_unpacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    yesno(tmp_path / "server/waves_yesno")

    def fetch(_url: str, filename: Path, **_options: Any) -> None:
        with tarfile.open(filename, "w:gz") as tar:
            tar.add(tmp_path / "server/waves_yesno", arcname="waves_yesno")

    monkeypatch.setattr(lhotse.recipes.yesno, "resumable_download", fetch)
    results = prepare(lhotse_corpus("yesno", "en"), tmp_path / "src", tmp_path / "out", download=True)
    assert [result.utterances for result in results] == [30, 30]
    again = prepare(lhotse_corpus("YesNo", "en"), tmp_path / "src", tmp_path / "out", download=True)
    assert [result.utterances for result in again] == [30, 30]


def test_supervisions_without_their_recordings_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lost = SupervisionSet.from_segments([SupervisionSegment("a", "gone", 0.0, 1.0, text="one")])
    found = {"recordings": RecordingSet.from_recordings([]), "supervisions": lost}
    monkeypatch.setattr(lhotse.recipes.yesno, "prepare_yesno", lambda corpus_dir: found)
    (tmp_path / "src").mkdir()
    with pytest.raises(RecipeError, match=r"src: cannot be read \('gone'\); mend") as caught:
        prepare(lhotse_corpus("yesno", "en"), tmp_path / "src", tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_parts_and_channels_of_a_recording_become_files(tmp_path: Path):
    sides = np.random.default_rng(1).uniform(-0.1, 0.1, (3 * RATE, 2))
    soundfile.write(tmp_path / "call.wav", sides, RATE, subtype="PCM_16")
    recordings = RecordingSet.from_recordings([Recording.from_file(tmp_path / "call.wav")])
    said = [
        SupervisionSegment("b", "call", 1.0, 0.5, channel=1, text="two", speaker="bob"),
        SupervisionSegment("a", "call", 0.0, 2.0, channel=0, text="one", speaker="ada"),
        SupervisionSegment("c", "call", 2.5, 1.0, channel=0, text="three"),  # of which a half is not there
        SupervisionSegment("d", "call", 4.0, 1.0, channel=0, text="four"),  # and of this nothing
    ]
    found = {"recordings": recordings, "supervisions": SupervisionSet.from_segments(said)}
    nested = dict(flatten({"en": {"train": found, "dev": {"recordings": None}}}))
    assert list(nested) == ["en-train"]
    a, b, c, d = entries(nested["en-train"], lambda supervision: supervision.text, tmp_path / "out")
    assert (a.id, a.text, a.seconds, a.speaker) == ("a", "one", 2.0, "ada")
    assert (b.audio, b.seconds, b.speaker) == (tmp_path / "out/call/b.flac", 0.5, "bob")
    assert (c.text, d.text) == ("", "")
    whole = soundfile.read(tmp_path / "call.wav", dtype="int16")[0]
    np.testing.assert_array_equal(soundfile.read(b.audio, dtype="int16")[0], whole[RATE : 3 * RATE // 2, 1])
