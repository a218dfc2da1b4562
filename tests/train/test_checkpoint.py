"""Checkpoints: everything comes back, a crash leaves the old one, a wrong one is one clear line."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

import asr.train.checkpoint
from asr.errors import RecipeError
from asr.train.checkpoint import load_checkpoint, load_weights, save_checkpoint
from asr.train.optim import MovingAverage

PROGRESS = {"curve": [{"epoch": 1, "dev_wer": 0.25, "note": "é"}]}


def make(size: int = 4, seed: int = 0) -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, size), nn.Linear(size, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        (model(torch.full((1, 3), float(step + 1))) - 1).square().sum().backward()
        optimizer.step()


def weights(model: nn.Module) -> list[list[float]]:
    return [parameter.flatten().tolist() for parameter in model.parameters()]


def one_line(path: Path, model: nn.Module) -> str:
    with pytest.raises(RecipeError) as caught:
        load_weights(path, model)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint after three steps."""
    model, optimizer = make()
    train(model, optimizer, 3)
    save_checkpoint(tmp_path / "last.safetensors", model, optimizer, PROGRESS, {})
    return tmp_path / "last.safetensors"


def test_model_optimiser_and_progress_come_back_and_training_goes_on_as_if_uninterrupted(path: Path):
    straight, straight_optimizer = make()
    train(straight, straight_optimizer, 3)
    restored, optimizer = make(seed=9)
    assert load_checkpoint(path, restored, optimizer, {}) == PROGRESS
    assert weights(restored) == weights(straight)
    train(straight, straight_optimizer, 5)
    train(restored, optimizer, 5)
    assert weights(restored) == weights(straight)


def test_what_is_carried_from_batch_to_batch_comes_back_where_it_was_saved(path: Path):
    model, optimizer = make()
    save_checkpoint(path, model, optimizer, {}, {"hidden": torch.arange(6.0).reshape(2, 3)})
    carried = {"hidden": torch.zeros(2, 3), "newer": torch.tensor(4)}
    load_checkpoint(path, model, optimizer, carried)
    assert carried["hidden"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert carried["newer"] == 4


def test_a_model_alone_can_be_loaded(path: Path):
    straight, straight_optimizer = make()
    train(straight, straight_optimizer, 3)
    restored, _ = make(seed=9)
    assert load_weights(path, restored) == PROGRESS
    assert weights(restored) == weights(straight)


def test_a_model_alone_is_its_moving_average_where_there_is_one(path: Path):
    model, optimizer = make(seed=1)
    average = MovingAverage(model, 0.9)
    average.update_parameters(model)
    train(model, optimizer, 3)
    average.update_parameters(model)
    save_checkpoint(path, model, optimizer, PROGRESS, average.state_dict(prefix="average."))
    restored, _ = make(seed=9)
    assert load_weights(path, restored) == PROGRESS
    assert weights(restored) == weights(average.module) != weights(model)


def test_an_optimiser_that_has_made_no_step_can_be_saved(tmp_path: Path):
    model, optimizer = make()
    save_checkpoint(tmp_path / "first.safetensors", model, optimizer, {}, {})
    assert load_checkpoint(tmp_path / "first.safetensors", *make(seed=9), {}) == {}


def test_an_interrupted_write_leaves_the_old_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch):
    before = path.read_bytes()

    def half_written(tensors: object, temporary: Path, metadata: object) -> None:
        Path(temporary).write_bytes(before[: len(before) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(asr.train.checkpoint, "save_file", half_written)
    model, optimizer = make(seed=9)
    train(model, optimizer, 1)
    with pytest.raises(RecipeError, match="No space left"):
        save_checkpoint(path, model, optimizer, {}, {})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing takes the room that is left
    assert load_checkpoint(path, model, optimizer, {}) == PROGRESS


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "(No space left on device), the one before is kept; make room",
        ),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            "(No space left on device), the one before",
        ),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            "make room and go on with asr train --resume",
        ),
        (
            OSError(errno.EACCES, "", "/runs/x"),
            "(Permission denied: /runs/x), the one before is kept; go on with asr train --resume",
        ),
        (
            SafetensorError("(os error 5)"),
            "(Input/output error), the one before is kept; go on with asr train --resume",
        ),
    ],
)
def test_the_advice_to_make_room_is_for_a_full_disk(
    path: Path, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
):
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asr.train.checkpoint, "save_file", refused)
    with pytest.raises(RecipeError) as caught:
        save_checkpoint(path, *make(), {}, {})
    assert said in str(caught.value)


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_nothing_else(path: Path):
    model, optimizer = make(seed=9)
    save_checkpoint(path, model, optimizer, {"curve": []}, {})
    assert load_weights(path, model) == {"curve": []}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kept", [0, 7, 100, -1], ids=["empty", "no header", "half a header", "a byte short"])
def test_a_truncated_checkpoint_cannot_be_read(path: Path, kept: int):
    path.write_bytes(path.read_bytes()[:kept])
    assert "cannot read the checkpoint" in one_line(path, make()[0])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "last.safetensors"
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](path)
    assert one_line(path, make()[0]) == f"{path}: not a file; name a checkpoint"


def test_a_file_of_something_else_cannot_be_read(path: Path):
    path.write_bytes(b"RIFF" * 100)
    assert "cannot read the checkpoint" in one_line(path, make()[0])


def test_weights_without_progress_are_no_checkpoint(tmp_path: Path):
    from safetensors.torch import save_file

    save_file({"model.0.weight": torch.zeros(4, 3)}, tmp_path / "weights.safetensors")
    assert "holds weights only, as a bundle does" in one_line(tmp_path / "weights.safetensors", make()[0])


@pytest.mark.parametrize(
    "progress", ["[]", '{"stats": []}', '{"tokens": 5}', '{"averaged": [1]}', '{"curve": {}}', '{"batches": "1"}']
)
def test_progress_of_other_types_is_one_line(tmp_path: Path, progress: str):
    from safetensors.torch import save_file

    save_file({"model.0.weight": torch.zeros(4, 3)}, tmp_path / "last.safetensors", {"progress": progress})
    assert "cannot read the checkpoint" in one_line(tmp_path / "last.safetensors", make()[0])


def test_an_older_checkpoint_can_take_the_place_of_one_that_is_damaged(path: Path):
    path.write_bytes(b"")
    assert one_line(path, make()[0]).endswith("copy it again, or delete the folder to begin anew")
    path.with_name("epoch-0003.safetensors").touch()
    assert one_line(path.with_name("epoch-0003.safetensors"), make()[0]).endswith("take another checkpoint of the run")
    assert "copy epoch-0003.safetensors over it and go on from there" in one_line(path, make()[0])


def test_a_missing_checkpoint_names_the_path(tmp_path: Path):
    assert "cannot read the checkpoint" in one_line(tmp_path / "last.safetensors", make()[0])


def test_the_checkpoint_of_another_model_is_refused(path: Path):
    assert "another model" in one_line(path, make(size=5)[0])
    assert "another model" in one_line(path, nn.Linear(3, 2))
