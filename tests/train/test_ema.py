"""The moving average of the weights: what it is, and that it is what a run measures, keeps and resumes with."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import make_trainer
from torch import nn

from asr.train.checkpoint import read_weights
from asr.train.config import AcousticRecipe
from asr.train.optim import MovingAverage


def test_the_average_is_the_one_of_the_docstring():
    model = nn.Linear(1, 1, bias=False)
    average, expected = MovingAverage(model, 0.3), 0.0
    for update in range(1, 8):
        model.weight.data.fill_(float(update * update))
        average.update_parameters(model)
        decay = min(0.3, update / (update + 9)) if update > 1 else 0.0
        expected = decay * expected + (1 - decay) * update * update
        assert average.module.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 49


def test_a_run_measures_and_keeps_the_average_and_goes_on_training_the_model(recipe: AcousticRecipe):
    recipe.ema_decay, recipe.epochs = 0.9, 1
    trainer = make_trainer(recipe)
    validate, measured = trainer.task.validate, []

    def watched(model: nn.Module) -> dict[str, float]:
        measured.append(model)
        return validate(model)

    trainer.task.validate = watched
    trained: list[dict[str, torch.Tensor]] = []
    step = trainer.optimizer.step

    def recorded(*arguments: Any) -> None:
        step(*arguments)
        trained.append(copy.deepcopy(trainer.model.state_dict()))

    trainer.optimizer.step = recorded
    trainer.run()
    assert measured == [trainer.average.module]
    assert trainer.task.model is trainer.model
    expected = trained[0]["head.weight"]
    for update, weights in enumerate(trained[1:], start=2):
        decay = update / (update + 9)
        expected = decay * expected + (1 - decay) * weights["head.weight"]
    best, last = (load_file(recipe.folder / name) for name in ("best.safetensors", "last.safetensors"))
    torch.testing.assert_close(best["model.head.weight"], expected)
    assert torch.equal(last["model.head.weight"], trained[-1]["head.weight"])
    assert torch.equal(last["carried.average.module.head.weight"], best["model.head.weight"])
    assert torch.equal(best["model.features.mean"], last["model.features.mean"])
    exported = [read_weights(recipe.folder / name)[0] for name in ("best.safetensors", "last.safetensors")]
    assert exported[0].keys() == exported[1].keys() == trainer.model.state_dict().keys()
    assert all(torch.equal(value, exported[1][name]) for name, value in exported[0].items())
