"""The recurrent stack: plain RNN, LSTM or GRU layers in one or two directions; the look-ahead above it.

W, U and b are learned, σ is the logistic function, ⊙ the elementwise product; h₀ and c₀ are zero.

    rnn    hₜ = tanh(W xₜ + U hₜ₋₁ + b)                                   (Elman 1990)
    lstm   iₜ, fₜ, oₜ = σ(W xₜ + U hₜ₋₁ + b), one W, U, b per gate         (Hochreiter & Schmidhuber 1997;
           gₜ = tanh(W xₜ + U hₜ₋₁ + b)                                    forget gate: Gers et al. 2000)
           cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ gₜ,   hₜ = oₜ ⊙ tanh(cₜ)
    gru    rₜ, zₜ = σ(W xₜ + U hₜ₋₁ + b), one W, U, b per gate             (Cho et al. 2014)
           nₜ = tanh(W xₜ + b + rₜ ⊙ (U hₜ₋₁ + b′))
           hₜ = (1 − zₜ) ⊙ nₜ + zₜ ⊙ hₜ₋₁

∂hₜ/∂hₜ₋₁ of the plain RNN is diag(1 − hₜ²) U: over many frames the product of these vanishes or explodes with the
singular values of U. Orthogonal U starts them at 1. The additive cₜ of the LSTM (with an initial forget bias of 1:
Jozefowicz et al. 2015) and the convex combination of the GRU keep a path on which the product stays near 1. The trainer
clips gradients that explode, and logs their norm.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.nn.gru import GRU

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": GRU}
STATES = {"rnn": 1, "lstm": 2, "gru": 1}  # state vectors of a layer: h, for LSTMs also c


def make_cell(cell: str, size: int) -> nn.RNNBase:
    """One direction of one layer, `size` in and out; recurrent weights orthogonal gate by gate, forget bias 1."""
    module = CELLS[cell](size, size, batch_first=True)
    initializers = {"weight_hh": nn.init.orthogonal_, "weight_ih": nn.init.xavier_uniform_}
    for name, parameter in module.named_parameters():
        initialize = initializers.get(name.removesuffix("_l0"), nn.init.zeros_)
        for gate in parameter.detach().split(size):
            initialize(gate)
        if cell == "lstm" and name == "bias_ih_l0":
            # PyTorch orders the gates i, f, g, o and adds both biases: one of them carries the 1.
            nn.init.ones_(parameter.detach()[size : 2 * size])
    return module


def reversed_frames(lengths: Tensor, frames: int) -> Tensor:
    """Index (B · frames,) into the frames of a batch, for `mirrored`: row b's first lengths[b] frames in reverse order.

    Padding stays in its place.
    """
    position = torch.arange(frames, device=lengths.device).unsqueeze(0)
    opposite = lengths.unsqueeze(1) - 1 - position
    first = torch.arange(lengths.shape[0], device=lengths.device).unsqueeze(1) * frames
    return (first + torch.where(opposite >= 0, opposite, position)).flatten()


def mirrored(x: Tensor, mirror: Tensor) -> Tensor:
    """x (B, T, size) with each row reversed by the index of `reversed_frames`; twice gives x again."""
    return x.flatten(0, 1).index_select(0, mirror).view_as(x)


class Dropout(nn.Dropout):
    """`nn.Dropout`, twice as fast on a CPU: a random 64-bit integer serves four elements instead of one."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or not (self.training and 0 < self.p < 1):
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # any 64 bits
        drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
        return x * (drawn >= round(self.p * 2**16) - 2**15).to(x.dtype).div_(1 - self.p)


