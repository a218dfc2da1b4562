"""Recurrent layers: each cell computes the recurrence its module states, in one direction and in two."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.nn.ctc_model import AcousticConfig, AcousticModel
from asr.nn.recurrent import CELLS, Dropout, RecurrentLayer, RecurrentStack, make_cell, mirrored, reversed_frames

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
every_cell = pytest.mark.parametrize("cell", sorted(CELLS))


def random_cell(cell: str, size: int) -> nn.RNNBase:
    """A float64 cell whose biases are not 0, so that a bias in the wrong place is seen."""
    torch.manual_seed(3)
    module = make_cell(cell, size).double()
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            nn.init.uniform_(parameter, -0.5, 0.5)
    return module


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def recurrence(cell: str, module: nn.RNNBase, x: np.ndarray) -> np.ndarray:
    """The equations in the docstring of `asr.nn.recurrent`, one utterance x (T, size) → (T, size)."""
    gates = GATES[cell]
    w, u, b, b_hidden = (parameter.detach().numpy() for parameter in module.parameters())
    W, U, B, B_hidden = (np.split(array, gates) for array in (w, u, b, b_hidden))
    h = c = np.zeros(x.shape[1])
    outputs = []
    for frame in x:

        def gate(k: int, frame: np.ndarray = frame, h: np.ndarray = h) -> np.ndarray:
            return W[k] @ frame + U[k] @ h + B[k] + B_hidden[k]

        if cell == "rnn":
            h = np.tanh(gate(0))
        elif cell == "lstm":  # PyTorch keeps the gates in the order i, f, g, o
            i, f, g, o = sigmoid(gate(0)), sigmoid(gate(1)), np.tanh(gate(2)), sigmoid(gate(3))
            c = f * c + i * g
            h = o * np.tanh(c)
        else:  # r, z, n
            r, z = sigmoid(gate(0)), sigmoid(gate(1))
            n = np.tanh(W[2] @ frame + B[2] + r * (U[2] @ h + B_hidden[2]))
            h = (1 - z) * n + z * h
        outputs.append(h)
    return np.stack(outputs)


@every_cell
def test_a_cell_is_the_recurrence_of_the_docstring(cell: str):
    module = random_cell(cell, 5)
    x = torch.randn(1, 9, 5, dtype=torch.float64)
    with torch.no_grad():
        output = module(x)[0][0].numpy()
    np.testing.assert_allclose(output, recurrence(cell, module, x[0].numpy()), atol=1e-12)


@every_cell
def test_a_layer_adds_both_directions_of_the_normalised_input_to_the_input(cell: str):
    layer = RecurrentLayer(cell, 5, bidirectional=True, dropout=0.5).double().eval()
    layer.forward_cell, layer.backward_cell = random_cell(cell, 5), random_cell(cell, 5)
    x = torch.randn(1, 9, 5, dtype=torch.float64)
    with torch.no_grad():
        output = layer(x, reversed_frames(torch.tensor([9]), 9))[0].numpy()
        normalized = layer.norm(x)[0].numpy()
    forward = recurrence(cell, layer.forward_cell, normalized)
    backward = recurrence(cell, layer.backward_cell, normalized[::-1])[::-1]
    np.testing.assert_allclose(output, x[0].numpy() + forward + backward, atol=1e-12)


@every_cell
def test_two_directions_equal_a_packed_bidirectional_module_on_a_ragged_batch(cell: str):
    size, lengths = 6, torch.tensor([11, 1, 4, 11, 7])
    layer = RecurrentLayer(cell, size, bidirectional=True, dropout=0.0)
    assert layer.backward_cell is not None
    packed_module = CELLS[cell](size, size, batch_first=True, bidirectional=True)
    packed_module.load_state_dict(
        dict(layer.forward_cell.state_dict())
        | {f"{name}_reverse": value for name, value in layer.backward_cell.state_dict().items()}
    )
    x = torch.randn(len(lengths), 11, size)
    with torch.no_grad():
        output = layer(x, reversed_frames(lengths, 11))
        packed = pack_padded_sequence(layer.norm(x), lengths, batch_first=True, enforce_sorted=False)
        both = pad_packed_sequence(packed_module(packed)[0], batch_first=True)[0]
    expected = x + both[..., :size] + both[..., size:]
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(output[row, :length], expected[row, :length], atol=1e-5, rtol=1e-5)


def test_reversed_frames_mirrors_each_row_within_its_length():
    mirror = reversed_frames(torch.tensor([4, 1, 3]), 4)
    x = torch.arange(12.0).view(3, 4, 1).expand(-1, -1, 2)
    assert mirrored(x, mirror)[..., 1].tolist() == [[3, 2, 1, 0], [4, 5, 6, 7], [10, 9, 8, 11]]
    assert torch.equal(mirrored(mirrored(x, mirror), mirror), x)


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_does_not_reach_real_frames(cell: str, bidirectional: bool):
    stack = RecurrentStack(cell, 8, 2, bidirectional, dropout=0.0)
    mirror = reversed_frames(torch.tensor([6]), 10)
    x = torch.randn(1, 10, 8)
    garbage = x.clone()
    garbage[:, 6:] = 1e4
    with torch.no_grad():
        torch.testing.assert_close(stack(x, mirror)[:, :6], stack(garbage, mirror)[:, :6], atol=0, rtol=0)


@every_cell
def test_one_direction_never_looks_ahead_and_two_do(cell: str):
    x = torch.randn(1, 8, 8)
    later = x.clone()
    later[:, 5:] += 1
    mirror = reversed_frames(torch.tensor([8]), 8)
    for bidirectional in (False, True):
        stack = RecurrentStack(cell, 8, 2, bidirectional, dropout=0.0)
        with torch.no_grad():
            same = torch.equal(stack(x, mirror)[:, :5], stack(later, mirror)[:, :5])
        assert same == (not bidirectional)


@every_cell
def test_recurrent_weights_are_orthogonal_gate_by_gate(cell: str):
    size = 16
    gates = make_cell(cell, size).weight_hh_l0.detach().split(size)
    assert len(gates) == GATES[cell]
    for gate in gates:
        torch.testing.assert_close(gate @ gate.T, torch.eye(size), atol=1e-5, rtol=0)


@every_cell
def test_only_the_forget_gate_starts_with_a_bias_and_it_is_1(cell: str):
    size = 7
    module = make_cell(cell, size)
    total = (module.bias_ih_l0 + module.bias_hh_l0).detach()
    expected = torch.zeros(GATES[cell] * size)
    if cell == "lstm":
        expected[size : 2 * size] = 1.0
    assert total.tolist() == expected.tolist()


def gradient_across(module: nn.Module, x: Tensor) -> float:
    """Norm of the gradient that the last frame's output sends to the first frame."""
    x = x.clone().requires_grad_()
    module(x)[0][:, -1].sum().backward()
    assert x.grad is not None
    return x.grad[:, 0].norm().item()


