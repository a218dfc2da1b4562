"""Static interpolation of n-gram models into one back-off model.

The probability of every n-gram of any of the models is the weighted mean of what the models give it, each with its own
back-off, as SRILM's `-mix-lm` (Stolcke 2002, "SRILM: an extensible language modeling toolkit"); the back-off weights
are those with which probabilities sum to 1. The weights of the models come from held-out text by expectation
maximization (Jelinek & Mercer 1980, "Interpolated estimation of Markov source parameters from sparse data").

The vocabulary is the union. A model that does not know one of its words takes it for <unk>, also in contexts, and the
probability of <unk> there is shared among the words that the model lacks: each has a part in proportion to the mean
1-gram probability that the models which know it give it, and <unk> itself one in proportion to the lowest that it has
in any model, since words that none knows are unknown to each. So the probabilities of each model sum to 1 over the
union, and those of the mixture do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import LanguageModelError
from asr.lm.ngram import Level, NgramModel
from asr.lm.trie import Trie, normalized
from asr.lm.vocabulary import SENTENCE_END, SPECIAL, UNKNOWN

CONVERGED = 1e-6  # change of the weights in a round
TOLERANCE = 1e-3  # of the sum of the weights, which users round


@dataclass
class Words:
    """How a model's words relate to the union of the vocabularies."""

    union: np.ndarray  # for each word of the model its place in the union
    own: np.ndarray  # for each word of the union its id in the model, that of <unk> if it is unknown there
    log_share: np.ndarray  # natural log of its share in the probability of that id


def mix(models: Sequence[NgramModel], weights: Sequence[float]) -> NgramModel:
    """Interpolate models. LanguageModelError if the weights are not one for each that sum to 1."""
    if len(weights) != len(models) or not (min(weights) >= 0 and abs(sum(weights) - 1) <= TOLERANCE):  # NaN is neither
        given = ",".join(f"{weight:g}" for weight in weights)
        raise LanguageModelError(f"weights {given}: give {len(models)}, one for each model, that sum to 1")
    words, mappings = unite(models)
    tries = [Trie(model) for model in models]
    states = [np.zeros(1, dtype=np.uint32) for _ in models]  # of each n-gram of the order below, in each model
    places = [np.zeros(1, dtype=np.int64) for _ in models]  # of each model's n-grams of the order below, in the union
    levels = []
    for order in range(1, max(model.order for model in models) + 1):
        own = []  # each model's n-grams as those of the union
        for trie, mapping, place, model in zip(tries, mappings, places, models, strict=True):
            if order > model.order:
                own.append(np.zeros(0, dtype=np.int64))
                continue
            _, context, word = trie.ngrams(order)
            first = trie.begins[order - 2] if order > 1 else 0
            own.append(place[context - first] * len(words) + mapping.union[word])
        keys = np.unique(np.concatenate(own))
        places = [np.searchsorted(keys, key) for key in own]
        context, word = np.divmod(keys, len(words))
        del own, keys
        probs = np.zeros(len(word))
        for number, (trie, mapping, weight) in enumerate(zip(tries, mappings, weights, strict=True)):
            before, ids = states[number][context], mapping.own[word]
            log_probs, nodes = trie.score(before, ids)
            probs += weight * np.exp(log_probs + mapping.log_share[word])
            states[number] = trie.states(before, ids, nodes)
        levels.append(Level(context, word, np.log(probs), np.zeros(len(word))))
    return normalized(words, levels)


def unite(models: Sequence[NgramModel]) -> tuple[list[bytes], list[Words]]:
    """The words of all models, sorted, and how those of each relate to them. LanguageModelError."""
    own = [model.vocabulary.words for model in models]
    letters = [{*b"".join({*each} - {*map(str.encode, SPECIAL)}).decode()} for each in own]
    for number, other in enumerate(letters[1:], start=2):
        if not other & letters[0]:
            raise LanguageModelError(
                f"model {number} has other letters than the first; build both with or without --as-is"
            )
    words = sorted({*(word for each in own for word in each)})
    place = {word: number for number, word in enumerate(words)}
    mappings = []
    for model, each in zip(models, own, strict=True):
        union = np.array([place[word] for word in each])
        ids = np.full(len(words), model.vocabulary.unknown)
        ids[union] = np.arange(len(each))
        mappings.append(Words(union, ids, np.zeros(len(words))))
    unigrams = [np.exp(next(model.levels()).log_prob, dtype=np.float64) for model in models]
    total, known = np.zeros(len(words)), np.zeros(len(words))
    for probs, mapping in zip(unigrams, mappings, strict=True):
        total[mapping.union] += probs
        known[mapping.union] += 1
    mean = total / known
    unknown = place[UNKNOWN.encode()]
    mean[unknown] = min(probs[model.vocabulary.unknown] for probs, model in zip(unigrams, models, strict=True))
    for model, mapping in zip(models, mappings, strict=True):
        shared = mapping.own == model.vocabulary.unknown
        mapping.log_share[shared] = np.log(mean[shared] / mean[shared].sum())
    return words, mappings


def tune(models: Sequence[NgramModel], texts: Mapping[str, Sequence[str]]) -> list[float]:
    """The weights of the mixture that predicts texts best. Returns one for each model, 1 in all.

    texts: the sentences of each text by its name; every text counts the same. Words that no model knows are left out.
    Raises LanguageModelError if a text has no others.
    """
    words, mappings = unite(models)
    place = {word.decode(): number for number, word in enumerate(words)}
    probs, counts = [], []  # of each text, those of its words in each model, and the number of words
    for name, sentences in texts.items():
        ids = np.array([place.get(word, -1) for text in sentences for word in [*text.split(), SENTENCE_END]], dtype=int)
        if not (known := ids >= 0)[ids != place[SENTENCE_END]].any():
            raise LanguageModelError(f"{name}: has no word that a model knows; tune on text of the models' kind")
        scores = [[score for text in sentences for _, score in model.score_words(text)] for model in models]
        shares = [mapping.log_share[ids] for mapping in mappings]
        probs.append(np.exp(np.add(scores, shares)[:, known]))
        counts.append(known.sum())
    joined, share = np.concatenate(probs, axis=1), np.repeat(1 / np.multiply(counts, len(counts)), counts)
    weights, change = np.full(len(models), 1 / len(models)), 1.0
    while change > CONVERGED:
        joint = weights[:, np.newaxis] * joined
        updated = (joint / joint.sum(axis=0)) @ share
        weights, change = updated, np.abs(updated - weights).max()
    return (weights / weights.sum()).tolist()
