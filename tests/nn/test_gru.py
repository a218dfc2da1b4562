"""Our GRU against torch's: values, gradients, precisions, the exported node."""

from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asr.nn.ctc_model import AcousticConfig, AcousticModel
from asr.nn.export import export_onnx
from asr.nn.gru import GRU, _Recurrence

SIZES = st.integers(1, 8)
every_way_to_go_on = pytest.mark.parametrize("with_state", [False, True])


def pair(inputs: int, size: int) -> tuple[GRU, nn.GRU]:
    """Ours and torch's, with the same parameters; large enough that gates close."""
    ours, reference = GRU(inputs, size, batch_first=True), nn.GRU(inputs, size, batch_first=True)
    for parameter in reference.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(reference.state_dict())
    return ours, reference


def input_and_state(batch: int, frames: int, inputs: int, size: int, with_state: bool) -> tuple[Tensor, Tensor | None]:
    x = torch.randn(batch, frames, inputs, requires_grad=True)
    return x, torch.randn(1, batch, size, requires_grad=True) if with_state else None


def results_and_gradients(module: nn.GRU, x: Tensor, state: Tensor | None) -> list[Tensor]:
    """Outputs and last state; gradients, of a loss in which no two numbers weigh the same, of everything there is."""
    output, last = module(x, state)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output), torch.linspace(2, 1, last.numel()).view_as(last)
    loss = (output * weights[0]).sum() + (last * weights[1]).sum()
    learned = [x, *([] if state is None else [state]), *module.parameters()]
    return [output, last, *torch.autograd.grad(loss, learned)]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 40), SIZES, SIZES, st.booleans(), st.integers(0, 1000))
def test_results_and_all_gradients_are_those_of_torch(batch, frames, inputs, size, with_state, seed):
    torch.manual_seed(seed)
    ours, reference = pair(inputs, size)
    x, state = input_and_state(batch, frames, inputs, size, with_state)
    found, expected = (results_and_gradients(module, x, state) for module in (ours, reference))
    assert [tensor.shape for tensor in found] == [tensor.shape for tensor in expected]
    for tensor, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, theirs, atol=1e-5 * max(1.0, theirs.abs().max().item()), rtol=0)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 3), st.integers(1, 10), SIZES, st.integers(0, 1000))
def test_in_double_precision_the_recurrence_is_torchs_to_the_last_digits(batch, frames, size, seed):
    torch.manual_seed(seed)
    _, reference = pair(size, size)
    reference = reference.double()
    w, u, b, b_hidden = reference.parameters()
    x = torch.randn(batch, frames, size, dtype=torch.float64, requires_grad=True)
    state = torch.randn(1, batch, size, dtype=torch.float64, requires_grad=True)
    hidden = _Recurrence.apply(F.linear(x, w, b).transpose(0, 1), state[0], u, b_hidden).transpose(0, 1)
    expected, _ = reference(x, state)
    torch.testing.assert_close(hidden, expected, atol=1e-13, rtol=0)
    upstream = torch.randn_like(hidden)
    found = torch.autograd.grad(hidden, [x, state, w, u, b, b_hidden], upstream)
    theirs = torch.autograd.grad(expected, [x, state, w, u, b, b_hidden], upstream)
    torch.testing.assert_close(found, theirs, atol=1e-11, rtol=1e-11)


def test_gradients_are_the_slopes_of_finite_differences():
    torch.manual_seed(0)
    shapes = (4, 2, 9), (2, 3), (9, 3), (9,)  # 4 frames, batch 2, size 3
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(_Recurrence.apply, arguments)


