"""Pronunciations of words that no dictionary has, and spellings of what was pronounced.

A joint-sequence model (Bisani & Ney 2008, "Joint-sequence models for grapheme-to-phoneme conversion"): a word and its
pronunciation are cut into as many pieces, which form pairs, as in "ph|f o|O n|n e|". As in Phonetisaurus (Novak,
Minematsu & Hirose 2016), `asr.lm.align_pairs` finds the likeliest pairs of each entry of a dictionary, an n-gram model
of such sentences is estimated, and a beam search finds the likeliest pairs with given letters, or with given phones.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from heapq import nlargest
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from asr.errors import LanguageModelError
from asr.lm.align_pairs import SEPARATOR, align
from asr.lm.binary import load_model, save_model
from asr.lm.lexicon import Entry
from asr.lm.ngram import ROOT, NgramModel
from asr.lm.vocabulary import SPECIAL
from asr.model.phones import LETTERS
from asr.normalize import without_accents

ORDER = 6  # pairs in the longest n-grams; 8 are no better
THRESHOLD = 1e-7  # of pruning: half of the n-grams go, 0.2 % more words are wrong
BEAM_WIDTH = 16
BEAM = 12.0  # nats behind the best; with 8 nats and fewer 1 % more words are wrong
LONGEST = 200  # letters or phones of a word
SILENT = 2  # letters in a row that stand for no phone, when phones are spelled
CACHED = 1 << 15  # results of each of the caches: words have beginnings in common
CONSONANTS = {*"bcdfghjklmnpqrstvwxz"}  # a word of these alone is read letter by letter, as "dvd"

# By letters (or phones) the pairs with them: number in the vocabulary, and the phones (or letters) beside them.
Pairs = dict[str, list[tuple[int, str]]]
Beam = dict[tuple[int, str], float]  # log-prob by state of the model and what was written so far
Key = TypeVar("Key")


class Pronouncer:
    """Letters to phones and back. `model`: n-grams of pairs; LanguageModelError if its words are no pairs."""

    def __init__(self, model: NgramModel):
        self._model = model
        by_letters: Pairs = defaultdict(list)
        by_phones: Pairs = defaultdict(list)
        for number in range(len(model.vocabulary)):
            pair = model.vocabulary.word(number)
            if pair in SPECIAL:
                continue
            letters, separator, phones = pair.rpartition(SEPARATOR)
            if not separator or not {*LETTERS}.issuperset(phones):
                raise LanguageModelError(f"not letter-to-phone rules of `asr lexicon build`: it has the word '{pair}'")
            by_letters[letters].append((number, phones))
            by_phones[phones].append((number, letters))
        self._by_letters, self._by_phones = dict(by_letters), dict(by_phones)
        self._letters, self._phones = ({*chain.from_iterable(side)} for side in (by_letters, by_phones))
        self._successors = lru_cache(CACHED)(self._find_successors)
        self._after = lru_cache(CACHED)(self._find_after)
        self._own = lru_cache(CACHED)(self._find_own)

    @classmethod
    def load(cls, path: Path | str) -> "Pronouncer":
        """Open what `save` wrote. LanguageModelError."""
        model = load_model(path)
        try:
            return cls(model)
        except LanguageModelError as error:
            raise LanguageModelError(f"{path}: {error}") from None

    def save(self, path: Path) -> None:
        """Write the n-gram model of the pairs, with 8 bits a number. LanguageModelError."""
        save_model(self._model.packed(), path)

    def say(self, word: str) -> str:
        """The likeliest pronunciation of a word in lower case; empty if none of its letters is known."""
        return next(iter(self.say_all(word, 1)), "")

    def say_all(self, word: str, n: int) -> list[str]:
        """The `n` likeliest pronunciations of a word, or fewer; none of one of more than 200 letters.

        Letters that are not in the dictionary are read without accents, ß as ss.
        """
        if len(word) > LONGEST:
            return []
        word = "".join(char if char in self._letters else without_accents(char) for char in word)
        found = self._search(word, False)
        if len(word) > 1 and CONSONANTS.issuperset(word):
            found.insert(0, "".join(chain.from_iterable(self._search(letter, False)[:1] for letter in word)))
        return [*dict.fromkeys(found)][:n]

    def spell(self, pronunciation: str) -> str:
        """The likeliest spelling of a pronunciation; empty if it has no phone that is known, or more than 200."""
        if len(pronunciation) > LONGEST:
            return ""
        return next(iter(self._search(pronunciation, True)), "")

    def _search(self, source: str, spelling: bool) -> list[str]:
        """The likeliest phones of letters, or letters of phones if `spelling`, best first."""
        if (self._phones if spelling else self._letters).isdisjoint(source):
            return []
        beams: list[Beam] = [{} for _ in range(len(source) + 1)]
        beams[0][self._model.start(), ""] = 0.0
        for place in range(len(source)):
            beam = self._prune(beams[place], spelling)
            sizes = range(1, min(2, len(source) - place) + 1)
            for size in sizes:
                self._extend(beam, source[place : place + size], spelling, beams[place + size])
            if not any(beams[place + size] for size in sizes):
                beams[place + 1] = beam  # no pair has this symbol: it is passed over
        written: dict[str, float] = {}
        for (state, text), log_prob in self._prune(beams[-1], spelling).items():
            _add(written, text, log_prob + self._model.score(state, self._model.vocabulary.sentence_end)[0])
        return sorted(filter(None, written), key=lambda text: -written[text])

    def _prune(self, beam: Beam, spelling: bool) -> Beam:
        """The best of a beam; if `spelling`, also with silent letters after them."""
        best = _best(beam)
        longer = best
        for _ in range(SILENT * spelling):
            # A silent letter only lowers the log-prob, so states below the lowest of a full beam are not made.
            least = min(best.values(), default=0.0) if len(best) == BEAM_WIDTH else -math.inf
            shorter, longer = longer, {}
            self._extend(shorter, "", spelling, longer, least)
            merged = dict(best)
            for key, log_prob in longer.items():
                _add(merged, key, log_prob)
            best = _best(merged)
        return best

    def _extend(self, beam: Beam, piece: str, spelling: bool, extended: Beam, least: float = -math.inf) -> None:
        """Add to `extended` the beam with each pair that has the piece on the given side, if it is at least `least`."""
        lowest = max(max(beam.values(), default=0.0) - BEAM, least)
        for (state, written), before in beam.items():
            for log_prob, number, other in self._successors(state, piece, spelling):
                total = before + log_prob
                if total < lowest:
                    break
                _add(extended, (self._after(state, number), written + other), total)

    def _find_after(self, state: int, number: int) -> int:
        """The state after a pair."""
        return self._model.score(state, number)[1]

    def _find_successors(self, state: int, piece: str, spelling: bool) -> list[tuple[float, int, str]]:
        """Log-prob, number and other side of the pairs with the piece, likeliest first; of `BEAM` nats at least.

        Most have the log-prob of the shorter context, which others share, with the weight of backing off.
        """
        pairs = (self._by_phones if spelling else self._by_letters).get(piece, [])
        if state == ROOT:
            return sorted(
                ((self._model.score(ROOT, number)[0], number, other) for number, other in pairs), reverse=True
            )
        own, (backoff, shorter) = self._own(state), self._model.back_off(state)
        successors = [(own[number], number, other) for number, other in pairs if number in own]
        for log_prob, number, other in self._successors(shorter, piece, spelling):
            if backoff + log_prob < -BEAM:
                break
            if number not in own:
                successors.append((backoff + log_prob, number, other))
        return sorted(successors, reverse=True)

    def _find_own(self, state: int) -> dict[int, float]:
        """Log-probs of the pairs that have n-grams of their own after a state."""
        pairs, log_probs = self._model.continuations(state)
        return dict(zip(pairs.tolist(), log_probs.tolist(), strict=True))


def train(entries: Iterable[Entry]) -> Pronouncer:
    """The letter-to-phone rules of a dictionary's words in lower case. LanguageModelError if it has none."""
    from asr.lm.estimate import estimate  # here, so that a recogniser starts faster

    sentences = align(entries)
    if not sentences:
        raise LanguageModelError("the dictionary has no words to learn pronunciations from")
    longest = max(sentence.count(" ") for sentence in sentences) + 3  # with <s> and </s>
    return Pronouncer(estimate(sentences, min(ORDER, longest), threshold=THRESHOLD)[0])


def _add(log_probs: dict[Key, float], key: Key, log_prob: float) -> None:
    """Add one more way to get to `key`."""
    before = log_probs.get(key)
    if before is not None:
        low, high = sorted((before, log_prob))
        log_prob = high + math.log1p(math.exp(low - high))
    log_probs[key] = log_prob


def _best(beam: Beam) -> Beam:
    """Its `BEAM_WIDTH` likeliest, best first."""
    return dict(nlargest(BEAM_WIDTH, beam.items(), key=itemgetter(1)))
