"""Gradient norms layer by layer, from the same pass as clipping (Pascanu et al. 2013, section 3.2)."""

import math
import re
from collections import defaultdict

import torch
from torch import nn

CELL = re.compile(r"recurrent\.layers\.(\d+)\.(forward|backward)_cell")


def layer_of(name: str) -> str:
    """The layer that a parameter or module belongs to: a cell (recurrent.1.forward), or a part of the model (head).

    The layer norms between the cells count as one layer, recurrent.norms.
    """
    if cell := CELL.match(name):
        return f"recurrent.{int(cell[1]) + 1}.{cell[2]}"
    part = name.split(".")[0]
    return "recurrent.norms" if part == "recurrent" else part


def clip_gradients(model: nn.Module, limit: float) -> tuple[float, dict[str, float]]:
    """Scale all gradients so that their common norm is at most `limit`.

    Returns the norm before, and that of each layer, whose squares add up to its square.
    """
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    norms = torch.stack(torch._foreach_norm(list(gradients.values())))
    norm = torch.linalg.vector_norm(norms)
    torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
    squares: dict[str, float] = defaultdict(float)
    for name, each in zip(gradients, norms.tolist(), strict=True):
        squares[layer_of(name)] += each**2
    return norm.item(), {layer: math.sqrt(square) for layer, square in squares.items()}
