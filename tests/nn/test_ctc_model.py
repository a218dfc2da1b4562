"""The acoustic model and its loss: a row never depends on its batch, and no utterance makes the loss infinite. With one
direction it says the same chunk by chunk, and no more late than it promises.
"""

from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from asr.nn.ctc_model import (
    SAMPLES_PER_FRAME,
    AcousticConfig,
    AcousticModel,
    StreamState,
    ctc_loss,
    frames_needed,
    output_lengths,
)

VOCABULARY = 9
CELLS = ("rnn", "lstm", "gru")


LOOKAHEADS = (0, 1, 9)  # frames


def make_model(
    cell: str = "lstm", bidirectional: bool = True, lookahead: int = 0, normalization: bool = False
) -> AcousticModel:
    torch.manual_seed(1)
    config = AcousticConfig(
        cell=cell,
        bidirectional=bidirectional,
        layers=2,
        hidden_size=24,
        lookahead=lookahead,
        n_mels=40,
        mean_normalization=normalization,
    )
    model = AcousticModel(config, VOCABULARY).eval()
    if lookahead:  # a new one looks at the present frame alone
        torch.nn.init.normal_(model.lookahead.weight)
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["", "normalization"])
def model(request: pytest.FixtureRequest) -> AcousticModel:
    return make_model(normalization=request.param)


