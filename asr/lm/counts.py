"""Counts of the n-grams of a text of any size: runs of sorted n-grams on disk, each of a part of the text, are merged
(Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation", section 3).

An n-gram is the place of its context in the order below and its last word, packed into 64 bits: counting n-grams of any
order is sorting integers, order by order.
"""

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate, count
from pathlib import Path

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.columns import Column, Ngrams
from asr.lm.vocabulary import SENTENCE_END, SENTENCE_START, SPECIAL, UNKNOWN


class Words:
    """The words of a text and the text as their numbers, in order of first occurrence; in a folder."""

    def __init__(self, folder: Path):
        self.numbers = Column(folder / "numbers", "u4")
        self.ids = Column(folder / "ids", "u4")  # of the word of each number
        self.text = Column(folder / "text", "u1")  # the words to keep, sorted, as in `asr.lm.vocabulary`
        self.starts = Column(folder / "starts", "u4")
        self.columns = [self.numbers, self.ids, self.text, self.starts]

    def __len__(self) -> int:
        return len(self.starts) - 1


def number_words(
    sentences: Iterable[str], vocabulary: int | Collection[str] | None, words: Words, unigrams: Ngrams, part: int
) -> list[int]:
    """Write the numbers of the words, each sentence between <s> and </s>, the words to keep, and how often they occur.

    Returns where parts of the text end, after sentences, of little more than `part` words.
    """
    seen: defaultdict[str, int] = defaultdict(count().__next__)
    start, end, _ = (seen[mark] for mark in (SENTENCE_START, SENTENCE_END, UNKNOWN))
    counts = np.zeros(0, dtype=np.int64)
    lengths = []
    lines = 0
    pending = iter(sentences)
    while True:
        text = array("I")
        for sentence in pending:
            text.extend([start, *map(seen.__getitem__, sentence.split()), end])
            lines += 1
            if len(text) >= part:
                break
        if not text:
            break
        words.numbers.append(np.frombuffer(text, dtype=np.uint32))
        lengths.append(len(text))
        more = np.bincount(np.frombuffer(text, dtype=np.uint32), minlength=len(seen))
        more[: len(counts)] += counts
        counts = more
    if not lines:
        raise LanguageModelError("the text has no words; a language model needs some")
    if counts[start] + counts[end] != 2 * lines:
        raise LanguageModelError("the text itself has <s> or </s> in it; each line is a sentence without them")
    if vocabulary is None or isinstance(vocabulary, int):
        often = counts.tolist()
        vocabulary = sorted(seen.keys() - set(SPECIAL), key=lambda word: (-often[seen[word]], word))[:vocabulary]
    spelled = sorted({*vocabulary, *SPECIAL})  # as their UTF-8 bytes would be
    ids = np.full(len(seen), spelled.index(UNKNOWN))
    ids[[seen[word] for word in spelled if word in seen]] = [id for id, word in enumerate(spelled) if word in seen]
    encoded = [word.encode() for word in spelled]
    words.ids.append(ids)
    words.text.append(np.frombuffer(b"".join(encoded), dtype=np.uint8))
    words.starts.append(np.array([0, *accumulate(map(len, encoded))]))
    unigrams.context.append(np.zeros(len(spelled)))
    unigrams.word.append(np.arange(len(spelled)))
    unigrams.suffix.append(np.zeros(len(spelled)))
    unigrams.count.append(np.bincount(ids, counts, minlength=len(spelled)))
    return [*accumulate(lengths)]


def count_ngrams(words: Words, part: slice, end: int, levels: Sequence[Ngrams]) -> None:
    """Write the n-grams within the sentences of a part of the text, a run for each order. `end`: the id of </s>."""
    levels[0].place.append(np.arange(len(words)))  # all runs have the same words
    tokens = words.ids[:][words.numbers[part]]
    places = tokens  # of the n-gram that begins at each token, in its level
    begins = np.arange(len(tokens))
    for length, ngrams in enumerate(levels[1:], start=1):
        begins = begins[tokens[begins + length - 1] != end]
        keys = places[begins] * np.int64(len(words)) + tokens[begins + length]
        sorting = np.argsort(keys)
        keys = keys[sorting]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(first, append=len(keys))
        context, word = np.divmod(keys[first], len(words))
        del keys
        sorting = begins[sorting]
        ngrams.context.append(context)
        ngrams.word.append(word)
        ngrams.suffix.append(places[sorting[first] + 1])
        ngrams.count.append(counts)
        places = np.zeros_like(tokens)
        places[sorting] = np.repeat(np.arange(len(first), dtype=places.dtype), counts)


def merge(runs: Sequence[Sequence[Ngrams]], words: int, ngrams: Ngrams, rows: int) -> None:
    """Merge runs of one order; the second Ngrams of each is its run of the order below, which was merged before.

    rows: n-grams in memory at a time.
    """
    for run, below in runs:
        place = below.place[:]
        for begin in range(0, len(run), rows):
            part = slice(begin, begin + rows)
            run.key.append(place[run.context[part]] * np.int64(words) + run.word[part])
            run.link.append(place[run.suffix[part]])
    share = max(1, rows // len(runs))
    begins = {run: 0 for run, _ in runs if len(run)}
    merged = 0
    while begins:
        parts = [run.key[begin : begin + share] for run, begin in begins.items()]
        # The last key up to which all runs were read.
        unread = [
            part[-1] for part, (run, begin) in zip(parts, begins.items(), strict=True) if begin + share < len(run)
        ]
        if unread:
            parts = [part[: np.searchsorted(part, min(unread), "right")] for part in parts]
        read = [
            (run, slice(begin, begin + len(part))) for part, (run, begin) in zip(parts, begins.items(), strict=True)
        ]
        keys = np.concatenate(parts)
        sorting = np.argsort(keys, kind="stable")  # fast for parts that are sorted
        keys = keys[sorting]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        context, word = np.divmod(keys[first], words)
        ngrams.context.append(context)
        ngrams.word.append(word)
        ngrams.suffix.append(np.concatenate([run.link[part] for run, part in read])[sorting[first]])
        counts = np.concatenate([run.count[part] for run, part in read])[sorting]
        ngrams.count.append(np.add.reduceat(counts, first, dtype=np.int64))
        place = np.empty(len(keys), dtype=np.uint32)
        place[sorting] = np.repeat(np.arange(merged, merged + len(first)), np.diff(first, append=len(keys)))
        for (run, _), own in zip(read, np.split(place, np.cumsum([*map(len, parts)])[:-1]), strict=True):
            run.place.append(own)
        merged += len(first)
        begins = {run: part.stop for run, part in read if part.stop < len(run)}
