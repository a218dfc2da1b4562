"""CUDA graphs of the recurrent layers compute what the layers compute, whatever the batch is padded to."""

import pytest
import torch
from torch import Tensor

from asr.nn.graphs import FRAMES, RecurrentGraphs, padded_frames
from asr.nn.recurrent import RecurrentStack, reversed_frames


def test_a_batch_is_padded_to_the_next_captured_length_and_longer_ones_are_left_alone():
    assert [padded_frames(frames) for frames in (1, FRAMES[0], FRAMES[0] + 1)] == [FRAMES[0], FRAMES[0], FRAMES[1]]
    assert padded_frames(FRAMES[-1] + 1) == FRAMES[-1] + 1


def captured(
    module: torch.nn.Module, samples: tuple[Tensor, ...], num_warmup_iters: int, allow_unused_input: bool, pool: None
) -> torch.nn.Module:
    """What torch does while it captures, without the capture: the module runs as it is, with the same shapes."""
    outputs = module(*samples)
    inputs = [*(sample for sample in samples if sample.requires_grad), *module.parameters()]
    torch.autograd.grad(outputs, inputs, [torch.empty_like(o) for o in outputs], allow_unused=allow_unused_input)
    return module


@pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:User provided device_type of 'cuda'")
@pytest.mark.parametrize(
    ("cell", "bidirectional", "layer"), [("lstm", True, 1), ("gru", False, None), ("rnn", True, 2)]
)
def test_padding_to_the_shape_of_a_graph_changes_nothing(
    cell: str, bidirectional: bool, layer: int | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", captured)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    torch.manual_seed(0)
    stack = RecurrentStack(cell, 16, 3, bidirectional, dropout=0.5).train()
    graphs = RecurrentGraphs(stack, layer, 64 * 50, 64, torch.float32)
    for module in stack.modules():
        if isinstance(module, torch.nn.Dropout):
            assert module.p == 0.5
            module.p = 0.0
    lengths = torch.tensor([70, 3, 50])
    x = torch.randn(3, 70, 16)
    outputs, expected = graphs(x, lengths), stack.outputs(x, reversed_frames(lengths, 70), layer)
    assert outputs is not None
    assert len(outputs) == len(expected) == (1 if layer is None else 2)
    for one, other in zip(outputs, expected, strict=True):
        for row, length in enumerate(lengths):
            torch.testing.assert_close(one[row, :length], other[row, :length])
    assert graphs(torch.randn(57, 60, 16), torch.full((57,), 60)) is None  # more rows than the graph has
    assert graphs(torch.randn(1, FRAMES[-1] + 1, 16), torch.tensor([FRAMES[-1] + 1])) is None


@pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:User provided device_type of 'cuda'")
def test_a_graph_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch):
    def wrong(module: torch.nn.Module, *_args: object, **_named: object) -> object:
        return lambda x, mirror: tuple(1.1 * output for output in module(x, mirror))

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", wrong)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    with pytest.raises(RuntimeError, match="computes something else"):
        RecurrentGraphs(RecurrentStack("lstm", 16, 1, True, dropout=0.0).train(), None, 64 * 50, 64, torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_outputs_and_gradients_are_those_of_the_layers(cell: str, bidirectional: bool):
    torch.manual_seed(0)
    stack = RecurrentStack(cell, 64, 3, bidirectional, dropout=0.0).cuda().train()
    graphs = RecurrentGraphs(stack, 2, 64 * 100, 64, torch.float16)
    lengths = torch.tensor([70, 3, 50], device="cuda")
    x = torch.randn(3, 70, 64, device="cuda")
    results = []
    for graphed in (True, False):
        stack.zero_grad()
        with torch.autocast("cuda", torch.float16):
            outputs = graphs(x, lengths) if graphed else stack.outputs(x, reversed_frames(lengths, 70), 2)
        assert outputs is not None
        inside = (torch.arange(70, device="cuda") < lengths.unsqueeze(1)).unsqueeze(2)
        total: Tensor = sum((output.float() * inside).square().sum() for output in outputs)  # type: ignore[assignment]
        total.backward()
        results.append([*(o.float() * inside for o in outputs), *(p.grad.clone() for p in stack.layers.parameters())])  # type: ignore[union-attr]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)
