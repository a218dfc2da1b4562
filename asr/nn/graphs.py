"""CUDA graphs of the recurrent stack.

A GPU computes a frame of an LSTM faster than a CPU launches the four kernels for it. A CUDA graph launches those of all
frames, layers and directions at once, forward and backward. A graph has one shape: batches are padded to one of a few,
which does not change their results.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.nn.recurrent import RecurrentStack, reversed_frames

CHECK_ROWS = 16
TOLERANCE = 0.02  # relative, of half precision
FRAMES = (64, 80, 96, 128, 160, 192, 256, 320, 416, 576)  # captured lengths


def padded_frames(frames: int) -> int:
    """Length to which a batch of so many frames is padded; `frames` itself if it is longer than all graphs."""
    return next((padded for padded in FRAMES if padded >= frames), frames)


class RecurrentGraphs:
    """`RecurrentStack.outputs` in training, with a CUDA graph where there is one for the shape of the batch.

    The next use of a graph overwrites its gradients, so an update may have one batch only.
    """

    def __init__(self, stack: RecurrentStack, layer: int | None, max_frames: int, max_rows: int, dtype: torch.dtype):
        """Capture the graphs. RuntimeError if that fails, or if they compute something else than the layers.

        stack: on the GPU, in training mode; layer: of its `outputs`. max_frames: of a padded batch, all rows together.
        dtype: of autocast.
        """
        self.stack = stack
        self.layer = layer
        self.pool = torch.cuda.graph_pool_handle()  # shared, since an update uses one graph
        self._check(dtype)
        rows = {frames: max(1, min(max_rows, max_frames // frames)) for frames in FRAMES}
        # Multiples of 8, for which half-precision matrix products are fast.
        self.rows = {frames: -(-count // 8) * 8 for frames, count in rows.items()}
        # The largest first: its memory is enough for the others.
        self.captured = {frames: self._capture(self.rows[frames], frames, dtype) for frames in reversed(FRAMES)}

    def _capture(self, rows: int, frames: int, dtype: torch.dtype) -> Callable[..., tuple[Tensor, ...]]:
        size = self.stack.norm.normalized_shape[0]
        device = self.stack.norm.weight.device
        x = torch.zeros(rows, frames, size, device=device, dtype=dtype, requires_grad=True)
        mirror = reversed_frames(torch.full((rows,), frames, device=device), frames)
        with torch.autocast("cuda", dtype, cache_enabled=False):
            capture: Any = torch.cuda.make_graphed_callables  # its return type is not annotated
            return capture(
                _Outputs(self.stack, self.layer),
                (x, mirror),
                num_warmup_iters=1,
                allow_unused_input=True,  # the final norm of the stack, applied later
                pool=self.pool,
            )

    def _check(self, dtype: torch.dtype) -> None:
        dropouts = {module: module.p for module in self.stack.modules() if isinstance(module, nn.Dropout)}
        weights = [weight for weight in self.stack.layers.parameters() if weight.requires_grad]
        try:
            for module in dropouts:
                module.p = 0.0
            graph = self._capture(CHECK_ROWS, FRAMES[0], dtype)
            size, device = self.stack.norm.normalized_shape[0], self.stack.norm.weight.device
            x = torch.randn(CHECK_ROWS, FRAMES[0], size, device=device, dtype=dtype)
            mirror = reversed_frames(torch.arange(1, CHECK_ROWS + 1, device=device), FRAMES[0])
            results = []
            for outputs_of in (graph, _Outputs(self.stack, self.layer)):
                with torch.autocast("cuda", dtype):
                    outputs = outputs_of(x.requires_grad_(), mirror)
                gradients = torch.autograd.grad(
                    torch.stack([output.float().square().sum() for output in outputs]).sum(), weights
                )
                results.append([value.float().clone() for value in (*outputs, *gradients)])
        finally:
            for module, dropout in dropouts.items():
                module.p = dropout
        for one, other in zip(*results, strict=True):
            if not torch.linalg.vector_norm(one - other) <= TOLERANCE * torch.linalg.vector_norm(other):
                raise RuntimeError("a CUDA graph of the recurrent layers computes something else than the layers")

    def __call__(self, x: Tensor, lengths: Tensor) -> list[Tensor] | None:
        """x (B, T, size), lengths (B,) on the GPU → the outputs, (B, T, size) each; None if no graph has the shape."""
        rows, frames, _ = x.shape
        padded = padded_frames(frames)
        if padded not in self.captured or rows > self.rows[padded]:
            return None
        missing = self.rows[padded] - rows
        mirror = reversed_frames(F.pad(lengths, (0, missing)), padded)
        outputs = self.captured[padded](F.pad(x, (0, 0, 0, padded - frames, 0, missing)), mirror)
        return [output[:rows, :frames] for output in outputs]


class _Outputs(nn.Module):
    """`RecurrentStack.outputs` as a module, which `make_graphed_callables` needs."""

    def __init__(self, stack: RecurrentStack, layer: int | None):
        super().__init__()
        self.stack = stack
        self.layer = layer

    def forward(self, x: Tensor, mirror: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.stack.outputs(x, mirror, self.layer))
