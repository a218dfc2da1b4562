"""The attention decoder: its equations, masks, batches, cuts, gradients, and what it learns."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asr.nn.attention import Attention, AttentionDecoder, attention_loss, encode_places, teacher_forced
from asr.nn.config import AttentionConfig

ENCODER = 12  # size of the encoded frames
VOCABULARY = 9


def make_decoder(score: str = "dot", cell: str = "lstm", **changes: object) -> AttentionDecoder:
    torch.manual_seed(3)
    config = AttentionConfig(
        weight=1.0, vocabulary=VOCABULARY, cell=cell, hidden_size=8, heads=2, score=score, dropout=0.0, **changes
    )  # type: ignore[arg-type]
    decoder = AttentionDecoder(config, ENCODER)
    torch.nn.init.normal_(decoder.head.weight)
    return decoder.eval()


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Encoded frames (3, 11, 12) and how many are valid, targets (3, 4) and their lengths."""
    generator = torch.Generator().manual_seed(5)
    encoded = torch.randn(3, 11, ENCODER, generator=generator)
    targets = torch.tensor([[1, 2, 3, 4], [5, 5, 0, 0], [8, 0, 0, 0]])
    return encoded, torch.tensor([11, 7, 3]), targets, torch.tensor([4, 2, 1])


every_score = pytest.mark.parametrize("score", ["dot", "additive"])


@every_score
def test_attention_is_the_equations_of_its_module(score: str) -> None:
    """Head by head, step by step, as Luong's and Bahdanau's papers write it."""
    torch.manual_seed(1)
    attention = Attention(6, ENCODER, 2, score == "additive")
    queries, frames = torch.randn(2, 3, 6), torch.randn(2, 5, ENCODER)
    contexts, weights = attention(queries, frames)
    for row in range(2):
        q, k, v = attention.query(queries[row]), attention.key(frames[row]), attention.value(frames[row])
        for i in range(3):
            context, mean = torch.zeros(6), torch.zeros(5)
            for head in (0, 1):
                part = slice(3 * head, 3 * head + 3)
                if attention.energy is None:
                    energies = torch.stack([q[i, part] @ k[j, part] / math.sqrt(3) for j in range(5)])
                else:
                    energies = torch.stack(
                        [attention.energy[head] @ (q[i, part] + k[j, part]).tanh() for j in range(5)]
                    )
                a = energies.exp() / energies.exp().sum()
                context[part] = sum(a[j] * v[j, part] for j in range(5))
                mean += a / 2
            torch.testing.assert_close(contexts[row, i], attention.context(context))
            torch.testing.assert_close(weights[row, i], mean)


def test_places_are_the_sines_of_the_paper() -> None:
    places = encode_places(torch.zeros(1, 6, 8))
    for place in range(6):
        for pair in range(4):
            angle = place / 10_000 ** (2 * pair / 8)
            assert places[place, pair] == pytest.approx(math.sin(angle), abs=1e-6)
            assert places[place, 4 + pair] == pytest.approx(math.cos(angle), abs=1e-6)


@every_score
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_an_utterance_does_not_depend_on_its_batch(score: str, cell: str) -> None:
    decoder = make_decoder(score, cell)
    encoded, frames, targets, lengths = batch()
    log_probs, _, weights = teacher_forced(decoder, encoded, frames, targets)
    losses = attention_loss(decoder, encoded, frames, targets, lengths)
    for row, (count, length) in enumerate(zip(frames.tolist(), lengths.tolist(), strict=True)):
        alone = encoded[row : row + 1, :count], frames[row : row + 1], targets[row : row + 1, :length]
        expected, _, its = teacher_forced(decoder, *alone)
        torch.testing.assert_close(log_probs[row : row + 1, : length + 1], expected)
        torch.testing.assert_close(weights[row : row + 1, :, : length + 1, :count], its)
        torch.testing.assert_close(losses[row], attention_loss(decoder, *alone, lengths[row : row + 1])[0])


def test_padding_has_no_attention_and_no_gradient() -> None:
    decoder = make_decoder()
    encoded, frames, targets, lengths = batch()
    encoded.requires_grad_()
    _, _, weights = teacher_forced(decoder, encoded, frames, targets)
    assert (weights[1, :, :, 7:] == 0).all()
    torch.testing.assert_close(weights.sum(3), torch.ones(3, 2, 5))
    attention_loss(decoder, encoded, frames, targets, lengths).sum().backward()
    assert encoded.grad is not None
    assert (encoded.grad[1, 7:] == 0).all()
    assert (encoded.grad[1, :7].abs().sum(1) > 0).all()


