"""Several processes: the run of one that accumulates as many batches, written once, stopped and resumed together."""

import json
import os
import signal
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_corpus import write_audio, write_manifest
from tiny_runs import assert_equal_checkpoints, make_trainer, repeatable, said, start_two

from asr.errors import RecipeError
from asr.train.config import AcousticRecipe, LanguageRecipe, save_recipe
from asr.train.distributed import processes, sum_gradients
from asr.train.runs import read_curve

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo"),
]
RUN = "from asr.cli.main import main; main()"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def exit_codes(pair: list[BaseProcess]) -> list[int | None]:
    for process in pair:
        process.join(120)
    return [process.exitcode for process in pair]


def stop_after_checkpoint(recipe: AcousticRecipe, pair: list[BaseProcess], number: int) -> list[int | None]:
    """Send the signal to the second process when the first one has saved the run; what both exit with."""
    last = recipe.folder / "last.safetensors"
    before = last.stat().st_mtime_ns if last.exists() else 0
    while pair[1].is_alive() and (not last.exists() or last.stat().st_mtime_ns == before):
        pair[1].join(0.002)
    os.kill(pair[1].pid or 0, number)
    return exit_codes(pair)


def assert_equal_to_rounding(recipe: AcousticRecipe, other: AcousticRecipe) -> None:
    """Loss of each update, and the weights at the end."""
    losses, others = ([line["loss"] for line in lines(run.folder / "steps.jsonl")] for run in (recipe, other))
    assert len(losses) > 3
    assert losses == pytest.approx(others, rel=1e-5)
    weights = load_file(recipe.folder / "last.safetensors")
    for name, expected in load_file(other.folder / "last.safetensors").items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-5, atol=1e-5, msg=name)


def test_torchrun_makes_the_run_of_one_process_with_the_same_global_batch(recipe: AcousticRecipe, tmp_path: Path):
    broken = write_audio(tmp_path / "broken.flac", 1.0)
    broken.write_bytes(broken.read_bytes()[:3_000])
    recipe.data.train.append(str(write_manifest(tmp_path / "more.jsonl", [(broken, "ab")])))
    recipe.epochs, recipe.data.batch_seconds, recipe.augment.mask_below_wer = 2, 2.0, 1.0
    recipe.tokenizer.kind, recipe.tokenizer.vocabulary = "bpe", 6
    save_recipe(recipe, tmp_path / "recipe.yaml")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [*launch, sys.executable, "-c", RUN, "train", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for once in ("parameters, float32 on cpu, 2 processes", "epoch   2", "the report is in"):
        assert done.stderr.count(once) == 1
    assert done.stderr.count("broken.flac: truncated") == 1
    assert len(lines(recipe.folder / "curve.jsonl")) == 2
    assert len(list(recipe.folder.glob("events.out.tfevents.*"))) == 1
    assert (recipe.folder / "report.html").is_file()
    assert (recipe.folder / "bundle/model.onnx").is_file()

    alone = AcousticRecipe(**vars(recipe) | {"name": "alone", "accumulate": 2})
    trainer = make_trainer(alone)
    assert not list(trainer.task.start_epoch([], 0))[-1].ids  # the last update of an epoch is of one process
    trainer.run()
    assert_equal_to_rounding(recipe, alone)


def test_processes_killed_told_to_stop_and_resumed_go_on_bit_for_bit(recipe: AcousticRecipe, tmp_path: Path):
    recipe.ema_decay, recipe.augment.speeds = 0.9, [1.3]
    assert exit_codes(start_two(recipe, tmp_path / "log", "not finite")) == [0, 0]
    straight = recipe.folder
    (skipped,) = lines(straight / "skipped.jsonl")
    assert len(skipped["ids"]) > 1
    assert sum(epoch["skipped"] for epoch in read_curve(straight)) == 1

    recipe.name, recipe.checkpoint_minutes = "stopped", 0.0
    pair = start_two(recipe, tmp_path / "killed", "not finite")
    assert stop_after_checkpoint(recipe, pair, signal.SIGKILL) == [1, -signal.SIGKILL]
    assert "another process of this run has ended" in (tmp_path / "killed").read_text().splitlines()[-1]
    assert stop_after_checkpoint(recipe, start_two(recipe, tmp_path / "told", "not finite"), signal.SIGTERM) == [
        130,
        130,
    ]
    assert (tmp_path / "told").read_text().count(f"asr train --resume {recipe.folder} goes on there") == 1
    assert exit_codes(start_two(recipe, tmp_path / "told", "not finite")) == [0, 0]
    assert not any("Traceback" in (tmp_path / log).read_text() for log in ("log", "killed", "told"))
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal_checkpoints(straight / name, recipe.folder / name)
    assert (straight / "steps.jsonl").read_text() == (recipe.folder / "steps.jsonl").read_text()
    assert repeatable(read_curve(straight)) == repeatable(read_curve(recipe.folder))

    recipe.accumulate, recipe.epochs = 1, 4
    with pytest.raises(RecipeError, match="2 batches made an update, now 1 would"):
        make_trainer(recipe, resume=True)
    recipe.accumulate = 2
    alone = make_trainer(recipe, resume=True)
    assert len(alone.run()) == 4
    assert "processes" not in said(alone)


def test_frozen_weights_have_no_gradient_by_which_they_would_decay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asr.train.distributed.count", lambda: 2)
    monkeypatch.setattr("asr.train.distributed.sum_up", lambda value: value.mul_(2))
    frozen, idle, used = (torch.nn.Parameter(torch.ones(2), requires_grad=learns) for learns in (False, True, True))
    used.grad = torch.ones(2)
    sum_gradients([frozen, idle, used])
    assert frozen.grad is None
    assert idle.grad is not None
    assert [idle.grad.tolist(), used.grad.tolist()] == [[0, 0], [2, 2]]


def test_a_language_model_is_refused(language_recipe: LanguageRecipe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asr.train.distributed.count", lambda: 2)
    with pytest.raises(RecipeError, match="train without torchrun"):
        make_trainer(language_recipe)


@pytest.mark.parametrize("missing", ["MASTER_PORT", "RANK"])
def test_an_environment_that_is_not_torchruns_is_one_line(missing: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(RecipeError, match=missing), processes():
        pass
