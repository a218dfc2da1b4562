"""The terms of the loss, each against its formula written out; what a recipe leaves out changes nothing at all."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import make_trainer
from torch import Tensor

from asr.data.augment.batch import SpecAugment
from asr.data.batch import Batch, Targets
from asr.data.config import AugmentConfig
from asr.errors import RecipeError
from asr.nn.ctc_model import AcousticConfig, AcousticModel, ctc_loss
from asr.train.config import AcousticRecipe, ObjectiveConfig
from asr.train.crf import Bigrams, log_partition
from asr.train.loss import Objective, consistency, distillation, smoothing

VOCABULARY = 5
FRAMES = torch.tensor([7, 4, 1])


def random_log_probs(rows: int, seed: int = 0, frames: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, frames, VOCABULARY, generator=generator, dtype=torch.float64).log_softmax(2)


def divergence(log_p: Tensor, log_q: Tensor) -> float:
    """Of two distributions (V,), as the books have it."""
    return sum(math.exp(p) * (p - q) for p, q in zip(log_p.tolist(), log_q.tolist(), strict=True))


def test_consistency_is_the_divergence_of_each_view_from_the_other():
    log_probs = random_log_probs(6)
    losses = consistency(log_probs, FRAMES.repeat(2))
    for row in range(3):
        one, other = log_probs[row], log_probs[row + 3]
        pairs = list(zip(one, other, strict=True))[: FRAMES[row]]
        assert losses[row].item() == pytest.approx(sum(divergence(b, a) for a, b in pairs))
        assert losses[row + 3].item() == pytest.approx(sum(divergence(a, b) for a, b in pairs))
    assert consistency(log_probs[:3].repeat(2, 1, 1), FRAMES.repeat(2)).abs().max() < 1e-12


def test_no_gradient_of_consistency_flows_into_a_target_or_beyond_the_last_frame():
    logits = torch.randn(6, 7, VOCABULARY, dtype=torch.float64, requires_grad=True)
    log_probs = logits.log_softmax(2)
    consistency(log_probs, FRAMES.repeat(2))[0].backward()
    assert logits.grad is not None
    # Of the softmax's cross entropy against a fixed target: what it says less what it should say.
    torch.testing.assert_close(logits.grad[0], (log_probs[0].exp() - log_probs[3].exp()).detach())
    assert logits.grad[1:].eq(0).all()
    logits.grad = None
    consistency(logits.log_softmax(2), FRAMES.repeat(2)).sum().backward()
    assert logits.grad is not None
    assert logits.grad[[1, 4], 4:].eq(0).all()
    assert logits.grad[[1, 4], :4].ne(0).all()


def test_smoothing_is_the_divergence_from_the_uniform_distribution():
    log_probs = random_log_probs(3)
    uniform = torch.full((VOCABULARY,), -math.log(VOCABULARY))
    for row, loss in enumerate(smoothing(log_probs, FRAMES).tolist()):
        frames = log_probs[row, : FRAMES[row]]
        assert loss == pytest.approx(sum(divergence(frame, uniform) for frame in frames))
        entropy = -(frames.exp() * frames).sum().item()
        assert loss == pytest.approx(len(frames) * math.log(VOCABULARY) - entropy)
    assert smoothing(uniform.repeat(3, 7, 1), FRAMES).abs().max() < 1e-5


def test_every_term_pulls_the_frames_it_is_about_its_way():
    logits = random_log_probs(3).requires_grad_()
    other = random_log_probs(3, seed=8)
    for term in (smoothing, lambda log_probs, frames: distillation(log_probs, other, frames, 0)):
        before = term(logits.log_softmax(2), FRAMES)
        (gradient,) = torch.autograd.grad(before.sum(), logits)
        inside = torch.arange(7) < FRAMES.unsqueeze(1)
        assert gradient[inside].ne(0).all()
        assert gradient[~inside].eq(0).all()
        assert (term((logits - 0.1 * gradient).log_softmax(2), FRAMES) < before).all()
        step = torch.zeros_like(logits)
        step[0, 2, 1] = 1e-6  # against the difference quotient
        difference = term((logits + step).log_softmax(2), FRAMES) - term((logits - step).log_softmax(2), FRAMES)
        assert gradient[0, 2, 1].item() == pytest.approx(difference.sum().item() / 2e-6, rel=1e-4)


@given(frames=st.lists(st.integers(1, 7), min_size=1, max_size=3), delay=st.integers(0, 9), seed=st.integers(0, 1_000))
@settings(deadline=None, max_examples=40)
def test_distillation_is_the_least_mean_divergence_of_all_delays(frames: list[int], delay: int, seed: int):
    student, teacher = (random_log_probs(len(frames), seed + i, max(frames)) for i in (0, 1_001))
    losses = distillation(student, teacher, torch.tensor(frames), delay)
    for row, count in enumerate(frames):
        means = [
            sum(divergence(teacher[row, t], student[row, t + d]) for t in range(count - d)) / (count - d)
            for d in range(min(delay, count - 1) + 1)
        ]
        assert losses[row].item() == pytest.approx(count * min(means))


def test_a_student_that_says_the_same_later_has_nothing_to_learn_if_it_may_be_so_late():
    teacher = random_log_probs(2)
    student = torch.cat([random_log_probs(2, seed=3, frames=2), teacher[:, :-2]], dim=1).requires_grad_()
    for delay, expected in [(0, False), (1, False), (2, True), (5, True)]:
        losses = distillation(student, teacher, torch.tensor([7, 6]), delay)
        assert bool(losses.max() < 1e-9) is expected
    (gradient,) = torch.autograd.grad(distillation(student, teacher, torch.tensor([7, 6]), 1).sum(), student)
    assert gradient.isfinite().all()


def make_model(layers: int = 2, seed: int = 1) -> AcousticModel:
    torch.manual_seed(seed)
    return AcousticModel(AcousticConfig(layers=layers, hidden_size=16, n_mels=20, dropout=0.0), VOCABULARY)


def make_batch() -> Batch:
    """Three utterances, the last too short for its text."""
    generator = torch.Generator().manual_seed(2)
    return Batch(
        ids=["a", "b", "c"],
        texts=["", "", ""],
        waveforms=0.1 * torch.randn(3, 9_000, generator=generator),
        lengths=torch.tensor([9_000, 6_400, 600]),
        targets=Targets.pad([[1, 2, 3, 4], [1, 1], [1, 2, 3]]),
    )


def plain(model: AcousticModel, batch: Batch, augment: SpecAugment | None = None) -> Tensor:
    (encoded,), frames = model.encode(batch.waveforms, batch.lengths, augment)
    return ctc_loss(model.log_probs(encoded), frames, *batch.targets)[0]


MASKS = AugmentConfig(frequency_masks=2, frequency_width=8, time_masks_per_second=5.0, time_width=10)


def test_without_any_term_the_loss_and_its_gradient_are_those_of_ctc_bit_for_bit():
    gradients = []
    for plainly in (True, False):
        model = make_model()
        torch.manual_seed(4)
        augment = SpecAugment(MASKS)
        losses = (
            plain(model, make_batch(), augment)
            if plainly
            else Objective(ObjectiveConfig())(model, make_batch(), augment)
        )
        losses.sum().backward()
        gradients.append([losses.detach(), *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_the_intermediate_loss_is_ctc_of_the_model_without_the_layers_above():
    model, batch = make_model(layers=3), make_batch()
    shorter = make_model(layers=1)
    shorter.load_state_dict({name: model.state_dict()[name] for name in shorter.state_dict()})
    for layer, expected in [(0, shorter), (1, shorter)]:
        config = ObjectiveConfig(intermediate=0.3, intermediate_layer=layer)
        losses = Objective(config)(model, batch, None)
        torch.testing.assert_close(losses, 0.7 * plain(model, batch) + 0.3 * plain(expected, batch))
    assert losses[2] == 0


def test_all_terms_add_up_to_the_formula():
    model, teacher, batch = make_model(), make_model(seed=9), make_batch()
    config = ObjectiveConfig(intermediate=0.3, consistency=0.2, smoothing=0.05, distillation=0.25, teacher="x", delay=2)
    config.crf, bigrams = 0.9, Bigrams.estimate([[1, 2], [2, 3, 3]], VOCABULARY)
    torch.manual_seed(5)
    losses = Objective(config, teacher, bigrams=bigrams)(model, batch, SpecAugment(MASKS))
    losses.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())

    torch.manual_seed(5)
    encoded, frames = model.encode(batch.waveforms, batch.lengths, SpecAugment(MASKS), 2, 1)
    lower, log_probs = map(model.log_probs, encoded)
    assert not torch.allclose(log_probs[:3], log_probs[3:])
    with torch.no_grad():
        taught = teacher(batch.waveforms, batch.lengths)[0].repeat(2, 1, 1)
    targets = batch.targets.ids.repeat(2, 1), batch.targets.lengths.repeat(2)
    expected = (
        0.4 * ctc_loss(log_probs, frames, *targets)[0]
        + 0.4 * 0.9 * (log_partition(log_probs, frames, bigrams) - bigrams.log_prob(*targets))
        + 0.3 * ctc_loss(lower, frames, *targets)[0]
        + 0.05 * smoothing(log_probs, frames)
        + 0.25 * distillation(log_probs, taught, frames, 2)
        + 0.2 * consistency(log_probs, frames)
    )
    torch.testing.assert_close(losses[:2], (expected[:2] + expected[3:5]) / 2)
    assert losses[2] == 0  # too short for its text


def test_copies_are_made_only_once_masks_tell_them_apart():
    model, batch = make_model(), make_batch()
    losses = Objective(ObjectiveConfig(consistency=0.2))(model, batch, None)
    assert torch.equal(losses, plain(model, batch))


def test_a_student_learns_from_a_run_with_its_tokens(recipe: AcousticRecipe):
    recipe.epochs, recipe.augment.mask_below_wer = 1, 1.0  # which a recipe's file may hold
    recipe.tokenizer.kind, recipe.tokenizer.vocabulary = "bpe", 6
    make_trainer(recipe).run()
    teacher = recipe.folder
    recipe.name, recipe.objective = "student", ObjectiveConfig(distillation=0.5, teacher=str(teacher), delay=2)
    recipe.model = AcousticConfig(cell="gru", bidirectional=False, layers=1, hidden_size=12, lookahead=2, n_mels=20)
    trainer = make_trainer(recipe)
    assert (recipe.folder / "tokenizer.model").read_bytes() == (teacher / "tokenizer.model").read_bytes()
    before = [parameter.clone() for parameter in trainer.task.objective.teacher.parameters()]
    (epoch,) = trainer.run()
    assert math.isfinite(epoch.train_loss)
    assert all(map(torch.equal, before, trainer.task.objective.teacher.parameters()))
    recipe.name, recipe.tokenizer = "other", replace(recipe.tokenizer, vocabulary=5)
    with pytest.raises(RecipeError, match=r"^objective\.teacher: .*tiny has other tokens; set kind, case, alphabet"):
        make_trainer(recipe)
    recipe.objective.teacher = "nobody"
    with pytest.raises(Exception, match=r"^no model 'nobody': neither a folder nor one of .*en-bilstm"):
        make_trainer(recipe)
