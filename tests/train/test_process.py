"""Settings of the process that trains: made by programs, by no import and no trainer."""

import os
import platform
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tiny_runs import language_recipe, make_trainer, noisy_recipe  # noqa: E402

from asr.signals import ended_by_signals  # noqa: E402
from asr.train.process import ENVIRONMENT, prepare_process  # noqa: E402

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
    # numpy's own wish for large pages is granted where there are some.
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    return int(subprocess.run(program, check=True, capture_output=True, text=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has to be told")
def test_a_large_array_takes_the_place_of_the_one_before():
    assert cleared_pages(KEEP) < cleared_pages("") / 100


SETTINGS = """
import os, signal, sys, warnings
import torch
def settings():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    filters = [entry for entry in warnings.filters if entry[1] and "Dynamic" in entry[1].pattern]
    return torch.get_num_threads(), handlers, dict(os.environ), filters
before = settings()
import asr.train
assert settings() == before
import asr.train.run, asr.train.loader
after = settings()
assert after == before, (before, after)
assert "torchaudio" not in sys.modules  # its import makes a tensor, after which the environment is no longer read
asr.train.run.prepare_process(2)
assert settings() != before
assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
"""


def test_importing_changes_no_setting_of_the_process():
    left = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    done = subprocess.run([sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=False, env=left)
    assert done.returncode == 0, done.stderr


def settings() -> list[Any]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return [torch.get_num_threads(), handlers, dict(os.environ), list(warnings.filters)]


@pytest.mark.parametrize("kind", ["acoustic", "language"])
def test_constructing_a_trainer_changes_no_setting_of_the_process(
    kind: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    recipe = noisy_recipe(corpus) if kind == "acoustic" else language_recipe(tmp_path)
    recipe.threads = 0  # for `make_trainer`, which otherwise sets them as `asr.train.run` does
    first = make_trainer(recipe)  # imports what it needs: a library may set its own
    recipe.threads, recipe.name = 7, "second"
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    before, drawn = settings(), [random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()]
    second = make_trainer(recipe)
    assert settings() == before
    assert [random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()] == drawn
    for name, value in first.model.state_dict().items():  # which the recipe's seed gives
        assert torch.equal(value, second.model.state_dict()[name])


@pytest.fixture
def default_handlers() -> Iterator[None]:
    """A shell starts programs in the background with SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_handlers")
def test_the_first_signal_asks_to_stop_and_the_second_stops():
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before, stop = [signal.getsignal(number) for number in numbers], Event()
    with ended_by_signals(stop.set):
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_program_that_trains_sets_the_threads_and_what_is_not_set_yet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asr.train.process.keep_freed_memory", lambda: None)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "9")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    prepare_process(3)
    assert torch.get_num_threads() == 3
    assert [os.environ[name] for name in ENVIRONMENT] == ["9", "1"]
