"""A GRU that trains fast on a CPU, for which torch has no fused kernel.

torch's own records some thirty small operations a frame for the backward pass. Here the forward pass writes the gates
of each frame into tensors of all frames, and a backward pass written by hand needs a few operations a frame: what does
not depend on the next frame is computed for all frames at once. Under autocast the matrix products, which take most of
the time, are of its type (bfloat16), gates and states are of float32.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GRU(nn.GRU):
    """`nn.GRU` of one layer and one direction, batch first: the same parameters, results and exported operator."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x (B, T, size), state (1, B, size), zeros by default → hidden states (B, T, size), the last (1, B, size)."""
        if x.is_cuda or not (self.training and torch.is_grad_enabled()):
            return super().forward(x, state)
        weight_ih, weight_hh, bias_ih, bias_hh = cast(list[Tensor], self._flat_weights)
        projected = F.linear(x, weight_ih, bias_ih)
        initial = x.new_zeros(x.shape[0], self.hidden_size, dtype=torch.float32) if state is None else state[0]
        factors = weight_hh.to(projected.dtype), bias_hh.to(projected.dtype)
        hidden = _Recurrence.apply(projected.float().transpose(0, 1), initial, *factors)
        return hidden.transpose(0, 1), hidden[-1:]


class _Recurrence(torch.autograd.Function):
    """W xₜ + b (T, B, 3 · size), h₀ (B, size), U (3 · size, size), b′ (3 · size,) → h₁…h_T (T, B, size), float32.

    U and b′ may be of another type, in which products with U and its gradient are then computed.
    The order of the gates is torch's: r, z, n; `asr.nn.recurrent` has their equations.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, initial: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        frames, batch, size = projected.shape[0], initial.shape[0], initial.shape[1]
        gates = projected.new_empty(frames, batch, 3 * size)  # U hₜ₋₁ + b′, of which r and z are then overwritten
        candidate = projected.new_empty(frames, batch, size)  # n
        hidden = projected.new_empty(frames + 1, batch, size)
        hidden[0] = initial
        transposed = weight.t().contiguous()  # twice as fast as a view
        columns = [
            *(hidden[:-1], hidden[1:], gates),
            *(gates[:, :, : 2 * size], *gates.split(size, dim=2), candidate),
            *(projected[:, :, : 2 * size], projected[:, :, 2 * size :]),
        ]
        rows = zip(*(column.unbind() for column in columns), strict=True)
        for h, next_h, gate, rz, r, z, u, n, projected_rz, projected_n in rows:
            gate.copy_(torch.addmm(bias, h.to(weight.dtype), transposed))
            rz.add_(projected_rz).sigmoid_()
            torch.addcmul(projected_n, r, u, out=n).tanh_()
            torch.lerp(n, h, z, out=next_h)
        ctx.save_for_backward(gates, candidate, hidden, weight)
        return hidden[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gates, n, hidden, weight = ctx.saved_tensors
        frames, batch, size = n.shape
        r, z, u = gates.split(size, dim=2)  # u: U hₜ₋₁ + b′ of the third gate
        candidate_slope = (1 - z) * (1 - n.square())  # ∂hₜ / ∂(argument of the tanh)
        # ∂hₜ / ∂(U hₜ₋₁ + b′), gate by gate.
        slopes = torch.stack(
            [candidate_slope * u * r * (1 - r), (hidden[:-1] - n) * z * (1 - z), candidate_slope * r], dim=2
        )
        grad_hidden = grad_output.clone()  # becomes the gradient at each hₜ, including that through later frames
        grad_gates = torch.empty_like(slopes)
        flat = grad_gates.view(frames, batch, 3 * size)
        previous = [torch.zeros_like(grad_hidden[0]), *grad_hidden.unbind()]
        grad = previous.pop()
        rows = list(zip(slopes.unbind(), grad_gates.unbind(), flat.unbind(), z.unbind(), previous, strict=True))
        for slope, grad_gate, grad_gate_flat, update, grad_previous in reversed(rows):
            torch.mul(slope, grad.unsqueeze(1), out=grad_gate)
            grad = grad_previous.addcmul_(grad, update).add_(grad_gate_flat.to(weight.dtype) @ weight)
        flat = flat.view(-1, 3 * size)
        grad_weight = flat.to(weight.dtype).t() @ hidden[:-1].reshape(-1, size).to(weight.dtype)
        grad_bias = flat.sum(0).to(weight.dtype)
        grad_gates[:, :, 2] = grad_hidden * candidate_slope  # of W xₜ + b, which r does not multiply
        return grad_gates.view(frames, batch, 3 * size), grad, grad_weight, grad_bias
