"""All n-grams of a model at once, for programs that make one model from others: numpy arrays by node.

Nodes are those of `asr.lm.ngram`: 0 is the empty context, then come the n-grams of each order, sorted by context and
word.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from asr.lm.ngram import Level, NgramModel, find

PIECE = 1 << 22  # queries at a time, which bounds the memory
SMALLEST = 1e-12  # a share of the probability that is left, whatever the rounding


class Trie:
    """Attributes:

    begins: the first node of each order, and the number of nodes.
    keys: of node 1 and those after it, context × vocabulary + word; ascending.
    log_probs: by node.
    backoffs, suffixes: by node below the highest order; the natural log of the back-off weight, and the node of the
        longest proper suffix.
    """

    def __init__(self, model: NgramModel):
        self.begins = [*accumulate((1, *model.counts))]
        self.vocabulary = model.counts[0]
        levels = [*model.levels()]
        self.keys = np.concatenate(
            [
                (level.context + before) * np.int64(self.vocabulary) + level.word
                for level, before in zip(levels, [0, *self.begins], strict=False)
            ]
        )
        self.log_probs = np.concatenate([[0.0], *(level.log_prob for level in levels)], dtype=np.float32)
        self.backoffs = np.concatenate([[0.0], *(level.backoff for level in levels[:-1])], dtype=np.float32)
        short = [np.zeros(1, dtype=np.uint32), *(np.zeros(self.vocabulary, dtype=np.uint32) for _ in levels[1:2])]
        bigrams = [(level.word + 1).astype(np.uint32) for level in levels[1:-1][:1]]
        self.suffixes = np.concatenate([*short, *bigrams, model.arrays["suffixes"]])

    def ngrams(self, order: int) -> tuple[slice, np.ndarray, np.ndarray]:
        """The nodes of an order, and the context, a node, and the word of each."""
        nodes = slice(self.begins[order - 1], self.begins[order])
        contexts, words = np.divmod(self.keys[nodes.start - 1 : nodes.stop - 1], self.vocabulary)
        return nodes, contexts, words

    def score(self, contexts: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-probs of words after contexts, and the nodes that they come from: the longest n-grams with the word."""
        log_probs, nodes = np.zeros(len(words)), np.zeros(len(words), dtype=np.uint32)
        for begin in range(0, len(words), PIECE):
            pending = np.arange(begin, min(begin + PIECE, len(words)))
            context, word = contexts[pending].astype(np.int64), words[pending]
            while len(pending):
                key = context * self.vocabulary + word
                place = find(self.keys, key)
                found = self.keys[np.minimum(place, len(self.keys) - 1)] == key
                nodes[pending[found]] = place[found] + 1
                pending, context, word = pending[~found], context[~found], word[~found]
                log_probs[pending] += self.backoffs[context]
                context = self.suffixes[context].astype(np.int64)
        return log_probs + self.log_probs[nodes], nodes

    def states(self, contexts: np.ndarray, words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """The contexts after words, whose `nodes` `score` returned: their longest suffixes below the highest order."""
        states = nodes.copy()
        if len(self.begins) == 2:
            return np.zeros_like(nodes)
        while len(longest := np.flatnonzero(states >= self.begins[-2])):
            context, word = np.divmod(self.keys[states[longest].astype(np.int64) - 1], self.vocabulary)
            states[longest] = self.score(self.suffixes[context], word)[1]
        return states


def normalized(words: Sequence[bytes], levels: Sequence[Level]) -> NgramModel:
    """The model with the probabilities of `levels`, and the back-off weights with which they sum to 1 after every
    context; the levels' own are not used."""
    model = NgramModel.of(words, levels)
    trie = Trie(model)
    for order in range(2, model.order + 1):
        nodes, contexts, word = trie.ngrams(order)
        lower, _ = trie.score(trie.suffixes[contexts], word)
        first, end = trie.begins[order - 2 : order]
        left, left_below = (
            unseen(contexts - first, np.exp(values, dtype=np.float64), end - first)
            for values in (trie.log_probs[nodes], lower)
        )
        trie.backoffs[first:end] = np.log(left / left_below)
    return NgramModel(model.counts, model.arrays | {"backoffs": trie.backoffs})


def unseen(contexts: np.ndarray, probs: np.ndarray, count: int) -> np.ndarray:
    """1 − the sum of the probabilities after each of `count` contexts; at least `SMALLEST`."""
    return np.maximum(1 - np.bincount(contexts, probs, minlength=count), SMALLEST)
