"""Estimation in little memory: the same model, also after an interruption, and as little memory as was allowed."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import LanguageModelError
from asr.lm.columns import Column, Steps
from asr.lm.estimate import MEMORY, STAGES, estimate
from asr.lm.ngram import NgramModel

sentences = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=12).map(" ".join), min_size=1, max_size=60)
TEXT = [" ".join(f"w{number**2 % 17 + number // 7 % 5}" for number in range(begin, begin + 9)) for begin in range(300)]


def same(left: NgramModel, right: NgramModel) -> bool:
    return left.counts == right.counts and all(
        left.arrays[name].dtype == right.arrays[name].dtype and np.array_equal(left.arrays[name], right.arrays[name])
        for name in left.arrays
    )


@given(
    text=sentences,
    order=st.integers(1, 5),
    memory=st.integers(1, 30_000),
    vocabulary=st.sampled_from([None, 2, "aceg"]),
    cutoffs=st.sampled_from([[0], [0, 1], [0, 0, 2]]),
    threshold=st.sampled_from([0, 1e-4, 1e-2]),
)
def test_the_model_does_not_depend_on_the_memory(
    text: list[str], order: int, memory: int, vocabulary: int | str | None, cutoffs: list[int], threshold: float
) -> None:
    text.append("a b c d e f")  # long enough for any order
    settings = {"vocabulary": vocabulary, "cutoffs": cutoffs[:order], "threshold": threshold}
    expected, expected_fallbacks = estimate(text, order, **settings)
    model, fallbacks = estimate(text, order, **settings, memory=memory)
    assert same(model, expected)
    assert fallbacks == expected_fallbacks
    of_model = NgramModel.of([*model.vocabulary], [*model.levels()])  # which looks for the suffixes
    assert same(of_model, model)


class Killed(BaseException):
    """In place of a signal that ends the process."""


def unreadable() -> Iterator[str]:
    raise AssertionError("read again")
    yield ""


@settings(max_examples=40)
@given(writes=st.integers(1, 900), memory=st.sampled_from([20_000, 200_000, MEMORY]))
def test_a_build_that_was_killed_goes_on(writes: int, memory: int) -> None:
    """Wherever it was, and however much of the last piece had been written."""
    expected, expected_fallbacks = estimate(TEXT, 4)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        append, numbers = Column.append, count(1)

        def append_or_die(column: Column, values: np.ndarray) -> None:
            dies = next(numbers) == writes  # in one of two threads; the other still finishes its step
            append(column, values[: len(values) // 2] if dies else values)
            if dies:
                raise Killed

        patch.setattr(Column, "append", append_or_die)
        parts = Path(folder) / "parts"
        try:
            model, fallbacks = estimate(TEXT, 4, memory=memory, steps=Steps(parts, "same"))
        except Killed:
            was_read = "reading" in (parts / "steps.json").read_text()
            text = unreadable() if was_read else TEXT
            model, fallbacks = estimate(text, 4, memory=memory, steps=Steps(parts, "same"))
        assert same(model, expected)
        assert fallbacks == expected_fallbacks


@pytest.mark.parametrize(("before", "after"), [("one", "another"), (None, None), (["same", 1], ["same", 2])])
def test_another_build_starts_afresh(tmp_path: Path, before: object, after: object) -> None:
    estimate(TEXT[:10], 2, steps=Steps(tmp_path / "parts", before))
    model, _ = estimate(TEXT, steps=Steps(tmp_path / "parts", after))
    assert same(model, estimate(TEXT)[0])


def test_a_damaged_list_of_steps_is_not_believed_and_nobody_elses_files_are_removed(tmp_path: Path) -> None:
    estimate(TEXT, 2, steps=Steps(tmp_path / "parts", "same"))
    (tmp_path / "parts/steps.json").write_text('{"settings": "sa')
    with pytest.raises(LanguageModelError, match="parts: is needed for temporary files, but exists"):
        Steps(tmp_path / "parts", "same")
    assert (tmp_path / "parts/words").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def append(column: Column, values: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Column, "append", append)
    with pytest.raises(LanguageModelError, match=r"parts: cannot be written \(No space left on device\); make room"):
        estimate(TEXT, steps=Steps(tmp_path / "parts"))


def test_stages_are_reported_in_order(tmp_path: Path) -> None:
    reported: list[tuple[str, float]] = []
    steps = Steps(tmp_path / "parts", on_progress=lambda stage, share: reported.append((stage, share)))
    estimate(TEXT, 4, threshold=1e-5, memory=20_000, steps=steps)
    places = [([*STAGES].index(stage), share) for stage, share in reported if stage != "counting"]  # in threads
    assert places == sorted(places)
    assert {stage for stage, _ in reported} == STAGES.keys()
    assert all(0 <= share < 1 for _, share in reported)


MEASURED = """
import pathlib, re, sys
import numpy as np
from asr.lm.estimate import estimate
def sentences():
    generator = np.random.default_rng(0)
    for _ in range(60_000):
        yield " ".join(map(str, generator.integers(0, 2000, 20)))
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the process that started this one
before = peak()
estimate(sentences(), 3, memory=int(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_the_memory_is_bounded() -> None:
    """A text of 1.2 million words with nearly as many different 3-grams; the model itself has 30 MB."""
    used = [
        1024
        * int(subprocess.run([sys.executable, "-c", MEASURED, str(memory)], capture_output=True, check=True).stdout)
        for memory in (50 << 20, MEMORY)
    ]
    assert used[0] < 50 << 20 < used[1]
