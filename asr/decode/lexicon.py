"""How words are spelled in tokens: with their letters, or with the phones of their pronunciations."""

from bisect import bisect_left
from collections.abc import Callable, Sequence, Set
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.g2p import Pronouncer
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import CACHED, FEW, MISSING, ROOT, Level, NgramModel
from asr.lm.vocabulary import SPECIAL
from asr.model.phones import arpabet
from asr.normalize import APOSTROPHES, without_accents

UNUSABLE = 0.5  # share of a language model's words that cannot be spelled, above which it is refused
VARIANTS = 3  # pronunciations of a word that no lexicon has
NEVER = -1e9  # log-prob of a word that a language model does not know; finite, since the model's weight may be 0
CONTEXTS = 1 << 13  # of which a `PronouncedModel` keeps the continuations

# The entries of the words that have an n-gram after a context, ascending, and the log-probs of these.
Continuations = tuple[Sequence[int], Sequence[Any]]


class Pronunciations:
    """Words and how they are pronounced: by a lexicon, and by letter-to-phone rules where it has nothing.

    Pronunciations are strings of phone letters (`asr.model.phones`), as the tokens have them. Threads may share one.

    Args:
        lexicon: the words, in the case in which the recogniser writes.
        open_pronouncer: opens the rules when they are first needed.
        own: words that the user has added, which are no unknown words.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        open_pronouncer: Callable[[], Pronouncer | None] = lambda: None,
        own: Set[str] = frozenset(),
    ):
        self.lexicon = lexicon
        self.own = {word.lower(): word for word in own}
        self._open_pronouncer = open_pronouncer
        self.write = lru_cache(CACHED)(self._write)

    @cached_property
    def _pronouncer(self) -> Pronouncer | None:
        return self._open_pronouncer()

    @cached_property
    def letters(self) -> set[str]:
        """The characters that the words have."""
        return self.lexicon.vocabulary.letters

    def form(self, word: str) -> str:
        """The word in the case that the lexicon has; in small letters if the lexicon does not have it."""
        known = self.lexicon.vocabulary.get
        forms = (word, word.lower(), word.upper(), self.own.get(word.lower(), ""))
        return next((form for form in forms if known(form) is not None), word.lower())

    def of(self, word: str) -> list[str]:
        """The pronunciations of a word, most usual first; none if it has none and the rules cannot read it."""
        found = self.lexicon.pronunciations(self.form(word))
        small = without_accents(word).lower()
        readable = all(char.isalpha() or char in self.letters for char in small)  # the rules pass over digits
        if found or self._pronouncer is None or not readable:
            return found
        return self._pronouncer.say_all(small, VARIANTS)

    def _write(self, pronunciation: str, model: NgramModel | None = None) -> str:
        """The word that is pronounced so: the model's likeliest, or the lexicon's first; or letters by the rules."""
        if words := self.lexicon.words(pronunciation):
            if model is None:
                return words[0]
            # A word that the model does not have would score as <unk>, often above a rare word.
            known = [word for word in words if model.vocabulary.get(word) is not None]
            return max(known, key=lambda word: model.score(ROOT, model.vocabulary.id(word))[0], default=words[0])
        spelled = self._pronouncer.spell(pronunciation) if self._pronouncer is not None else ""
        return spelled or arpabet(pronunciation).lower().replace(" ", "")


class PronouncedModel(NgramModel):
    """A language model whose look-ahead is over entries of a lexicon instead of words.

    The ranges of `best` and `shorten` are of entries, sorted by pronunciation; <unk> follows as the last of them.
    Words that the lexicon lacks are never recognised.
    """

    def __init__(self, model: NgramModel, lexicon: Lexicon):
        super().__init__(model.counts, model.arrays, model.path)
        self.lexicon = lexicon
        known = self.vocabulary.find(lexicon.vocabulary)  # of each word of the lexicon its id, or −1
        ranks = np.flatnonzero(known >= 0)
        unknown, entries = self.vocabulary.unknown, len(lexicon)
        # The entries of the word `id` are `_entries[_begins[id] : _ends[id]]`.
        first, counts = lexicon.arrays["first"], np.bincount(lexicon.arrays["words"], minlength=len(known))
        begins, ends = np.zeros((2, len(self.vocabulary)), dtype=np.int32)
        begins[known[ranks]], ends[known[ranks]] = first[ranks], (first + counts)[ranks]
        begins[unknown], ends[unknown] = entries, entries + 1
        self._entries = np.append(lexicon.arrays["given"], np.uint32(entries)).data
        self._begins, self._ends = begins.data, ends.data
        id_of_entry = np.append(known[lexicon.arrays["words"]], np.int32(unknown))
        self._ids = id_of_entry.data
        values = np.where(id_of_entry >= 0, self._values("log_prob", 1 + id_of_entry), np.float32(NEVER))
        self._unigram_values = values.data
        self._continue = lru_cache(CONTEXTS)(self._find_continuations)

    def __len__(self) -> int:
        """The number of entries, <unk> among them."""
        return len(self._entries)

    def unreachable(self) -> list[str]:
        """The words that the lexicon lacks, the likeliest first."""
        ids = np.flatnonzero(np.asarray(self._begins) == np.asarray(self._ends))
        likeliest = ids[np.argsort(-self._values("log_prob", 1 + ids), kind="stable")].tolist()
        return [word for word in map(self.vocabulary.word, likeliest) if word not in SPECIAL]

    def narrow(self, prefix: str, within: range) -> range:
        """The entries whose pronunciations start with `prefix`, out of those of a shorter one."""
        return self.lexicon.narrow(prefix, within if within.stop < len(self) else None)

    def homophones(self, pronunciation: str, entries: range) -> list[tuple[str, int | None]]:
        """The words of the first of the entries, those that are pronounced so, and their ids; None for unknown ones."""
        found = []
        for entry in entries:
            if self.lexicon.pronunciation(entry) != pronunciation:
                break
            found.append((self.lexicon.word(entry), self._ids[entry] if self._ids[entry] >= 0 else None))
        return found

    def _compute_best(self, state: int, begin: int, end: int) -> float:
        if not state:
            return _highest(self._unigram_values[begin:end])
        entries, values = self._continue(state)
        best = self._backoff(state) + self.best(self._suffix(state), begin, end)
        first = bisect_left(entries, begin)
        if first == len(entries) or entries[first] >= end:  # usual, and then sooner known than by a second search
            return best
        return max(best, _highest(values[first : bisect_left(entries, end, first)]))

    def shorten(self, state: int, begin: int, end: int) -> tuple[float, int]:
        cost = 0.0
        while state and self._child(state, self.vocabulary.unknown) == MISSING:
            entries, _ = self._continue(state)
            first = bisect_left(entries, begin)
            if first < len(entries) and entries[first] < end:
                break
            cost += self._backoff(state)
            state = self._suffix(state)
        return cost, state

    def _find_continuations(self, state: int) -> Continuations:
        """The continuations of a context, in Python where there are few, which is then faster."""
        words, log_probs = self.continuations(state)
        if len(words) < FEW:
            each = zip(words.tolist(), log_probs.tolist(), strict=True)
            found = [(entry, log_prob) for word, log_prob in each for entry in self._entries_of(word)]
            found.sort()
            return [entry for entry, _ in found], [log_prob for _, log_prob in found]
        begins = np.asarray(self._begins)[words]
        counts = np.asarray(self._ends)[words] - begins
        ends = np.cumsum(counts)
        # Consecutive places from each word's first one on.
        places = np.arange(ends[-1]) + np.repeat(begins - ends + counts, counts)
        entries = np.asarray(self._entries)[places]
        order = np.argsort(entries)
        return entries[order].data, np.repeat(log_probs, counts)[order].data

    def _entries_of(self, word: int) -> Sequence[int]:
        return self._entries[self._begins[word] : self._ends[word]]


def _highest(values: Sequence[float]) -> float:
    if len(values) < FEW:  # then Python is faster
        return max(values, default=NEVER)
    return float(np.asarray(values).max())


def spellable(model: NgramModel, letters: Set[str], name: str) -> NgramModel:
    """The language model with its words in the recogniser's letters; `name` is what an error calls it.

    Where words have others, their case, apostrophes and accents are changed; of n-grams that become equal the likeliest
    counts. LanguageModelError if most words cannot be spelled even so.
    """
    vocabulary = model.vocabulary
    if letters | {*"".join(SPECIAL)} >= vocabulary.letters:
        return model
    words = [vocabulary.word(word) for word in range(len(vocabulary))]
    folded = [word if word in SPECIAL else _folded(word, letters) for word in words]
    unusable = sum(new is None for new in folded)
    if unusable > UNUSABLE * (len(words) - len(SPECIAL)):
        share = unusable / (len(words) - len(SPECIAL))
        raise LanguageModelError(
            f"{name}: the recogniser cannot spell {share:.0%} of this language model's words, such as "
            f"'{words[folded.index(None)]}'; build one from text in its letters, {''.join(sorted(letters))}"
        )
    renamed = [word if new is None else new for word, new in zip(words, folded, strict=True)]
    return model if renamed == words else _rename(model, renamed)


def _folded(word: str, letters: Set[str]) -> str | None:
    """The word, changed as little as is enough to spell it with the letters; None if nothing is enough."""
    quoted = word.translate(APOSTROPHES)
    forms = (form for base in (word, quoted, without_accents(quoted)) for form in (base, base.lower(), base.upper()))
    return next((form for form in forms if letters >= {*form}), None)


def _rename(model: NgramModel, words: list[str]) -> NgramModel:
    """The model with other words, by id; of n-grams that become equal the likeliest is kept."""
    names = sorted({word.encode() for word in words})
    ids = {name: number for number, name in enumerate(names)}
    renumbered = np.array([ids[word.encode()] for word in words])
    levels: list[Level] = []
    places = np.zeros(1, dtype=np.int64)  # of each n-gram of the level below, in its new level
    for level in model.levels():
        contexts, lasts = places[level.context], renumbered[level.word]
        order = np.lexsort((-level.log_prob, lasts, contexts))
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(contexts[order]) != 0) | (np.diff(lasts[order]) != 0)
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.cumsum(first) - 1
        kept = order[first]
        levels.append(Level(contexts[kept], lasts[kept], level.log_prob[kept], level.backoff[kept]))
    return NgramModel.of(names, levels)
