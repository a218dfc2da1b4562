"""Alignment of letters and phones: pairs of one letter with up to two phones, or of two letters with one phone.

Expectation maximization over all alignments (Jiampojamarn et al. 2007, "Applying many-to-many alignments and hidden
Markov models to letter-to-phoneme conversion"), then the likeliest one of each word. Words of equal numbers of letters
and phones are computed together.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from asr.lm.lexicon import Entry

SEPARATOR = "|"  # between the letters and the phones of a pair
SIZES = ((1, 0), (1, 1), (1, 2), (2, 1))  # letters and phones of a pair
ITERATIONS = 10
NAMES = 4  # times that the name of a letter counts, so that smoothing does not prefer its usual sound
# Factor for the probability of pairs of three: without it fewer, longer pairs win, and 1 % more words are wrong.
PENALTY = 0.1

Size = tuple[int, int]
Tables = dict[Size, np.ndarray]  # by size of pair, the probability of each: letters × number of phones + phones


class _Group:
    """Entries of n letters and m phones each. Arrays have the shape (n + 1, m + 1, entries): by what is aligned."""

    def __init__(self, entries: Sequence[Entry], letters: Sequence[str], phones: Sequence[str]):
        self.entries = entries
        words = np.array([[letters.index(char) for char in word] for word, _ in entries]).T
        spoken = np.array([[phones.index(char) for char in pronunciation] for _, pronunciation in entries]).T
        self._n, self._m = len(words), len(spoken)
        self._codes = {
            (n, m): _pieces(words, n, len(letters))[:, None] * len(phones) ** m + _pieces(spoken, m, len(phones))
            for n, m in SIZES
            if n <= self._n and m <= self._m
        }

    def count(self, tables: Tables, counts: Tables) -> None:
        """Add the expected number of each pair (forward-backward)."""
        probs = {size: tables[size][codes] for size, codes in self._codes.items()}
        forward, _ = self._forward(probs)
        backward = np.zeros_like(forward)
        backward[-1, -1] = 1
        for i in range(self._n, -1, -1):
            for j in range(self._m, -1, -1):
                for (n, m), prob in probs.items():
                    if i + n <= self._n and j + m <= self._m:
                        backward[i, j] += prob[i, j] * backward[i + n, j + m]
        total = np.where(forward[-1, -1] > 0, forward[-1, -1], np.inf)  # of no alignment nothing counts
        for (n, m), prob in probs.items():
            expected = forward[: self._n + 1 - n, : self._m + 1 - m] * prob * backward[n:, m:] / total
            counts[n, m] += np.bincount(self._codes[n, m].ravel(), expected.ravel(), len(counts[n, m]))

    def best(self, tables: Tables) -> list[str]:
        """The pairs of each entry, separated by spaces; without the entries that have no alignment."""
        probs = {size: tables[size][codes] for size, codes in self._codes.items()}
        forward, choices = self._forward(probs, best=True)
        sentences = []
        for entry in np.flatnonzero(forward[-1, -1] > 0).tolist():
            (word, pronunciation), pairs = self.entries[entry], []
            i, j = self._n, self._m
            while i:
                n, m = SIZES[choices[i, j, entry]]
                pairs.append(f"{word[i - n : i]}{SEPARATOR}{pronunciation[j - m : j]}")
                i, j = i - n, j - m
            sentences.append(" ".join(reversed(pairs)))
        return sentences

    def _forward(self, probs: Tables, best: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The summed, or best, probability of the alignments so far; the number in `SIZES` of the best's last pair."""
        forward = np.zeros((self._n + 1, self._m + 1, len(self.entries)))
        choices = np.zeros(forward.shape, dtype=np.int8)
        forward[0, 0] = 1
        for i in range(1, self._n + 1):
            for j in range(self._m + 1):
                for (n, m), prob in probs.items():
                    if i < n or j < m:
                        continue
                    extended = forward[i - n, j - m] * prob[i - n, j - m]
                    if best:
                        choices[i, j][extended > forward[i, j]] = SIZES.index((n, m))
                        np.maximum(forward[i, j], extended, out=forward[i, j])
                    else:
                        forward[i, j] += extended
        return forward, choices


def _pieces(symbols: np.ndarray, size: int, base: int) -> np.ndarray:
    """A number for the `size` symbols that begin at each place. Symbols and numbers: (length, entries)."""
    if size == 0:
        return np.zeros((len(symbols) + 1, symbols.shape[1]), dtype=np.int64)
    return symbols if size == 1 else symbols[:-1] * base + symbols[1:]


def align(entries: Iterable[Entry]) -> list[str]:
    """For each entry its pairs, separated by spaces, as in "ph|f o|O n|n e|".

    A word of one letter is one pair, so that the names of letters are learned. Left out are words with more than two
    phones for a letter, and words with the separator in them.
    """
    groups: defaultdict[Size, list[Entry]] = defaultdict(list)
    sentences = []
    for word, pronunciation in entries:
        if len(word) == 1:
            sentences.extend([f"{word}{SEPARATOR}{pronunciation}"] * NAMES)
        elif SEPARATOR not in word:
            groups[len(word), len(pronunciation)].append((word, pronunciation))
    members = [entry for group in groups.values() for entry in group]
    letters, phones = (sorted({*chain.from_iterable(entry[side] for entry in members)}) for side in (0, 1))
    computed = [_Group(group, letters, phones) for group in groups.values()]
    # All pairs are equally likely at first.
    tables = {(n, m): np.ones(len(letters) ** n * len(phones) ** m) for n, m in SIZES}
    for iteration in range(ITERATIONS + 1):
        counts = tables
        if iteration:
            counts = {size: np.zeros_like(table) for size, table in tables.items()}
            for group in computed:
                group.count(tables, counts)
        total = sum(count.sum() for count in counts.values()) or 1  # 0 if nothing can be aligned
        tables = {size: count / total * (PENALTY if sum(size) > 2 else 1) for size, count in counts.items()}
    for group in computed:
        sentences.extend(group.best(tables))
    return sentences
