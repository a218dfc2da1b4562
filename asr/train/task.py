"""What the training loop asks of whatever it trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from asr.model.tokens import Tokens

Say = Callable[[str], None]  # one line to the user


class Batch(Protocol):
    @property
    def ids(self) -> list[str]:
        """What is in it, for messages. Without any it is passed over."""

    @property
    def amount(self) -> float:
        """How much of an epoch it is, in the task's unit."""


@dataclass(kw_only=True)
class Epoch(ABC):
    """One line of the training curve, also of `curve.jsonl`."""

    epoch: int
    step: int  # updates so far
    train_loss: float  # nats per token
    dev_loss: float  # nats per token
    gradient_norm: float  # mean before clipping
    learning_rate: float
    speed: float  # of the task's unit per second of training
    minutes: float  # of training and validation so far
    clipped: float = 0.0  # share of the updates whose gradient was clipped
    skipped: int = 0  # updates of this epoch without effect, since loss or gradient were not finite
    waiting: float = 0.0  # share of the training time without a batch
    utilization: float = 0.0  # of the device that trains, `asr.train.budget.Utilization`
    saturation: dict[str, float] = field(default_factory=dict)  # on dev, `asr.train.report.saturation`

    @property
    @abstractmethod
    def rank(self) -> tuple[float, ...]:
        """The epoch with the lowest one is the best."""

    @property
    @abstractmethod
    def outcome(self) -> str:
        """What the dev data says, for the console."""


BatchType = TypeVar("BatchType", bound=Batch)
EpochType = TypeVar("EpochType", bound=Epoch)


def best_epoch(curve: Sequence[EpochType]) -> EpochType:
    return min(curve, key=lambda epoch: epoch.rank)


class Task(ABC, Generic[BatchType, EpochType]):
    """A model, the data it learns from, its loss, and how well it does.

    `carried`: tensors that a batch leaves to the ones after it; checkpoints hold them as they hold the model.
    """

    epoch_type: type[EpochType]
    unit: str  # of what a batch amounts to
    model: nn.Module
    tokens: Tokens
    epoch_amount: float
    carried: dict[str, Tensor]

    @abstractmethod
    def __init__(self, recipe: Any, device: torch.device, say: Say):
        """Read the data and make the model; whatever is wrong with the recipe or the data is a RecipeError."""

    def begin(self) -> None:
        """Before the first step of a new run."""

    def accelerate(self, dtype: torch.dtype) -> None:
        """Prepare what makes training with autocast to this type faster on the device."""

    @abstractmethod
    def start_epoch(self, curve: list[EpochType], done: int) -> Iterator[BatchType]:
        """The batches of the epoch after those of the curve, without the first `done`; the same ones every time."""

    @abstractmethod
    def count(self, batch: BatchType) -> int:
        """Tokens that the loss is the sum of."""

    @abstractmethod
    def loss(self, batch: BatchType) -> Tensor:
        """Their summed loss in nats."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Of this model or its average, at the end of an epoch: `dev_loss`, and the fields that `Epoch` lacks."""
