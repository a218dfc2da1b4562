"""Look-ahead convolution: gives a unidirectional model some frames of future context."""

from torch import Tensor, nn


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
