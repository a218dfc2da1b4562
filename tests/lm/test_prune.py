"""Entropy pruning against its definition, and the sizes of files."""

import math
from pathlib import Path

import numpy as np
import pytest
from sentence_score import score_text
from test_estimate import TEXT, contexts_of, generated, log_probs_after, state_after

from asr.errors import LanguageModelError
from asr.lm.binary import load_model, save_model
from asr.lm.estimate import estimate
from asr.lm.mix import mix
from asr.lm.ngram import MEMBERS, Level, NgramModel
from asr.lm.prune import Pruner, context_shares
from asr.lm.trie import Trie, normalized
from asr.lm.vocabulary import SPECIAL


def perplexity(model: NgramModel, text: list[str]) -> float:
    words = sum(len(sentence.split()) + 1 for sentence in text)
    return math.exp(-sum(score_text(model, sentence) for sentence in text) / words)


def shares_of(model: NgramModel) -> np.ndarray:
    trie = Trie(model)
    lower, suffixes = (np.zeros(trie.begins[-1], dtype=kind) for kind in (np.float32, np.uint32))
    for order in range(2, model.order + 1):
        nodes, contexts, words = trie.ngrams(order)
        lower[nodes], suffixes[nodes] = trie.score(trie.suffixes[contexts], words)
    return context_shares(model, trie, lower, suffixes)


def test_shares_of_contexts_are_those_of_a_text_that_the_model_writes() -> None:
    model, _ = estimate(TEXT[:40], 3)
    shares, trie, generator = shares_of(model), Trie(model), np.random.default_rng(0)
    words = np.delete(np.arange(len(model.vocabulary)), model.vocabulary.sentence_start)
    seen, written = np.zeros(len(shares)), 60_000
    place = {key: node for node, key in enumerate(trie.keys.tolist(), start=1)}
    cached: dict[int, np.ndarray] = {}
    state, history = model.start(), [model.vocabulary.sentence_start]
    for _ in range(written):
        seen[1 + history[-1]] += 1
        if len(history) > 1 and (pair := place.get((1 + history[-2]) * trie.vocabulary + history[-1])):
            seen[pair] += 1
        if state not in cached:
            cached[state] = np.cumsum(np.exp(log_probs_after(model, state, words)))
        chosen = int(words[min(np.searchsorted(cached[state], generator.random()), len(words) - 1)])
        _, state = model.score(state, chosen)
        history.append(chosen)
        if chosen == model.vocabulary.sentence_end:
            state, history = model.start(), [model.vocabulary.sentence_start]
    frequent = seen > 400
    assert frequent.sum() > 30
    assert shares[frequent] == pytest.approx(seen[frequent] / written, rel=0.2)
    assert shares[0] == pytest.approx(1)


def test_what_costs_least_is_left_out() -> None:
    """The cost of a 3-gram by definition: the divergence from the model to the one without it, after its context."""
    model, _ = estimate(TEXT)
    shares, pruner, trie = shares_of(model), Pruner(model), Trie(model)
    everything = np.delete(np.arange(trie.vocabulary), model.vocabulary.sentence_start)
    nodes, contexts, words = trie.ngrams(3)
    costs = []
    for number in range(0, len(words), 50):
        context, last = int(contexts[number]), words[number]
        full = np.exp(log_probs_after(model, context, everything))
        below = np.exp(log_probs_after(model, int(trie.suffixes[context]), everything))
        explicit = np.isin(everything, words[contexts == context]) & (everything != last)
        without = np.where(explicit, full, (1 - full[explicit].sum()) / (1 - below[explicit].sum()) * below)
        costs.append(math.expm1(shares[context] * (full * np.log(full / without)).sum()))
    assert pruner.losses[nodes][::50] == pytest.approx(costs, rel=0.02, abs=1e-8)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_pruned_model_sums_to_one(order: int) -> None:
    model = Pruner(estimate(TEXT, order)[0]).prune(1e-4)
    words = np.delete(np.arange(len(model.vocabulary)), model.vocabulary.sentence_start)
    for context in contexts_of(TEXT, 3):
        log_probs = log_probs_after(model, state_after(model, context), words)
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)


