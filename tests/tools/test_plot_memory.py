"""The Jacobians behind the plot of tools/plot_memory.py, against autograd through the frames and finite differences."""

import copy
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
from developer_tools import load_tool

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("matplotlib", reason="needs matplotlib")

every_cell = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])


@pytest.fixture
def plot_memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_tool("plot_memory")
    monkeypatch.setattr(module, "DISTANCES", (1, 2, 5))
    monkeypatch.setattr(module, "EVERY", 2)
    return module


def random_cell(cell: str) -> "torch.nn.RNNBase":
    from asr.nn.recurrent import make_cell

    torch.manual_seed(4)
    module = make_cell(cell, 3).double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.add_(0.5 * torch.randn_like(parameter))
    return module


@every_cell
def test_norms_are_those_of_the_jacobian_through_all_frames(plot_memory: ModuleType, cell: str):
    module = random_cell(cell)
    x = torch.randn(10, 3, dtype=torch.float64)

    def run(state: "torch.Tensor", begin: int, end: int) -> "torch.Tensor":
        """Torch's own module over frames begin … end − 1."""
        before = state.view(-1, 1, 1, 3)
        _, after = module(x[None, begin:end], (before[0], before[1]) if cell == "lstm" else before[0])
        return torch.cat(after if cell == "lstm" else [after]).flatten()

    norms = plot_memory.memory(module, x)
    assert norms.keys() == ({"h", "(h, c)"} if cell == "lstm" else {"h"})
    single = plot_memory.memory(copy.deepcopy(module).float(), x.float())  # other kernels
    torch.testing.assert_close({key: value.double() for key, value in single.items()}, norms, rtol=1e-4, atol=0)
    start = torch.zeros(6 if cell == "lstm" else 3, dtype=torch.float64)
    for row, distance in enumerate((1, 2, 5)):
        for column, end in enumerate((6, 8, 10)):  # frames that the state has seen: t = 5, 7, 9, counted from 0
            before = run(start, 0, end - distance)
            jacobian = torch.autograd.functional.jacobian(lambda s, d=distance, e=end: run(s, e - d, e), before)
            step = 1e-6 * torch.eye(len(before), dtype=torch.float64)
            moved = [run(before + s, end - distance, end) - run(before - s, end - distance, end) for s in step]
            torch.testing.assert_close(torch.stack(moved, dim=1) / 2e-6, jacobian, rtol=1e-5, atol=1e-8)
            expected = torch.linalg.svdvals(jacobian[:3, :3])[0]
            torch.testing.assert_close(norms["h"][row, column], expected)
            if cell == "lstm":
                torch.testing.assert_close(norms["(h, c)"][row, column], torch.linalg.svdvals(jacobian)[0])


def test_an_untrained_rnn_that_hears_nothing_forgets_nothing(plot_memory: ModuleType):
    from asr.nn.recurrent import make_cell

    module = make_cell("rnn", 8).double().eval()  # orthogonal, and h stays 0
    norms = plot_memory.memory(module, torch.zeros(10, 8, dtype=torch.float64))["h"]
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-5, atol=0)


def test_a_plot_of_a_packaged_model(plot_memory: ModuleType, tmp_path: Path):
    samples, rate = soundfile.read(
        Path(__file__).parents[1] / "data/sample.flac", frames=8_000
    )  # a Jacobian each 40 ms
    soundfile.write(tmp_path / "short.wav", samples, rate)
    model = plot_memory.load_trained("en-gru").model()
    trained = plot_memory.measure(model, [tmp_path / "short.wav"])
    for name in ("one.svg", "other.svg"):
        plot_memory.plot({"en-gru, h": (trained["h"], trained["h"])}, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
