"""Perplexity of language models on sentences: exp of the mean negative log-probability of an event."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.lm.neural import NeuralModel
from asr.lm.ngram import NgramModel


@dataclass(frozen=True)
class Perplexity:
    """Per token, and per word; ends of sentences count in each. NaN where a model was not measured so."""

    per_token: float
    per_word: float
    per_known_word: float  # without the words that an n-gram model does not know

    def __str__(self) -> str:
        measured = {name.replace("_", " "): value for name, value in vars(self).items() if not math.isnan(value)}
        return "perplexity " + ", ".join(f"{value:.2f} {name}" for name, value in measured.items())


def known_words(sentences: Sequence[str], ngram: NgramModel | None) -> list[np.ndarray]:
    """For each sentence of n words a mask (n + 1,): whether the n-gram model knows the word, or the end; all without
    one."""
    if ngram is None:
        return [np.ones(len(sentence.split()) + 1, dtype=bool) for sentence in sentences]
    unknown = ngram.vocabulary.unknown
    return [np.array([word != unknown for word, _ in ngram.score_words(sentence)]) for sentence in sentences]


def neural_perplexity(model: NeuralModel, encoded: Sequence[Sequence[int]], known: Sequence[np.ndarray]) -> Perplexity:
    """Perplexities of a recurrent model. encoded: the tokens of each sentence; known: its mask from `known_words`."""
    total = known_total = 0.0
    for tokens, scores, mask in zip(encoded, model.score_tokens(encoded), known, strict=True):
        # A word begins with its token's `▁`; character models have none before the first word.
        begins = [place == 0 or model.tokens.starts_word(token) for place, token in enumerate(tokens)]
        by_word = np.add.reduceat(scores, np.flatnonzero([*begins, True]))
        total += scores.sum()
        known_total += by_word[mask].sum()
    counts = sum(map(len, encoded)) + len(encoded), sum(map(len, known)), sum(int(mask.sum()) for mask in known)
    sums = total, total, known_total
    return Perplexity(*(math.exp(-log_prob / count) for log_prob, count in zip(sums, counts, strict=True)))


def ngram_perplexity(model: NgramModel, sentences: Sequence[str]) -> Perplexity:
    """Perplexity of its known words only: <unk> has the probability of all the words it does not know together."""
    unknown = model.vocabulary.unknown
    scores = [score for sentence in sentences for word, score in model.score_words(sentence) if word != unknown]
    return Perplexity(math.nan, math.nan, math.exp(-sum(scores) / len(scores)))
