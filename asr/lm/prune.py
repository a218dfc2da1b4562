"""Entropy pruning of n-gram models (Stolcke 1998, "Entropy-based pruning of backoff language models")."""

from bisect import bisect_left
from itertools import pairwise

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.binary import packed_size
from asr.lm.ngram import CODES, MEMBERS, Level, NgramModel
from asr.lm.trie import Trie, normalized, unseen

ROUNDS = 10  # words of a generated text after which the first one no longer matters


class Pruner:
    """Leaves out the n-grams of a model that it predicts almost as well without.

    losses: of each n-gram the rise of the model's perplexity without it, as a fraction, or that without a longer one
        that begins with it, if that is higher; infinite for 1-grams. By node (see `asr.lm.trie`).
    """

    def __init__(self, model: NgramModel):
        self._model = model
        self._trie = trie = Trie(model)
        lower, suffixes = np.zeros(trie.begins[-1], dtype=np.float32), np.zeros(trie.begins[-1], dtype=np.uint32)
        for order in range(2, model.order + 1):
            nodes, contexts, words = trie.ngrams(order)
            lower[nodes], suffixes[nodes] = trie.score(trie.suffixes[contexts], words)
        shares = context_shares(model, trie, lower, suffixes)
        self.losses = np.zeros(trie.begins[-1], dtype=np.float32)
        self.losses[: trie.begins[1]] = np.inf
        for order in range(model.order, 1, -1):
            nodes, contexts, _ = trie.ngrams(order)
            first, end = trie.begins[order - 2 : order]
            log_prob, log_lower = (values[nodes].astype(np.float64) for values in (trie.log_probs, lower))
            prob, prob_lower = np.exp(log_prob), np.exp(log_lower)
            left, left_below = (
                unseen(contexts - first, each, end - first)[contexts - first] for each in (prob, prob_lower)
            )
            old, new = np.log(left / left_below), np.log((left + prob) / (left_below + prob_lower))
            loss = shares[contexts] * (prob * (log_prob - log_lower - new) + left * (old - new))
            self.losses[nodes] = np.maximum(self.losses[nodes], np.expm1(loss))
            if order > 2:
                np.maximum.at(self.losses, contexts, self.losses[nodes])

    def to_size(self, size: int) -> NgramModel:
        """The model with the lowest threshold whose file has at most `size` bytes, packed. LanguageModelError."""
        trie = self._trie
        self._limit_members()
        ascending = [np.sort(self.losses[begin:end]) for begin, end in pairwise(trie.begins)]
        text = len(self._model.arrays["text"])

        def size_of(threshold: np.float32) -> int:
            return packed_size([len(each) - int(np.searchsorted(each, threshold)) for each in ascending], text)

        if (smallest := size_of(np.float32(np.inf))) > size:
            raise LanguageModelError(f"{size:,} bytes are too few: {trie.vocabulary:,} words alone take {smallest:,}")
        candidates = np.unique(np.concatenate([[0.0], *ascending]).astype(np.float32))
        candidates = candidates[candidates >= 0]
        return self.prune(
            candidates[bisect_left(candidates, -size, key=lambda threshold: -size_of(threshold))]
        ).packed()

    def _limit_members(self) -> None:
        """Leave out the n-grams of words that end none worth much, so that 16 bits are enough for those that do."""
        trie = self._trie
        if trie.vocabulary <= CODES:
            return
        best = np.zeros(trie.vocabulary, dtype=np.float32)  # loss of n-grams with the word
        for order in range(2, self._model.order + 1):
            nodes, _, words = trie.ngrams(order)
            np.maximum.at(best, words, self.losses[nodes])
        rare = np.ones(trie.vocabulary, dtype=bool)
        rare[np.argsort(-best, kind="stable")[:MEMBERS]] = False
        for order in range(2, self._model.order + 1):
            nodes, contexts, words = trie.ngrams(order)
            self.losses[nodes][rare[words] | (self.losses[contexts] < 0)] = -1

    def prune(self, threshold: float) -> NgramModel:
        """The model of the n-grams with a loss of at least `threshold`, with back-off weights for these."""
        levels, places = [], np.zeros(1, dtype=np.int64)
        for order in range(1, self._model.order + 1):
            nodes, contexts, words = self._trie.ngrams(order)
            kept = self.losses[nodes] >= threshold
            contexts = places[contexts[kept] - (self._trie.begins[order - 2] if order > 1 else 0)]
            log_probs = self._trie.log_probs[nodes][kept]
            levels.append(Level(contexts, words[kept], log_probs, np.zeros(len(log_probs))))
            places = np.cumsum(kept) - 1
        return normalized(self._model.vocabulary.words, levels)


def context_shares(model: NgramModel, trie: Trie, lower: np.ndarray, suffixes: np.ndarray) -> np.ndarray:
    """The share of the words of a text that follow each context, by node below the highest order.

    The text is what the whole model would write, the shares are the stationary distribution of its contexts. The
    chain rule over its lower orders is no way to them: those of Kneser-Ney models are made for backing off and say
    little of how often an n-gram occurs (Chelba et al. 2010, "Study on interaction between entropy pruning and
    Kneser-Ney smoothing"). Shares of counts, which they propose, are not known of mixtures and of others' models.

    lower, suffixes: for each node the log-prob of its word after the shorter context, and the node that gives it.
    """
    start, end = 1 + model.vocabulary.sentence_start, 1 + model.vocabulary.sentence_end
    total, bigrams, inner = trie.begins[-1], trie.begins[1], trie.begins[-2]
    if model.order == 1:
        return np.ones(1)
    contexts, words = np.divmod(trie.keys, trie.vocabulary)
    probs = np.exp(trie.log_probs[1:], dtype=np.float64)
    probs[start - 1] = 0
    states = np.where(np.arange(1, total) < inner, np.arange(1, total), suffixes[1:].astype(np.int64))
    states[words == end - 1] = start
    backoffs = np.exp(trie.backoffs, dtype=np.float64)
    # An n-gram takes its word from what its context would otherwise hand down to the n-gram of its suffix.
    taken = np.exp(lower[bigrams:] - trie.log_probs[suffixes[bigrams:]]) * backoffs[contexts[bigrams - 1 :]]
    shares: np.ndarray = np.zeros(inner)
    shares[start] = 1.0

    def hand_down(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        values = values.copy()
        for first, last in reversed([*pairwise(trie.begins[:-1])]):
            values[:first] += np.bincount(trie.suffixes[first:last], (values * weights)[first:last], minlength=first)
        return values

    for _ in range(ROUNDS):
        asked = hand_down(shares, backoffs)  # how often the words after a context are looked up
        reached = asked[contexts]
        reached -= np.bincount(suffixes[bigrams:] - 1, taken * asked[contexts[bigrams - 1 :]], minlength=total - 1)
        shares = np.bincount(states, np.maximum(reached, 0) * probs, minlength=inner)
        shares = shares / shares.sum()
    return hand_down(shares, np.ones(inner))
