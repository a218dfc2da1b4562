"""`asr train`, `asr average` and `asr export` on a tiny run."""

import json
import shutil
from pathlib import Path

import pytest
from program import Command

pytest.importorskip("torch", reason="training needs torch: pip install 'recurrent-asr[train]'")


@pytest.fixture
def finished(finished_run: Path, tmp_path: Path) -> Path:
    """A run's folder that was moved since."""
    return Path(shutil.copytree(finished_run, tmp_path / "elsewhere/finished"))


def test_a_run_is_resumed_by_its_folder_alone(run: Command, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    result = run("train", "--resume", finished, "epochs=4")
    assert result.code == 0, result.err
    curve = [json.loads(line) for line in (finished / "curve.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3, 4]
    assert (finished / "bundle/model.onnx").is_file()


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_what_is_no_run_cannot_be_resumed(run: Command, tmp_path: Path, name: str) -> None:
    result = run("train", "--resume", tmp_path / name)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert "name the folder of a run" in line


def test_an_average_replaces_neither_its_checkpoints_nor_what_is_there(
    run: Command, finished: Path, tmp_path: Path
) -> None:
    kept = sorted(finished.glob("epoch-*.safetensors"))
    before = [path.read_bytes() for path in kept]
    result = run("average", finished, "--output", kept[0], "--force")
    assert (result.code, len(result.errors)) == (1, 1)
    assert "is the same file as" in result.err
    (finished / "averaged.safetensors").write_bytes(b"older")
    result = run("average", finished)
    assert (result.code, result.out) == (1, "")
    assert "exists; " in result.err
    assert (finished / "averaged.safetensors").read_bytes() == b"older"
    result = run("average", finished, "--force")
    assert (result.code, f"try  asr export {finished / 'averaged.safetensors'}" in result.out) == (0, True)
    elsewhere = run("average", finished, "--output", tmp_path / "mean.safetensors")
    assert elsewhere.out.endswith("; to export it, put it into its run's folder\n")
    assert (finished / "averaged.safetensors").read_bytes() != b"older"
    assert [path.read_bytes() for path in kept] == before
