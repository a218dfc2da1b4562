"""Runs lose nothing; what is not possible is one line."""

import json
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_corpus import write_audio, write_manifest
from tiny_runs import (
    assert_equal_checkpoints,
    make_trainer,
    noisy_recipe,
    repeatable,
    said,
    start,
    start_two,
)
from torch import Tensor

from asr.data.batch import Batch
from asr.errors import RecipeError
from asr.train.acoustic import AcousticTask
from asr.train.config import AcousticRecipe, load_recipe
from asr.train.runs import read_curve
from asr.train.trainer import Trainer

CPU = torch.device("cpu")
FRAME = 640  # samples


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # `threads` of conftest.py puts it back


def one_line(error: pytest.ExceptionInfo[RecipeError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_run_learns(recipe: AcousticRecipe, cell: str, bidirectional: bool):
    recipe.data.passes, recipe.epochs = 5, 3
    recipe.model.cell, recipe.model.bidirectional, recipe.optimizer.learning_rate = cell, bidirectional, 0.01
    recipe.augment.mask_below_wer = 0.0
    curve = make_trainer(recipe).run()
    assert curve[-1].train_loss < 0.8 * curve[0].train_loss
    assert curve[-1].dev_loss < curve[0].dev_loss


@pytest.fixture
def memory_recipe(corpus: Path) -> AcousticRecipe:
    return noisy_recipe(corpus)


def finish(process: Any) -> int | None:
    process.join(120)
    return process.exitcode


def assert_equal_runs(one: AcousticRecipe, other: AcousticRecipe) -> None:
    assert (one.folder / "steps.jsonl").read_text() == (other.folder / "steps.jsonl").read_text()
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal_checkpoints(one.folder / name, other.folder / name)
    assert repeatable(read_curve(one.folder)) == repeatable(read_curve(other.folder))


@pytest.mark.skipif(os.name != "posix", reason="signals of a POSIX system")
def test_a_run_killed_at_random_moments_equals_one_that_was_not(memory_recipe: AcousticRecipe, tmp_path: Path):
    make_trainer(memory_recipe).run()
    killed = replace(memory_recipe, name="killed", checkpoint_minutes=0.0)
    last, moments, codes = killed.folder / "last.safetensors", random.Random(3), []
    for _ in range(3):
        process = start(killed, tmp_path / "log")
        before = last.stat().st_mtime_ns if last.exists() else 0
        while process.is_alive() and (not last.exists() or last.stat().st_mtime_ns == before):
            process.join(0.002)
        process.join(moments.uniform(0, 0.1))
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
        codes.append(finish(process))
    assert set(codes) <= {-signal.SIGKILL, 0}
    assert -signal.SIGKILL in codes
    assert finish(start(killed, tmp_path / "log")) == 0
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert_equal_runs(memory_recipe, killed)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_make_the_run_of_one_with_the_same_global_batch(memory_recipe: AcousticRecipe, tmp_path: Path):
    memory_recipe.epochs, memory_recipe.data.batch_seconds = 2, 1.5
    pair = start_two(memory_recipe, tmp_path / "log")
    assert [finish(process) for process in pair] == [0, 0], (tmp_path / "log").read_text()
    alone = replace(memory_recipe, name="alone", accumulate=2)
    make_trainer(alone).run()
    losses, others = (
        [json.loads(line)["loss"] for line in (run.folder / "steps.jsonl").read_text().splitlines()]
        for run in (memory_recipe, alone)
    )
    assert len(losses) > 3
    assert losses == pytest.approx(others, rel=1e-5)
    weights = load_file(memory_recipe.folder / "last.safetensors")
    for name, expected in load_file(alone.folder / "last.safetensors").items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-5, atol=1e-5, msg=name)


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, moments of the optimiser, moving average."""
    assert trainer.average is not None
    moments = {
        f"{number}.{name}": value
        for number, state in trainer.optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    found = {**trainer.model.state_dict(), **moments, **trainer.average.state_dict(prefix="average.")}
    return {name: value.clone() for name, value in found.items()}


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_an_update_that_is_not_finite_leaves_weights_moments_and_average_as_they_were(
    memory_recipe: AcousticRecipe, poison: float, monkeypatch: pytest.MonkeyPatch
):
    loss = AcousticTask.loss

    def spoilt(task: AcousticTask, batch: Batch) -> Tensor:
        return loss(task, batch) * (poison if "u3@1.1" in batch.ids else 1.0)

    monkeypatch.setattr(AcousticTask, "loss", spoilt)
    memory_recipe.epochs = 1
    trainer = make_trainer(memory_recipe)
    record, states, spoilt_ones = trainer.record, [], []

    def watched(drawn: Any, *rest: Any) -> float:
        result = record(drawn, *rest)
        states.append(state_of(trainer))
        spoilt_ones.append("u3@1.1" in drawn.batches[0].ids)
        return result

    monkeypatch.setattr(trainer, "record", watched)
    (epoch,) = trainer.run()
    assert (sum(spoilt_ones), epoch.skipped) == (1, 1)
    number = spoilt_ones.index(True)
    assert number > 0
    before, after = states[number - 1 : number + 1]
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    following = states[number + 1]
    assert all(not torch.equal(after[name], following[name]) for name in trainer.model.state_dict() if "head" in name)
    assert epoch.step == len(states) - 1
    (line,) = [
        json.loads(line) for line in (memory_recipe.folder / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert "u3@1.1" in line["ids"]
    assert f"skipped, loss {poison}" in said(trainer)


def test_a_scaled_loss_that_is_not_finite_though_its_gradient_is_leaves_all_as_it_was(
    memory_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    """As on a GPU, where the loss is scaled."""
    loss, seen = AcousticTask.loss, []

    def spoilt(task: AcousticTask, batch: Batch) -> Tensor:
        seen.append(batch)
        return loss(task, batch) + (torch.inf if len(seen) == 3 else 0.0)

    monkeypatch.setattr(AcousticTask, "loss", spoilt)
    memory_recipe.epochs = 1
    trainer = make_trainer(memory_recipe)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    record, states = trainer.record, []

    def watched(*arguments: Any) -> float:
        result = record(*arguments)
        states.append(state_of(trainer))
        return result

    monkeypatch.setattr(trainer, "record", watched)
    (epoch,) = trainer.run()
    assert epoch.skipped == 1
    assert [name for name, value in states[1].items() if not torch.equal(value, states[2][name])] == []
    assert not torch.equal(states[2]["head.weight"], states[3]["head.weight"])


def test_the_first_update_may_be_one_that_is_not_finite(memory_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch):
    loss, seen = AcousticTask.loss, []

    def spoilt(task: AcousticTask, batch: Batch) -> Tensor:
        seen.append(batch)
        return loss(task, batch) * (torch.nan if len(seen) == 1 else 1.0)

    monkeypatch.setattr(AcousticTask, "loss", spoilt)
    memory_recipe.epochs = 1
    trainer = make_trainer(memory_recipe)
    (epoch,) = trainer.run()
    assert epoch.skipped == 1
    assert all(value.isfinite().all() for value in state_of(trainer).values())


def test_a_damaged_recording_is_said_once_and_the_run_goes_on(memory_recipe: AcousticRecipe, tmp_path: Path):
    broken = write_audio(tmp_path / "broken.flac", 1.0)
    broken.write_bytes(broken.read_bytes()[:3_000])
    memory_recipe.data.train.append(str(write_manifest(tmp_path / "more.jsonl", [(broken, "ab")])))
    memory_recipe.epochs = 2
    trainer = make_trainer(memory_recipe)
    assert len(trainer.run()) == 2
    assert said(trainer).count("broken.flac: truncated or damaged") == 1


def load(tmp_path: Path, corpus: Path, overrides: Sequence[str]) -> AcousticRecipe:
    (tmp_path / "recipe.yaml").write_text(
        f"""
        output: {tmp_path / "runs"}
        threads: 1
        data: {{train: {corpus}, dev: {corpus}}}
        tokenizer: {{kind: characters, alphabet: ab}}
        model: {{layers: 1, hidden_size: 16, n_mels: 20}}
        """
    )
    recipe = load_recipe(tmp_path / "recipe.yaml", list(overrides))
    assert isinstance(recipe, AcousticRecipe)
    return recipe


@pytest.mark.parametrize(
    ("field", "overrides"),
    [
        ("augment.speeds", ["augment.speeds=[0.98765]"]),
        ("data.passes", ["data.passes=0"]),
        ("phones.weight", ["phones.weight=1.0"]),
        ("phones.weight", ["phones.weight=-0.1"]),
        ("augment.gain_db", ["augment.gain_db=[6,-6]"]),
        ("augment.gain_db", ["augment.gain_db=[-6]"]),
        ("augment.gain_db", ["augment.gain_db=[-6,0,6]"]),
        ("augment.gain_db", ["augment.gain_db=[-100,6]"]),
        ("augment.gain_db", ["augment.gain_db=[-6,50]"]),
        ("augment.gain_db", ["augment.gain_db=[.nan,6]"]),
        ("optimizer.schedule", ["optimizer.schedule=linear"]),
        ("optimizer.warmup", ["optimizer.schedule=constant", "optimizer.warmup=0.5", "optimizer.decay=0.6"]),
        ("optimizer.decay", ["optimizer.schedule=constant", "optimizer.decay=1.5"]),
        ("budget_minutes", ["budget_minutes=-1"]),
        ("model.energy_floor", ["model.energy_floor=0"]),
        ("model.mean_normalization", ["model.mean_normalization=true", "model.bidirectional=false"]),
    ],
)
def test_what_is_not_possible_is_one_line_that_names_the_field(
    tmp_path: Path, corpus: Path, field: str, overrides: list[str]
):
    with pytest.raises(RecipeError) as caught:
        make_trainer(load(tmp_path, corpus, overrides))
    assert field in one_line(caught)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("6", [-6.0, 6.0]), ("[-40,6]", [-40.0, 6.0]), ("0", [0.0, 0.0]), ("[3,3]", [3.0, 3.0])],
)
def test_a_volume_is_a_pair_or_one_number_both_ways(tmp_path: Path, corpus: Path, written: str, expected: list[float]):
    assert load(tmp_path, corpus, [f"augment.gain_db={written}"]).augment.gain_db == expected


def test_a_cosine_needs_no_room_for_a_decay(tmp_path: Path, corpus: Path):
    assert load(tmp_path, corpus, ["optimizer.warmup=0.9"]).optimizer.warmup == 0.9
