"""Training: from a recipe and manifests to a bundle."""

import os

# Both are read at their first use.
# oneDNN, torch's kernels on CPUs, would keep the last 1,024 that it made. It makes new ones for each new shape, and
# hardly a batch has the shape of another, so memory would grow for hours and nothing be faster.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# Large tensors come and go with each batch: on pages of 2 MB the system spends half the time on them.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
