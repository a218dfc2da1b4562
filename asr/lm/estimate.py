"""Interpolated modified Kneser-Ney estimation (Chen & Goodman 1998, "An empirical study of smoothing techniques for
language modeling", section 3), with count cut-offs and entropy pruning for smaller models, in bounded memory.

As in KenLM's lmplz (Heafield et al. 2013): counts of lower orders are the number of different words to the left of an
n-gram, or occurrences for n-grams that begin a sentence; 1-grams are interpolated with the uniform distribution; the
mass that a cut-off removes goes to the back-off weight of the context.
"""

import tempfile
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise, starmap
from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.arrays import forget_pages
from asr.lm.columns import Column, Ngrams, Steps
from asr.lm.counts import Words, count_ngrams, merge, number_words
from asr.lm.ngram import NgramModel
from asr.lm.prune import Pruner
from asr.lm.vocabulary import Vocabulary

START_PROB = 1e-99  # of <s>, which is never predicted: a convention
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # as in lmplz, for a text too small or too regular to estimate them
MEMORY = 2_000_000_000  # bytes
THREADS = 2  # that count; each has its share of the memory
RESERVED = 0.3  # share of the memory for the program and for the words
ROW_BYTES = 120  # memory for an n-gram at work, measured
STAGES = {"reading": 4.0, "counting": 3.0, "merging": 1.5, "smoothing": 1.0, "writing": 0.3}  # times


