"""Small language models and hotwords, and the sum that `asr.decode.fusion` promises for a text, computed plainly."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from asr.decode.fusion import Fusion, FusionWeights
from asr.lm.ngram import Level, NgramModel
from asr.lm.vocabulary import SPECIAL
from asr.model.tokens import BLANK, WORD_START, Tokens

ALPHABETS = (
    Tokens([BLANK, "▁a", "b", "▁ab"]),
    Tokens([BLANK, WORD_START, "a", "b"]),
    Tokens([BLANK, "▁a", "▁b", "a", "b", "▁ab", "ba", WORD_START]),
)
KNOWN = ("a", "aab", "ab", "abba", "b", "ba")  # of which a model knows some


@dataclass
class Parts:
    """What a fusion is made of."""

    tokens: Tokens
    model: NgramModel | None = None
    weights: FusionWeights = field(default_factory=FusionWeights)
    hotwords: dict[str, float] = field(default_factory=dict)

    def fusion(self) -> Fusion:
        return Fusion(self.tokens, self.model, self.weights, self.hotwords)

    def sum(self, text: str) -> float:
        """What the docstring of `Fusion` says that a text gains."""
        words, gain = text.split(), 0.0
        if self.model is not None:
            known = {word for phrase in self.hotwords for word in phrase.split()}
            *scored, _ = self.model.score_words(text)  # without its end
            for word, (_, log_prob) in zip(words, scored, strict=True):
                gain += self.weights.lm_weight * log_prob + self.weights.word_bonus
                if self.model.vocabulary.get(word) is None and word not in known:
                    gain += self.weights.unknown_score
        for phrase, boost in self.hotwords.items():
            there = phrase.split()
            gain += boost * sum(words[place : place + len(there)] == there for place in range(len(words)))
        return gain


def random_model(order: int, seed: int) -> NgramModel:
    """Any n-grams with any log-probs: not normalised, so <unk> may be likelier than every word."""
    generator = np.random.default_rng(seed)
    words = sorted([*SPECIAL, *generator.permutation(KNOWN)[: generator.integers(1, len(KNOWN) + 1)]])
    levels, contexts = [], 1
    for length in range(1, order + 1):
        there = np.argwhere(generator.random((contexts, len(words))) < (0.3 if length > 1 else 1))
        contexts = len(there)
        backoff = -generator.exponential(1, contexts) * (generator.random(contexts) < 0.7)
        levels.append(Level(there[:, 0], there[:, 1], -generator.exponential(3, contexts), backoff))
    return NgramModel.of([word.encode() for word in words], levels)


@st.composite
def parts(draw: st.DrawFn, alphabets: tuple[Tokens, ...] = ALPHABETS) -> Parts:
    """With or without a language model, with no, one or several hotwords, which may overlap."""
    model = draw(st.none() | st.builds(random_model, st.integers(1, 3), st.integers(0, 10_000)))
    weights = FusionWeights(draw(st.floats(0, 2)), draw(st.floats(-1, 3)), draw(st.floats(-8, 0)))
    phrases = st.lists(st.sampled_from(("a", "b", "ab", "ba", "bab")), min_size=1, max_size=3).map(" ".join)
    return Parts(
        draw(st.sampled_from(alphabets)), model, weights, draw(st.dictionaries(phrases, st.floats(0.5, 9), max_size=4))
    )
