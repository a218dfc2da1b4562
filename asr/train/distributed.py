"""Data parallel training: the same run in several processes, which share each update's batches, on any machines.

`torchrun` starts the processes; without it there is one, and all of this does nothing. Of the run's batches process r
of N takes every Nth one from the rth on, so an update is that of one process with N times the `accumulate`. Gradients
are summed: the loss is divided by the tokens of all batches before.

torch's DistributedDataParallel would take more lines than it saves (it wants every call to be a forward, and a batch in
every process), and it changes its buckets after the first update: from three processes on, a run that was resumed would
not equal one that was not, bit for bit.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from asr.errors import RecipeError, one_line

PATIENCE = timedelta(hours=6)  # the others wait while the first one measures


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that `torchrun` has started, by its environment variables."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    together(dist.init_process_group, "nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes the files, prints and validates."""
    return rank() == 0


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block before the others do."""
    if count() > 1 and not is_main():
        together(dist.barrier)
    yield
    if count() > 1 and is_main():
        together(dist.barrier)


def totals(*values: float) -> list[float]:
    """The sum of each value over the processes."""
    if count() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")
    sum_up(sums)
    return sums.tolist()


def gather(value: Any) -> list[Any]:
    """The value of each process, in the order of the processes."""
    values = [value] * count()
    if count() > 1:
        together(dist.all_gather_object, values, value)
    return values


def from_main(value: Any) -> Any:
    return gather(value)[0]


def share_weights(model: nn.Module) -> None:
    for value in model.state_dict().values() if count() > 1 else ():
        together(dist.broadcast, value, 0)


def sum_up(value: Tensor) -> None:
    """Over the processes, in place."""
    if count() > 1:
        together(dist.all_reduce, value)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Over the processes; one that had no batch adds nothing."""
    if count() > 1:
        gradients = []
        for parameter in parameters:
            if not parameter.requires_grad:
                continue  # without a gradient the optimizer leaves it as it is
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = parameters_to_vector(gradients)
        sum_up(flat)
        vector_to_parameters(flat, gradients)


def together(operation: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Call a collective operation. RecipeError if another process cannot be reached, or has ended."""
    try:
        operation(*arguments, **named)
    except (RuntimeError, ValueError) as error:  # torch's own of all kinds, ValueError for a wrong environment
        raise RecipeError(
            f"another process of this run has ended or cannot be reached ({one_line(error)}); see what it says, then "
            "start all of them again, with asr train --resume RUN if the run has begun"
        ) from error
