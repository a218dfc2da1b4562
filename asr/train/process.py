"""Settings of the whole process: environment, threads, memory, random generators.

Programs that train call this module; importing `asr.train` or constructing a `Trainer` changes no setting.
"""

import ctypes
import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from asr.errors import RecipeError

ENVIRONMENT = {
    # Of oneDNN, torch's kernels on CPUs, which would keep the last 1,024 kernels that it made. It makes one for each
    # shape, and hardly a batch has the shape of another: memory would grow for hours and nothing be faster.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    # Large tensors come and go with each batch: on pages of 2 MB the system spends half the time on them.
    "THP_MEM_ALLOC_ENABLE": "1",
}
# Parameters of glibc's mallopt(3), and its largest value.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
INT_MAX = 2**31 - 1


def prepare_process(threads: int = 0) -> None:
    """Call it before the first tensor is made, when torch reads its environment. threads: 0 leaves them to torch."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have the C library keep what a batch frees for the next one, instead of giving it back to the system.

    glibc's malloc maps each large tensor anew and returns it when it is freed; then the system clears the pages of all
    tensors again and again. The process takes more memory for it. Elsewhere than with glibc, nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)  # everything from the heap
        mallopt(M_TRIM_THRESHOLD, INT_MAX)  # which is never cut


@contextmanager
def translate_memory_errors(folder: Path) -> Iterator[None]:
    """RecipeError if memory does not suffice for the run in `folder`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # Python's own error, or torch's, which has a class for it on CUDA only.
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        raise RecipeError(
            f"{folder}: there is not enough memory; begin a new run with smaller batches or a smaller model"
        ) from error


def seed_all(*what: object) -> None:
    """Seed Python's, numpy's and torch's generators: what is drawn from here on depends on these values alone."""
    seed = random.Random(" ".join(map(str, what))).getrandbits(63)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
