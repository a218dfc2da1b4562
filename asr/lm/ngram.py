"""A back-off n-gram model: opened in an instant, queried word by word or in batches.

The n-grams are a trie in breadth-first order. Node 0 is the empty context, then come all 1-grams, all 2-grams, and so
on, each order sorted by context and word; so the children of a node are consecutive and need no pointers but to the
first (as the sorted arrays of Heafield 2011, "KenLM: faster and smaller language model queries", section 3.2, but from
the first word on, so that a context is one node). Arrays, by node:

    words      the last word of its n-gram; 16 bits for up to 65,536 words, else 32
    log_probs  natural log of its probability after its context
    first      its first child; only of nodes below the highest order, as the next two
    backoffs   natural log of its back-off weight
    suffixes   its longest proper suffix in the model; only from 3-grams on, for a 2-gram it is the last word

A file (`asr.lm.binary`) holds these arrays and the vocabulary's.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from asr.lm.vocabulary import Vocabulary

CODES = 1 << 16  # values that 16 bits tell apart
CACHED = 1 << 16  # results of `best`: words in progress start with the same letters after many contexts
ROOT = 0  # the empty context
FEW = 50  # nodes
MISSING = 1 << 32  # no node: beyond all that 32 bits can name


@dataclass
class Level:
    """The n-grams of one order, sorted by context and word.

    context: place of the first n − 1 words in the level below, 0 for 1-grams. word: id. Both integers.
    log_prob, backoff: natural logs.
    """

    context: np.ndarray
    word: np.ndarray
    log_prob: np.ndarray
    backoff: np.ndarray

    def __len__(self) -> int:
        return len(self.word)


class NgramModel:
    """Scores of words after contexts. A state is the node of the longest context that can still make a difference:
    one without longer n-grams and without a back-off weight is replaced by its suffix, so equal futures are equal
    states (the state minimisation of Li & Khudanpur 2008, as in KenLM).
    """

    def __init__(self, counts: Sequence[int], arrays: dict[str, np.ndarray]):
        """counts: n-grams of each order. arrays: see the top of this module and `Vocabulary`."""
        self.counts = tuple(counts)
        self.order = len(self.counts)
        self.arrays = arrays
        self.vocabulary = Vocabulary(arrays["text"], arrays["starts"])
        begins = [*accumulate((1, *self.counts))]  # the first node of each order
        self._unigrams = self.counts[0]
        self._inner = begins[self.order - 1]  # the first node that is no context
        self._third = begins[min(self.order, 3) - 1]  # the first whose suffix is stored
        # Python reads single items of a memoryview several times faster than those of an array.
        self._words, self._first, self._suffixes = (arrays[key].data for key in ("words", "first", "suffixes"))
        self._log_probs, self._backoffs = arrays["log_probs"].data, arrays["backoffs"].data
        self._log_prob_table = arrays["log_prob_table"].data
        self._backoff_table = arrays["backoff_table"].data
        self._coded = len(self._log_prob_table) > 0
        self._best: dict[int, float] = {}

    @classmethod
    def of(cls, words: Sequence[bytes], levels: Sequence[Level]) -> "NgramModel":
        """The model of sorted words, which include <unk>, <s> and </s>, and of one level for each order."""
        counts = [len(level) for level in levels]
        children = [np.bincount(above.context, minlength=len(below)) for below, above in pairwise(levels)]
        inner = [np.zeros(0), *(level.backoff for level in levels[:-1])]
        arrays: dict[str, np.ndarray] = {
            "text": np.frombuffer(b"".join(words), dtype=np.uint8),
            "starts": np.cumsum([0, *map(len, words)], dtype=np.uint32),
            "words": np.concatenate([[0], *(level.word for level in levels)]),
            "first": np.cumsum(np.concatenate([[1, len(words)], *children]), dtype=np.uint32),
            "suffixes": np.zeros(sum(counts[2:-1]), dtype=np.uint32),
            "log_probs": np.concatenate([[0.0], *(level.log_prob for level in levels)], dtype=np.float32),
            "backoffs": np.concatenate([[0.0], *inner], dtype=np.float32),
            "log_prob_table": np.zeros(0, dtype=np.float32),
            "backoff_table": np.zeros(0, dtype=np.float32),
        }
        arrays["words"] = arrays["words"].astype(np.uint16 if len(words) <= 1 << 16 else np.uint32)
        model = cls(counts, arrays)
        begin = 1 + sum(counts[:2])
        for below, level in pairwise(levels[1:-1]):
            contexts = begin - len(below) + level.context
            arrays["suffixes"][begin - model._third :][: len(level)] = model._find(
                model._suffixes_of(contexts), level.word
            )
            begin += len(level)
        return model

    def start(self) -> int:
        """The state at the beginning of a sentence."""
        node = 1 + self.vocabulary.sentence_start
        return node if self._matters(node) else ROOT

    def best(self, state: int, begin: int, end: int) -> float:
        """The highest log-prob that one of the words of ids `begin` to `end` − 1 can have.

        An upper bound: words with an n-gram of their own also count as if they had none.
        """
        cached, key = self._best, ((state << 32) + begin << 32) + end
        best = cached.get(key)
        if best is None:
            best = cached[key] = self._compute_best(state, begin, end)
            if len(cached) > CACHED:
                self._best = {}
        return best

    def _compute_best(self, state: int, begin: int, end: int) -> float:
        if not state:
            first, last = begin + 1, end + 1
        else:
            last = self._first[state + 1]
            first = bisect_left(self._words, begin, self._first[state], last)
            last = bisect_left(self._words, end, first, last)
        best = -math.inf
        if first < last:
            few = last - first < FEW  # then Python is faster
            highest = max(self._log_probs[first:last]) if few else self.arrays["log_probs"][first:last].max()
            # The codes of numbers have the numbers' order.
            best = float(self._log_prob_table[highest] if self._coded else highest)
        if not state:
            return best
        return max(best, self._backoff(state) + self.best(self._suffix(state), begin, end))

    def shorten(self, state: int, begin: int, end: int) -> tuple[float, int]:
        """A number of nats, and the shortest context after which all are the same as after this one, less that number:
        the log-probs of the words of ids `begin` to `end` − 1 and of <unk>, and the states that these lead to.

        The state minimisation above for a part of the vocabulary: nothing but back-off weights is lost with a context
        that none of these words has an n-gram with.
        """
        paid, words = 0.0, self._words
        while state and self._child(state, self.vocabulary.unknown) == MISSING:
            last = self._first[state + 1]
            first = bisect_left(words, begin, self._first[state], last)
            if first < last and words[first] < end:
                break
            paid += self._backoff(state)
            state = self._suffix(state)
        return paid, state

    def score(self, state: int, word: int) -> tuple[float, int]:
        """The natural log of the word's probability, and the state after it."""
        log_prob = 0.0
        while (child := self._child(state, word)) == MISSING:
            log_prob += self._backoff(state)
            state = self._suffix(state)
        value = self._log_probs[child]
        log_prob += self._log_prob_table[value] if self._coded else value
        while not self._matters(child):
            if child < self._inner:
                child = self._suffix(child)
            elif state:
                state = self._suffix(state)
                child = self._child(state, word)
            else:
                child = ROOT  # of a model of 1-grams
        return log_prob, child

    def _child(self, node: int, word: int) -> int:
        """The node of context and word, or MISSING. Every word is a child of the root."""
        if not node:
            return word + 1
        first, words = self._first, self._words
        end = first[node + 1]
        found = bisect_left(words, word, first[node], end)
        return found if found < end and words[found] == word else MISSING

    def _suffix(self, node: int) -> int:
        """The longest proper suffix of a context."""
        if node >= self._third:
            return self._suffixes[node - self._third]
        return self._words[node] + 1 if node > self._unigrams else ROOT

    def _backoff(self, node: int) -> float:
        value = self._backoffs[node]
        return self._backoff_table[value] if self._coded else value

    def _matters(self, node: int) -> bool:
        """Whether a context differs from its suffix."""
        if node >= self._inner:
            return False
        return self._first[node] != self._first[node + 1] or self._backoff(node) != 0

    def score_many(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`score` for arrays of equal length: log-probs, float64, and the states after them, int64."""
        states, words = np.array(states, dtype=np.int64), np.asarray(words, dtype=np.int64)
        log_probs = np.zeros(len(states))
        children = np.empty_like(states)
        pending = np.arange(len(states))
        while len(pending):
            children[pending] = self._children(states[pending], words[pending])
            pending = pending[children[pending] == MISSING]
            log_probs[pending] += self._values("backoff", states[pending])
            states[pending] = self._suffixes_of(states[pending])
        log_probs += self._values("log_prob", children)
        pending = np.arange(len(states))
        while len(pending := pending[~self._all_matter(children[pending])]):
            inner = children[pending] < self._inner
            contexts, others = pending[inner], pending[~inner]
            children[contexts] = self._suffixes_of(children[contexts])
            children[others] = ROOT
            others = others[states[others] != ROOT]
            states[others] = self._suffixes_of(states[others])
            children[others] = self._children(states[others], words[others])
        return log_probs, children

    def _children(self, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """`_child` for arrays: one binary search for all, each in its own range."""
        found = words + 1
        searched = np.flatnonzero(nodes)
        nodes, words = nodes[searched], words[searched]
        first, stored = self.arrays["first"], self.arrays["words"]
        low, end = first[nodes].astype(np.int64), first[nodes + 1].astype(np.int64)
        high, last = end, len(stored) - 1
        for _ in range(int((end - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            after = (low < high) & (stored[np.minimum(middle, last)] < words)
            low, high = np.where(after, middle + 1, low), np.where(after, high, middle)
        hit = (low < end) & (stored[np.minimum(low, last)] == words)
        found[searched] = np.where(hit, low, MISSING)
        return found

    def _find(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The nodes of the words, each after its context or after the longest suffix of it that has the word."""
        found = self._children(contexts, words)
        while len(pending := np.flatnonzero(found == MISSING)):
            contexts[pending] = self._suffixes_of(contexts[pending])
            found[pending] = self._children(contexts[pending], words[pending])
        return found

    def _suffixes_of(self, nodes: np.ndarray) -> np.ndarray:
        """`_suffix` for an array."""
        suffixes = np.where(nodes > self._unigrams, self.arrays["words"][nodes] + np.int64(1), ROOT)
        far = nodes >= self._third
        suffixes[far] = self.arrays["suffixes"][nodes[far] - self._third]
        return suffixes

    def _values(self, kind: str, nodes: np.ndarray) -> np.ndarray:
        """kind: "log_prob" or "backoff"; of each node."""
        values = self.arrays[f"{kind}s"][nodes]
        return self.arrays[f"{kind}_table"][values] if self._coded else values

    def _all_matter(self, nodes: np.ndarray) -> np.ndarray:
        """`_matters` for an array."""
        matter = nodes < self._inner
        contexts, first = nodes[matter], self.arrays["first"]
        matter[matter] = (first[contexts] != first[contexts + 1]) | (self._values("backoff", contexts) != 0)
        return matter

    def score_text(self, text: str, bos: bool = True, eos: bool = True) -> float:
        """Natural log of the probability of a sentence, as KenLM's `score` (log10 there) with the same arguments."""
        return sum(log_prob for _, log_prob in self.score_words(text, bos, eos))

    def score_words(self, text: str, bos: bool = True, eos: bool = True) -> Iterator[tuple[int, float]]:
        """The id and the log-prob of each word of a sentence, and of its end."""
        words = [self.vocabulary.id(word) for word in text.split()]
        state = self.start() if bos else ROOT
        for word in [*words, self.vocabulary.sentence_end] if eos else words:
            log_prob, state = self.score(state, word)
            yield word, log_prob

    def levels(self) -> Iterator[Level]:
        """What `of` was given."""
        contexts, end = np.zeros(len(self.vocabulary), dtype=np.int64), 1
        for order, count in enumerate(self.counts, start=1):
            begin, end = end, end + count
            nodes = np.arange(begin, end)
            backoff = self._values("backoff", nodes) if order < self.order else np.zeros(count)
            yield Level(contexts, self.arrays["words"][begin:end], self._values("log_prob", nodes), backoff)
            if order < self.order:
                first = self.arrays["first"]
                contexts = np.repeat(np.arange(count), first[begin + 1 : end + 1] - first[begin:end])

    def coded(self) -> "NgramModel":
        """The same with 16 bits for a number. The error of each is at most half of 1 / 65,536 of their range."""
        if self._coded:
            return self
        arrays = dict(self.arrays)
        for kind in ("log_prob", "backoff"):
            arrays[f"{kind}s"], arrays[f"{kind}_table"] = code(self.arrays[f"{kind}s"])
        return NgramModel(self.counts, arrays)


def code(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as 16-bit codes, and the table of what the codes stand for; exact where there are no more different ones.

    Otherwise the table holds multiples of a step, 0 among them, and none in the gaps between the numbers.
    """
    table = np.unique(values).astype(np.float64)
    if len(table) <= CODES:
        return np.searchsorted(table, values).astype(np.uint16), table.astype(np.float32)
    step = (table[-1] - table[0]) / (CODES - 2)
    while np.count_nonzero(np.diff(np.round(table / (0.9 * step)))) < CODES:
        step *= 0.9
    multiples = np.unique(np.round(table / step))
    codes = np.searchsorted(multiples, np.round(values.astype(np.float64) / step))
    return codes.astype(np.uint16), (multiples * step).astype(np.float32)
