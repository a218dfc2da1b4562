"""Which share of hidden units and gates is saturated: against models that are made so, and against every gate."""

import pytest
import torch
from torch import Tensor, nn

from asr.nn.ctc_model import AcousticConfig, AcousticModel, output_lengths
from asr.nn.language_model import LanguageConfig, LanguageModel
from asr.nn.recurrent import CELLS, make_cell
from asr.train.report.saturation import EVERY, Saturation

SIZE = 8


def watch(model: nn.Module, x: Tensor, lengths: list[int]) -> dict[str, float]:
    with torch.no_grad(), Saturation(model) as saturation:
        saturation.lengths = torch.tensor(lengths)
        model(x)
    return saturation.shares()


class Alone(nn.Module):
    """A cell where a model has its first one."""

    def __init__(self, cell: nn.RNNBase):
        super().__init__()
        self.recurrent = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"forward_cell": cell})])})
        self.cell = [cell]

    def forward(self, x: Tensor) -> Tensor:
        return self.cell[0](x)[0]


def biased(cell: str, biases: dict[int, float]) -> Alone:
    """A cell that hears nothing but its biases: a number for all units of a gate."""
    module = make_cell(cell, SIZE).eval()
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    for gate, bias in biases.items():
        nn.init.constant_(module.bias_ih_l0.detach()[gate * SIZE : (gate + 1) * SIZE], bias)
    return Alone(module)


@pytest.mark.parametrize(
    ("cell", "biases", "hidden", "gates"),
    [
        ("rnn", {0: 2.6}, 0.0, None),  # tanh 2.6 = 0.989
        ("rnn", {0: -2.7}, 1.0, None),  # tanh 2.7 = 0.991
        ("lstm", {}, 0.0, 0.0),
        ("lstm", {0: 4.7}, 0.0, 1 / 3),  # σ 4.7 = 0.991: the input gate is open
        ("lstm", {0: 4.5, 1: -4.7, 3: -9.0}, 0.0, 2 / 3),  # σ 4.5 = 0.989
        ("lstm", {0: 9.0, 1: 9.0, 2: 9.0, 3: 9.0}, 10 / 12, 1.0),  # at frame 1 of both rows c is 2, tanh 2 = 0.96
        ("lstm", {2: 9.0}, 0.0, 0.0),  # the candidate is no gate
        ("gru", {1: 9.0}, 0.0, 1 / 2),
        ("gru", {1: -9.0, 2: 9.0}, 1.0, 1 / 2),
    ],
)
def test_a_cell_made_to_saturate_is_seen(cell: str, biases: dict[int, float], hidden: float, gates: float | None):
    expected = {"recurrent.1.forward.hidden": hidden} | ({} if gates is None else {"recurrent.1.forward.gates": gates})
    assert watch(biased(cell, biases), torch.zeros(2, 60, SIZE), [60, 30]) == pytest.approx(expected)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_computed_again_are_those_of_the_recurrence(cell: str):
    torch.manual_seed(2)
    module = make_cell(cell, SIZE).eval()
    for parameter in module.parameters():
        parameter.detach().mul_(6)
    x, lengths = torch.randn(3, 50, SIZE), [50, 9, 1]
    saturated = count = 0
    for row, length in enumerate(lengths):
        for frame in range(1, length, EVERY):
            hidden = module(x[row : row + 1, :frame])[0][0, -1]
            sums = module.weight_ih_l0 @ x[row, frame] + module.bias_ih_l0
            sums = (sums + module.weight_hh_l0 @ hidden + module.bias_hh_l0).view(-1, SIZE)
            gates = torch.sigmoid(sums[[0, 1, 3] if cell == "lstm" else [0, 1]])
            saturated += int(((gates < 0.01) | (gates > 0.99)).sum())
            count += gates.numel()
    assert 0 < saturated < count
    assert watch(Alone(module), x, lengths)["recurrent.1.forward.gates"] == saturated / count


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_of_a_model_is_watched_and_padding_does_not_count(cell: str):
    model = AcousticModel(AcousticConfig(cell=cell, layers=2, hidden_size=SIZE, n_mels=20), 5).eval()
    waveform, lengths = torch.randn(2, 64_000), torch.tensor([64_000, 20_000])

    with torch.no_grad(), Saturation(model) as together:
        together.lengths = output_lengths(lengths)
        model(waveform, lengths)
    with torch.no_grad(), Saturation(model) as alone:
        for row in range(2):
            alone.lengths = output_lengths(lengths[row : row + 1])
            model(waveform[row : row + 1, : lengths[row]], lengths[row : row + 1])
    assert together.shares() == alone.shares()
    kinds = ["hidden"] if cell == "rnn" else ["hidden", "gates"]
    directions = ("forward", "backward")
    names = {f"recurrent.{layer}.{direction}.{kind}" for layer in (1, 2) for direction in directions for kind in kinds}
    assert together.shares().keys() == names


def test_a_language_model_is_watched_and_nothing_is_left_behind():
    model = LanguageModel(LanguageConfig(layers=1, hidden_size=SIZE), 5).eval()
    tokens = torch.zeros(2, 12, dtype=torch.long)
    with torch.no_grad(), Saturation(model) as saturation:
        saturation.lengths = torch.tensor([12, 3])
        model(tokens, model.start(2))
    before = saturation.shares()
    assert before == {"recurrent.1.forward.hidden": 0.0, "recurrent.1.forward.gates": 0.0}
    model(tokens, model.start(2))
    assert saturation.counts["recurrent.1.forward.hidden"].tolist() == [0, 3 * SIZE]
