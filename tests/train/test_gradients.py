"""The norm of each layer's gradient, and clipping by the norm of all of them."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from asr.nn.ctc_model import AcousticConfig, AcousticModel
from asr.nn.language_model import LanguageConfig, LanguageModel
from asr.train.optim import clip_gradients, layer_norms

ACOUSTIC = {"layers": 2, "hidden_size": 8, "n_mels": 20}
LIVE = AcousticModel(AcousticConfig(cell="gru", bidirectional=False, lookahead=2, **ACOUSTIC), 5)  # type: ignore[arg-type]
BOTH = AcousticModel(AcousticConfig(cell="rnn", bidirectional=True, **ACOUSTIC), 5)  # type: ignore[arg-type]
LANGUAGE = LanguageModel(LanguageConfig(layers=2, hidden_size=8), 5)


def parts(model: Any) -> dict[str, list[nn.Module]]:
    """The layers by hand."""
    if model is LANGUAGE:
        found = {"embedding": [model.embedding], "head": [model.head]}
    else:
        found = {"subsampling": [model.subsampling], "head": [model.head]}
    if model is LIVE:
        found["lookahead"] = [model.lookahead]
    for number, layer in enumerate(model.recurrent.layers, start=1):
        found[f"recurrent.{number}.forward"] = [layer.forward_cell]
        if model is BOTH:
            found[f"recurrent.{number}.backward"] = [layer.backward_cell]
    found["recurrent.norms"] = [model.recurrent.norm, *(layer.norm for layer in model.recurrent.layers)]
    return found


@pytest.mark.parametrize("limit", [0.5, 1e6])
@pytest.mark.parametrize("model", [LIVE, BOTH, LANGUAGE], ids=["live", "both directions", "language"])
def test_norms_are_those_computed_by_hand_and_clipping_is_torchs(model: nn.Module, limit: float):
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    by_hand = {
        layer: math.sqrt(sum(p.grad.square().sum().item() for module in modules for p in module.parameters()))  # type: ignore[union-attr]
        for layer, modules in parts(model).items()
    }
    norm, *norms = clip_gradients(model, limit).tolist()
    layers = layer_norms(model, norms)
    assert layers == pytest.approx(by_hand, rel=1e-5)
    assert norm == pytest.approx(math.sqrt(sum(each**2 for each in layers.values())), rel=1e-5)

    clipped = [parameter.grad for parameter in model.parameters()]
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        parameter.grad = gradient
    assert norm == torch.nn.utils.clip_grad_norm_(model.parameters(), limit).item()
    assert all(torch.equal(one, p.grad) for one, p in zip(clipped, model.parameters(), strict=True))  # type: ignore[arg-type]


def test_a_layer_without_gradient_has_no_norm():
    LANGUAGE.zero_grad()
    LANGUAGE.head.weight.grad = torch.ones_like(LANGUAGE.head.weight)
    _, *norms = clip_gradients(LANGUAGE, 1.0).tolist()
    assert layer_norms(LANGUAGE, norms) == {"head": pytest.approx(math.sqrt(5 * 8))}
