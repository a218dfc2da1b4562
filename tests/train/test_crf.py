"""CTC-CRF: its sums against all paths and all texts, and runs that learn by it."""

import math
from itertools import groupby, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import make_trainer
from torch import Tensor

from asr.nn.ctc_model import ctc_loss
from asr.train.config import AcousticRecipe
from asr.train.crf import Bigrams, log_partition

VOCABULARY, FRAMES = 3, 5
TEXTS = st.lists(st.lists(st.integers(1, VOCABULARY - 1), max_size=4), min_size=1, max_size=4)


def random_log_probs(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, FRAMES, VOCABULARY, generator=torch.Generator().manual_seed(seed)).log_softmax(2)


def text_log_prob(bigrams: Bigrams, text: list[int]) -> Tensor:
    """A factor for each token and one for the end."""
    steps = [bigrams.next_probs[before, after] for before, after in zip([0, *text], text, strict=False)]
    return torch.stack([*steps, bigrams.end_probs[[0, *text][-1]]]).log().sum()


def all_paths(log_probs: Tensor, bigrams: Bigrams) -> Tensor:
    """Log Z of one utterance (T, V)."""
    totals = []
    for path in product(range(VOCABULARY), repeat=len(log_probs)):
        text = [token for token, _ in groupby(path) if token]
        totals.append(log_probs[torch.arange(len(path)), list(path)].sum() + text_log_prob(bigrams, text))
    return torch.stack(totals).logsumexp(0)


@settings(deadline=None, max_examples=20)
@given(TEXTS, st.integers(0, 1000))
def test_the_partition_is_the_sum_over_all_paths_and_so_is_its_gradient(texts: list[list[int]], seed: int):
    bigrams = Bigrams.estimate(texts, VOCABULARY)
    log_probs, lengths = random_log_probs(3, seed).requires_grad_(), torch.tensor([FRAMES, 3, 1])
    found = log_partition(log_probs, lengths, bigrams)
    expected = torch.stack([all_paths(row[:length], bigrams) for row, length in zip(log_probs, lengths, strict=True)])
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(total.sum(), log_probs)[0] for total in (found, expected)]
    torch.testing.assert_close(*gradients)


@settings(deadline=None, max_examples=20)
@given(TEXTS, st.integers(0, 1000))
def test_the_probabilities_of_all_texts_add_up_to_1(texts: list[list[int]], seed: int):
    bigrams = Bigrams.estimate(texts, VOCABULARY)
    log_probs, length = random_log_probs(1, seed), torch.tensor([FRAMES])
    total = 0.0
    for size in range(FRAMES + 1):
        for text in product(range(1, VOCABULARY), repeat=size):
            targets = torch.tensor([[*text, 0]]), torch.tensor([size])
            loss, usable = ctc_loss(log_probs, length, *targets)
            log_prob = bigrams.log_prob(*targets) - log_partition(log_probs, length, bigrams) - loss
            total += math.exp(log_prob) if usable else 0.0
    assert total == pytest.approx(1, abs=1e-4)


@given(TEXTS)
def test_bigrams_are_distributions_near_what_was_counted(texts: list[list[int]]):
    bigrams = Bigrams.estimate(texts * 1000, VOCABULARY)
    torch.testing.assert_close(bigrams.next_probs.sum(1) + bigrams.end_probs, torch.ones(VOCABULARY))
    assert (bigrams.next_probs[:, 0] == 0).all()
    assert (bigrams.next_probs[:, 1:] > 0).all()
    empty = sum(not text for text in texts) / len(texts)
    assert bigrams.end_probs[0].item() == pytest.approx(empty, abs=0.03)
    lengths = torch.tensor([len(text) for text in texts])
    targets = torch.zeros(len(texts), 4, dtype=torch.long)
    for row, text in zip(targets, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    expected = torch.stack([text_log_prob(bigrams, text) for text in texts])
    torch.testing.assert_close(bigrams.log_prob(targets, lengths), expected)


def test_impossible_frames_leave_the_sum_finite():
    bigrams = Bigrams.estimate([[1, 2]], VOCABULARY)
    sure = torch.full((1, 400, VOCABULARY), -200.0)
    sure[:, :, 1] = 0.0  # a token that goes on for 16 s
    sure.requires_grad_()
    total = log_partition(sure, torch.tensor([400]), bigrams)
    total.sum().backward()
    assert total.item() == pytest.approx(text_log_prob(bigrams, [1]).item(), abs=1e-3)
    assert sure.grad is not None
    assert sure.grad.isfinite().all()
    # 2,000 nats less are no number in float32 without its logarithm.
    assert log_partition(sure - 5, torch.tensor([400]), bigrams).item() == pytest.approx(total.item() - 2000, abs=0.01)


def test_under_autocast_it_is_computed_in_float32():
    bigrams, log_probs = Bigrams.estimate([[1, 2], [1]], VOCABULARY), random_log_probs(2, 0)
    expected = log_partition(log_probs, torch.tensor([5, 4]), bigrams)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_partition(log_probs, torch.tensor([5, 4]), bigrams), expected)


def test_a_run_learns_by_it_and_ranks_its_epochs_by_the_loss(recipe: AcousticRecipe):
    recipe.objective.crf, recipe.epochs = 0.9, 3
    curve = make_trainer(recipe).run()
    assert curve[-1].train_loss < curve[0].train_loss
    assert [epoch.rank for epoch in curve] == [(epoch.dev_loss,) for epoch in curve]  # not by the greedy decoder