class VariationalDropout(nn.Dropout):
    """On x (B, T, size), one mask for all frames of an utterance (Gal & Ghahramani 2016; Semeniuta et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(torch.ones_like(x[:, :1]))


class RecurrentLayer(nn.Module):
    """x + dropout(RNN(LayerNorm(x))), shape (B, T, size) in and out; two directions are summed.

    The backward direction is a forward cell over reversed frames. Packed sequences would do the same without the fast
    CPU kernel. Padding comes last in both directions, so it does not change a result.
    """

    def __init__(
        self,
        cell: str,
        size: int,
        bidirectional: bool,
        dropout: float,
        variational_dropout: bool = False,
        weight_dropout: float = 0.0,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.forward_cell = make_cell(cell, size)
        self.backward_cell = make_cell(cell, size) if bidirectional else None
        self.dropout = VariationalDropout(dropout) if variational_dropout else Dropout(dropout)
        self.weight_dropout = weight_dropout

    def forward(self, x: Tensor, mirror: Tensor) -> Tensor:
        """`mirror` (B · T,): of `reversed_frames`; unidirectional layers do not read it."""
        normalized = self.norm(x)
        output = self._run(self.forward_cell, normalized)
        if self.backward_cell is not None:
            output = output + mirrored(self._run(self.backward_cell, mirrored(normalized, mirror)), mirror)
        return x + self.dropout(output)

    def _run(self, cell: nn.RNNBase, x: Tensor) -> Tensor:
        """Outputs (B, T, size), with dropout on the recurrent weights (Merity et al. 2018, "AWD-LSTM").

        One mask for all frames and the whole batch, so the fast kernel of the cell can be used.
        """
        if not (self.training and self.weight_dropout):
            return cell(x)[0]
        weights = cast(list[Tensor], cell._flat_weights)
        cell._flat_weights = [
            F.dropout(weight, self.weight_dropout) if name.startswith("weight_hh") else weight
            for name, weight in zip(cell._flat_weights_names, weights, strict=True)
        ]
        try:
            return cell(x)[0]
        finally:
            cell._flat_weights = weights  # type: ignore[assignment]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Unidirectional `forward` from a state on: x (B, T, size) → the same, next state.

        The state is h, shape (B, 1, size), or h and c of an LSTM, shape (B, 2, size).
        """
        before = state.transpose(0, 1).contiguous().split(1)  # each (1, B, size)
        output, after = self.forward_cell(self.norm(x), before[0] if len(before) == 1 else before)
        return x + self.dropout(output), torch.cat(after if len(before) == 2 else [after]).transpose(0, 1)


class RecurrentStack(nn.Module):
    """`layers` recurrent layers and a final LayerNorm: x (B, T, size), mirror (B · T,) → (B, T, size)."""

    def __init__(self, cell: str, size: int, layers: int, bidirectional: bool, **dropouts: Any):
        """dropouts: those of `RecurrentLayer`."""
        super().__init__()
        self.layers = nn.ModuleList(RecurrentLayer(cell, size, bidirectional, **dropouts) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, mirror: Tensor) -> Tensor:
        return self.norm(self.outputs(x, mirror)[-1])

    def outputs(self, x: Tensor, mirror: Tensor, layer: int | None = None) -> list[Tensor]:
        """Outputs (B, T, size) before the final LayerNorm: of a layer, counted from 1, if one is named; of the last."""
        outputs = []
        for number, module in enumerate(self.layers, 1):
            x = module(x, mirror)
            if number == layer:
                outputs.append(x)
        return [*outputs, x]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, size), state (B, layers · states, size) → the same shapes; see `RecurrentLayer.step`."""
        after = []
        for layer, before in zip(self.layers, state.chunk(len(self.layers), dim=1), strict=True):
            x, layer_state = layer.step(x, before)  # type: ignore[operator]
            after.append(layer_state)
        return self.norm(x), torch.cat(after, dim=1)


class Lookahead(nn.Conv1d):
    """x (B, T + frames, size) → (B, T, size): yₜ = Σⱼ wⱼ ⊙ xₜ₊ⱼ for j = 0 … frames.

    A depthwise ("row") convolution over the outputs of the recurrent layers (Wang et al. 2016, "Lookahead convolution
    layer for unidirectional recurrent neural networks"), initialised as the identity.
    """

    def __init__(self, size: int, frames: int):
        super().__init__(size, size, frames + 1, groups=size, bias=False)
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.weight[:, :, 0].detach())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)
