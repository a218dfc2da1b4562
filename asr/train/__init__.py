"""Training: from a recipe and manifests to a bundle."""

import os

# oneDNN, torch's kernels on CPUs, would keep the last 1,024 that it made. It makes new ones for each new shape, and
# hardly a batch has the shape of another, so memory would grow for hours and nothing be faster. Read at its first use.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
