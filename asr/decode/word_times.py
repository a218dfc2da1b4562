"""Tokens aligned to frames, and the words with times and confidences that they spell.

Every decoder ends here, so one rule gives the times of all of them.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from asr.model.tokens import WORD_START, Tokens
from asr.output.transcript import Word


class AlignedToken(NamedTuple):
    """A token and its run of frames: `first` to `last`, both included.

    log_prob: the highest log-probability that the token has in the run.
    """

    token: int
    first: int
    last: int
    log_prob: float


def spell_words(aligned: Iterable[AlignedToken], tokens: Tokens, frame_seconds: float) -> tuple[Word, ...]:
    """Words from aligned tokens (no blanks, in order of time).

    A word lasts from the first frame of its first token to the end of the last frame of its last
    one. A `▁` that stands alone, as in character models, starts a word but spells nothing: it moves
    neither times nor confidence, and words without letters are left out.
    """
    spelled: list[list[AlignedToken]] = []
    for item in aligned:
        if not spelled or tokens.starts_word(item.token):
            spelled.append([])
        if tokens.symbols[item.token].strip(WORD_START):
            spelled[-1].append(item)
    return tuple(_word(items, tokens, frame_seconds) for items in spelled if items)


def _word(items: Sequence[AlignedToken], tokens: Tokens, frame_seconds: float) -> Word:
    # The geometric mean, so that a long word is not less certain only for having more tokens.
    mean_log_prob = sum(item.log_prob for item in items) / len(items)
    return Word(
        text="".join(tokens.symbols[item.token].strip(WORD_START) for item in items),
        start=items[0].first * frame_seconds,
        end=(items[-1].last + 1) * frame_seconds,
        confidence=min(1.0, math.exp(mean_log_prob)),  # float32 rounding may put a log-prob just above 0
    )


def check_log_probs(log_probs: np.ndarray, tokens: Tokens) -> None:
    """Raise ValueError unless `log_probs` is (frames, tokens) and holds numbers; no frames is fine."""
    if log_probs.ndim != 2 or log_probs.shape[1] != len(tokens):
        raise ValueError(f"log_probs must have shape (frames, {len(tokens)}), found {log_probs.shape}")
    if np.isnan(log_probs).any():
        raise ValueError("log_probs hold NaN; the model or its input is broken")