def ragged_batch(lengths: list[int], padding: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    waveform = torch.full((len(lengths), max(lengths)), padding)
    for row, length in zip(waveform, lengths, strict=True):
        row[:length] = 0.1 * torch.randn(length, generator=generator)
    return waveform, torch.tensor(lengths)


# One sample, one frame, one more, and lengths with and without a remainder.
LENGTHS = [1, 640, 641, 6_400, 7_777, 16_000, 399, 400, 15_361, 12_345, 9_999, 1_280, 3_000, 80, 15_999, 11_111]


@pytest.mark.parametrize(
    ("cell", "bidirectional", "normalization"),
    [*product(CELLS, (False, True), (False,)), *product(CELLS, (True,), (True,))],
)
@torch.no_grad()
def test_a_row_is_the_same_alone_and_in_a_batch_of_16(cell: str, bidirectional: bool, normalization: bool):
    model = make_model(cell, bidirectional, normalization=normalization)
    waveform, lengths = ragged_batch(LENGTHS)
    log_probs, _, frames = model(waveform, lengths)
    for row, length in enumerate(LENGTHS):
        alone, _, alone_frames = model(waveform[row : row + 1, :length], lengths[row : row + 1])
        assert alone_frames[0] == frames[row] == alone.shape[1]
        torch.testing.assert_close(log_probs[row, : frames[row]], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", [1.0, -3e4, float("nan"), float("inf")])
@torch.no_grad()
def test_what_stands_in_the_padding_never_matters(model: AcousticModel, padding: float):
    clean, _, frames = model(*ragged_batch(LENGTHS))
    dirty, *_ = model(*ragged_batch(LENGTHS, padding))
    for row, count in enumerate(frames.tolist()):
        assert torch.equal(clean[row, :count], dirty[row, :count])


@torch.no_grad()
def test_without_their_means_the_bands_hardly_tell_the_level_of_an_utterance():
    waveform, lengths = ragged_batch([16_000, 9_999, 3_000])
    levels = waveform * torch.tensor([[1.0], [0.1], [3.0]])
    changes = []
    for normalization in (False, True):
        model = make_model(normalization=normalization)
        (expected, _, frames), (found, *_) = model(waveform, lengths), model(levels, lengths)
        valid = torch.arange(found.shape[1]) < frames.unsqueeze(1)
        changes.append((found - expected)[valid].abs().mean())
    assert changes[1] < 0.2 * changes[0]  # the silence before and after it stays as it is


@given(samples=st.integers(1, 8_000), batch=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
@torch.no_grad()
def test_there_is_one_frame_for_every_40_ms_begun(model: AcousticModel, samples: int, batch: int):
    log_probs, _, frames = model(torch.zeros(batch, samples), torch.full((batch,), samples))
    expected = -(-samples // SAMPLES_PER_FRAME)
    assert log_probs.shape == (batch, expected, VOCABULARY)
    assert frames.tolist() == [expected] * batch == output_lengths(torch.full((batch,), samples)).tolist()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_log_probs_are_normalised_float32_also_under_autocast(model: AcousticModel, precision: torch.dtype):
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        log_probs, *_ = model(*ragged_batch([4_000, 1_000]))
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(2, 7), atol=1e-5, rtol=0)


def test_augment_sees_the_features_and_its_result_is_used(model: AcousticModel):
    seen = []

    def blank_out(features: Tensor) -> Tensor:
        seen.append(features.shape)
        return torch.zeros_like(features)

    waveform, lengths = ragged_batch([6_400, 6_400])
    with torch.no_grad():
        (encoded,), _ = model.encode(waveform, lengths, blank_out)
        log_probs = model.log_probs(encoded)
        plain, *_ = model(waveform, lengths)
    assert seen == [(2, 4 * 10 + 3, 40)]
    assert torch.equal(log_probs[0], log_probs[1])
    assert not torch.allclose(log_probs, plain)


@pytest.mark.parametrize(("bidirectional", "lookahead"), [(False, 0), (False, 9), (True, 0)])
@torch.no_grad()
def test_a_lower_layer_speaks_as_a_model_that_ends_there(bidirectional: bool, lookahead: int):
    model = make_model("lstm", bidirectional, lookahead)
    shorter = AcousticModel(replace(model.config, layers=1), VOCABULARY).eval()
    shorter.load_state_dict({name: model.state_dict()[name] for name in shorter.state_dict()})
    batch = ragged_batch([6_400, 1_000])
    encoded, frames = model.encode(*batch, layer=1)
    lower, log_probs = map(model.log_probs, encoded)
    torch.testing.assert_close(lower, shorter(*batch)[0])
    assert torch.equal(log_probs, model(*batch)[0])
    assert frames.tolist() == [10, 2]


@torch.no_grad()
def test_views_are_copies_of_the_batch_that_augment_tells_apart(model: AcousticModel):
    waveform, lengths = ragged_batch([6_400, 1_000])
    plain = model(waveform, lengths)[0]
    (encoded,), frames = model.encode(waveform, lengths, views=2)
    torch.testing.assert_close(model.log_probs(encoded), plain.repeat(2, 1, 1))
    assert frames.tolist() == [10, 2, 10, 2]
    (encoded,), _ = model.encode(
        waveform, lengths, lambda features: features * torch.tensor([1, 1, 0, 0]).view(4, 1, 1), views=2
    )
    log_probs = model.log_probs(encoded)
    torch.testing.assert_close(log_probs[:2], plain)
    assert not torch.allclose(log_probs[2:], plain)


@cache
def live_model(cell: str, lookahead: int) -> AcousticModel:
    return make_model(cell, False, lookahead)


every_live_model = pytest.mark.parametrize(("cell", "lookahead"), list(product(CELLS, LOOKAHEADS)))


def in_steps(model: AcousticModel, waveform: Tensor, sizes: list[int]) -> Tensor:
    """Log-probs of a waveform (B, 640 k) by chunks of so many frames, the last one of all the rest.

    The silence that the look-ahead hears after the end is added, the frames before the start are dropped.
    """
    lookahead = model.config.lookahead
    waveform = F.pad(waveform, (0, lookahead * SAMPLES_PER_FRAME))
    left = waveform.shape[1] // SAMPLES_PER_FRAME
    state, parts = model.start(len(waveform)), []
    for size in [*sizes, left]:
        size = min(size, left)
        if size:
            chunk, waveform = waveform.tensor_split([size * SAMPLES_PER_FRAME], dim=1)
            log_probs, _, state = model.step(chunk, state)
            assert log_probs.shape == (len(chunk), size, VOCABULARY)
            parts.append(log_probs)
            left -= size
    return torch.cat(parts, dim=1)[:, lookahead:]


@every_live_model
@settings(deadline=None, max_examples=8)
@given(frames=st.integers(1, 40), sizes=st.lists(st.sampled_from([1, 2]) | st.integers(1, 30), max_size=30))
@torch.no_grad()
def test_steps_say_what_forward_says(cell: str, lookahead: int, frames: int, sizes: list[int]):
    model = live_model(cell, lookahead)
    waveform, lengths = ragged_batch([frames * SAMPLES_PER_FRAME])
    expected, *_ = model(waveform, lengths)
    torch.testing.assert_close(in_steps(model, waveform, sizes), expected, atol=1e-4, rtol=0)


@every_live_model
@torch.no_grad()
def test_encoded_frames_are_the_input_of_the_output_layer_in_forward_and_in_steps(cell: str, lookahead: int):
    model = live_model(cell, lookahead)
    waveform, lengths = ragged_batch([20 * SAMPLES_PER_FRAME])
    log_probs, encoded, _ = model(waveform, lengths)
    assert encoded.shape == (1, 20, model.config.hidden_size)
    assert torch.equal(model.head(encoded).log_softmax(2), log_probs)
    state, parts = model.start(1), []
    for chunk in F.pad(waveform, (0, lookahead * SAMPLES_PER_FRAME)).split(4 * SAMPLES_PER_FRAME, dim=1):
        _, part, state = model.step(chunk, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1)[:, lookahead:], encoded, atol=1e-4, rtol=0)


@every_live_model
@torch.no_grad()
def test_steps_of_a_batch_say_what_forward_says_of_each_row_alone(cell: str, lookahead: int):
    model = live_model(cell, lookahead)
    lengths = [12_800, 1, 7_777]
    waveform, _ = ragged_batch(lengths)
    stepped = in_steps(model, waveform, [1, 1, 7, 2])
    for row, length in zip(range(3), lengths, strict=True):
        expected, *_ = model(waveform[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(stepped[row, : expected.shape[1]], expected[0], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_step_leaves_the_state_before_it_alone():
    model = live_model("gru", 1)
    chunk = ragged_batch([2 * SAMPLES_PER_FRAME])[0]
    *_, state = model.step(chunk, model.start(1))
    before = StreamState(*(tensor.clone() for tensor in state))
    first, *_ = model.step(chunk, state)
    again, *_ = model.step(chunk, state)
    assert torch.equal(first, again)
    assert all(torch.equal(*pair) for pair in zip(before, state, strict=True))


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_a_state_does_not_grow(cell: str):
    model = live_model(cell, 9)
    state = start = model.start(2)
    for size in (1, 30, 2):
        *_, state = model.step(torch.randn(2, size * SAMPLES_PER_FRAME), state)
        assert [tensor.shape for tensor in state] == [tensor.shape for tensor in start]


def test_a_model_of_two_directions_cannot_start_a_stream(model: AcousticModel):
    with pytest.raises(ValueError, match=r"^a bidirectional model cannot run chunk by chunk; .*bidirectional=false$"):
        model.start(1)


@every_live_model
@torch.no_grad()
def test_the_delay_is_the_frame_and_the_lookahead_not_a_sample_more_or_a_frame_less(cell: str, lookahead: int):
    model = live_model(cell, lookahead)
    waveform, lengths = ragged_batch([30 * SAMPLES_PER_FRAME])
    before, *_ = model(waveform, lengths)
    for frame in (0, 5, 12):
        end = (frame + 1 + lookahead) * SAMPLES_PER_FRAME  # of all that the frame may know
        changed = waveform.clone()
        changed[:, end:] = 1.0
        after, *_ = model(changed, lengths)
        torch.testing.assert_close(after[:, : frame + 1], before[:, : frame + 1], atol=1e-6, rtol=0)
        changed[:, end - SAMPLES_PER_FRAME :] = 1.0
        after, *_ = model(changed, lengths)
        assert (after[:, frame] - before[:, frame]).abs().max() > 1e-3


def random_log_probs(rows: int, frames: int) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(rows, frames, VOCABULARY).log_softmax(2)


def test_ctc_loss_equals_torch_on_usable_rows():
    log_probs = random_log_probs(3, 12)
    lengths, targets = torch.tensor([12, 9, 5]), torch.tensor([[1, 1, 2, 0], [3, 4, 5, 6], [8, 0, 0, 0]])
    target_lengths = torch.tensor([3, 4, 1])
    loss, usable = ctc_loss(log_probs, lengths, targets, target_lengths)
    expected = F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, target_lengths, reduction="none")
    assert usable.all()
    torch.testing.assert_close(loss, expected)


def test_ctc_loss_is_minus_the_log_of_the_sum_over_alignments():
    log_probs = random_log_probs(1, 5)
    total = torch.logsumexp(
        torch.stack([
            sum((log_probs[0, t, token] for t, token in enumerate(path)), torch.zeros(()))
            for path in product(range(4), repeat=5)
            if [b for a, b in zip((0, *path), path, strict=False) if b != a and b != 0] == [2, 3, 3]
        ]),
        dim=0,
    )  # fmt: skip
    loss, _ = ctc_loss(log_probs, torch.tensor([5]), torch.tensor([[2, 3, 3]]), torch.tensor([3]))
    torch.testing.assert_close(loss[0], -total)


@pytest.mark.parametrize("reduced", [torch.float32, torch.bfloat16])
def test_ctc_loss_is_float32(reduced: torch.dtype):
    log_probs = random_log_probs(1, 6).to(reduced)
    loss, _ = ctc_loss(log_probs, torch.tensor([6]), torch.tensor([[1, 2]]), torch.tensor([2]))
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("target", "frames"),
    [([1, 2, 3, 4], 3), ([1, 1], 2), ([1, 1, 1], 4), ([5, 6, 6, 7], 4)],
    ids=["more tokens than frames", "a repeat needs a blank", "two repeats", "a repeat inside"],
)
def test_an_utterance_too_short_for_its_target_costs_nothing_and_hurts_nobody(target: list[int], frames: int):
    logits = torch.randn(2, 8, VOCABULARY, requires_grad=True)
    targets = F.pad(torch.tensor([target, target]), (0, 1))
    lengths, target_lengths = torch.tensor([frames, 8]), torch.tensor([len(target)] * 2)
    loss, usable = ctc_loss(logits.log_softmax(2), lengths, targets, target_lengths)
    loss.sum().backward()
    assert usable.tolist() == [False, True]
    assert loss[0] == 0
    assert loss[1].isfinite()
    assert logits.grad is not None
    assert logits.grad[0].eq(0).all()
    assert logits.grad[1].isfinite().all()
    assert logits.grad[1].ne(0).any()


def test_one_frame_more_makes_it_usable():
    for frames, expected in [(4, False), (5, True)]:
        log_probs = random_log_probs(1, 8)
        _, usable = ctc_loss(log_probs, torch.tensor([frames]), torch.tensor([[1, 1, 1]]), torch.tensor([3]))
        assert usable.item() is expected


def collapse(path: tuple[int, ...]) -> list[int]:
    """What a CTC path spells: repeats merged, blanks dropped."""
    return [token for before, token in zip((0, *path), path, strict=False) if token not in (before, 0)]


SPELLABLE = {frames: {tuple(collapse(path)) for path in product(range(3), repeat=frames)} for frames in range(8)}


@given(target=st.lists(st.integers(1, 2), max_size=4), padding=st.lists(st.integers(0, 2), min_size=1, max_size=3))
@settings(deadline=None)
def test_frames_needed_equals_the_shortest_path_found_by_brute_force(target: list[int], padding: list[int]):
    shortest = next(frames for frames in SPELLABLE if tuple(target) in SPELLABLE[frames])
    needed = frames_needed(torch.tensor([target + padding]), torch.tensor([len(target)]))
    assert needed.tolist() == [shortest]


def test_frames_needed_of_targets_without_any_token():
    assert frames_needed(torch.zeros(2, 0, dtype=torch.long), torch.tensor([0, 0])).tolist() == [0, 0]
