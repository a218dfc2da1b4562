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

# The trainer decides when to stop: a terminal, torchrun and job schedulers signal all of a run's processes.
SIGNALS = {signal.SIGINT, signal.SIGTERM}
KNOWS_SENDER = hasattr(signal, "sigtimedwait")  # who sent a signal: on Linux

# Seconds without a batch until a worker counts as stuck, for instance because it cannot hand over what it has read.
# From remote storage a batch takes seconds.
PATIENCE = 600
SIGNAL_SECONDS = 2.0  # from the end of a connection to a worker to the signal that the worker has ended, at most


class WorkerLoader(DataLoader):
    """Loads whatever `load` is given; its workers live until the trainer ends them or is gone.

    They are forked at the first `load`, which should be before the trainer needs much memory: as long as a worker
    lives, the system copies each page that the trainer wrote before the fork when it writes it again.
    """

    def __init__(self, dataset: object, workers: int):
        self.items = Items()
        super().__init__(
            dataset,  # type: ignore[arg-type]
            sampler=self.items,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=init_worker,
            prefetch_factor=4 if workers else None,
            timeout=PATIENCE if workers else 0,
            persistent_workers=workers > 0,
        )

    def load(self, items: Iterable[Any]) -> Iterator[Any]:
        """The dataset's result for each item. An earlier iterator must not be used any more."""
        self.items.current = items
        if not KNOWS_SENDER:
            return iter(self)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # workers inherit it, and what they start (ffmpeg)
        try:
            return iter(self)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Items:
    """A sampler whose items can be exchanged: torch's loaders keep their sampler."""

    current: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.current)


def init_worker(worker: int) -> None:
    torch.set_num_threads(1)  # the loader must not take the processor from the model
    sys.excepthook = _ignore_broken_pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if KNOWS_SENDER:
        threading.Thread(target=_exit_with_trainer, daemon=True).start()
    elif hasattr(os, "setpgrp"):
        os.setpgrp()


def _exit_with_trainer() -> None:
    """Ends this process when the trainer is gone, or sends SIGTERM, as it does if a worker is stuck at a run's end."""
    # Another process may have forked this one. Later workers inherit the pipe that shows that the trainer lives.
    trainer, parent = multiprocessing.parent_process(), os.getppid()
    while trainer and trainer.is_alive() and os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if received and received.si_pid == trainer.pid:
            break
    os._exit(0)


def _ignore_broken_pipe(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A run that is killed while it takes a batch breaks the pipe of the worker's thread that hands it over."""
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def translate_worker_errors(folder: Path) -> Iterator[None]:
    """RecipeError if a worker of the run in `folder` is killed or stuck, or memory does not suffice."""
    try:
        try:
            yield
        except (ConnectionError, EOFError):
            time.sleep(SIGNAL_SECONDS)  # where a worker was killed, torch says so from a signal's handler
            raise
    except (RuntimeError, MemoryError) as error:
        if is_lost_worker(error):
            problem = f"a process that reads batches was killed ({one_line(error)}), most often for want of memory"
        elif str(error).startswith("DataLoader timed out"):
            problem = f"no batch has come for {PATIENCE} s: the storage hangs, or /tmp or /dev/shm is full"
        # Python's own error, of a worker too, or torch's, which has a class for it on CUDA only.
        elif isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            problem = "there is not enough memory"
        else:
            raise
        raise RecipeError(
            f"{folder}: {problem}; set data.workers lower (asr train --resume {folder} data.workers=0), or begin a new "
            "run with smaller batches or a smaller model"
        ) from error


def is_lost_worker(error: Exception) -> bool:
    """Whether a worker was killed; torch has no class for that, and raises it from a signal's handler, anywhere."""
    return str(error).startswith("DataLoader worker")
