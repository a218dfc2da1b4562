"""Saturation of recurrent layers: share of units and gates so near to their bounds that gradients vanish there."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from asr.train.optim import layer_of

HIDDEN_BOUND = 0.99  # |h| above it: at most 2 % of a gradient passes through a tanh there
GATE_BOUND = math.log(0.99 / 0.01)  # |input of the sigmoid| above it: the gate is below 0.01 or above 0.99
EVERY = 8  # frames: neighbours are alike, and the gates cost a matrix product
GATES = {"LSTM": (0, 1, 3), "GRU": (0, 1)}  # torch's blocks of rows with a sigmoid: i, f, o; r, z


class Saturation:
    """Context manager that counts saturated units and gates of a model's cells, by forward hooks.

    Set `lengths` (B,), the frames of each row, before each batch. torch does not return the gates: they are computed
    again from the outputs of the frames before.
    """

    def __init__(self, model: nn.Module):
        self.cells = {layer_of(name): cell for name, cell in model.named_modules() if isinstance(cell, nn.RNNBase)}
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.counts: dict[str, Tensor] = {}  # by cell and kind: number saturated, number of all

    def __enter__(self) -> "Saturation":
        self.hooks = [cell.register_forward_hook(partial(self._observe, name)) for name, cell in self.cells.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def _observe(self, name: str, cell: nn.RNNBase, inputs: tuple[Tensor, ...], output: tuple[Tensor, Any]) -> None:
        x, hidden = inputs[0], output[0]  # (B, T, size)
        frames = torch.arange(1, x.shape[1], EVERY, device=x.device)
        inside = frames < self.lengths.to(x.device).unsqueeze(1)
        self._count(f"{name}.hidden", hidden[:, frames][inside].abs() > HIDDEN_BOUND)
        if gates := GATES.get(cell.mode):
            weight_ih, weight_hh, bias_ih, bias_hh = cell.all_weights[0]
            sums = linear(x[:, frames][inside], weight_ih, bias_ih)
            sums += linear(hidden[:, frames - 1][inside], weight_hh, bias_hh)
            blocks = sums.unflatten(1, (-1, cell.hidden_size))[:, gates]
            self._count(f"{name}.gates", blocks.abs() > GATE_BOUND)

    def _count(self, name: str, saturated: Tensor) -> None:
        counts = torch.stack([saturated.sum(), torch.tensor(saturated.numel(), device=saturated.device)])
        self.counts[name] = self.counts.get(name, 0) + counts

    def shares(self) -> dict[str, float]:
        """By cell (`layer_of`): CELL.hidden, share of |h| > 0.99; CELL.gates, of LSTM and GRU, share of gates below
        0.01 or above 0.99.
        """
        counted = {name: counts.tolist() for name, counts in self.counts.items()}
        return {name: saturated / count for name, (saturated, count) in counted.items() if count}
