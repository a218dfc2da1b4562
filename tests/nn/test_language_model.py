"""The recurrent language model: text in pieces gives what it gives whole, and the graph gives what torch gives."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.nn.export import export_language_model, quantize_weights
from asr.nn.language_model import LanguageConfig, LanguageModel, token_losses

VOCABULARY = 20
LENGTH = 23  # tokens
CELLS = ("rnn", "lstm", "gru")


def make_model(cell: str, size: int = 16) -> LanguageModel:
    torch.manual_seed(3)
    model = LanguageModel(LanguageConfig(cell=cell, layers=2, hidden_size=size), VOCABULARY).eval()
    torch.nn.init.normal_(model.head.weight, std=0.3)  # says something
    return model


def make_tokens(batch: int = 3) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, LENGTH), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(1, LENGTH - 1), unique=True))
def test_a_text_in_pieces_gives_what_it_gives_whole(cell: str, cuts: list[int]):
    model, tokens = make_model(cell), make_tokens()
    with torch.no_grad():
        whole, end = model(tokens, model.start(3))
        state, pieces = model.start(3), []
        for begin, stop in pairwise([0, *sorted(cuts), LENGTH]):
            log_probs, state = model(tokens[:, begin:stop], state)
            pieces.append(log_probs)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(state, end)


@pytest.mark.parametrize("cell", CELLS)
def test_a_token_is_predicted_from_those_before_it_alone(cell: str):
    model, tokens = make_model(cell), make_tokens()
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % VOCABULARY
    with torch.no_grad():
        before, after = (model(variant, model.start(3))[0] for variant in (tokens, changed))
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.isclose(before[:, 10], after[:, 10]).all(dim=1).any()
    torch.testing.assert_close(before.exp().sum(dim=2), torch.ones(3, LENGTH))


def test_the_loss_is_minus_the_log_prob_of_each_target():
    model, tokens = make_model("lstm"), make_tokens()
    with torch.no_grad():
        log_probs = model(tokens[:, :-1], model.start(3))[0]
    losses = token_losses(log_probs, tokens[:, 1:])
    assert losses[2, 4] == -log_probs[2, 4, tokens[2, 5]]
    assert losses.shape == (3, LENGTH - 1)


@pytest.mark.parametrize("cell", CELLS)
def test_log_probs_and_state_are_float32_under_autocast(cell: str):
    if cell == "lstm" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("torch has no LSTM in bfloat16 on a processor without AVX-512")
    model = make_model(cell)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        log_probs, state = model(make_tokens(), model.start(3))
    assert log_probs.dtype == state.dtype == torch.float32


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("int8", [False, True])
def test_the_graph_gives_what_torch_gives_for_every_batch_and_length(cell: str, int8: bool, tmp_path: Path):
    model, path = make_model(cell, size=128), tmp_path / "model.onnx"
    export_language_model(model, path)
    if int8:
        size = path.stat().st_size
        quantize_weights(path, path)
        assert path.stat().st_size < 0.4 * size
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch, length in [(3, LENGTH), (1, 1), (5, 2)]:
        tokens = make_tokens(5)[:batch, :length]
        state = 0.1 * torch.randn(model.start(batch).shape)
        with torch.no_grad():
            expected = model(tokens, state)
        found = session.run(["log_probs", "next_state"], {"tokens": tokens.numpy(), "state": state.numpy()})
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other.numpy()).max() < (0.2 if int8 else 1e-4)


def test_embeddings_that_are_stored_in_int8_are_scaled_as_they_are_looked_up(tmp_path: Path):
    torch.manual_seed(3)
    model = LanguageModel(LanguageConfig(layers=1, hidden_size=128), 100).eval()
    tokens, paths = torch.arange(100).unsqueeze(0), (tmp_path / "float.onnx", tmp_path / "int8.onnx")
    export_language_model(model, paths[0])
    quantize_weights(*paths)
    assert "embedding.weight.int8" in {item.name for item in onnx.load(paths[1]).graph.initializer}
    inputs = {"tokens": tokens.numpy(), "state": model.start(1).numpy()}
    plain, small = (onnxruntime.InferenceSession(str(path)).run(None, inputs)[0] for path in paths)
    assert 0 < np.abs(plain - small).max() < 0.02
