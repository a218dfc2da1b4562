"""What is told of runs' folders: how far, how well, and what in them is damaged. Without torch."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from asr.errors import AsrError
from asr.train.runs import MEASURES, Record, find_runs, read_run


def write_checkpoint(path: Path, size: int = 40) -> None:
    """A safetensors file of one tensor of `size` bytes."""
    header = json.dumps({"__metadata__": {}, "a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))


def make_run(folder: Path, *measured: float, kind: str = "acoustic", planned: int = 5, changed: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("kind: acoustic\n")
    Record(kind, planned, "asr train recipe.yaml", "on a machine").save(folder)
    lines: list[dict[str, Any]] = [
        {"epoch": number, "step": 100 * number, "minutes": 1.5 * number, MEASURES[kind]: value}
        for number, value in enumerate(measured, start=1)
    ]
    (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if measured:
        write_checkpoint(folder / "last.safetensors")
    for path in (folder / "curve.jsonl", folder):
        os.utime(path, (changed, changed))
    return folder


def test_a_run_says_how_far_it_came_and_its_best_epoch(tmp_path: Path):
    run = read_run(make_run(tmp_path / "a", 0.9, 0.4, 0.5))
    assert (run.kind, run.epochs, run.planned, run.best, run.best_epoch) == ("acoustic", 3, 5, 0.4, 2)
    assert (run.step, run.minutes, run.damage) == (300, 4.5, ())


@pytest.mark.parametrize("kind", MEASURES)
def test_of_equal_epochs_the_one_with_the_lowest_loss_is_the_best(tmp_path: Path, kind: str):
    folder = make_run(tmp_path / "a", kind=kind)
    lines = [{"epoch": n, "step": n, "minutes": n, MEASURES[kind]: 1.0, "dev_loss": 3.0 - n % 2} for n in (2, 3, 4)]
    (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run(folder).best_epoch == 3


def test_epochs_of_ctc_crf_are_ranked_by_their_loss(tmp_path: Path):
    folder = make_run(tmp_path / "a")
    epochs = [{"epoch": n, "step": n, "minutes": n, "dev_wer": n / 4, "dev_loss": 3.0 - n} for n in (1, 2)]
    (folder / "curve.jsonl").write_text(
        "".join(json.dumps(epoch | {"ranked_by_loss": True}) + "\n" for epoch in epochs)
    )
    assert read_run(folder).best_epoch == 2


def test_epochs_are_ranked_over_all_dev_sets_as_in_training(tmp_path: Path):
    folder = make_run(tmp_path / "a")
    epochs = [
        {"epoch": 1, "step": 1, "minutes": 1, "dev_wer": 0.2, "dev_loss": 1.0, "more_wer": {"more.jsonl": 0.9}},
        {"epoch": 2, "step": 2, "minutes": 2, "dev_wer": 0.3, "dev_loss": 1.0, "more_wer": {"more.jsonl": 0.5}},
    ]
    (folder / "curve.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    assert read_run(folder).best_epoch == 2
    (folder / "curve.jsonl").write_text(json.dumps(epochs[0] | {"more_wer": {"more.jsonl": "low"}}))
    assert "more.jsonl is 'low', not a number" in read_run(folder).damage[0]


def test_a_run_without_its_record_says_so_and_is_told_by_its_curve(tmp_path: Path):
    folder = make_run(tmp_path / "old", 200.0, kind="language")
    (folder / "run.json").unlink()
    run = read_run(folder)
    assert (run.kind, run.planned, run.best) == ("language", None, 200.0)
    assert len(run.damage) == 1
    assert f"asr train --resume {folder} writes it anew" in run.damage[0]


def test_the_best_of_a_language_model_is_its_lowest_perplexity(tmp_path: Path):
    run = read_run(make_run(tmp_path / "lm", 300.0, 120.5, kind="language"))
    assert (run.kind, run.best, run.best_epoch) == ("language", 120.5, 2)


def test_a_run_that_has_just_begun_has_no_best(tmp_path: Path):
    run = read_run(make_run(tmp_path / "new"))
    assert (run.epochs, run.best, run.step, run.damage) == (0, None, 0, ())


def test_the_latest_is_last_and_what_is_no_run_is_passed_over(tmp_path: Path):
    make_run(tmp_path / "a", 0.5, changed=2_000_000)
    make_run(tmp_path / "b", 0.5, changed=1_000_000)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("not a run")
    make_run(tmp_path / "longer" / "a", 0.5, changed=3_000_000)
    assert [run.folder for run in find_runs(tmp_path)] == [tmp_path / "b", tmp_path / "a", tmp_path / "longer" / "a"]
    assert [run.folder.name for run in find_runs(tmp_path / "b")] == ["b"]


def test_where_there_is_no_run_one_line_says_so(tmp_path: Path):
    for folder, expected in ((tmp_path, "no runs there"), (tmp_path / "missing", "cannot be read")):
        with pytest.raises(AsrError) as problem:
            find_runs(folder)
        assert str(problem.value).startswith(f"{folder}: {expected}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("curve.jsonl", b'{"epoch": 1, "st'),
        ("curve.jsonl", b'[1]\n"two"\n'),
        ("curve.jsonl", b'{"epoch": "one", "step": 1, "minutes": 1}\n'),
        ("curve.jsonl", b"\xff\xfe"),
        ("run.json", b"{}"),
        ("run.json", b'{"kind": "other", "epochs": 1, "command": "", "machine": ""}'),
        ("last.safetensors", b""),
        ("last.safetensors", b"RIFF" * 100),
        ("best.safetensors", struct.pack("<Q", 2) + b"[]"),
        ("best.safetensors", struct.pack("<Q", 12) + b'{"a": "text"'),
    ],
)
def test_every_damaged_file_is_one_line_and_the_run_is_still_told(tmp_path: Path, name: str, content: bytes):
    folder = make_run(tmp_path / "a", 0.5)
    (folder / name).write_bytes(content)
    (problem,) = read_run(folder).damage
    assert problem.startswith(f"{folder / name}: ")
    assert "\n" not in problem


@pytest.mark.parametrize("missing", ["recipe.yaml", "last.safetensors"])
def test_a_missing_file_is_damage(tmp_path: Path, missing: str):
    folder = make_run(tmp_path / "a", 0.5)
    (folder / missing).unlink()
    (problem,) = read_run(folder).damage
    assert problem.startswith(f"{folder / missing}: missing")


def test_a_checkpoint_that_was_cut_short_is_damage_wherever_it_was_cut(tmp_path: Path):
    folder = make_run(tmp_path / "a", 0.5)
    whole = (folder / "last.safetensors").read_bytes()
    for size in range(len(whole)):
        (folder / "last.safetensors").write_bytes(whole[:size])
        assert len(read_run(folder).damage) == 1