@every_way_to_go_on
def test_the_parts_of_an_utterance_one_after_the_other_are_the_whole_gradients_too(with_state: bool):
    torch.manual_seed(1)
    ours, _ = pair(3, 4)
    x, state = input_and_state(2, 11, 3, 4, with_state)
    whole, last = ours(x, state)
    first, between = ours(x[:, :4], state)
    second, end = ours(x[:, 4:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, last)
    learned = [x, *ours.parameters()]
    found, expected = (torch.autograd.grad(result[:, -1].square().sum(), learned) for result in (second, whole))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@every_way_to_go_on
def test_only_the_last_state_in_the_loss_is_enough(with_state: bool):
    torch.manual_seed(2)
    x, state = input_and_state(3, 7, 5, 4, with_state)
    gradients = []
    for module in pair(5, 4):
        _, last = module(x, state)
        gradients.append(torch.autograd.grad(last.square().sum(), [x, *module.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


@every_way_to_go_on
def test_without_gradients_it_is_torchs_bit_for_bit(with_state: bool):
    torch.manual_seed(3)
    ours, reference = pair(6, 8)
    x, state = input_and_state(4, 20, 6, 8, with_state)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, state), reference(x, state), atol=0, rtol=0)


@every_way_to_go_on
@pytest.mark.parametrize("backward_inside", [False, True])
def test_under_bfloat16_autocast_it_stays_close_and_float32(with_state: bool, backward_inside: bool):
    torch.manual_seed(4)
    ours = GRU(16, 16, batch_first=True)
    x, state = input_and_state(3, 30, 16, 16, with_state)
    exact = results_and_gradients(ours, x, state)
    with torch.autocast("cpu", torch.bfloat16, enabled=True):
        close = list(ours(x, state))
        if backward_inside:
            close = results_and_gradients(ours, x, state)
    for found, expected in zip(close, exact, strict=False):
        assert found.dtype == torch.float32
        assert 0 < (found - expected).abs().max() < 0.02 * expected.abs().max()  # bfloat16 has 8 bits: 0.4 %


def test_no_gradient_is_made_where_none_is_asked_for():
    torch.manual_seed(5)
    ours, reference = pair(3, 4)
    x, state = torch.randn(2, 6, 3), torch.randn(1, 2, 4)
    for module in (ours, reference):
        module.weight_ih_l0.requires_grad_(False)
        module.bias_hh_l0.requires_grad_(False)
        module(x, state)[0].square().sum().backward()
    assert x.grad is None
    assert state.grad is None
    for parameter, theirs in zip(ours.parameters(), reference.parameters(), strict=True):
        assert (parameter.grad is None) == (theirs.grad is None)
    torch.testing.assert_close(ours.weight_hh_l0.grad, reference.weight_hh_l0.grad)
    torch.testing.assert_close(ours.bias_ih_l0.grad, reference.bias_ih_l0.grad)
    for parameter in ours.parameters():
        parameter.requires_grad_(False)
    output, last = ours(x, state)
    assert not output.requires_grad
    assert not last.requires_grad


def test_a_second_derivative_is_refused_and_not_wrong():
    ours, _ = pair(2, 2)
    x = torch.randn(1, 3, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(ours(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


def test_parameters_are_interchangeable_with_torchs():
    ours, reference = GRU(3, 4, batch_first=True), nn.GRU(3, 4, batch_first=True)
    assert list(ours.state_dict()) == list(reference.state_dict())
    reference.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(reference(x), ours(x))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_exported_layer_is_one_node_for_each_direction(bidirectional: bool, tmp_path: Path):
    config = AcousticConfig(cell="gru", bidirectional=bidirectional, layers=3, hidden_size=8, n_mels=20)
    model = AcousticModel(config, vocabulary=5)
    assert {type(layer.forward_cell) for layer in model.recurrent.layers} == {GRU}
    model(torch.randn(1, 8_000), torch.tensor([8_000]))[0].sum().backward()  # it was trained
    export_onnx(model, tmp_path / "model.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert operators.count("GRU") == 3 * (1 + bidirectional)
    assert not {"Loop", "Scan", "PythonOp", "Tanh", "Sigmoid"} & set(operators)
