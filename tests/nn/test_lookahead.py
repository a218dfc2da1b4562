"""The look-ahead convolution: its formula, how it starts, what each channel may see."""

import pytest
import torch

from asr.nn.recurrent import Lookahead

SIZE = 5


@pytest.mark.parametrize("frames", [1, 2, 9])
@pytest.mark.parametrize("length", [1, 2, 20])
@torch.no_grad()
def test_it_is_the_weighted_sum_over_a_frame_and_its_future(frames: int, length: int):
    torch.manual_seed(3)
    lookahead = Lookahead(SIZE, frames)
    torch.nn.init.normal_(lookahead.weight)
    x = torch.randn(2, length + frames, SIZE)
    expected = torch.zeros(2, length, SIZE)
    for t in range(length):
        for j in range(frames + 1):
            expected[:, t] += lookahead.weight[:, 0, j] * x[:, t + j]
    torch.testing.assert_close(lookahead(x), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_new_one_is_the_present_frame_alone():
    x = torch.randn(2, 10, SIZE)
    assert torch.equal(Lookahead(SIZE, 4)(x), x[:, :6])


def test_it_learns_a_weight_for_each_channel_and_frame_and_nothing_else():
    lookahead = Lookahead(SIZE, 4)
    lookahead(torch.randn(1, 8, SIZE)).square().sum().backward()
    ((name, weight),) = lookahead.named_parameters()
    assert (name, weight.numel()) == ("weight", SIZE * 5)
    assert weight.grad is not None
    assert weight.grad.ne(0).all()  # the future is learned although it starts at nothing
