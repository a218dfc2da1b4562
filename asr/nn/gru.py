"""A GRU whose training does not crawl on a CPU.

torch has no fused kernel for it there: each frame costs some thirty small operations, recorded one by one. Here the
forward pass writes each frame's gates into tensors of all frames, and the backward pass, written out by hand, needs
three operations a frame; all that does not depend on the frame after it is done for all frames at once.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GRU(nn.GRU):
    """`nn.GRU` of one layer and one direction, batch first: the same parameters and results and, exported, node."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x (B, T, size), state (1, B, size), zeros by default → hidden states (B, T, size), the last (1, B, size)."""
        if x.is_cuda or not (self.training and torch.is_grad_enabled()):
            return super().forward(x, state)
        weight_ih, weight_hh, bias_ih, bias_hh = cast(list[Tensor], self._flat_weights)
        projected = F.linear(x, weight_ih, bias_ih).float().transpose(0, 1)
        before = x.new_zeros(x.shape[0], self.hidden_size, dtype=torch.float32) if state is None else state[0]
        hidden = _Recurrence.apply(projected, before, weight_hh, bias_hh)
        return hidden.transpose(0, 1), hidden[-1:]


class _Recurrence(torch.autograd.Function):
    """W xₜ + b (T, B, 3 · size), h₀ (B, size), U (3 · size, size), b′ (3 · size,) → h₁…h_T (T, B, size), float32.

    The gates' order is torch's: r, z, n; their equations are in `asr.nn.recurrent`.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, before: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        frames, batch, size = projected.shape[0], before.shape[0], before.shape[1]
        gates = projected.new_empty(frames, batch, 3 * size)  # U hₜ₋₁ + b′, then r, z and what r multiplies
        inner = projected.new_empty(frames, batch, size)  # n
        hidden = projected.new_empty(frames + 1, batch, size)
        hidden[0] = before
        transposed = weight.t().contiguous()  # twice as fast as a view
        columns = [
            *(hidden[:-1], hidden[1:], gates),
            *(gates[:, :, : 2 * size], *gates.split(size, dim=2), inner),
            *(projected[:, :, : 2 * size], projected[:, :, 2 * size :]),
        ]
        rows = zip(*(column.unbind() for column in columns), strict=True)
        for h, after, gate, rz, reset, update, m, n, projected_rz, projected_n in rows:
            torch.addmm(bias, h, transposed, out=gate)
            rz.add_(projected_rz).sigmoid_()
            torch.addcmul(projected_n, reset, m, out=n).tanh_()
            torch.lerp(n, h, update, out=after)
        ctx.save_for_backward(gates, inner, hidden, weight)
        return hidden[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gates, inner, hidden, weight = ctx.saved_tensors
        frames, batch, size = inner.shape
        r, z, multiplied = gates.split(size, dim=2)
        to_inner = (1 - z) * (1 - inner.square())  # ∂hₜ / ∂ what is inside n's tanh
        # ∂hₜ / ∂ (U hₜ₋₁ + b′), gate by gate.
        slopes = torch.stack(
            [to_inner * multiplied * r * (1 - r), (hidden[:-1] - inner) * z * (1 - z), to_inner * r], dim=2
        )
        at_hidden = gradient.clone()  # the loss's gradient at each hₜ, the way through the frames after it included
        at_gates = torch.empty_like(slopes)
        flat = at_gates.view(frames, batch, 3 * size)
        befores = [torch.zeros_like(at_hidden[0]), *at_hidden.unbind()]
        after = befores[-1]
        rows = list(zip(slopes.unbind(), at_gates.unbind(), flat.unbind(), z.unbind(), befores[:-1], strict=True))
        for slope, at_gate, at_gate_flat, update, before in reversed(rows):
            torch.mul(slope, after.unsqueeze(1), out=at_gate)
            after = before.addcmul_(after, update).addmm_(at_gate_flat, weight)
        flat = flat.view(-1, 3 * size)
        at_weight, at_bias = flat.t() @ hidden[:-1].reshape(-1, size), flat.sum(0)
        at_gates[:, :, 2] = at_hidden * to_inner  # of what W xₜ adds to, where r does not come between
        return at_gates.view(frames, batch, 3 * size), after, at_weight, at_bias
