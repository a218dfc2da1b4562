"""Gradient norms layer by layer, from the same pass as clipping (Pascanu et al. 2013, section 3.2)."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

CELL = re.compile(r"recurrent\.layers\.(\d+)\.(forward|backward)_cell")


def layer_of(name: str) -> str:
    """The layer that a parameter or module belongs to: a cell (recurrent.1.forward), or a part of the model (head).

    The layer norms between the cells count as one layer, recurrent.norms.
    """
    if cell := CELL.match(name):
        return f"recurrent.{int(cell[1]) + 1}.{cell[2]}"
    part = name.split(".")[0]
    return "recurrent.norms" if part == "recurrent" else part


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale all gradients so that their common norm is at most `limit`.

    Returns the norms before, on the device: of all (first), then of each parameter that has a gradient.
    """
    norms = torch.stack(torch._foreach_norm([p.grad for p in model.parameters() if p.grad is not None]))
    norm = torch.linalg.vector_norm(norms)
    torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
    return torch.cat([norm.unsqueeze(0), norms])


def with_gradient(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.grad is not None}


def layer_norms(model: nn.Module, norms: Sequence[float]) -> dict[str, float]:
    """From the norm of each parameter's gradient that of each layer, whose squares add up to the square of all."""
    squares: dict[str, float] = defaultdict(float)
    for name, norm in zip(with_gradient(model), norms, strict=True):
        squares[layer_of(name)] += norm**2
    return {layer: math.sqrt(square) for layer, square in squares.items()}
