"""`asr runs`, `asr average`, `asr export`: what they print, and that what is wrong is one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from program import Command


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of an acoustic and a language run, as far as `asr runs` reads them."""
    for name, field, values in (("ears", "dev_wer", (0.5, 0.25)), ("words", "dev_perplexity", (80.04,))):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text("")
        record = {"kind": "acoustic" if name == "ears" else "language", "epochs": 4, "command": "", "machine": ""}
        (folder / "run.json").write_text(json.dumps(record))
        lines = [{"epoch": n, "step": 1000 * n, "minutes": 2.5 * n, field: value} for n, value in enumerate(values, 1)]
        (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "last.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return tmp_path / "runs"


def test_runs_are_listed_with_how_far_they_came_and_their_best(run: Command, runs: Path) -> None:
    result = run("runs", runs)
    assert (result.code, result.err) == (0, "")
    heading, *rows = result.out.splitlines()
    assert heading.split()[:3] == ["run", "kind", "epochs"]
    ears, words = sorted(rows)
    assert ears.startswith(f"{runs / 'ears'}")
    for expected in ("acoustic", "2 of 4", "WER 25.00% (epoch 2)", "2,000", "5.0"):
        assert expected in ears
    for expected in ("language", "1 of 4", "perplexity 80.0 (epoch 1)"):
        assert expected in words


def test_a_damaged_run_is_said_and_the_others_are_listed(run: Command, runs: Path) -> None:
    (runs / "ears/curve.jsonl").write_text('{"epoch": 1,')
    result = run("runs", runs)
    assert result.code == 1
    assert len(result.out.splitlines()) == 3
    (line,) = result.errors
    assert str(runs / "ears/curve.jsonl") in line


def test_no_runs_are_one_line(run: Command, tmp_path: Path) -> None:
    result = run("runs", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert len(result.errors) == 1


def test_listing_runs_needs_neither_torch_nor_yaml(runs: Path) -> None:
    code = """
import sys
for package in ("torch", "yaml", "pydantic", "safetensors"):
    sys.modules[package] = None
from asr.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code, "runs", runs], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["average", "RUNS/ears"], "has kept the checkpoints of 0 epochs; train with keep_last=5"),
        (["average", "RUNS/ears", "--last", "3"], "train with keep_last=3"),
        (["average", "RUNS/ears/last.safetensors", "RUNS/none.safetensors"], "no such run or checkpoint"),
        (["average", "RUNS/none", "--last", "2"], "no such run or checkpoint"),
        (["export", "RUNS/ears"], "no such checkpoint"),
        (["export", "RUNS/ears/last.safetensors"], "data.train and data.dev must name"),
        (["export", "RUNS"], "no such checkpoint"),
    ],
)
def test_what_cannot_be_averaged_or_exported_is_one_line(
    run: Command, runs: Path, arguments: list[str], expected: str
) -> None:
    pytest.importorskip("torch", reason="checkpoints need the training packages: pip install 'recurrent-asr[train]'")
    result = run(*(argument.replace("RUNS", str(runs)) for argument in arguments))
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert expected in line


def test_last_goes_with_runs(run: Command, runs: Path) -> None:
    result = run("average", runs / "ears/last.safetensors", "--last", "2")
    assert result.code == 2
    assert "goes with folders of runs" in " ".join(result.err.split())
