"""What training frees stays with the process."""

import platform
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="needs torch")

# The pages that the system had to clear for ten large arrays, one after the other, after the first one.
COUNT_PAGES = """
import resource
import numpy as np
{prepare}
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.full(30_000_000, 1.0)
before = pages()
for _ in range(10):
    np.full(30_000_000, 1.0)
print(pages() - before)
"""
KEEP = "from asr.train.process import keep_freed_memory; keep_freed_memory()"


def cleared_pages(prepare: str) -> int:
    program = [sys.executable, "-c", COUNT_PAGES.format(prepare=prepare)]
    return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has to be told")
def test_a_large_array_takes_the_place_of_the_one_before():
    assert cleared_pages(KEEP) < cleared_pages("") / 100
