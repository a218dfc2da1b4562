"""The processes that read the batches of a run."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from asr.errors import RecipeError, one_line

# Whether to stop is for the trainer to say: a terminal, torchrun and job schedulers signal all of a run's processes.
SIGNALS = {signal.SIGINT, signal.SIGTERM}
CAN_TELL = hasattr(signal, "sigtimedwait")  # who sent a signal: on Linux


# s without a batch: the worker is stuck, for instance since it cannot hand over what it has. From storage that is far
# away a batch takes seconds.
PATIENCE = 600
SIGNAL_SECONDS = 2.0  # from the end of a connection to a worker to the signal that the worker has ended, at most


class WorkerLoader(DataLoader):
    """A loader of whatever is to be loaded next; its workers live until the trainer ends them, or is gone.

    They are forked when the first is loaded, which is to be before the trainer needs much memory: as long as a worker
    lives, the system copies each page that the trainer wrote before the fork when it writes it again.
    """

    def __init__(self, dataset: object, workers: int):
        self.next = Next()
        super().__init__(
            dataset,  # type: ignore[arg-type]
            sampler=self.next,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=settle,
            prefetch_factor=4 if workers else None,
            timeout=PATIENCE if workers else 0,
            persistent_workers=workers > 0,
        )

    def load(self, items: Iterable[Any]) -> Iterator[Any]:
        """What the dataset makes of each of the items. What was loaded before has come to its end, or never will."""
        self.next.items = items
        if not CAN_TELL:
            return iter(self)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # workers inherit it, and what they start (ffmpeg)
        try:
            return iter(self)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Next:
    """Items that can be exchanged: torch's loaders keep their sampler."""

    items: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def settle(worker: int) -> None:
    """What a worker does first."""
    torch.set_num_threads(1)  # the loader must not take the processor from the model
    sys.excepthook = _unless_hung_up
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if CAN_TELL:
        threading.Thread(target=_end_with_the_trainer, daemon=True).start()
    elif hasattr(os, "setpgrp"):
        os.setpgrp()


def _end_with_the_trainer() -> None:
    """When it is gone, or sends SIGTERM, as it does if a worker is stuck at the end of a run."""
    # Who forked this process may be another. What says that the trainer lives is inherited by workers that come later.
    trainer, parent = multiprocessing.parent_process(), os.getppid()
    while trainer and trainer.is_alive() and os.getppid() == parent:
        told = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if told and told.si_pid == trainer.pid:
            break
    os._exit(0)


def _unless_hung_up(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A run that is killed while it takes a batch hangs up on the worker's thread that hands it over: no news."""
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """RecipeError if a worker of the run in `folder` is killed or stuck meanwhile, or memory does not suffice."""
    try:
        try:
            yield
        except (ConnectionError, EOFError):
            time.sleep(SIGNAL_SECONDS)  # where a worker was killed, torch says so from a signal's handler
            raise
    except (RuntimeError, MemoryError) as error:
        if is_lost_worker(error):
            what = f"a process that reads batches was killed ({one_line(error)}), most often for want of memory"
        elif str(error).startswith("DataLoader timed out"):
            what = f"no batch has come for {PATIENCE} s: the storage hangs, or a temporary folder or /dev/shm is full"
        elif is_out_of_memory(error):
            what = "there is not enough memory"
        else:
            raise
        raise RecipeError(
            f"{folder}: {what}; set data.workers lower, then --resume, or begin a new run with smaller batches or a "
            "smaller model"
        ) from error


def is_lost_worker(error: Exception) -> bool:
    """Whether a worker was killed; torch has no class for that, and raises it from a signal's handler, anywhere."""
    return str(error).startswith("DataLoader worker")


def is_out_of_memory(error: Exception) -> bool:
    """Python's own, of a worker too, or torch's, which has a class for it on CUDA only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
