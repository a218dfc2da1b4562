"""Small lexicons and language models of words that share pronunciations, and what a reading may gain, plainly."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from hypothesis import strategies as st

from asr.decode.fusion import Fusion, FusionWeights
from asr.decode.lexicon import PronouncedModel, Pronunciations
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import Level, NgramModel
from asr.lm.vocabulary import SPECIAL
from asr.model.tokens import BLANK, WORD_START, Tokens

ALPHABETS = (Tokens([BLANK, "▁a", "b", "▁ab"]), Tokens([BLANK, WORD_START, "a", "b"]))
ENTRIES = [
    *(("one", "a"), ("won", "a"), ("two", "ab"), ("too", "ab"), ("too", "a"), ("to", "b"), ("four", "ba")),
    *(("for", "ab"), ("eight", "aab"), ("ate", "aab")),
]
WORDS = sorted({word for word, _ in ENTRIES})


class Reader:
    """In place of letter-to-phone rules: any word may be "ab" or "abb"; what is written shows the phones."""

    def say_all(self, word: str, count: int = 1) -> list[str]:
        return ["ab", "abb"][:count] if word.isalpha() else []

    def spell(self, pronunciation: str) -> str:
        return f"<{pronunciation}>"


def random_model(order: int, seed: int, words: list[str] = WORDS) -> NgramModel:
    """Any n-grams of some of the words with any log-probs."""
    generator = np.random.default_rng(seed)
    known = sorted([*SPECIAL, *generator.permutation(words)[: generator.integers(1, len(words) + 1)]])
    levels, contexts = [], 1
    for length in range(1, order + 1):
        there = np.argwhere(generator.random((contexts, len(known))) < (0.3 if length > 1 else 1))
        contexts = len(there)
        backoff = -generator.exponential(1, contexts) * (generator.random(contexts) < 0.7)
        levels.append(Level(there[:, 0], there[:, 1], -generator.exponential(3, contexts), backoff))
    return NgramModel.of([word.encode() for word in known], levels)


@dataclass
class Parts:
    """What a fusion of pronunciations is made of."""

    tokens: Tokens
    model: NgramModel | None = None
    weights: FusionWeights = field(default_factory=FusionWeights)
    hotwords: dict[str, float] = field(default_factory=dict)
    own: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.pronunciations = Pronunciations(Lexicon.of(ENTRIES), Reader, self.own)  # type: ignore[arg-type]

    def fusion(self) -> Fusion:
        model = PronouncedModel(self.model, self.pronunciations.lexicon) if self.model is not None else None
        return Fusion(self.tokens, model, self.weights, self.hotwords, self.pronunciations)

    def readings(self, spelled: str) -> Iterator[tuple[list[str], float]]:
        """Each way to write pronunciations, and the sum that the docstring of `Fusion` gives it."""
        for words in product(*map(self._words, spelled.split())):
            yield [word for word, _ in words], self._sum(words)

    def _words(self, pronunciation: str) -> list[tuple[str, bool]]:
        """The words that are pronounced so, with whether they are known; where one is, the others are left out."""
        added = sorted({word for phrase in self.hotwords for word in phrase.split()} | self.own)
        added = [word for word in added if pronunciation in self.pronunciations.of(word)]
        words = dict.fromkeys([*self.pronunciations.lexicon.words(pronunciation), *added])
        known = [word for word in words if self.model is None or word in added or self._id(word) is not None]
        return [(word, True) for word in known] or [(next(iter(words), f"<{pronunciation}>"), False)]

    def _id(self, word: str) -> int | None:
        assert self.model is not None
        return self.model.vocabulary.get(word)

    def _sum(self, words: tuple[tuple[str, bool], ...]) -> float:
        gain, text = 0.0, [word for word, _ in words]
        if self.model is not None:
            state = self.model.start()
            for word, known in words:
                log_prob, state = self.model.score(state, self.model.vocabulary.id(word))
                gain += self.weights.lm_weight * log_prob + self.weights.word_bonus
                gain += 0.0 if known else self.weights.unknown_score
        for phrase, boost in self.hotwords.items():
            there = phrase.split()
            gain += boost * sum(text[place : place + len(there)] == there for place in range(len(text)))
        return gain


@st.composite
def parts(draw: st.DrawFn, alphabets: tuple[Tokens, ...] = ALPHABETS) -> Parts:
    """With or without a language model; with hotwords, some of which no lexicon has."""
    model = draw(st.none() | st.builds(random_model, st.integers(1, 3), st.integers(0, 10_000)))
    weights = FusionWeights(draw(st.floats(0, 2)), draw(st.floats(-1, 3)), draw(st.floats(-8, 0)))
    words = st.sampled_from(("one", "won", "to", "for", "smyth", "ate"))
    phrases = st.lists(words, min_size=1, max_size=2).map(" ".join)
    hotwords = draw(st.dictionaries(phrases, st.floats(0.5, 9), max_size=3))
    own = frozenset(draw(st.sets(st.sampled_from(("won", "ate")))))
    return Parts(draw(st.sampled_from(alphabets)), model, weights, hotwords, own)
