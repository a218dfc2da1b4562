"""Interpolation against its definition, n-gram by n-gram."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_score import score_text

from asr.errors import LanguageModelError
from asr.lm.estimate import estimate
from asr.lm.mix import mix, tune
from asr.lm.ngram import ROOT, NgramModel
from asr.lm.prune import Pruner

TOLERANCE = 1e-5
Ngram = tuple[str, ...]


def texts(words: str) -> st.SearchStrategy[list[str]]:
    sentences = st.lists(st.sampled_from(words), min_size=3, max_size=6).map(" ".join)
    return st.lists(sentences, min_size=1, max_size=6).map(lambda drawn: [*drawn, "b b b"])


def words_of(model: NgramModel) -> list[str]:
    return [model.vocabulary.word(word) for word in range(len(model.vocabulary))]


def prob(model: NgramModel, context: Ngram, word: str) -> float:
    state = ROOT
    for before in context:
        state = model.start() if before == "<s>" else model.score(state, model.vocabulary.id(before))[1]
    return math.exp(model.score(state, model.vocabulary.id(word))[0])


def share(models: list[NgramModel], model: NgramModel, word: str) -> float:
    """The part of <unk> in a model that is the word's."""

    def weight(word: str) -> float:
        if word == "<unk>":
            return min(prob(each, (), word) for each in models)
        known = [prob(each, (), word) for each in models if each.vocabulary.get(word) is not None]
        return sum(known) / len(known)

    if word in words_of(model) and word != "<unk>":
        return 1.0
    lacking = {word for each in models for word in words_of(each)} - {*words_of(model)} | {"<unk>"}
    return weight(word) / sum(map(weight, lacking))


def ngrams_of(model: NgramModel) -> list[set[Ngram]]:
    words, contexts, orders = words_of(model), [()], []
    for level in model.levels():
        pairs = zip(level.context.tolist(), level.word.tolist(), strict=True)
        contexts = [(*contexts[context], words[word]) for context, word in pairs]
        orders.append({*contexts})
    return orders


@settings(deadline=None, max_examples=25)
@given(
    texts("abc"), texts("bcd"), st.integers(1, 3), st.integers(1, 4), st.floats(0.01, 0.99), st.sampled_from([0, 1e-2])
)
def test_a_mixture_is_the_mean_of_its_models_and_sums_to_one(
    first: list[str], second: list[str], low: int, high: int, weight: float, threshold: float
) -> None:
    models = [estimate(first, low)[0], Pruner(estimate(second, high)[0]).prune(threshold)]
    mixture = mix(models, [weight, 1 - weight])
    orders = [ngrams_of(model) for model in models]
    union = ngrams_of(mixture)
    for order, ngrams in enumerate(union):
        assert ngrams == set().union(*(each[order] for each in orders if order < len(each)))
        for *context, word in ngrams - {("<s>",)}:
            parts = [prob(model, tuple(context), word) * share(models, model, word) for model in models]
            expected = weight * parts[0] + (1 - weight) * parts[1]
            assert prob(mixture, tuple(context), word) == pytest.approx(expected, rel=1e-4)
    words = [word for word in words_of(mixture) if word != "<s>"]
    histories = [word for word in words_of(mixture) if word != "</s>"]
    for length in range(3):
        for context in product(histories, *[[word for word in histories if word != "<s>"]] * (length - 1)):
            total = sum(prob(mixture, context[:length], word) for word in words)
            assert total == pytest.approx(1, abs=TOLERANCE)


def test_weights_are_those_that_predict_the_text_best() -> None:
    models = [estimate(["a b c", "b c a", "a a b"], 2)[0], estimate(["c b a", "c c b a d"], 3)[0]]
    text = ["a b c a", "c b a", "d a", "e"]
    tuned = tune(models, {"text": text})
    assert sum(tuned) == pytest.approx(1)

    def log_prob(weight: float) -> float:
        mixture = mix(models, [weight, 1 - weight])
        return sum(score_text(mixture, sentence) for sentence in text if sentence != "e")

    best = max(np.linspace(0.01, 0.99, 99), key=log_prob)
    assert tuned[0] == pytest.approx(best, abs=0.02)


def test_each_text_counts_the_same() -> None:
    models = [estimate(["a b c", "b c a"], 2)[0], estimate(["d e", "e d c"], 2)[0]]
    few, many = ["a b c"], ["e d"] * 50
    once, more = tune(models, {"few": few, "many": many[:1]}), tune(models, {"few": few, "many": many})
    assert once == pytest.approx(more, abs=1e-3)
    assert tune(models, {"all": few + many})[1] > more[1] + 0.1


def test_one_of_two_models_is_all_of_a_mixture_if_the_text_is_its_own() -> None:
    models = [estimate(["a b c", "b c a"], 2)[0], estimate(["d e", "e d c"], 2)[0]]
    assert tune(models, {"text": ["a b c", "b c a"]})[0] > 0.95


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.6], [1.5, -0.5], [0.2, 0.3, 0.5], [math.nan, 1.0], [math.nan] * 2])
def test_wrong_weights_are_one_line(weights: list[float]) -> None:
    models = [estimate(["a b"], 2)[0], estimate(["b a"], 2)[0]]
    with pytest.raises(LanguageModelError, match="give 2, one for each model, that sum to 1"):
        mix(models, weights)


def test_models_of_other_letters_are_one_line() -> None:
    models = [estimate(["a b"], 2)[0], estimate(["A B"], 2)[0]]
    for attempt in (lambda: mix(models, [0.5, 0.5]), lambda: tune(models, {"text": ["a"]})):
        with pytest.raises(LanguageModelError, match="model 2 has other letters than the first"):
            attempt()


@pytest.mark.parametrize("text", [[], ["x"]])
def test_a_text_to_tune_on_without_known_words_is_one_line(text: list[str]) -> None:
    models = [estimate(["a b"], 2)[0], estimate(["b a"], 2)[0]]
    with pytest.raises(LanguageModelError, match=r"held\.txt: has no word that a model knows"):
        tune(models, {"fine.txt": ["a"], "held.txt": text})
