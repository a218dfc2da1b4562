"""The recurrent stack: plain RNN, LSTM or GRU layers in one or two directions.

Each layer carries a hidden state h from frame to frame; W and U are learned, σ is the logistic function,
⊙ the elementwise product. h₀ (and c₀) are zero at the start of an utterance.

    rnn    hₜ = tanh(W xₜ + U hₜ₋₁ + b)                                   (Elman 1990)
    lstm   iₜ, fₜ, oₜ = σ(W xₜ + U hₜ₋₁ + b), one W, U, b per gate         (Hochreiter & Schmidhuber 1997;
           gₜ = tanh(W xₜ + U hₜ₋₁ + b)                                    forget gate: Gers et al. 2000)
           cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ gₜ,   hₜ = oₜ ⊙ tanh(cₜ)
    gru    rₜ, zₜ = σ(W xₜ + U hₜ₋₁ + b), one W, U, b per gate             (Cho et al. 2014)
           nₜ = tanh(W xₜ + b + rₜ ⊙ (U hₜ₋₁ + b′))
           hₜ = (1 − zₜ) ⊙ nₜ + zₜ ⊙ hₜ₋₁

∂hₜ/∂hₜ₋₁ of the plain RNN is diag(1 − hₜ²) U: over many frames its powers vanish or explode with the singular
values of U. Orthogonal U starts them at 1; the additive cₜ of the LSTM (with forget bias 1, so that it starts
by remembering: Jozefowicz et al. 2015) and the convex mix of the GRU keep a path on which they stay near 1.
What still explodes is clipped by the trainer, which logs the norm of the gradient.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.nn.gru import GRU

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": GRU}
STATES = {"rnn": 1, "lstm": 2, "gru": 1}  # vectors that a layer carries from frame to frame: h, and c


def make_cell(cell: str, size: int) -> nn.RNNBase:
    """One direction of one layer, `size` in and out; recurrent weights orthogonal gate by gate, forget bias 1."""
    module = CELLS[cell](size, size, batch_first=True)
    for name, parameter in module.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.detach().split(size):
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            for gate in parameter.detach().split(size):
                nn.init.xavier_uniform_(gate)
        else:
            nn.init.zeros_(parameter)
            if cell == "lstm" and name.startswith("bias_ih"):
                # PyTorch orders the gates i, f, g, o and adds both biases: one of them carries the 1.
                nn.init.ones_(parameter.detach()[size : 2 * size])
    return module


def reversed_frames(lengths: Tensor, frames: int) -> Tensor:
    """Where each frame of a batch goes, (B · frames,), counted through all rows, for `mirrored`.

    The first lengths[b] frames of row b change places, its padding stays.
    """
    position = torch.arange(frames, device=lengths.device).unsqueeze(0)
    opposite = lengths.unsqueeze(1) - 1 - position
    first = torch.arange(lengths.shape[0], device=lengths.device).unsqueeze(1) * frames
    return (first + torch.where(opposite >= 0, opposite, position)).flatten()


def mirrored(x: Tensor, mirror: Tensor) -> Tensor:
    """x (B, T, size) with its rows reversed; mirrored twice it is as before. A frame is copied as a whole."""
    return x.flatten(0, 1).index_select(0, mirror).view_as(x)


class Dropout(nn.Dropout):
    """`nn.Dropout` in half its time on a CPU, where that draws number after number: here 64 random bits make four."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or not (self.training and 0 < self.p < 1):
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # all that 64 bits can be
        drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
        return x * (drawn >= round(self.p * 2**16) - 2**15).to(x.dtype).div_(1 - self.p)


