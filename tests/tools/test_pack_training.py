"""Packing a training run for a machine without network, unpacking it there, and joining its results."""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import time
from hashlib import sha256
from pathlib import Path
from random import Random
from zipfile import ZipFile

import numpy as np
import pytest
import soundfile
from developer_tools import TOOLS, load_tool

pack_training = load_tool("pack_training")
train_packed = load_tool("train_packed")

PART_SIZE = 50_000  # bytes: several parts of the corpus below
UTTERANCES = 40
# Its texts are "text 0" to "text 39"; the even numbers can be pronounced.
RECIPE = """
language: xx
data: {train: train.jsonl, dev: dev.jsonl}
tokenizer: {kind: phones, lexicon: LEXICON}
"""
DICTIONARY = "text\tT EH K S T\n" + "".join(f"{number}\tIY V AH N\n" for number in range(0, UTTERANCES, 2))
# Instead of the real one, which needs torch; it leaves word of what it was asked for.
CORPUS = """
def decode_manifest(manifest, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.name).write_text(manifest.read_text())
"""


def write_corpus(folder: Path, name: str, utterances: int) -> Path:
    """A manifest of tones of a second, the first of them with an uncertain text."""
    (folder / name).mkdir(parents=True)
    rows = []
    for index in range(utterances):
        audio = folder / name / f"{name}-{index}.flac"
        soundfile.write(audio, 0.3 * np.sin(np.arange(16_000) * 0.05 * (index + 1)), 16_000)
        row = {
            "id": audio.stem,
            "audio": f"{name}/{audio.name}",
            "seconds": 1.0,
            "text": f"text {index}",
            "source": name,
        }
        rows.append(row | {"confidence": index / 10 if index < 10 else 1.0})
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def run_tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOLS / f"{name}.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def run_pack(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    fixed = ["--dev", folder / "dev.jsonl", "--recipe", folder / "recipe.yaml", "--cache", folder / "cache"]
    fixed += ["--source", folder / "source", "--part-size", PART_SIZE]
    return run_tool("pack_training", "pack", folder / "pack", *fixed, *arguments)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("ffmpeg"):
        pytest.skip("the ffmpeg program is missing, which encodes what is packed")
    folder = tmp_path_factory.mktemp("material")
    write_corpus(folder, "train", UTTERANCES)
    write_corpus(folder, "dev", 2)
    write_corpus(folder, "hum", 1)
    (folder / "recipe.yaml").write_text(RECIPE.replace("LEXICON", str(folder / "words.txt")))
    (folder / "words.txt").write_text(DICTIONARY)
    for path in ("asr/__init__.py", "asr/train/__init__.py", "asr/pretrained/en/model.onnx"):
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / path).touch()
    (folder / "source/asr/train/corpus.py").write_text(CORPUS)
    (folder / "wheels").mkdir()
    with ZipFile(folder / "wheels/seven-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("seven/__init__.py", "SEVEN = 7")
    return folder


@pytest.fixture(scope="module")
def parts(material: Path) -> list[Path]:
    train = ["--train", material / "train.jsonl", "--noise", material / "hum"]
    done = run_pack(material, *train, "--wheels", material / "wheels", "--min-confidence", 0.3)
    assert done.returncode == 0, done.stderr
    parts = sorted((material / "pack").glob("*.tar"))
    assert all(f"{part.name}" in done.stdout for part in parts)
    assert "left out are the texts with words that cannot be pronounced" in done.stdout
    return parts


@pytest.fixture(scope="module")
def work(parts: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("elsewhere") / "work"
    for part in reversed(parts):
        done = run_tool("train_packed", "unpack", "--work", work, part)
        assert done.returncode == 0, done.stderr
    return work


def read_rows(*manifests: Path) -> list[dict]:
    return [json.loads(line) for manifest in manifests for line in manifest.read_text().splitlines()]


def test_parts_are_not_larger_than_asked_for(parts: list[Path]) -> None:
    assert len(parts) > 2
    assert all(part.stat().st_size <= PART_SIZE for part in parts)


def test_every_utterance_is_in_one_part_with_both_texts(work: Path) -> None:
    manifests = sorted(work.glob("part-*.jsonl"))
    rows = {row["id"]: row for row in read_rows(*manifests)}
    assert len(manifests) > 1
    assert len(read_rows(*manifests)) == len(rows)
    assert set(rows) == {f"train-{index}" for index in range(3, UTTERANCES)}  # the texts of the others are uncertain
    for index in range(3, UTTERANCES):
        row = rows[f"train-{index}"]
        assert (row["text"], row["phones"]) == (f"text {index}", "" if index % 2 else "tekst jvun")
        info = soundfile.info(work / row["audio"])
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "OPUS") or info.samplerate == 48_000
        assert info.duration == pytest.approx(row["seconds"], abs=0.05)


def test_parts_mix_the_utterances(work: Path) -> None:
    ids = [row["id"] for row in read_rows(*sorted(work.glob("part-*.jsonl")))]
    assert ids != sorted(ids, key=lambda name: int(name.split("-")[1]))


def test_first_part_has_sources_recipe_dev_and_noise(work: Path) -> None:
    assert (work / "source/asr/train/corpus.py").is_file()
    assert not (work / "source/asr/pretrained").exists()
    assert (work / "recipe.yaml").read_text().startswith("\nlanguage: xx")
    assert (work / "words.txt").read_text() == DICTIONARY
    for manifest, utterances in (("dev.jsonl", 2), ("noise.jsonl", 1)):
        rows = read_rows(work / manifest)
        assert len(rows) == utterances
        assert all(("phones" in row) == (manifest == "dev.jsonl") for row in rows)
        assert all((work / row["audio"]).is_file() for row in rows)


def test_wheels_are_unpacked_once(work: Path, parts: list[Path]) -> None:
    module = work / "site/seven/__init__.py"
    before = module.stat().st_ino
    assert module.read_text() == "SEVEN = 7"
    assert run_tool("train_packed", "unpack", "--work", work, parts[1]).returncode == 0
    assert module.stat().st_ino == before  # a process may be using it
    with module.open() as opened:
        assert run_tool("train_packed", "unpack", "--work", work, parts[0]).returncode == 0
        assert opened.read() == "SEVEN = 7"
    assert module.read_text() == "SEVEN = 7"


def test_every_part_is_decoded_in_the_background(work: Path) -> None:
    expected = {path.name for path in work.glob("part-*.jsonl")}
    deadline = time.monotonic() + 10
    while {path.name for path in (work / train_packed.AUDIO).glob("*")} != expected:
        assert time.monotonic() < deadline, [path.read_text() for path in work.glob("*.log")]
        time.sleep(0.05)


def test_same_input_same_parts(material: Path, parts: list[Path]) -> None:
    before = sha256(parts[0].read_bytes()).digest()
    done = run_pack(material, "--noise", material / "hum", "--wheels", material / "wheels", "--only-base")
    assert done.returncode == 0, done.stderr
    assert sha256(parts[0].read_bytes()).digest() == before
    assert sorted((material / "pack").glob("*.tar")) == parts


def test_opus_is_packed_as_it_is(material: Path, parts: list[Path], tmp_path: Path) -> None:
    opus = material / "cache/16k/train/train-5.opus"
    row = {"id": "x", "audio": opus.absolute(), "source": "train"}
    assert pack_training.encode([row], tmp_path, 16, 1) == [row]


def test_an_id_that_occurs_twice_is_an_error(material: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="train-9 occurs twice") as raised:
        pack_training.read_rows([material / "train.jsonl"] * 2, 0.85)
    assert "\n" not in str(raised.value)


def test_a_part_too_small_for_the_sources_is_an_error(material: Path, parts: list[Path]) -> None:
    done = run_pack(material, "--only-base", "--part-size", "1K")
    assert done.returncode == 1
    assert done.stderr.startswith("part-00.tar would be larger than 1,024 bytes")
    assert parts[0].is_file()


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_a_member_outside_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "part-01.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    done = run_tool("train_packed", "unpack", "--work", tmp_path / "deep/work", tmp_path / "part-01.tar")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not a file below the folder" in done.stderr
    assert not list(tmp_path.rglob("outside"))


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(tmp_path / "part-01.tar", "w") as tar:
        tar.addfile(link)
    done = run_tool("train_packed", "unpack", "--work", tmp_path / "work", tmp_path / "part-01.tar")
    assert (done.returncode, (tmp_path / "work/link").exists()) == (1, False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder: weights, which cannot be compressed, and a log."""
    (tmp_path / "run").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "run/window.safetensors").write_bytes(Random(1).randbytes(10_000))
    (tmp_path / "run/curve.jsonl").write_text('{"epoch": 1}\n' * 100)
    return tmp_path / "run"


def join(folder: Path, results: Path) -> None:
    pack_training.join(argparse.Namespace(folder=folder, results=results))


def make_results(out: Path, piece_size: int = 3_000, pieces: int = 8, total_size: int = 100_000):
    return train_packed.Results(out, piece_size, pieces, total_size)


@pytest.fixture(autouse=True)
def no_spare_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files here are small."""
    monkeypatch.setattr(train_packed, "SPARE", 1_000)


def test_joined_pieces_are_the_files_of_the_run(run: Path, tmp_path: Path) -> None:
    make_results(tmp_path / "out").write(run, ("*.safetensors", "curve.jsonl"))
    pieces = sorted((tmp_path / "out").iterdir())
    assert len(pieces) == 5
    assert all(piece.stat().st_size <= 3_000 for piece in pieces)
    assert all(set(piece.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") for piece in pieces)
    done = run_tool("pack_training", "join", tmp_path / "joined", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for name in ("window.safetensors", "curve.jsonl"):
        assert (tmp_path / "joined" / name).read_bytes() == (run / name).read_bytes()


# Two sets have room beside each other, have too many files, or are too large.
@pytest.mark.parametrize(("piece_size", "total_size"), [(3_000, 30_000), (1_500, 30_000), (3_000, 15_000)])
def test_new_results_replace_the_old(run: Path, tmp_path: Path, piece_size: int, total_size: int) -> None:
    results = make_results(tmp_path / "out", piece_size, 9, total_size)
    results.write(run, ("*.safetensors",))
    (run / "window.safetensors").write_bytes(new := Random(2).randbytes(10_000))
    results.write(run, ("*.safetensors",))
    assert len({path.stem for path in (tmp_path / "out").glob("results-*")}) == 1
    join(tmp_path / "joined", tmp_path / "out")
    assert (tmp_path / "joined/window.safetensors").read_bytes() == new


def test_out_has_a_complete_set_and_not_too_many_files_at_any_moment(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make_results(tmp_path / "out", 3_000, 9)
    results.write(run, ("*.safetensors",))
    (run / "window.safetensors").write_bytes(Random(2).randbytes(10_000))
    move, joined = shutil.move, []

    def join_then_move(source: Path, target: Path) -> None:
        for step in (None, move):
            if step:
                step(source, target)
            assert len(list((tmp_path / "out").iterdir())) <= 9
            joined.append(tmp_path / f"joined-{len(joined)}")
            join(joined[-1], tmp_path / "out")

    monkeypatch.setattr(train_packed.shutil, "move", join_then_move)
    results.write(run, ("*.safetensors",))
    assert len(joined) == 10
    assert all((folder / "window.safetensors").is_file() for folder in joined)


def test_files_without_room_are_left_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_results(tmp_path / "out", pieces=3).write(run, ("curve.jsonl", "*.safetensors"))
    join(tmp_path / "joined", tmp_path / "out")
    assert [path.name for path in (tmp_path / "joined").iterdir()] == ["curve.jsonl"]
    assert "no room for window.safetensors" in capsys.readouterr().err


def test_weights_leave_while_training_goes_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_packed, "POLL_SECONDS", 0.01)
    index = tmp_path / "out" / train_packed.INDEX
    with make_results(tmp_path / "out").following(run):
        deadline = time.monotonic() + 10
        while not index.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    join(tmp_path / "joined", tmp_path / "out")
    assert (tmp_path / "joined/window.safetensors").is_file()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 3_000)])
def test_a_damaged_piece_is_one_line(run: Path, tmp_path: Path, damage) -> None:
    make_results(tmp_path / "out").write(run, ("*.safetensors",))
    damage(sorted((tmp_path / "out").glob("results-*"))[1])
    done = run_tool("pack_training", "join", tmp_path / "joined", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert ".02" in done.stderr
    assert "copy" in done.stderr
    assert not (tmp_path / "joined").exists()
