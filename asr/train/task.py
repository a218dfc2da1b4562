"""Interface between the training loop and a task: a model, its data, loss and validation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from asr.model.tokens import Tokens
from asr.train.runs import rank_epoch

Say = Callable[[str], None]  # one line to the user


class Batch(Protocol):
    ids: list[str]  # names of its utterances, for messages; a batch without any is skipped

    @property
    def amount(self) -> float:
        """How much data it is, in the unit of the task's epochs."""


@dataclass(kw_only=True)
class Epoch(ABC):
    """One line of the training curve, also of `curve.jsonl`."""

    measure: ClassVar[str]  # the field that says how good it is, one of `MEASURES`
    title: ClassVar[str]  # of the measure, in the report
    unit: ClassVar[str]  # of the amount of data
    epoch: int
    step: int  # updates so far
    train_loss: float  # nats per token
    dev_loss: float  # nats per token
    gradient_norm: float  # mean before clipping
    learning_rate: float
    speed: float  # amount of data per second of training
    minutes: float  # of training and validation so far
    clipped: float = 0.0  # share of the updates whose gradient was clipped
    too_short: int = 0  # utterances of this epoch too short for their text after speed perturbation
    skipped: int = 0  # updates of this epoch without effect, since loss or gradient were not finite
    waiting: float = 0.0  # share of the training time without a batch
    utilization: float = 0.0  # of the device that trains, `asr.train.budget.Utilization`
    saturation: dict[str, float] = field(default_factory=dict)  # on dev, `asr.train.report.saturation`

    @property
    def rank(self) -> tuple[float, ...]:
        return rank_epoch(vars(self), self.measure)

    @property
    @abstractmethod
    def outcome(self) -> str:
        """Result on the dev data, for the console."""

    @property
    def advice(self) -> str:
        """A line for the user where something may be wrong."""
        return ""


E = TypeVar("E", bound=Epoch)


def best_epoch(curve: Sequence[E]) -> E:
    return min(curve, key=lambda epoch: epoch.rank)


class Task(ABC):
    """A model with its data, loss and validation. RecipeError where recipe or data are wrong.

    `carried`: tensors that a batch leaves to the ones after it; checkpoints hold them as they hold the model.
    """

    epoch_type: type[Any]  # of Epoch
    model: nn.Module
    tokens: Tokens
    epoch_amount: float  # of data
    epoch_batches: int  # about so many
    carried: dict[str, Tensor]

    def begin(self) -> None:  # noqa: B027 (there may be nothing to do)
        """Before the first step of a new run."""

    def accelerate(self, dtype: torch.dtype) -> None:  # noqa: B027
        """Prepare what makes training with autocast to this type faster on the device."""

    @abstractmethod
    def start_epoch(self, curve: list[Any], done: int) -> Iterator[Any]:
        """The `Batch`es of the epoch after those of the curve, without the first `done`; the same ones every time."""

    @abstractmethod
    def count(self, batch: Any) -> tuple[int, int]:
        """Tokens that the loss is the sum of; utterances without a loss, since they are too short for their text."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Their summed loss in nats."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Of this model or its average, at the end of an epoch: `dev_loss`, and the fields that `Epoch` lacks."""
