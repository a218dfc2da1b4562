"""The attention decoder's graph in a bundle: equal to torch, whatever is scored beside it, small in int8."""

from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="makes the decoder: pip install 'recurrent-asr[train]'")

from attention_bundle import LETTERS, SIZE, write_bundle  # noqa: E402

from asr.errors import BundleError  # noqa: E402
from asr.model.second_pass import GRAPH, TOKENS, AttentionModel  # noqa: E402
from asr.nn.attention import AttentionDecoder  # noqa: E402
from asr.nn.config import AttentionConfig  # noqa: E402
from asr.nn.export import export_attention, quantize_weights  # noqa: E402

TEXTS = ["the cat", "a", "", "then the other one's tail", "x y z"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "attentive")


def make_decoder(cell: str = "lstm", score: str = "dot") -> AttentionDecoder:
    torch.manual_seed(6)
    config = AttentionConfig(vocabulary=len(LETTERS), cell=cell, score=score, hidden_size=128)  # type: ignore[arg-type]
    decoder = AttentionDecoder(config, SIZE)
    torch.nn.init.normal_(decoder.head.weight, std=0.5)
    return decoder.eval()


def encoded(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).standard_normal((frames, SIZE)).astype(np.float32)


@pytest.mark.parametrize("score", ["dot", "additive"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_graph_equals_torch_at_other_sizes_than_the_example(cell: str, score: str, folder: Path, tmp_path: Path):
    decoder = make_decoder(cell, score)
    export_attention(decoder, tmp_path / GRAPH)
    LETTERS.save(tmp_path / TOKENS)
    model = AttentionModel(tmp_path, "lower")
    for rows, length, frames in ((1, 1, 1), (7, 9, 33), (2, 40, 250)):
        tokens = np.random.default_rng(length).integers(0, len(LETTERS), (rows, length))
        found = model.run(tokens, model.start(rows), encoded(frames))
        with torch.no_grad():
            expected = decoder(torch.from_numpy(tokens), decoder.start(rows), torch.from_numpy(encoded(frames))[None])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-4)


def test_a_text_scores_the_sum_of_its_tokens_and_its_end(folder: Path):
    model, frames = AttentionModel(folder, "lower"), encoded(20)
    ids = [LETTERS.ids[piece] for piece in ("▁the", "▁", "c", "a", "t")]
    assert model.encode("The CAT") == ids
    log_probs = model.run(np.array([[0, *ids]]), model.start(1), frames).log_probs[0]
    expected = sum(log_probs[place, token] for place, token in enumerate([*ids, 0]))
    assert model.score(["the cat"], frames) == pytest.approx([expected], abs=1e-4)


def test_a_text_scores_the_same_beside_others(folder: Path):
    model, frames = AttentionModel(folder, "lower"), encoded(50)
    together = model.score(TEXTS, frames)
    assert together == pytest.approx([model.score([text], frames)[0] for text in TEXTS], abs=1e-4)
    assert model.score(TEXTS[::-1], frames) == pytest.approx(together[::-1], abs=1e-4)


def test_characters_without_a_token_are_left_out(folder: Path):
    model = AttentionModel(folder, "lower")
    assert model.encode("thé 5cat.") == model.encode("th cat")


def test_int8_weights_are_small_and_close(tmp_path: Path):
    decoder = make_decoder()
    export_attention(decoder, tmp_path / "float.onnx")
    quantize_weights(tmp_path / "float.onnx", tmp_path / GRAPH)
    assert (tmp_path / GRAPH).stat().st_size < 0.5 * (tmp_path / "float.onnx").stat().st_size
    LETTERS.save(tmp_path / TOKENS)
    small = AttentionModel(tmp_path, "lower").score(TEXTS, encoded(50))
    (tmp_path / "float.onnx").replace(tmp_path / GRAPH)
    assert small == pytest.approx(AttentionModel(tmp_path, "lower").score(TEXTS, encoded(50)), rel=0.01, abs=0.3)


def test_a_damaged_decoder_is_one_line(folder: Path, tmp_path: Path):
    for name, damage in ((GRAPH, b"no graph"), (TOKENS, b"<blank>\na\n"), (TOKENS, None), (GRAPH, "another")):
        broken = tmp_path / f"{name}-{damage!r:.8}".replace("'", "")
        broken.mkdir()
        for each in (GRAPH, TOKENS):
            (broken / each).write_bytes((folder / each).read_bytes())
        if damage is None:
            (broken / name).unlink()
        elif damage == "another":
            onnx.save(onnx.load(folder / "model.onnx"), broken / name)
        else:
            (broken / name).write_bytes(damage)
        with pytest.raises(BundleError, match=r"copy|missing") as caught:
            AttentionModel(broken, "lower")
        assert "\n" not in str(caught.value)
