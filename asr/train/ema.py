"""Exponential moving average of the weights: steadier than the last ones (Polyak & Juditsky 1992)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """`module` is a copy of the model with the averages, which `update_parameters` brings up to date.

    The first update takes the weights as they are, update n weighs what was there before by min(decay, n / (n + 9)): so
    the early weights are soon forgotten (as TensorFlow's ExponentialMovingAverage does).
    """

    def __init__(self, model: nn.Module, decay: float):
        def average(averages: Any, weights: Any, _: Tensor | int) -> None:
            before = int(self.n_averaged)  # the last argument is a copy on the device of the weights
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (before + 1) / (before + 10)))

        super().__init__(model, multi_avg_fn=average)

    def state(self) -> dict[str, Tensor]:
        """The tensors themselves, by name, for a checkpoint."""
        return {f"average.{name}": value for name, value in self.state_dict().items()}
