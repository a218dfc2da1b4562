"""Memory of the process that trains."""

import ctypes
import platform

# Parameters of glibc's mallopt(3), and its largest value.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
INT_MAX = 2**31 - 1


def keep_freed_memory() -> None:
    """Have the C library keep what a batch frees for the next one, instead of giving it back to the system.

    glibc's malloc maps each large tensor anew and returns it when it is freed; then the system clears the pages of all
    tensors again and again. The process takes more memory for it. Elsewhere than with glibc, nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)  # everything from the heap
        mallopt(M_TRIM_THRESHOLD, INT_MAX)  # which is never cut