def test_every_weight_gets_a_gradient() -> None:
    for score in ("dot", "additive"):
        decoder = make_decoder(score)
        attention_loss(decoder, *batch()).sum().backward()
        without = [name for name, weight in decoder.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert not without


def test_an_empty_target_has_no_loss() -> None:
    decoder = make_decoder()
    encoded, frames, targets, lengths = batch()
    losses = attention_loss(decoder, encoded, frames, targets, lengths * torch.tensor([1, 0, 1]))
    assert losses[1] == 0
    assert (losses[[0, 2]] > 0).all()


def test_the_loss_is_that_of_the_docstring() -> None:
    decoder = make_decoder(smoothing=0.2, guide=0.5)
    encoded, frames, targets, lengths = batch()
    log_probs, _, weights = teacher_forced(decoder, encoded, frames, targets)
    losses = attention_loss(decoder, encoded, frames, targets, lengths)
    for row in range(3):
        count, length = int(frames[row]), int(lengths[row])
        total = 0.0
        for i, token in enumerate([*targets[row, :length].tolist(), 0]):
            smoothed = torch.full((VOCABULARY,), 0.2 / VOCABULARY)
            smoothed[token] += 0.8
            total -= (smoothed @ log_probs[row, i]).item()
            for j in range(count):
                distance = i / (length + 1) - j / count
                penalty = 1 - math.exp(-(distance**2) / (2 * 0.2**2))
                total += 0.5 * penalty * weights[row, :, i, j].mean().item()
        assert losses[row].item() == pytest.approx(total, rel=1e-4)


@given(st.integers(0, 6), st.sampled_from(["lstm", "gru"]))
def test_a_sentence_may_be_cut_anywhere(cut: int, cell: str) -> None:
    decoder = make_decoder(cell=cell)
    encoded, tokens = batch()[0][:1], torch.tensor([[0, 3, 1, 4, 1, 5], [0, 8, 2, 6, 5, 3]])
    whole, state, _ = decoder(tokens, decoder.start(2), encoded)
    parts, now = [], decoder.start(2)
    for part in (tokens[:, :cut], tokens[:, cut:]):
        if part.shape[1]:
            log_probs, now, _ = decoder(part, now, encoded)
            parts.append(log_probs)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(now, state)


def test_one_recording_serves_all_its_hypotheses() -> None:
    decoder = make_decoder("additive")
    encoded, tokens = batch()[0][:1], torch.tensor([[0, 3, 1], [0, 8, 2]])
    shared = decoder(tokens, decoder.start(2), encoded)
    repeated = decoder(tokens, decoder.start(2), encoded.repeat(2, 1, 1))
    for one, other in zip(shared, repeated, strict=True):
        torch.testing.assert_close(one, other)


@every_score
def test_a_tiny_model_learns_to_read_speech_and_attends_along_the_diagonal(score: str) -> None:
    """Of random tokens, so that none can be guessed from those before; each is heard in three frames, with noise."""
    torch.manual_seed(7)
    sounds = torch.randn(VOCABULARY, ENCODER)

    def speak(utterances: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        targets = torch.randint(1, VOCABULARY, (utterances, 8))
        encoded = sounds[targets.repeat_interleave(3, dim=1)] + 0.1 * torch.randn(utterances, 24, ENCODER)
        return encoded, torch.full((utterances,), 24), targets, torch.full((utterances,), 8)

    decoder = AttentionDecoder(
        AttentionConfig(vocabulary=VOCABULARY, hidden_size=32, heads=1, score=score, dropout=0.0, smoothing=0.0),  # type: ignore[arg-type]
        ENCODER,
    )
    optimizer = torch.optim.Adam(decoder.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        (attention_loss(decoder, *speak(16)).sum() / 144).backward()
        optimizer.step()
    log_probs, outputs, weights = teacher_forced(decoder.eval(), *speak(50)[:3])
    assert (log_probs.argmax(2) == outputs).float().mean() > 0.9
    centers = 3 * torch.arange(8).unsqueeze(1) + 1
    near = (torch.arange(24) - centers).abs() <= 4
    assert (weights[:, -1, :8] * near).sum(2).mean() > 0.8
