"""F1 of marks and capitals: of what a tagger finds and what is written, the harmonic mean of precision and recall."""

from collections.abc import Sequence

import numpy as np

from asr.model.tagger import CASES, MARKS

# What says most about a tagger, and how it is named in a config.
MAIN = {",": "comma", ".": "full_stop", "?": "question_mark", "capitals": "capitals"}
NAMES = (*MARKS[1:], *CASES[1:], "capitals")  # the last: any case but lower


class Counts:
    """Adds up, for each of `NAMES`, what was found and right, found, and written."""

    def __init__(self) -> None:
        self._sums = np.zeros((3, len(NAMES)), dtype=np.int64)

    def add(self, marks: np.ndarray, cases: np.ndarray, true_marks: np.ndarray, true_cases: np.ndarray) -> None:
        """The marks and cases of words (N,), by their places in the lists, as found and as written; −1 for none."""
        found, written = _chosen(marks, cases), _chosen(true_marks, true_cases)
        self._sums += np.stack([found & written, found, written]).sum(axis=2)

    def f1(self, fewest: int = 1) -> dict[str, float]:
        """Scores of the marks and cases that are written at least so often."""
        right, found, written = self._sums
        scores = 2 * right / np.maximum(found + written, 1)
        return {name: float(score) for name, score, n in zip(NAMES, scores, written, strict=True) if n >= fewest}


def _chosen(marks: Sequence[int] | np.ndarray, cases: Sequence[int] | np.ndarray) -> np.ndarray:
    """(NAMES, N) bool."""
    marks, cases = np.asarray(marks), np.asarray(cases)
    each = [marks == mark for mark in range(1, len(MARKS))] + [cases == case for case in range(1, len(CASES))]
    return np.stack([*each, cases > 0])
