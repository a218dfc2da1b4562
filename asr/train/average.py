"""The mean of several checkpoints' weights: of the last epochs, as Vaswani et al. 2017, section 6.1.

Of a run with `ema_decay` it is the mean of the moving averages, the weights that were validated and are exported.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from asr.errors import RecipeError
from asr.train.checkpoint import MODEL, kept_checkpoints, read_weights, write_checkpoint


def find_checkpoints(sources: Sequence[Path], last: int | None = None) -> list[Path]:
    """The checkpoints themselves, and of each run's folder those of its last epochs, all that it kept if not said."""
    found: list[Path] = []
    for source in sources:
        if not source.exists():
            raise RecipeError(f"{source}: no such run or checkpoint; name a run's folder or a .safetensors file in one")
        if not source.is_dir():
            found.append(source)
            continue
        kept = kept_checkpoints(source)
        if len(kept) < (last or 2):
            raise RecipeError(
                f"{source}: has kept the checkpoints of {len(kept)} epochs; train with keep_last={last or 5}, "
                "or name the checkpoints"
            )
        found += kept[-last:] if last else kept
    return found


def average_checkpoints(paths: Sequence[Path], target: Path) -> None:
    """Write a checkpoint of weights alone: it can be exported, not resumed. RecipeError if they do not fit."""
    total: dict[str, Tensor] = {}
    for path in paths:
        weights, progress = read_weights(path)
        if not total:
            first, tokens = weights, progress.get("tokens")
            total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in weights.items()}
        if shapes(weights) != shapes(total):
            raise RecipeError(f"{path}: of another model than {paths[0]}; average checkpoints of one recipe")
        if progress.get("tokens") != tokens:
            raise RecipeError(f"{path}: has other tokens than {paths[0]}; average checkpoints of one tokenizer")
        for name, value in weights.items():
            total[name] += value
    mean = {f"{MODEL}{name}": (value / len(paths)).to(first[name].dtype) for name, value in total.items()}
    names = [path.name if path.parent == paths[0].parent else str(path) for path in paths]
    write_checkpoint(target, mean, {"tokens": tokens, "averaged": names})


def shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
