"""Interpolated modified Kneser-Ney estimation (Chen & Goodman 1998, "An empirical study of smoothing techniques for
language modeling", section 3), with count cut-offs and entropy pruning for smaller models.

As in KenLM's lmplz (Heafield et al. 2013): counts of lower orders are the number of different words to the left of an
n-gram, or occurrences for n-grams that begin a sentence; 1-grams are interpolated with the uniform distribution; the
mass that a cut-off removes goes to the back-off weight of the context.

An n-gram is the index of its context and its last word, packed into 64 bits: counting n-grams of any order is sorting
integers, order by order.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.ngram import Level, NgramModel
from asr.lm.prune import Pruner
from asr.lm.vocabulary import SENTENCE_END, SENTENCE_START, SPECIAL, UNKNOWN

START_PROB = 1e-99  # of <s>, which is never predicted: a convention
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # as in lmplz, for a text too small or too regular to estimate them


@dataclass
class Ngrams:
    """The n-grams of one order in a text, sorted by context and word."""

    context: np.ndarray  # index of the first n − 1 words in the order below, 0 for 1-grams
    word: np.ndarray  # id
    suffix: np.ndarray  # index of the last n − 1 words in the order below, 0 for 1-grams
    count: np.ndarray  # occurrences
    prob: np.ndarray = field(default_factory=lambda: np.zeros(0))  # of the word after the context
    backoff: np.ndarray = field(default_factory=lambda: np.zeros(0))  # weight of the order below after this n-gram

    def __len__(self) -> int:
        return len(self.word)

    def by_context(self, values: np.ndarray, contexts: int) -> np.ndarray:
        """The sum of the n-grams' values for each of the contexts."""
        return np.bincount(self.context, values, minlength=contexts)


def estimate(
    sentences: Iterable[str],
    order: int = 3,
    vocabulary: int | None = None,
    cutoffs: Sequence[int] = (0,),
    threshold: float = 0.0,
) -> tuple[NgramModel, list[int]]:
    """Estimate a model. Returns it and the orders whose discounts are `FALLBACK_DISCOUNTS`. Raises LanguageModelError.

    vocabulary: number of most frequent words to keep, others become <unk>; None keeps all.
    cutoffs: by order, the last for those above too; n-grams with at most this count are left out. 0 for the words,
        then not decreasing, so that the contexts of n-grams are kept.
    threshold: leave out n-grams whose loss raises the perplexity by less than this fraction (see `asr.lm.prune`).
    """
    if not 0 < len(cutoffs) <= order or list(cutoffs) != sorted(cutoffs) or cutoffs[0] != 0:
        given = ",".join(map(str, cutoffs))
        raise LanguageModelError(f"prune {given}: give at most {order} numbers, 0 first, none below the one before")
    cutoffs = [*cutoffs, *[cutoffs[-1]] * (order - len(cutoffs))]
    words, tokens = number_words(sentences, vocabulary)
    start, end = (words.index(mark.encode()) for mark in (SENTENCE_START, SENTENCE_END))
    levels = count_ngrams(tokens, order, len(words), end)
    kept = [ngrams.count > cutoff for ngrams, cutoff in zip(levels, cutoffs, strict=True)]
    kept[0][:] = True
    fallbacks = smooth(levels, kept, start)
    select(levels, kept)
    logs = [Level(ngrams.context, ngrams.word, np.log(ngrams.prob), np.log(ngrams.backoff)) for ngrams in levels]
    model = NgramModel.of(words, logs)
    return Pruner(model).prune(threshold) if threshold > 0 else model, fallbacks


def number_words(sentences: Iterable[str], vocabulary: int | None) -> tuple[list[bytes], np.ndarray]:
    """The words to keep, sorted, and the text as indices into them, each sentence between <s> and </s>."""
    seen: defaultdict[str, int] = defaultdict(count().__next__)  # words by first occurrence
    start, end, _ = (seen[mark] for mark in (SENTENCE_START, SENTENCE_END, UNKNOWN))
    text = array("I")
    lines = 0
    for sentence in sentences:
        text.extend([start, *map(seen.__getitem__, sentence.split()), end])
        lines += 1
    numbers = np.frombuffer(text, dtype=np.uint32)
    counts = np.bincount(numbers, minlength=len(seen))
    if not lines:
        raise LanguageModelError("the text has no words; a language model needs some")
    if counts[start] + counts[end] != 2 * lines:
        raise LanguageModelError("the text itself has <s> or </s> in it; each line is a sentence without them")
    frequent = sorted(seen.keys() - set(SPECIAL), key=lambda word: (-counts[seen[word]], word))[:vocabulary]
    words = sorted([*frequent, *SPECIAL])  # as their UTF-8 bytes would be
    place = np.full(len(seen), words.index(UNKNOWN), dtype=np.uint32)
    place[[seen[word] for word in words]] = np.arange(len(words))
    return [word.encode() for word in words], place[numbers]


