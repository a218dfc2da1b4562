"""Shards give the batches of the single files, from wherever fsspec reads; what is wrong with them is one line."""

import gzip
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from lhotse import CutSet
from tiny_corpus import TEXTS, load_data, write_audio
from tiny_runs import make_trainer, said

from asr.audio.sources import read
from asr.data import shards
from asr.data.batch import Batch
from asr.data.shards import ShardEntry, read_recordings, read_training, write_shards
from asr.errors import RecipeError
from asr.train.config import AcousticRecipe
from asr.train.report.card import digest, manifest_line


@pytest.fixture
def packed(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny corpus in three shards."""
    monkeypatch.setattr(shards, "SHARD_SIZE", 3)
    written = write_shards(corpus, tmp_path / "shards")
    assert str(written) == f"{tmp_path / 'shards'}: 8 utterances, 0.00 h in 3 shards"
    return tmp_path / "shards"


@pytest.fixture
def in_memory(packed: Path) -> str:
    """Their URL in a storage that is no disk."""
    storage = fsspec.filesystem("memory")
    storage.put(str(packed), "/bucket/shards", recursive=True)
    yield "memory://bucket/shards"
    storage.rm("/bucket", recursive=True)


def batches(recipe: AcousticRecipe, source: str, done: int = 0) -> list[Batch]:
    recipe.data.train = [source]
    return list(load_data(recipe).train(2, done))


def test_batches_are_those_of_the_files_wherever_the_shards_are(
    recipe: AcousticRecipe, corpus: Path, packed: Path, in_memory: str
):
    recipe.augment.noises, recipe.augment.noise_share, recipe.data.batch_seconds = ["babble"], 0.8, 2.0
    expected = batches(recipe, str(corpus))
    for source in (str(packed), packed.as_uri(), in_memory + "/"):
        found = batches(recipe, source)
        assert [batch.ids for batch in found] == [batch.ids for batch in expected]
        assert [batch.texts for batch in found] == [batch.texts for batch in expected]
        assert all(torch.equal(a.waveforms, b.waveforms) for a, b in zip(found, expected, strict=True))
        assert [batch.ids for batch in batches(recipe, source, done=1)] == [batch.ids for batch in expected[1:]]


def test_lhotse_reads_them_too(corpus: Path, packed: Path):
    cuts = list(CutSet.from_shar(in_dir=packed))
    assert [cut.supervisions[0].text for cut in cuts] == list(TEXTS)
    assert (cuts[4].load_audio()[0] == read(corpus.parent / "u4.wav")).all()


def test_recordings_in_shards_of_others_are_read_as_files_are(tmp_path: Path):
    streamed = write_audio(tmp_path / "streamed.flac", 0.4)
    data = bytearray(streamed.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # as of a program that did not know how much would come
    streamed.write_bytes(data)
    files = [
        streamed,
        write_audio(tmp_path / "stereo.flac", 0.5, rate=8_000, channels=2),
        write_audio(tmp_path / "a.wav", 0.3),
    ]
    with tarfile.open(tmp_path / "recording.000000.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
    entries = [
        ShardEntry(file.stem, tar, "", None, None, tar=str(tmp_path / "recording.000000.tar"))
        for file, tar in zip(files, [tmp_path] * 3, strict=True)
    ]
    for file, recording in zip(files, read_recordings(entries), strict=True):
        assert np.array_equal(read(recording), read(file))


def test_confidence_and_speaker_are_kept_and_what_cannot_be_read_is_left_out(tmp_path: Path):
    broken = write_audio(tmp_path / "broken.flac", 1.0)
    broken.write_bytes(broken.read_bytes()[:3_000])
    write_audio(tmp_path / "a.wav", 0.5, rate=44_100, channels=2)
    lines = [
        {"audio": "a.wav", "text": "ab", "speaker": "ada", "confidence": 0.7},
        {"audio": "broken.flac", "text": ""},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "left out: " in str(write_shards(manifest, tmp_path / "out"))
    (entry,) = read_training(str(tmp_path / "out"))
    assert (entry.id, entry.text, entry.speaker, entry.confidence) == ("a", "ab", "ada", 0.7)
    assert entry.seconds == 0.5
    assert len(digest(str(tmp_path / "out"))) == 64
    assert "1 utterances, 0.00 h" in manifest_line("trained on", str(tmp_path / "out"))
    with pytest.raises(RecipeError, match="is there already"):
        write_shards(manifest, tmp_path / "out")
    manifest.write_text(json.dumps(lines[1]) + "\n")
    with pytest.raises(RecipeError, match="no recording can be read"):
        write_shards(manifest, tmp_path / "other")
    assert not list(tmp_path.glob("other*"))
    with pytest.raises(RecipeError, match=r"a\.wav/out: cannot write \(.*Not a directory.*\); name another folder"):
        write_shards(manifest, tmp_path / "a.wav/out")


@pytest.mark.parametrize("source", ["memory://nothing", ".", "nonsense://there/x", "s3x://bucket"])
def test_a_place_without_shards_is_one_line(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="cannot read shards there") as caught:
        read_training(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("recording.000001.tar", "holds 'u0' where the list has 'u3'"),
        ("cuts.000000.jsonl.gz", "holds 'u2' where the list has nothing more"),
    ],
)
def test_a_shard_that_is_not_of_its_list_is_one_line(recipe: AcousticRecipe, packed: Path, name: str, problem: str):
    if name.endswith(".tar"):
        (packed / name).write_bytes((packed / "recording.000000.tar").read_bytes())
    else:
        lines = gzip.decompress((packed / name).read_bytes()).splitlines(keepends=True)
        (packed / name).write_bytes(gzip.compress(b"".join(lines[:2])))
    recipe.data.train = [str(packed)]
    with pytest.raises(RecipeError, match=problem) as caught:
        make_trainer(recipe)
    assert "\n" not in str(caught.value)


def test_training_goes_on_without_a_shard_that_is_lost_or_damaged(recipe: AcousticRecipe, packed: Path):
    (packed / "recording.000000.tar").unlink()
    tar = packed / "recording.000001.tar"
    tar.write_bytes(tar.read_bytes()[:2_000])
    recipe.data.train, recipe.epochs = [str(packed)], 1
    trainer = make_trainer(recipe)
    assert len(trainer.run()) == 1
    told = [line for line in said(trainer).splitlines() if line.startswith("left out: ")]
    assert len(told) == 6
    for number, line in enumerate(told):
        assert line.startswith(f"left out: {packed}/recording.00000{number // 3}.tar: u{number}: cannot be read (")
