"""The corpus in memory: decoded once, as recognition reads it, and kept beside the runs."""

import errno
import gzip
import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpus import write_audio, write_manifest
from tiny_runs import (
    decode_in_processes,
    make_trainer,
    said,
)

from asr.audio.sources import read
from asr.data.manifest import read_manifest
from asr.errors import RecipeError
from asr.nn.frontend import SAMPLE_RATE
from asr.train import corpus as corpus_module
from asr.train.config import AcousticRecipe
from asr.train.corpus import FULL_SCALE, AudioCorpus, decode_manifest

CPU = torch.device("cpu")
FRAME = 640  # samples


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # `threads` of conftest.py puts it back


def one_line(error: pytest.ExceptionInfo[RecipeError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def decoded_samples(manifest: Path, folder: Path) -> list[np.ndarray]:
    decoded = decode_manifest(manifest, folder)
    assert decoded.problems == {}
    return [decoded.samples[begin:end] for begin, end in zip([0, *decoded.ends[:-1]], decoded.ends, strict=True)]


def files_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix != ".lock"}


def must_not_decode(*_: object, **__: object) -> None:
    raise AssertionError("a recording is decoded")


@pytest.fixture
def forms(tmp_path: Path) -> Path:
    """A manifest of recordings in many forms, one of them beyond full scale."""
    chosen = [
        ("plain.wav", 16_000, 1, {}),
        ("packed.flac", 16_000, 1, {}),
        ("speech.opus", 16_000, 1, {"format": "OGG", "subtype": "OPUS"}),
        ("telephone.wav", 8_000, 1, {"subtype": "ULAW"}),
        ("music.flac", 44_100, 2, {"subtype": "PCM_24"}),
        ("loud.wav", 16_000, 1, {"subtype": "FLOAT"}),
    ]
    entries = []
    for seed, (name, rate, channels, options) in enumerate(chosen):
        time = np.arange(round(0.7 * rate)) / rate
        samples = (1.3 if name == "loud.wav" else 0.4) * np.sin(2 * np.pi * 230 * (seed + 1) * time)
        both = np.stack([samples, 0.3 * samples], 1) if channels == 2 else samples
        soundfile.write(tmp_path / name, both, rate, **options)
        entries.append((tmp_path / name, "ab"))
    return write_manifest(tmp_path / "forms.jsonl", entries)


def test_a_recording_is_what_recognition_reads_rounded_to_16_bits(forms: Path, tmp_path: Path):
    for entry, samples in zip(read_manifest(forms), decoded_samples(forms, tmp_path / "audio"), strict=True):
        expected = read(entry.audio)
        assert samples.dtype == np.int16
        assert len(samples) == len(expected)
        clipped = expected.clip(-1, 1 - 1 / FULL_SCALE)
        assert np.abs(samples / FULL_SCALE - clipped).max() <= 0.5 / FULL_SCALE + 1e-9
        if entry.id in ("plain", "packed"):
            assert np.array_equal(samples / FULL_SCALE, expected)  # 16 bits are what it has


def test_audio_of_any_rate_and_channels_is_16_khz_mono(tmp_path: Path):
    entries = []
    for rate, channels in ((44_100, 2), (44_100, 1), (48_000, 2), (8_000, 1), (16_000, 2), (16_000, 1)):
        time = np.arange(2 * rate) / rate
        sides = [0.5 * np.sin(2 * np.pi * 440 * time), 0.1 * np.sin(2 * np.pi * 440 * time)][:channels]
        soundfile.write(tmp_path / f"{rate}-{channels}.wav", np.stack(sides, axis=1), rate)
        entries.append((tmp_path / f"{rate}-{channels}.wav", "ab"))
    manifest = write_manifest(tmp_path / "tones.jsonl", entries)
    for entry, samples in zip(read_manifest(manifest), decoded_samples(manifest, tmp_path / "audio"), strict=True):
        assert len(samples) == 2 * SAMPLE_RATE
        loudness = (0.5 if entry.id.endswith("1") else 0.3) / np.sqrt(2)  # the mean of both sides
        inside = samples[1_600:-1_600] / FULL_SCALE
        assert np.sqrt((inside**2).mean()) == pytest.approx(loudness, rel=0.01)
        assert np.abs(np.fft.rfft(inside)).argmax() * SAMPLE_RATE / len(inside) == pytest.approx(440, abs=1)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")
def test_what_only_ffmpeg_reads_can_be_trained_on(tmp_path: Path):
    source = write_audio(tmp_path / "a.wav", 1.0)
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", source, tmp_path / "a.m4a"], check=True)
    (samples,) = decoded_samples(write_manifest(tmp_path / "a.jsonl", [(tmp_path / "a.m4a", "ab")]), tmp_path / "audio")
    assert len(samples) == pytest.approx(SAMPLE_RATE, abs=1_600)


def test_shards_without_a_recording(tmp_path: Path):
    (tmp_path / "shards").mkdir()
    with gzip.open(tmp_path / "shards/cuts.000000.jsonl.gz", "wb"):
        pass
    decoded = decode_manifest(tmp_path / "shards", tmp_path / "audio")
    assert (len(decoded.samples), decoded.ends, decoded.problems) == (0, [], {})


def test_what_is_decoded_is_said_once_with_what_cannot_be_read(corpus: Path, tmp_path: Path):
    (tmp_path / "u1.wav").write_bytes(b"no audio at all")
    lines: list[str] = []
    for _ in range(2):
        AudioCorpus([(str(corpus), read_manifest(corpus))], tmp_path / "audio", lines.append, "not there")
    assert [line.split(": ")[0] for line in lines] == [str(corpus), "not there", "not there"]
    assert "decoding 8 recordings" in lines[0]


def test_recordings_are_decoded_in_blocks_in_their_order(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "BLOCK", 3)
    for samples, entry in zip(decoded_samples(corpus, tmp_path / "audio"), read_manifest(corpus), strict=True):
        assert np.array_equal(samples / FULL_SCALE, read(entry.audio))


def test_a_second_start_maps_the_files_and_decodes_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    once, before = decoded_samples(corpus, tmp_path / "audio"), files_of(tmp_path / "audio")
    monkeypatch.setattr(corpus_module, "read", must_not_decode)
    monkeypatch.setattr(corpus_module, "ThreadPoolExecutor", must_not_decode)
    again = decode_manifest(corpus, tmp_path / "audio")
    assert isinstance(again.samples, np.memmap)
    assert np.array_equal(again.samples, np.concatenate(once))
    assert files_of(tmp_path / "audio") == before


def test_other_texts_need_no_new_decoding(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    once = decoded_samples(corpus, tmp_path / "audio")
    corpus.write_text(corpus.read_text().replace('"bab"', '"aaaa"'))
    monkeypatch.setattr(corpus_module, "ThreadPoolExecutor", must_not_decode)
    assert np.array_equal(decode_manifest(corpus, tmp_path / "audio").samples, np.concatenate(once))


@pytest.mark.parametrize("seconds", [0.8, 1.3])
def test_a_recording_that_changed_is_decoded_anew(corpus: Path, tmp_path: Path, seconds: float):
    once = decoded_samples(corpus, tmp_path / "audio")
    changed = write_audio(tmp_path / "u3.wav", seconds, seed=77)
    os.utime(changed, ns=(1, 1))  # also where the clock of the file system is coarse
    again = decoded_samples(corpus, tmp_path / "audio")
    assert np.array_equal(again[3] / FULL_SCALE, read(changed))
    assert all(np.array_equal(a, b) for number, (a, b) in enumerate(zip(once, again, strict=True)) if number != 3)


def test_what_cannot_be_read_is_a_line_and_has_no_samples(corpus: Path, tmp_path: Path):
    (tmp_path / "u1.wav").write_bytes(b"no audio at all")
    (tmp_path / "u4.wav").unlink()
    (tmp_path / "u6.wav").write_bytes((tmp_path / "u6.wav").read_bytes()[:9_000])
    found = AudioCorpus([(str(corpus), read_manifest(corpus))], tmp_path / "audio")
    assert [len(found.samples(index)) == 0 for index in range(8)] == [index in (1, 4, 6) for index in range(8)]
    assert found.problems.keys() == {1, 4, 6}
    for number, problem in found.problems.items():
        assert f"u{number}.wav" in problem
        assert "\n" not in problem
    assert np.array_equal(found.samples(5).numpy() / FULL_SCALE, read(tmp_path / "u5.wav"))


def test_of_two_recordings_with_one_id_in_two_manifests_both_are_a_line(
    recipe: AcousticRecipe, corpus: Path, tmp_path: Path
):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "broken.wav").write_bytes(b"no audio")
        entries = [(tmp_path / folder / "broken.wav", "ab")]
        recipe.data.train.append(str(write_manifest(tmp_path / folder / "corpus.jsonl", entries)))
    told = said(make_trainer(recipe))
    assert "one/broken.wav" in told
    assert "two/broken.wav" in told


@pytest.mark.skipif(os.name != "posix", reason="signals of a POSIX system")
@pytest.mark.parametrize("moment", ["amid the samples", "before the index"])
def test_a_decoding_that_was_killed_begins_again(corpus: Path, tmp_path: Path, moment: str):
    (code,) = decode_in_processes(corpus, tmp_path / "audio", killed=moment)
    assert code == -signal.SIGKILL
    assert not list((tmp_path / "audio").glob("*.json"))
    samples = decoded_samples(corpus, tmp_path / "audio")
    assert all(np.array_equal(row / FULL_SCALE, read(tmp_path / f"u{n}.wav")) for n, row in enumerate(samples))
    assert sorted(path.suffix for path in (tmp_path / "audio").iterdir() if path.suffix != ".lock") == [
        ".i16",
        ".json",
    ]


def fail_at_u3(recording: Path) -> bytes:
    if "u3" in recording.name:
        raise KeyboardInterrupt
    return bytes(2)


def test_a_decoding_that_was_interrupted_leaves_nothing(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "_read", fail_at_u3)
    with pytest.raises(KeyboardInterrupt):
        decode_manifest(corpus, tmp_path / "audio")
    assert files_of(tmp_path / "audio") == {}


def test_two_processes_decode_the_same_at_once(corpus: Path, tmp_path: Path):
    assert decode_in_processes(corpus, tmp_path / "audio", count=2) == [0, 0]
    assert Counter(path.suffix for path in (tmp_path / "audio").iterdir()) == {".i16": 1, ".json": 1, ".lock": 1}
    samples = decoded_samples(corpus, tmp_path / "audio")
    assert all(np.array_equal(row / FULL_SCALE, read(tmp_path / f"u{n}.wav")) for n, row in enumerate(samples))


def test_decoded_audio_that_is_cut_off_is_one_line(corpus: Path, tmp_path: Path):
    decode_manifest(corpus, tmp_path / "audio")
    (file,) = (tmp_path / "audio").glob("*.i16")
    file.write_bytes(file.read_bytes()[:1_000])
    with pytest.raises(RecipeError, match="delete the files of that name and start again") as caught:
        decode_manifest(corpus, tmp_path / "audio")
    assert one_line(caught).startswith(str(file))


@pytest.mark.parametrize(("code", "advice"), [(errno.ENOSPC, "make room"), (errno.EIO, "delete the files")])
def test_what_the_system_refuses_while_decoding_is_said(
    corpus: Path, tmp_path: Path, code: int, advice: str, monkeypatch: pytest.MonkeyPatch
):
    def refused(path: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(corpus_module, "replacing", refused)
    monkeypatch.chdir(tmp_path)  # a message names the file twice and is cut at 300 characters
    with pytest.raises(RecipeError) as caught:
        decode_manifest(corpus, Path("audio"))
    assert f"({os.strerror(code)}: " in one_line(caught)
    assert f"); {advice}" in one_line(caught)


def test_a_folder_that_cannot_be_written_is_one_line(corpus: Path, tmp_path: Path):
    (tmp_path / "audio").write_text("a file")
    with pytest.raises(RecipeError, match="decoded audio cannot be written or read"):
        decode_manifest(corpus, tmp_path / "audio")
