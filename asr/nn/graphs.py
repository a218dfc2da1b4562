"""CUDA graphs of the recurrent stack.

A GPU computes a frame of an LSTM sooner than a CPU can launch the four kernels that it takes. A graph launches those of
all frames, layers and directions at once, forward and backward. It is captured for one shape: batches are padded to one
of a few shapes, which does not change their results.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.nn.recurrent import RecurrentStack, reversed_frames

CHECK_ROWS = 16
TOLERANCE = 0.02  # relative, of half precision
FRAMES = (64, 80, 96, 128, 160, 192, 256, 320, 416, 576)  # numbers of frames for which graphs are captured


def padded_frames(frames: int) -> int:
    """The number of frames that a batch of so many is padded to; the same if there is no graph for it."""
    return next((padded for padded in FRAMES if padded >= frames), frames)


def row_count(rows: int) -> int:
    """Rounded up to a multiple of 8, for which half-precision products are fast."""
    return -(-rows // 8) * 8


class RecurrentGraphs:
    """`RecurrentStack.chosen` in training, by graphs where there is one for the batch's shape.

    A graph's gradients lie in its own memory until its next use: they must have been used by then, so an update has
    one batch.
    """

    def __init__(self, stack: RecurrentStack, layer: int | None, frame_limit: int, most_rows: int, dtype: torch.dtype):
        """Capture the graphs. RuntimeError if that is not possible, or if they would compute something else.

        Args:
            stack: on the GPU, in training.
            layer: as of `AcousticModel.encode`, always the same.
            frame_limit: frames of a padded batch, at most.
            most_rows: of a batch.
            dtype: of autocast.
        """
        self.stack = stack
        self.layer = layer
        self.pool = torch.cuda.graph_pool_handle()  # one memory for all: an update uses one graph
        self._check(dtype)
        self.rows = {frames: row_count(max(1, min(most_rows, frame_limit // frames))) for frames in FRAMES}
        # The largest first: the others then fit into its memory.
        self.captured = {frames: self._capture(self.rows[frames], frames, dtype) for frames in reversed(FRAMES)}

    def _capture(self, rows: int, frames: int, dtype: torch.dtype) -> Callable[..., tuple[Tensor, ...]]:
        size = self.stack.norm.normalized_shape[0]
        device = self.stack.norm.weight.device
        x = torch.zeros(rows, frames, size, device=device, dtype=dtype, requires_grad=True)
        mirror = reversed_frames(torch.full((rows,), frames, device=device), frames)
        with torch.autocast("cuda", dtype, cache_enabled=False):
            capture: Any = torch.cuda.make_graphed_callables  # its annotations do not say what it returns
            return capture(
                _Outputs(self.stack, self.layer),
                (x, mirror),
                num_warmup_iters=1,
                allow_unused_input=True,  # the stack's final norm, which comes later
                pool=self.pool,
            )

    def _check(self, dtype: torch.dtype) -> None:
        """Compare a small graph, without dropout, with the layers themselves."""
        shares = {module: module.p for module in self.stack.modules() if isinstance(module, nn.Dropout)}
        weights = [weight for weight in self.stack.layers.parameters() if weight.requires_grad]
        try:
            for module in shares:
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
            for module, share in shares.items():
                module.p = share
        for one, other in zip(*results, strict=True):
            if not torch.linalg.vector_norm(one - other) <= TOLERANCE * torch.linalg.vector_norm(other):
                raise RuntimeError("a CUDA graph of the recurrent layers computes something else than the layers")

    def __call__(self, x: Tensor, lengths: Tensor) -> list[Tensor] | None:
        """x (B, T, size), lengths (B,) on the GPU → [(B, T, size)] as of `encode`; None if there is no graph for it."""
        rows, frames, _ = x.shape
        padded = padded_frames(frames)
        if padded not in self.captured or rows > self.rows[padded]:
            return None
        missing = self.rows[padded] - rows
        mirror = reversed_frames(F.pad(lengths, (0, missing)), padded)
        outputs = self.captured[padded](F.pad(x, (0, 0, 0, padded - frames, 0, missing)), mirror)
        return [output[:rows, :frames] for output in outputs]


class _Outputs(nn.Module):
    """The outputs of the stack that are used, as a module, which `make_graphed_callables` asks for."""

    def __init__(self, stack: RecurrentStack, layer: int | None):
        super().__init__()
        self.stack = stack
        self.layer = layer

    def forward(self, x: Tensor, mirror: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.stack.chosen(x, mirror, self.layer))