class VariationalDropout(nn.Dropout):
    """x (B, T, size): one mask for all frames of an utterance (Gal & Ghahramani 2016; Semeniuta et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(torch.ones_like(x[:, :1]))


def run_with_dropped_weights(cell: nn.RNNBase, x: Tensor, share: float) -> Tensor:
    """Outputs (B, T, size) of a cell that lacks a share of its recurrent weights (Merity et al. 2018, "AWD-LSTM").

    The same ones are missing at every frame and in the whole batch, so the fast kernel of the cell remains.
    """
    weights = cast(list[Tensor], cell._flat_weights)
    cell._flat_weights = [
        F.dropout(weight, share) if name.startswith("weight_hh") else weight
        for name, weight in zip(cell._flat_weights_names, weights, strict=True)
    ]
    try:
        return cell(x)[0]
    finally:
        cell._flat_weights = weights  # type: ignore[assignment]


class RecurrentLayer(nn.Module):
    """x + dropout(RNN(LayerNorm(x))), shape (B, T, size) in and out; two directions are summed.

    The backward direction is a forward cell over length-reversed frames. Packed sequences would do the same
    but leave the fast CPU kernel. Since frames after a row's end come last in both directions, they never
    reach its real frames: padding does not change a result.
    """

    def __init__(
        self,
        cell: str,
        size: int,
        bidirectional: bool,
        dropout: float,
        variational: bool = False,
        weight_dropout: float = 0.0,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.forward_cell = make_cell(cell, size)
        self.backward_cell = make_cell(cell, size) if bidirectional else None
        self.dropout = VariationalDropout(dropout) if variational else Dropout(dropout)
        self.weight_dropout = weight_dropout

    def forward(self, x: Tensor, mirror: Tensor) -> Tensor:
        """`mirror` (B · T,) is that of `reversed_frames`; it is only read by bidirectional layers."""
        normalized = self.norm(x)
        output = self._run(self.forward_cell, normalized)
        if self.backward_cell is not None:
            output = output + mirrored(self._run(self.backward_cell, mirrored(normalized, mirror)), mirror)
        return x + self.dropout(output)

    def _run(self, cell: nn.RNNBase, x: Tensor) -> Tensor:
        if self.training and self.weight_dropout:
            return run_with_dropped_weights(cell, x, self.weight_dropout)
        return cell(x)[0]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` of one direction that goes on from a state: x (B, T, size) → the same, next state.

        The state is h, shape (B, 1, size), or h and c of an LSTM, shape (B, 2, size).
        """
        before = state.transpose(0, 1).contiguous().split(1)  # each (1, B, size)
        output, after = self.forward_cell(self.norm(x), before[0] if len(before) == 1 else before)
        return x + self.dropout(output), torch.cat(after if len(before) == 2 else [after]).transpose(0, 1)


class RecurrentStack(nn.Module):
    """`layers` recurrent layers and a final LayerNorm: x (B, T, size), mirror (B · T,) → (B, T, size)."""

    def __init__(
        self,
        cell: str,
        size: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
        variational: bool = False,
        weight_dropout: float = 0.0,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, size, bidirectional, dropout, variational, weight_dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, mirror: Tensor) -> Tensor:
        return self.norm(self.outputs(x, mirror)[-1])

    def outputs(self, x: Tensor, mirror: Tensor) -> list[Tensor]:
        """Of each layer, (B, T, size), before the final LayerNorm."""
        outputs = []
        for layer in self.layers:
            x = layer(x, mirror)
            outputs.append(x)
        return outputs

    def chosen(self, x: Tensor, mirror: Tensor, layer: int | None) -> list[Tensor]:
        """The last one of `outputs`, behind that of a layer, counted from 1, if one is named."""
        outputs = self.outputs(x, mirror)
        return outputs[-1:] if layer is None else [outputs[layer - 1], outputs[-1]]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, size), state (B, layers · states, size) → the same shapes; see `RecurrentLayer.step`."""
        after = []
        for layer, before in zip(self.layers, state.chunk(len(self.layers), dim=1), strict=True):
            x, layer_state = layer.step(x, before)  # type: ignore[operator]
            after.append(layer_state)
        return self.norm(x), torch.cat(after, dim=1)
