"""A back-off n-gram model, queried word by word.

The n-grams are a trie in breadth-first order. Node 0 is the empty context, then come all 1-grams, all 2-grams, and so
on, each order sorted by context and word, so that the children of a node are consecutive and only the first needs a
pointer (like the sorted arrays of Heafield 2011, "KenLM: faster and smaller language model queries", section 3.2, but
from the first word on: a context is one node). Arrays, by node:

    words      the last word of its n-gram; 16 bits for up to 65,536 words, else 32, or 16 for its place in `members`
    log_probs  natural log of its probability after its context
    first      its first child; as the next two only below the highest order
    backoffs   natural log of its back-off weight
    suffixes   its longest proper suffix in the model; only from 3-grams on, that of a 2-gram is its last word

With tables, log-probs and back-off weights are the places of their values there, in 8 bits (16 in older files).
`members` are the words that end n-grams of two words or more, where the others would only make each n-gram larger;
else it is empty.

A file (`asr.lm.binary`) holds these arrays and the vocabulary's.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.vocabulary import Vocabulary, join

CODES = 1 << 16  # values that 16 bits tell apart
SMALL_CODES = 1 << 8  # and that 8 bits do
MEMBERS = CODES - 1  # most words that can end n-grams of two words or more in `packed`; the last place is no word's
CACHED = 1 << 16  # results of `best`: words in progress start with the same letters after many contexts
ROOT = 0  # the empty context
FEW = 50  # nodes
MISSING = 1 << 32  # no node: larger than any 32-bit number


@dataclass
class Level:
    """The n-grams of one order, sorted by context and word."""

    context: np.ndarray  # integers: place of the first n − 1 words in the level below, 0 for 1-grams
    word: np.ndarray  # ids
    log_prob: np.ndarray  # natural logs
    backoff: np.ndarray

    def __len__(self) -> int:
        return len(self.word)


class NgramModel:
    """Log-probabilities of words after contexts.

    A context is an integer, the state: the node of its longest suffix that has longer n-grams or a back-off weight. So
    contexts with the same continuations have the same state (state minimization, Li & Khudanpur 2008, as in KenLM).
    """

    def __init__(self, counts: Sequence[int], arrays: dict[str, np.ndarray], path: Path | None = None):
        self.path = path  # of the file that the arrays are mapped from, which may be damaged
        self.counts = tuple(counts)
        self.order = len(self.counts)
        self.arrays = arrays
        self.vocabulary = Vocabulary(arrays["text"], arrays["starts"])
        self._orders = begins = [*accumulate((1, *self.counts))]  # the first node of each order
        self._unigrams = self.counts[0]
        self._nodes = begins[-1]
        self._inner = begins[self.order - 1]  # the first node that is no context
        self._third = begins[min(self.order, 3) - 1]  # the first whose suffix is stored
        # Python reads single items of a memoryview several times faster than those of an array.
        self._words, self._first, self._suffixes = (arrays[key].data for key in ("words", "first", "suffixes"))
        self._log_probs, self._backoffs = arrays["log_probs"].data, arrays["backoffs"].data
        self._quantized = len(arrays["log_prob_table"]) > 0
        self._log_prob_table, self._backoff_table = (
            _filled(arrays[f"{kind}_table"], arrays[f"{kind}s"]).data for kind in ("log_prob", "backoff")
        )
        self._members = arrays["members"].data
        self._ranks = self._below = None
        if len(self._members):
            is_member = np.zeros(self._unigrams + 1, dtype=bool)
            is_member[arrays["members"]] = True
            below = np.cumsum(is_member) - is_member
            self._below = below.astype(np.uint16).data  # for each word the members before it
            self._ranks = np.where(is_member, below, MEMBERS).astype(np.uint16).data  # and its own place among them
        # The highest log-prob that one of the words of ids `begin` to `end` − 1 can have after `state`. Not exact:
        # words with an n-gram of their own also count as if they had none.
        self.best = lru_cache(CACHED)(self._compute_best)

    @classmethod
    def of(cls, words: Sequence[bytes], levels: Sequence[Level]) -> "NgramModel":
        """The model of sorted words, which include <unk>, <s> and </s>, and of one level for each order."""
        counts = [len(level) for level in levels]
        children = [np.bincount(above.context, minlength=len(below)) for below, above in pairwise(levels)]
        inner = [np.zeros(0), *(level.backoff for level in levels[:-1])]
        text, starts = join(words)
        arrays: dict[str, np.ndarray] = {
            "text": text,
            "starts": starts,
            "words": np.concatenate([[0], *(level.word for level in levels)]),
            "first": np.cumsum(np.concatenate([[1, len(words)], *children]), dtype=np.uint32),
            "suffixes": _suffixes(levels[:-1], len(words)),
            "log_probs": np.concatenate([[0.0], *(level.log_prob for level in levels)], dtype=np.float32),
            "backoffs": np.concatenate([[0.0], *inner], dtype=np.float32),
            "log_prob_table": np.zeros(0, dtype=np.float32),
            "backoff_table": np.zeros(0, dtype=np.float32),
            "members": np.zeros(0, dtype=np.uint32),
        }
        arrays["words"] = arrays["words"].astype(np.uint16 if len(words) <= 1 << 16 else np.uint32)
        return cls(counts, arrays)

    def start(self) -> int:
        """The state at the beginning of a sentence."""
        node = 1 + self.vocabulary.sentence_start
        return node if self._matters(node) else ROOT

    def _compute_best(self, state: int, begin: int, end: int) -> float:
        if not state:
            first, last = begin + 1, end + 1
        else:
            low, high = (begin, end) if self._below is None else (self._below[begin], self._below[end])
            first, last = self._children(state)
            first = bisect_left(self._words, low, first, last)
            last = bisect_left(self._words, high, first, last)
        best = -math.inf
        if first < last:
            few = last - first < FEW  # then Python is faster
            highest = max(self._log_probs[first:last]) if few else self.arrays["log_probs"][first:last].max()
            # The codes of numbers have the numbers' order.
            best = float(self._log_prob_table[highest] if self._quantized else self._finite(highest))
        if not state:
            return best
        return max(best, self._backoff(state) + self.best(self._suffix(state), begin, end))

    def shorten(self, state: int, begin: int, end: int) -> tuple[float, int]:
        """Back-off cost and minimized state for a range of words.

        After the returned state the words of ids `begin` to `end` − 1 and <unk> have the same log-probs, less the cost,
        and lead to the same states: none of them has an n-gram with a longer context.
        """
        cost, words = 0.0, self._words
        if self._below is not None:
            begin, end = self._below[begin], self._below[end]
        while state and self._child(state, self.vocabulary.unknown) == MISSING:
            first, last = self._children(state)
            first = bisect_left(words, begin, first, last)
            if first < last and words[first] < end:
                break
            cost += self._backoff(state)
            state = self._suffix(state)
        return cost, state

    def score(self, state: int, word: int) -> tuple[float, int]:
        """The log-prob of the word, and the state after it."""
        log_prob = 0.0
        while (child := self._child(state, word)) == MISSING:
            log_prob += self._backoff(state)
            state = self._suffix(state)
        value = self._log_probs[child]
        log_prob += self._log_prob_table[value] if self._quantized else self._finite(value)
        while not self._matters(child):
            if child < self._inner:
                child = self._suffix(child)
            elif state:
                state = self._suffix(state)
                child = self._child(state, word)
            else:
                child = ROOT  # of a model of 1-grams
        return log_prob, child

    def continuations(self, state: int) -> tuple[np.ndarray, np.ndarray]:
        """The words that have n-grams of their own after a state other than the root, and their log-probs, (N,)."""
        nodes = slice(*self._children(state))
        words, log_probs = self.arrays["words"][nodes], self._values("log_prob", nodes)
        if (words >= (len(self._members) or len(self.vocabulary))).any() or not np.isfinite(log_probs).all():
            raise self._damaged()
        return self.arrays["members"][words] if len(self._members) else words, log_probs

    def back_off(self, state: int) -> tuple[float, int]:
        """Back-off weight of a state, and the shorter context whose log-probs it is added to, for words without one."""
        return self._backoff(state), self._suffix(state)

    def _child(self, node: int, word: int) -> int:
        """The node of context and word, or MISSING."""
        if not node:  # of which every word is a child
            return word + 1
        if self._ranks is not None:
            word = self._ranks[word]
        first, words = self._first, self._words
        end = first[node + 1]
        if end > self._nodes:
            raise self._damaged()
        found = bisect_left(words, word, first[node], end)
        return found if found < end and words[found] == word else MISSING

    def _children(self, node: int) -> tuple[int, int]:
        """The first child of a context, and the node after its last one."""
        first, end = self._first[node], self._first[node + 1]
        if not first <= end <= self._nodes or end - first > self._unigrams:
            raise self._damaged()
        return first, end

    def _suffix(self, node: int) -> int:
        """The longest proper suffix of a context: always of a lower order, so that a walk over suffixes ends."""
        if node >= self._third:
            suffix = self._suffixes[node - self._third]
            if suffix >= self._orders[bisect_right(self._orders, node) - 1]:
                raise self._damaged()
            return suffix
        if node <= self._unigrams:
            return ROOT
        word = self._words[node]
        if self._ranks is not None:
            if word >= len(self._members):
                raise self._damaged()
            word = self._members[word]
        if word >= self._unigrams:
            raise self._damaged()
        return word + 1

    def _backoff(self, node: int) -> float:
        value = self._backoffs[node]
        return self._backoff_table[value] if self._quantized else self._finite(value)

    def _finite(self, value: float) -> float:
        if not -math.inf < value < math.inf:
            raise self._damaged()
        return value

    def _damaged(self) -> LanguageModelError:
        return LanguageModelError(f"{self.path or 'the language model'}: damaged; copy or build it again")

    def check(self) -> None:
        """LanguageModelError if the arrays of a file do not fit together: all that a search checks as it goes.

        What reads all n-grams at once calls it, and `asr models --verify`.
        """
        if self.path is not None and not self._is_whole():
            raise self._damaged()

    def _is_whole(self) -> bool:
        first, words, suffixes = (self.arrays[name] for name in ("first", "words", "suffixes"))
        if (first[1:] < first[:-1]).any() or any(
            first[above] != below for above, below in pairwise((ROOT, *self._orders[:-1]))
        ):
            return False
        for kind in ("log_prob", "backoff"):
            values, table = self.arrays[f"{kind}s"], self.arrays[f"{kind}_table"]
            if (values.max() >= len(table)) if self._quantized else not np.isfinite(values).all():
                return False
        if self._ranks is None and (words[1 : 1 + self._unigrams] != np.arange(self._unigrams)).any():
            return False
        for order, (begin, end) in enumerate(pairwise(self._orders[1:]), start=2):
            ascending = words[begin + 1 : end] > words[begin : end - 1]
            starts = first[self._orders[order - 2] : begin].astype(np.int64) - begin  # where a new context begins
            ascending[starts[(starts > 0) & (starts < end - begin)] - 1] = True
            below = suffixes[max(0, begin - self._third) : max(0, end - self._third)]
            too_high = order > 2 and order < self.order and (below >= begin).any()
            if too_high or not ascending.all() or (words[begin:end] >= (len(self._members) or self._unigrams)).any():
                return False
        return True

    def _matters(self, node: int) -> bool:
        """Whether a context has longer n-grams or a back-off weight."""
        if node >= self._inner:
            return False
        return self._first[node] != self._first[node + 1] or self._backoff(node) != 0

    def _values(self, kind: str, nodes: np.ndarray | slice) -> np.ndarray:
        values = self.arrays[f"{kind}s"][nodes]
        table = self._log_prob_table if kind == "log_prob" else self._backoff_table
        return np.asarray(table)[values] if self._quantized else values

    def score_words(self, sentence: str) -> Iterator[tuple[int, float]]:
        """The id and the log-prob of each word of a sentence, and of its end."""
        state = self.start()
        for word in [*map(self.vocabulary.id, sentence.split()), self.vocabulary.sentence_end]:
            log_prob, state = self.score(state, word)
            yield word, log_prob

    def levels(self) -> Iterator[Level]:
        """The n-grams of each order, as `of` takes them."""
        self.check()
        contexts, end = np.zeros(len(self.vocabulary), dtype=np.int64), 1
        for order, count in enumerate(self.counts, start=1):
            begin, end = end, end + count
            nodes = np.arange(begin, end)
            backoff = self._values("backoff", nodes) if order < self.order else np.zeros(count)
            words = self.arrays["words"][begin:end]
            if self._ranks is not None:
                words = self.arrays["members"][words] if order > 1 else np.arange(count)
            yield Level(contexts, words, self._values("log_prob", nodes), backoff)
            if order < self.order:
                first = self.arrays["first"]
                contexts = np.repeat(np.arange(count), first[begin + 1 : end + 1] - first[begin:end])

    def packed(self) -> "NgramModel":
        """This model with 8 bits a number (see `cluster`), and 16 bits a word if that is enough."""
        if self._quantized and len(self.arrays["log_prob_table"]) <= SMALL_CODES:
            return self
        self.check()
        arrays = dict(self.arrays)
        for kind in ("log_prob", "backoff"):
            arrays[f"{kind}s"], arrays[f"{kind}_table"] = cluster(
                self._values(kind, np.arange(len(arrays[f"{kind}s"])))
            )
        last = 1 + self._unigrams
        if arrays["words"].itemsize > 2 and len(members := np.unique(arrays["words"][last:])) <= MEMBERS:
            arrays["members"] = members
            words = np.searchsorted(members, arrays["words"]).astype(np.uint16)
            words[:last] = 0  # not looked up
            arrays["words"] = words
        return NgramModel(self.counts, arrays)


def _filled(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """A table with a value for every code that there can be, so that no code of a damaged file is outside."""
    return table if len(table) == 0 else np.append(table, np.full((1 << 8 * codes.itemsize) - len(table), table[-1]))


def _suffixes(levels: Sequence[Level], words: int) -> np.ndarray:
    """The longest proper suffixes of the n-grams from 3-grams on: of each the node of the longest one in the levels."""
    begins = [*accumulate((1, *map(len, levels)))]  # the first node of each order
    contexts = [level.context + (begins[order - 1] if order else ROOT) for order, level in enumerate(levels)]
    # Of node 1 and those after it: ascending, so that a binary search finds the node of any context and word.
    each = (context * words + level.word for context, level in zip(contexts, levels, strict=True))
    keys = np.concatenate([np.zeros(0, dtype=np.int64), *each])
    suffixes = np.zeros(begins[-1], dtype=np.int64)
    for order, level in enumerate(levels[1:], start=1):
        context, pending = suffixes[contexts[order]], np.arange(len(level))
        while len(pending):
            key = context * words + level.word[pending]
            place = find(keys, key)
            found = keys[np.minimum(place, len(keys) - 1)] == key
            suffixes[begins[order] + pending[found]] = place[found] + 1
            context, pending = suffixes[context[~found]], pending[~found]
    return suffixes[begins[min(2, len(levels))] :].astype(np.uint32)


def find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`np.searchsorted`, of sorted numbers: ten times as fast for millions, as the memory is read in order."""
    sorting = np.argsort(wanted)
    places = np.empty_like(sorting)
    places[sorting] = np.searchsorted(keys, wanted[sorting])
    return places


def cluster(values: np.ndarray, rounds: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """8-bit codes of numbers, and the table of their values; exact if there are at most 256 different numbers.

    Otherwise 0 keeps a value of its own, and the other values are those of k-means (Lloyd 1982) from equal counts.
    """
    table = np.unique(values)
    if len(table) <= SMALL_CODES:
        return np.searchsorted(table, values).astype(np.uint8), table.astype(np.float32)
    others = np.sort(values[values != 0].astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(others)])
    cuts = np.unique(np.linspace(0, len(others), SMALL_CODES).astype(np.int64))
    for _ in range(rounds):
        means = np.diff(sums[cuts]) / np.diff(cuts)
        between = np.searchsorted(others, (means[1:] + means[:-1]) / 2)
        cuts = np.unique(np.concatenate([[0], between, [len(others)]]))
    table = np.sort(np.append(np.diff(sums[cuts]) / np.diff(cuts), 0.0)).astype(np.float32)
    codes = np.searchsorted((table[1:] + table[:-1]) / 2, values)
    codes[values == 0] = np.searchsorted(table, 0)
    return codes.astype(np.uint8), table
