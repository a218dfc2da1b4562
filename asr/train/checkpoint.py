"""A checkpoint is one safetensors file: tensors, and the rest as JSON in its header. No pickle."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.errors import RecipeError, one_line
from asr.files import replacing

LAST, BEST = "last.safetensors", "best.safetensors"
CONSTANT = "constant.safetensors"  # weights from before the decay of the learning rate, half precision
WINDOW = "window.safetensors"  # of a run with a budget of minutes: weights that are never older than a minute
PHONES = "phones_head."  # of the weights of the second output layer
MODEL, AVERAGE = "model.", "carried.average.module."  # of the names of the weights and of their moving average


def kept_checkpoint(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.safetensors"


def kept_checkpoints(folder: Path) -> list[Path]:
    """Those of the last epochs that a run keeps, the latest last."""
    return sorted(folder.glob("epoch-*.safetensors"))


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
    carried: dict[str, Tensor],
) -> None:
    """Write atomically: after a crash at any moment `path` holds either the old or the new checkpoint, whole.

    RecipeError if it cannot be written, on a full disk say; the old one is then left.
    """
    tensors: dict[str, Tensor] = {f"{MODEL}{name}": value.contiguous() for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in state.items()}
    tensors |= {f"carried.{name}": value.contiguous() for name, value in carried.items()}
    write_checkpoint(path, tensors, progress)


def save_half(path: Path, model: nn.Module, progress: dict[str, Any]) -> None:
    """The weights alone, in half precision: to be exported, or gone on from with `init_from`."""
    half = {f"{MODEL}{name}": value.half().contiguous() for name, value in model.state_dict().items()}
    write_checkpoint(path, half, progress)


def write_checkpoint(path: Path, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    """Atomically, as `save_checkpoint` says."""
    try:
        with replacing(path) as part:
            save_file(tensors, part, metadata={"progress": json.dumps(progress)})
            with open(part, "rb") as written:
                os.fsync(written.fileno())
    except (OSError, SafetensorError) as error:
        raise RecipeError(
            f"{path}: cannot be written ({one_line(error)}), the one before is kept; make room and go on with --resume"
        ) from error


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, carried: dict[str, Tensor]
) -> dict[str, Any]:
    """Put the tensors into `model`, `optimizer` and `carried`, return the progress. RecipeError if it does not fit."""
    tensors, progress = read_checkpoint(path)
    _fill(model, _below(MODEL, tensors), path)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("optimizer.", tensors).items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    for name, value in carried.items():
        value.copy_(tensors.get(f"carried.{name}", value))
    return progress


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Put what `read_weights` finds into `model`, return the progress. RecipeError if it does not fit."""
    weights, progress = read_weights(path)
    _fill(model, weights, path)
    return progress


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights as they were validated, and the progress: their moving average where the run keeps one."""
    tensors, progress = read_checkpoint(path, (MODEL, AVERAGE))
    return _below(AVERAGE, tensors) or _below(MODEL, tensors), progress


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _fill(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    if not any(name.startswith(PHONES) for name in model.state_dict()):  # which only training needs
        weights = {name: value for name, value in weights.items() if not name.startswith(PHONES)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RecipeError(f"{path}: the checkpoint is of another model; {_instead(path)}") from error


def read_checkpoint(path: Path, prefixes: str | tuple[str, ...] = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors whose names begin so, and the progress. RecipeError if it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
            names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118 (not a mapping)
            return {name: file.get_tensor(name) for name in names}, progress
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"{path}: cannot read the checkpoint ({one_line(error)}); {_instead(path)}") from error


def _instead(path: Path) -> str:
    """What to do where a checkpoint is of no use."""
    kept = [checkpoint for checkpoint in kept_checkpoints(path.parent) if checkpoint != path]
    if path.name != LAST:
        return "copy it again, or take another checkpoint of the run"
    if kept:
        return f"copy {kept[-1].name} over it and go on from there, or delete the folder to begin anew"
    return "copy it again, or delete the folder to begin anew"
