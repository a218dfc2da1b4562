"""The tagger's network: padding and neighbours in a batch change nothing, a live one sees just so far ahead."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asr.model.session import open_session
from asr.model.tagger import CASES, FEATURES, MARKS
from asr.nn.config import TaggerConfig
from asr.nn.export import export_tagger, quantize_weights
from asr.nn.tagger import TaggerModel

CONFIGS = [
    TaggerConfig(rows=300, hidden_size=24, embedding_size=40),
    TaggerConfig(rows=300, hidden_size=24, embedding_size=40, cell="gru", bidirectional=False, lookahead=3),
    TaggerConfig(rows=300, hidden_size=24, embedding_size=40, cell="rnn", bidirectional=False, layers=1),
]
LENGTHS = torch.tensor([9, 1, 5])


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.cell}{config.lookahead}")
def model(request: pytest.FixtureRequest) -> TaggerModel:
    torch.manual_seed(1)
    model = TaggerModel(request.param).eval()
    if request.param.lookahead:  # which begins as none
        torch.nn.init.normal_(model.lookahead.weight)
    return model


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    features = torch.randint(300, (3, 9, FEATURES), generator=generator)
    return features, torch.rand(3, 9, 4, generator=generator)


def test_log_probabilities_of_marks_and_cases(model: TaggerModel, batch: tuple[torch.Tensor, torch.Tensor]):
    log_probs = model(*batch, LENGTHS)
    assert log_probs.shape == (3, 9, len(MARKS) + len(CASES))
    for part in log_probs.split([len(MARKS), len(CASES)], dim=2):
        torch.testing.assert_close(part.exp().sum(dim=2), torch.ones(3, 9))


def test_each_row_is_as_if_alone(model: TaggerModel, batch: tuple[torch.Tensor, torch.Tensor]):
    together = model(*batch, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(*(item[row : row + 1, :length] for item in batch), LENGTHS[row : row + 1])
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=0)


def test_a_live_tagger_sees_no_further_than_its_lookahead(model: TaggerModel, batch: tuple[torch.Tensor, torch.Tensor]):
    features, extras = batch
    before = model(features[:1], extras[:1], LENGTHS[:1])
    changed = features[:1].clone()
    changed[0, 6] = (changed[0, 6] + 1) % 300
    after = model(changed, extras[:1], LENGTHS[:1])
    same = (before == after).all(dim=2)[0]
    if model.config.bidirectional:
        assert not same[0]
    else:
        assert same[: 6 - model.config.lookahead].all()
        assert not same[6 - model.config.lookahead]


def test_every_weight_has_a_gradient(model: TaggerModel, batch: tuple[torch.Tensor, torch.Tensor]):
    model.train()
    (-model(*batch, LENGTHS)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_the_graph_is_the_model_also_with_small_weights(
    model: TaggerModel, batch: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
):
    expected = model(*batch, LENGTHS).detach().numpy()
    export_tagger(model, tmp_path / "float.onnx")
    quantize_weights(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    names = ("features", "extras", "lengths")
    inputs = {name: item.numpy() for name, item in zip(names, (*batch, LENGTHS), strict=True)}
    for name, tolerance in (("float", 1e-4), ("int8", 0.1)):
        (found,) = open_session(tmp_path / f"{name}.onnx").run(None, inputs)
        for row, length in enumerate(LENGTHS.tolist()):
            np.testing.assert_allclose(found[row, :length], expected[row, :length], atol=tolerance)
    assert (tmp_path / "int8.onnx").stat().st_size < (tmp_path / "float.onnx").stat().st_size - 2 * 300 * 40
