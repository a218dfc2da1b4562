"""TensorBoard's events."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


@contextmanager
def event_writer(folder: Path, step: int) -> Iterator[SummaryWriter]:
    """Events of a run from update `step` on; what an earlier process wrote from there on is hidden.

    On a full disk the writer raises OSError; the thread that found out would print a traceback besides.
    """

    def raised_again(thrown: threading.ExceptHookArgs) -> None:
        if not isinstance(thrown.exc_value, OSError):
            hook(thrown)

    hook, threading.excepthook = threading.excepthook, raised_again
    try:
        with SummaryWriter(str(folder), purge_step=step) as writer:
            yield writer
    finally:
        threading.excepthook = hook
