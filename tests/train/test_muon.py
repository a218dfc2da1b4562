"""Muon: its update is torch's, of matrices of recurrent layers alone, and a run learns with it."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import make_trainer
from torch import nn

from asr.nn.config import AcousticConfig
from asr.nn.ctc_model import AcousticModel
from asr.train.config import AcousticRecipe
from asr.train.optim import Muon, orthogonal


def with_gradients(model: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)


def take_step(optimizer: torch.optim.Optimizer, rate: float, overflow: bool = False) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.found_inf = torch.tensor(float(overflow))  # type: ignore[attr-defined]
    optimizer.step()


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 100),
)
def test_the_singular_values_of_a_matrix_become_about_1_and_its_singular_vectors_stay(
    rows: int, columns: int, scale: float, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    count = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, count, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(columns, count, generator=generator)).Q
    values = 0.3 + torch.rand(count, generator=generator)
    within = left.t() @ orthogonal(scale * (left * values) @ right.t()) @ right
    assert torch.allclose(within, within.diagonal().diag(), atol=1e-4)
    assert ((within.diagonal() > 0.6) & (within.diagonal() < 1.25)).all()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_matrices_of_recurrent_layers_are_updated_as_by_torch_and_all_else_by_adamw(precision: torch.dtype):
    config = AcousticConfig(cell="gru", bidirectional=False, layers=2, hidden_size=16, lookahead=1)
    model = AcousticModel(config, 5)
    theirs = copy.deepcopy(model)
    matrices = [p for name, p in theirs.named_parameters() if "_cell.weight" in name]
    others = [p for name, p in theirs.named_parameters() if "_cell.weight" not in name]
    optimizers = [
        torch.optim.Muon(matrices, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.1, fused=True),
    ]
    ours = Muon(model, 0.1, precision)
    before = copy.deepcopy(model.state_dict())
    for step in range(5):
        with_gradients(model, step)
        with_gradients(theirs, step)
        take_step(ours, 0.01)
        for optimizer in optimizers:
            take_step(optimizer, 0.01)
    for name, value in theirs.state_dict().items():
        moved = (value - before[name]).norm()
        # torch's is computed in bfloat16.
        limit = 0.02 * moved if "_cell.weight" in name else 0.0
        assert (model.state_dict()[name] - value).norm() <= limit, name


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = nn.GRU(4, 6)
    optimizer = Muon(model, 0.1, torch.float32)
    with_gradients(model, 0)
    take_step(optimizer, 0.01)
    before, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    with_gradients(model, 1)
    model.weight_hh_l0.grad[0, 0] = float("nan")
    take_step(optimizer, 0.01, overflow=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(value, state[index][key]) for index, of in after.items() for key, value in of.items())


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_run_learns_with_any_cell(recipe: AcousticRecipe, cell: str):
    recipe.model.cell, recipe.optimizer.algorithm, recipe.epochs = cell, "muon", 4
    curve = make_trainer(recipe).run()
    assert curve[-1].train_loss < curve[0].train_loss
