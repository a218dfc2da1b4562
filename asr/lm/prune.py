"""Entropy pruning of n-gram models (Stolcke 1998, "Entropy-based pruning of backoff language models")."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from asr.lm.estimate import Ngrams


def entropy_prune(levels: Sequence[Ngrams], threshold: float) -> list[np.ndarray]:
    """Masks of the n-grams to keep; sets the back-off weights for these.

    Stolcke 1998, "Entropy-based pruning of backoff language models": an n-gram is removed if the perplexity of the
    model without it rises by less than the fraction `threshold`. The probability of a context is its share of the text,
    not the model's, for which the lower orders of Kneser-Ney are not suited (Chelba et al. 2010).
    """
    kept = [np.ones(len(ngrams), dtype=bool) for ngrams in levels]
    needed = np.zeros(len(levels[-1]), dtype=bool)  # as contexts of kept n-grams
    for order in range(len(levels) - 1, 0, -1):
        below, ngrams = levels[order - 1], levels[order]
        prob, lower = ngrams.prob, below.prob[ngrams.suffix]
        left = unseen(ngrams, prob, len(below))[ngrams.context]
        left_below = unseen(ngrams, lower, len(below))[ngrams.context]
        old, new = np.log(left / left_below), np.log((left + prob) / (left_below + lower))
        share = below.count[ngrams.context] / levels[0].count.sum()
        loss = share * (prob * (np.log(prob) - np.log(lower) - new) + left * (old - new))
        kept[order] = needed | (np.expm1(loss) >= threshold)
        needed = np.zeros(len(below), dtype=bool)
        needed[ngrams.context[kept[order]]] = True

    lower = levels[0].prob  # probabilities of an order in the smaller model
    for (below, ngrams), mask in zip(pairwise(levels), kept[1:], strict=True):
        lower = lower[ngrams.suffix]
        left = unseen(ngrams, np.where(mask, ngrams.prob, 0), len(below))
        below.backoff = left / unseen(ngrams, np.where(mask, lower, 0), len(below))
        lower = np.where(mask, ngrams.prob, below.backoff[ngrams.context] * lower)
    return kept


def unseen(ngrams: Ngrams, prob: np.ndarray, contexts: int) -> np.ndarray:
    """1 − the sum of the probabilities after each context; at least 1e-12, whatever the rounding."""
    return np.maximum(1 - ngrams.by_context(prob, contexts), 1e-12)
