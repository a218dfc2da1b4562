"""F1 of marks and capitals, counted by hand."""

import numpy as np
import pytest

from asr.evaluate.tagging import Counts
from asr.model.tagger import CASES, MARKS


def places(names: str, of: tuple[str, ...]) -> np.ndarray:
    return np.array([of.index(name.replace("_", "")) if of is MARKS else of.index(name) for name in names.split()])


def test_f1_of_marks_and_cases():
    counts = Counts()
    found, written = places(", . _ , . ?", MARKS), places(", . . _ . .", MARKS)
    cases = (
        places("lower capital upper lower listed lower", CASES),
        places("capital capital capital lower listed lower", CASES),
    )
    counts.add(found[:4], cases[0][:4], written[:4], cases[1][:4])
    counts.add(found[4:], cases[0][4:], written[4:], cases[1][4:])  # the same as at once
    scores = counts.f1()
    assert scores[","] == pytest.approx(2 * 1 / (2 + 1))
    assert scores["."] == pytest.approx(2 * 2 / (2 + 4))
    assert scores["capital"] == pytest.approx(2 * 1 / (1 + 3))
    assert scores["listed"] == 1
    assert scores["capitals"] == pytest.approx(2 * 3 / (3 + 4))
    assert "?" not in scores  # it is not written
    assert ";" not in scores
    assert counts.f1(fewest=4).keys() == {".", "capitals"}


def test_what_is_padding_counts_nothing():
    counts = Counts()
    none = np.array([-1, -1])
    counts.add(none, none, none, none)
    assert counts.f1() == {}