def estimate(
    sentences: Iterable[str],
    order: int = 3,
    vocabulary: int | Collection[str] | None = None,
    cutoffs: Sequence[int] = (0,),
    threshold: float = 0.0,
    memory: int = MEMORY,
    steps: Steps | None = None,
) -> tuple[NgramModel, list[int]]:
    """Estimate a model. Returns it and the orders whose discounts are `FALLBACK_DISCOUNTS`. Raises LanguageModelError.

    vocabulary: number of most frequent words to keep, or these words, others become <unk>; None keeps all.
    cutoffs: by order, the last for those above too; n-grams with at most this count are left out. 0 for the words,
        then not decreasing, so that the contexts of n-grams are kept.
    threshold: leave out n-grams whose loss raises the perplexity by less than this fraction (see `asr.lm.prune`).
    memory: bytes to work in, whatever the length of the text; changes nothing in the model. Pruning takes more.
    steps: where files are kept, also those to which the model is mapped; by default the model is in memory.
    """
    if not 0 < len(cutoffs) <= order or list(cutoffs) != sorted(cutoffs) or cutoffs[0] != 0:
        given = ",".join(map(str, cutoffs))
        raise LanguageModelError(f"prune {given}: give at most {order} numbers, 0 first, none below the one before")
    cutoffs = [*cutoffs, *[cutoffs[-1]] * (order - len(cutoffs))]
    if steps is None:
        with tempfile.TemporaryDirectory() as folder:
            mapped, fallbacks = estimate(sentences, order, vocabulary, cutoffs, threshold, memory, Steps(Path(folder)))
            arrays = {}
            for name, array in mapped.arrays.items():
                arrays[name] = array.copy()
                forget_pages(array)
            return NgramModel(mapped.counts, arrays), fallbacks
    rows = max(1, int(memory * (1 - RESERVED)) // ROW_BYTES)  # n-grams in memory at a time
    words = Words(steps.folder)
    levels = [Ngrams(steps.folder / f"{length}") for length in range(1, order + 1)]
    number = partial(number_words, sentences, vocabulary, words, levels[0], max(1, rows // THREADS))
    ends = steps.run("reading", [*words.columns, *levels[0].columns], number)
    rows = max(rows, len(words))  # all words of a context are in memory
    known = Vocabulary(words.text[:], words.starts[:])
    count_all(words, ends, known.sentence_end, levels, rows, steps)
    fallbacks = smooth_all(levels, cutoffs, known.sentence_start, rows, steps)
    counts, arrays = write_model(len(words), levels, cutoffs, rows, steps)
    model = NgramModel(counts, {"text": words.text.mapped(), "starts": words.starts.mapped()} | arrays)
    return Pruner(model).prune(threshold) if threshold > 0 else model, fallbacks


def count_all(words: Words, ends: Sequence[int], end: int, levels: Sequence[Ngrams], rows: int, steps: Steps) -> None:
    """Count the n-grams of each part of the text, and merge these runs. `end`: the id of </s>."""
    folders = [steps.folder / f"run{number}" for number in range(len(ends))]
    runs = [[Ngrams(folder / f"{length}") for length in range(1, len(levels) + 1)] for folder in folders]

    def count(number: int, run: Sequence[Ngrams], part: slice) -> None:
        outputs = [column for ngrams in run for column in (*ngrams.columns, ngrams.place)]
        steps.run(f"counting {number}", outputs, partial(count_ngrams, words, part, end, run), number / len(runs))

    with ThreadPoolExecutor(THREADS) as pool:
        deque(pool.map(count, range(len(runs)), runs, starmap(slice, pairwise([0, *ends]))), maxlen=0)
    words.numbers.clear()
    for length, ngrams in enumerate(levels[1:], start=1):
        parts = [(run[length], run[length - 1]) for run in runs]
        outputs = [*ngrams.columns, *(column for run, _ in parts for column in (run.key, run.link, run.place))]
        work = partial(merge, parts, len(words), ngrams, rows)
        steps.run(f"merging {length + 1}", outputs, work, (length - 1) / len(levels))
        for column in (column for run, below in parts for column in (*run.columns, run.key, run.link, below.place)):
            column.clear()
        if not len(ngrams):
            raise LanguageModelError(f"no sentence is long enough for {length + 1}-grams; choose a lower order")


def smooth_all(levels: Sequence[Ngrams], cutoffs: Sequence[int], start: int, rows: int, steps: Steps) -> list[int]:
    """Adjust the counts, and estimate from them. Returns the orders whose discounts are `FALLBACK_DISCOUNTS`."""
    fallbacks = []
    below = None
    starts = range(start, start + 1)  # n-grams that begin with <s>
    for order, (ngrams, cutoff) in enumerate(zip(levels, cutoffs, strict=True), start=1):
        if below is not None:
            starts = range(*(bisect_left(ngrams.context, place) for place in (starts.start, starts.stop)))
        counts = ngrams.count
        if order < len(levels):
            counts = ngrams.adjusted
            adjusting = partial(adjust, ngrams, levels[order], starts, rows)
            steps.run(f"smoothing {order} counts", [counts], adjusting, (order - 1) / len(levels))
        outputs = [ngrams.prob] if below is None else [ngrams.prob, below.backoff]
        work = partial(smooth, ngrams, below, counts, cutoff, start, rows)
        if steps.run(f"smoothing {order}", outputs, work, (order - 1) / len(levels)):
            fallbacks.append(order)
        below = ngrams
    return fallbacks


def pieces(ngrams: Ngrams, below: Ngrams | None, rows: int) -> Iterator[tuple[slice, slice, np.ndarray, int]]:
    """Parts of at most `rows` n-grams that have all n-grams of their contexts; no context has more than `rows`.

    Yields also the contexts, of each n-gram the context's place among these, and how many these are.
    """
    begin = reached = 0
    while begin < len(ngrams):
        end, covered, reached = min(begin + rows, len(ngrams)), reached, 1 if below is None else len(below)
        if end < len(ngrams):
            reached = ngrams.context[end]
            end = bisect_left(ngrams.context, reached, begin, end)
        part = slice(begin, end)
        yield part, slice(covered, reached), ngrams.context[part] - np.uint32(covered), reached - covered
        begin = end


def adjust(ngrams: Ngrams, above: Ngrams, starts: range, rows: int) -> None:
    """Write the adjusted counts of an order below the highest; n-grams that begin with <s> are at `starts`."""
    for begin in range(0, len(ngrams), rows):
        counts = np.zeros(min(rows, len(ngrams) - begin), dtype=np.int64)
        for place in range(0, len(above), rows):
            suffix = above.suffix[place : place + rows]
            inside = suffix[(suffix >= begin) & (suffix < begin + len(counts))]
            counts += np.bincount(inside - begin, minlength=len(counts))
        first, last = max(starts.start, begin), min(starts.stop, begin + len(counts))
        if first < last:
            counts[first - begin : last - begin] = ngrams.count[first:last]
        ngrams.adjusted.append(counts)


def smooth(ngrams: Ngrams, below: Ngrams | None, counts: Column, cutoff: int, start: int, rows: int) -> bool:
    """Write the probabilities of an order, and the back-off weights of the one below, from the adjusted counts.

    Returns whether the discounts are `FALLBACK_DISCOUNTS`. `start`: the id of <s>.
    """
    tally = np.zeros(6, dtype=np.int64)  # n-grams with a count of 0, 1, 2, 3, 4, and 5 or more
    for begin in range(0, len(counts), rows):
        tally += np.bincount(np.minimum(counts[begin : begin + rows], 5), minlength=6)
    if below is None:
        tally[min(counts[start], 5)] -= 1  # <s> is no word
    discounts = estimate_discounts(tally.tolist())
    for part, _, context, number in pieces(ngrams, below, rows):
        adjusted = counts[part].astype(np.int64)
        if below is None:
            adjusted[start] = 0
            lower = np.full(len(adjusted), 1 / (len(adjusted) - 1))  # uniform over all words but <s>
        else:
            lower = below.prob.gather(ngrams.suffix[part], rows)
        discount = np.array([0, *(discounts or FALLBACK_DISCOUNTS)])[np.minimum(adjusted, 3)]
        total = np.bincount(context, adjusted, number)
        freed = np.bincount(context, np.where(ngrams.count[part] > cutoff, discount, adjusted), number)
        weight = np.divide(freed, total, out=np.ones(number), where=total > 0)
        prob = (adjusted - discount) / total[context] + weight[context] * lower
        if below is None:
            prob[start] = START_PROB
        else:
            below.backoff.append(weight)
        ngrams.prob.append(prob)
    return discounts is None


def estimate_discounts(tally: Sequence[int]) -> tuple[float, float, float] | None:
    """Discounts of counts of 1, 2, and 3 or more (equation 17 there); `tally`: how many n-grams have counts of 0 to 4.

    None if they are undefined: if no n-gram has a count of 1, 2 or 3, or a discount is outside 0…count.
    """
    _, one, two, three, four = tally[:5]
    if not (one and two and three):
        return None
    share = one / (one + 2 * two)
    discounts = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    return discounts if all(0 < taken <= number for number, taken in enumerate(discounts, start=1)) else None


def write_model(
    words: int, levels: Sequence[Ngrams], cutoffs: Sequence[int], rows: int, steps: Steps
) -> tuple[list[int], dict[str, np.ndarray]]:
    """The number of n-grams of each order that are kept, and the arrays of a model of them, mapped from files."""
    dtypes = {"words": "u2" if words <= 1 << 16 else "u4", "first": "u4", "suffixes": "u4"}
    dtypes |= dict.fromkeys(["log_probs", "backoffs", "log_prob_table", "backoff_table"], "f4") | {"members": "u4"}
    model = {name: Column(steps.folder / name, dtype) for name, dtype in dtypes.items()}
    outputs = [*model.values(), *(ngrams.node for ngrams in levels)]
    counts = steps.run("writing", outputs, partial(fill_model, levels, [-1, *cutoffs[1:]], model, rows))
    return counts, {name: column.mapped() for name, column in model.items()}


def fill_model(levels: Sequence[Ngrams], cutoffs: Sequence[int], model: dict[str, Column], rows: int) -> list[int]:
    """Write the arrays of `asr.lm.ngram`, of the n-grams above the cut-offs. Returns how many of each order are."""
    for name in ("words", "log_probs", "backoffs"):
        model[name].append(np.zeros(1))
    child = 1 + len(levels[0])  # the first of the next context
    model["first"].append(np.array([1, child]))
    counts = [0 for _ in levels]
    below = None
    for order, ngrams in enumerate(levels, start=1):
        for part, contexts, context, number in pieces(ngrams, below, rows):
            kept = ngrams.count[part] > cutoffs[order - 1]
            nodes = sum(counts) + np.cumsum(kept)
            counts[order - 1] += int(kept.sum())
            model["words"].append(ngrams.word[part][kept])
            model["log_probs"].append(np.log(ngrams.prob[part][kept]))
            if order < len(levels):
                model["backoffs"].append(np.log(ngrams.backoff[part][kept]))
            if below is not None:
                children = np.bincount(context[kept], minlength=number)[below.count[contexts] > cutoffs[order - 2]]
                model["first"].append(child + np.cumsum(children))
                child += int(kept.sum())
            if below is not None and order < len(levels):
                suffixes = below.node.gather(ngrams.suffix[part], rows)
                nodes = np.where(kept, nodes, suffixes)
                if order > 2:
                    model["suffixes"].append(suffixes[kept])
            ngrams.node.append(nodes)
        below = ngrams
    if sum(counts) + 1 >= 1 << 32:
        raise LanguageModelError("more than 4 billion n-grams; prune, or choose a lower order")
    return counts