def test_pruning_makes_a_model_smaller_and_little_worse() -> None:
    held_out = generated(100, seed=2)
    full = estimate(TEXT)[0]
    pruned = Pruner(full).prune(1e-4)
    assert sum(pruned.counts) < 0.6 * sum(full.counts)
    assert perplexity(pruned, held_out) < 1.1 * perplexity(full, held_out)
    assert Pruner(full).prune(0).counts == full.counts


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [9_000, 11_000, 14_000, 1_000_000])
def test_a_model_fits_a_size(tmp_path: Path, order: int, size: int) -> None:
    model = mix([estimate(TEXT, order)[0], estimate(generated(300, seed=3), 3)[0]], [0.5, 0.5])
    small = Pruner(model).to_size(size)
    save_model(small, tmp_path / "small.lm")
    written = (tmp_path / "small.lm").stat().st_size
    assert written <= size
    if small.counts != model.counts:  # one more n-gram, with what it needs, would not fit: the estimate is an upper one
        assert written > size - 2_500
    again = load_model(tmp_path / "small.lm")
    for sentence in generated(20, seed=4):
        assert score_text(again, sentence) == score_text(small, sentence)


def test_eight_bits_a_number_lose_little() -> None:
    held_out, model = generated(100, seed=2), estimate(TEXT)[0]
    assert perplexity(model.packed(), held_out) == pytest.approx(perplexity(model, held_out), rel=5e-3)


def test_a_size_that_the_words_do_not_fit_is_one_line() -> None:
    with pytest.raises(LanguageModelError, match=r"5,000 bytes are too few: 143 words alone take [0-9,]+$"):
        Pruner(estimate(TEXT)[0]).to_size(5_000)


def test_a_large_vocabulary_takes_16_bits_a_word(tmp_path: Path) -> None:
    """Words that end no n-gram worth much stay as 1-grams, and in contexts."""
    count = 70_000
    words = sorted([*(f"w{number}".encode() for number in range(count)), *(mark.encode() for mark in SPECIAL)])
    generator = np.random.default_rng(0)
    context = np.sort(generator.integers(0, len(words), 3 * len(words)))
    word = np.concatenate([generator.permutation(len(words)) for _ in range(3)])
    key = np.unique(context * len(words) + word)
    context, word = np.divmod(key, len(words))
    flat = np.full(len(words), -math.log(len(words)))
    levels = [Level(np.zeros(len(words), dtype=np.int64), np.arange(len(words)), flat, flat)]
    levels.append(Level(context, word, generator.uniform(-6, -2, len(word)), np.zeros(len(word))))
    model = normalized(words, levels)
    small = Pruner(model).to_size(10_000_000)
    assert small.arrays["words"].itemsize == 2
    assert len(small.arrays["members"]) == MEMBERS
    save_model(small, tmp_path / "small.lm")
    opened = load_model(tmp_path / "small.lm")
    kept = {
        *zip(*(values.tolist() for values in ([*small.levels()][1].context, [*small.levels()][1].word)), strict=True)
    }
    for number in range(0, len(word), 997):
        before, last = int(context[number]), int(word[number])
        log_prob = opened.score(1 + before, last)[0]
        if (before, last) in kept:
            assert log_prob == pytest.approx(levels[1].log_prob[number], abs=0.05)
        alone = opened.score(0, last)[0] + opened._backoff(1 + before)
        assert ((before, last) in kept) or log_prob == pytest.approx(alone)
        assert opened.best(1 + before, last, last + 1) == pytest.approx(max(log_prob, alone))
        _, shortened = opened.shorten(1 + before, last, last + 1)
        assert (shortened == 1 + before) == ((before, last) in kept)