@every_cell
def test_the_initialisation_carries_gradients_over_40_frames(cell: str):
    torch.manual_seed(0)
    x = 0.1 * torch.randn(4, 40, 64)
    ours = gradient_across(make_cell(cell, 64), x)
    default = gradient_across(CELLS[cell](64, 64, batch_first=True), x)
    assert ours > 1e-6
    assert ours > 100 * default


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(share: float, dtype: torch.dtype):
    torch.manual_seed(3)
    ones = torch.ones(41, 250, 33, dtype=dtype, requires_grad=True)  # not a multiple of four
    dropout = Dropout(share)
    out = dropout(ones)
    assert out.dtype == dtype
    torch.testing.assert_close(out, (out != 0).to(dtype) / (1 - min(share, 0.99)))
    dropped = (out == 0).float()
    assert dropped.mean().item() == pytest.approx(share, abs=0.003)
    for place in range(4):  # of the numbers that are drawn at once
        assert dropped.flatten()[place::4].mean().item() == pytest.approx(share, abs=0.006)
    out.sum().backward()
    assert torch.equal(ones.grad, out)
    torch.manual_seed(3)
    assert torch.equal(dropout(ones), out)
    assert dropout.eval()(ones) is ones


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_variational_dropout_drops_the_same_units_at_every_frame(cell: str, bidirectional: bool):
    torch.manual_seed(0)
    layer = RecurrentLayer(cell, 12, bidirectional, 0.4, variational_dropout=True)
    x, mirror = torch.randn(5, 9, 12), reversed_frames(torch.tensor([9, 9, 4, 1, 9]), 9)
    added = layer(x, mirror) - x
    whole = layer.eval()(x, mirror) - x
    kept = added[:, 0] != 0
    torch.testing.assert_close(added, whole * kept.unsqueeze(1) / 0.6)
    assert 0.3 < kept.float().mean() < 0.9
    assert len({tuple(row) for row in kept.tolist()}) == 5  # an utterance has its own


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropped_recurrent_weights_are_those_of_a_cell_without_them(cell: str, bidirectional: bool):
    torch.manual_seed(0)
    layer = RecurrentLayer(cell, 12, bidirectional, 0.0, weight_dropout=0.4)
    x, mirror = torch.randn(2, 9, 12), reversed_frames(torch.tensor([9, 7]), 9)
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.manual_seed(6)
    output = layer(x, mirror)
    output.sum().backward()
    gradient = layer.forward_cell.weight_hh_l0.grad
    torch.manual_seed(6)
    thinned = {name: F.dropout(value, 0.4) for name, value in weights.items() if "weight_hh" in name}
    expected = RecurrentLayer(cell, 12, bidirectional, 0.0)
    expected.load_state_dict(weights | thinned)
    torch.testing.assert_close(output, expected(x, mirror))
    assert gradient is not None
    assert torch.equal(gradient == 0, thinned["forward_cell.weight_hh_l0"] == 0)
    assert all(torch.equal(value, weights[name]) for name, value in layer.state_dict().items())
    plain = RecurrentLayer(cell, 12, bidirectional, 0.0)
    plain.load_state_dict(weights)
    torch.testing.assert_close(layer.eval()(x, mirror), plain.eval()(x, mirror))


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_cells_are_interchangeable_in_the_acoustic_model(cell: str, bidirectional: bool):
    config = AcousticConfig(cell=cell, bidirectional=bidirectional, layers=2, hidden_size=16, n_mels=20)
    model = AcousticModel(config, vocabulary=7)
    log_probs, lengths = model(torch.randn(3, 5_000), torch.tensor([5_000, 640, 641]))
    assert log_probs.shape == (3, 8, 7)
    assert lengths.tolist() == [8, 1, 2]
    log_probs[0].sum().backward()
    unreached = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unreached == []