def count_ngrams(tokens: np.ndarray, order: int, words: int, end: int) -> list[Ngrams]:
    """The n-grams of each order within sentences. `end`: the id of </s>, one of as many `words`."""
    zeros = np.zeros(words, dtype=np.int64)
    levels = [Ngrams(zeros, np.arange(words), zeros, np.bincount(tokens, minlength=words))]
    places = tokens  # of the n-gram that begins at each token, in its level
    begins = np.arange(len(tokens))
    for length in range(1, order):
        begins = begins[tokens[begins + length - 1] != end]
        if not len(begins):
            raise LanguageModelError(f"no sentence is long enough for {length + 1}-grams; choose a lower order")
        keys = places[begins] * np.int64(words) + tokens[begins + length]
        sorting = np.argsort(keys)
        keys, begins = keys[sorting], begins[sorting]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(first, append=len(keys))
        context, word = np.divmod(keys[first], words)
        levels.append(Ngrams(context, word, places[begins[first] + 1].astype(np.int64), counts))
        places = np.zeros_like(tokens)
        places[begins] = np.repeat(np.arange(len(first)), counts)
    return levels


def smooth(levels: Sequence[Ngrams], kept: Sequence[np.ndarray], start: int) -> list[int]:
    """Fill in the probabilities and the back-off weights, for a model of the n-grams that are kept.

    Returns the orders for which the discounts are `FALLBACK_DISCOUNTS`. `start`: the id of <s>.
    """
    fallbacks = []
    starts = levels[0].word == start  # n-grams that begin with <s>
    below: Ngrams | None = None
    for order, ngrams in enumerate(levels, start=1):
        adjusted = ngrams.count
        if order < len(levels):
            adjusted = np.bincount(levels[order].suffix, minlength=len(ngrams))
        if below is None:
            adjusted = np.where(starts, 0, adjusted)
            lower, contexts = np.full(len(ngrams), 1 / (len(ngrams) - 1)), 1  # uniform over all words but <s>
        else:
            starts = starts[ngrams.context]
            adjusted = np.where(starts, ngrams.count, adjusted)
            lower, contexts = below.prob[ngrams.suffix], len(below)
        discounts = estimate_discounts(adjusted)
        if discounts is None:
            fallbacks.append(order)
            discounts = FALLBACK_DISCOUNTS
        discount = np.array([0, *discounts])[np.minimum(adjusted, 3)]
        total = ngrams.by_context(adjusted, contexts)
        freed = ngrams.by_context(np.where(kept[order - 1], discount, adjusted), contexts)
        weight = np.divide(freed, total, out=np.ones(contexts), where=total > 0)
        ngrams.prob = (adjusted - discount) / total[ngrams.context] + weight[ngrams.context] * lower
        ngrams.backoff = np.ones(len(ngrams))
        if below is None:
            ngrams.prob[start] = START_PROB
        else:
            below.backoff = weight
        below = ngrams
    return fallbacks


def estimate_discounts(counts: np.ndarray) -> tuple[float, float, float] | None:
    """Discounts of counts of 1, 2, and 3 or more (equation 17 there); None if they are undefined: if no n-gram has a
    count of 1, 2 or 3, or a discount is outside 0…count.
    """
    _, one, two, three, four = np.bincount(np.minimum(counts, 5), minlength=6)[:5].tolist()
    if not (one and two and three):
        return None
    share = one / (one + 2 * two)
    discounts = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    return discounts if all(0 < taken <= number for number, taken in enumerate(discounts, start=1)) else None


def select(levels: list[Ngrams], kept: Sequence[np.ndarray]) -> None:
    """Leave out n-grams. The contexts of kept ones must be kept."""
    places = np.zeros(1, dtype=np.int64)
    for index, (ngrams, mask) in enumerate(zip(levels, kept, strict=True)):
        levels[index] = Ngrams(
            places[ngrams.context[mask]],
            ngrams.word[mask],
            places[ngrams.suffix[mask]],
            ngrams.count[mask],
            ngrams.prob[mask],
            ngrams.backoff[mask],
        )
        places = np.cumsum(mask) - 1
