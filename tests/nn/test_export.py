"""The exported graphs: equal to torch at every length, int8 close and small, no row changed by its batch."""

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from asr.nn.ctc_model import SAMPLES_PER_FRAME, AcousticConfig, AcousticModel, StreamState
from asr.nn.export import export_onnx, quantize_weights, save_weights

VOCABULARY = 32
SIZE = 128  # large enough for the matrices of every cell to be quantised
LOOKAHEAD = 2  # frames, of the models of one direction
LENGTHS = [16_000, 1, 641, 9_999, 12_800, 640, 3_333, 15_359, 399, 400, 8_000, 5_432, 1_281, 14_001, 2_560, 7_040]

CELLS = ("rnn", "lstm", "gru")
every_model = pytest.mark.parametrize(("cell", "bidirectional"), list(product(CELLS, (False, True))))


def make_model(
    cell: str = "lstm",
    bidirectional: bool = True,
    size: int = SIZE,
    lookahead: int | None = None,
    normalization: bool = False,
) -> AcousticModel:
    torch.manual_seed(4)
    if lookahead is None:
        lookahead = LOOKAHEAD if not bidirectional else 0
    config = AcousticConfig(
        cell=cell,
        bidirectional=bidirectional,
        layers=2,
        hidden_size=size,
        lookahead=lookahead,
        mean_normalization=normalization,
    )
    model = AcousticModel(config, VOCABULARY)
    model.features.fit([0.1 * torch.randn(16_000)])
    # A random head says nothing with confidence; a sharper one makes the differences between graphs visible.
    torch.nn.init.normal_(model.head.weight, std=0.5)
    if lookahead:
        torch.nn.init.normal_(model.lookahead.weight)
    return model.eval()


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(graph: onnxruntime.InferenceSession, waveform: np.ndarray, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probs and how many frames of each row count; of a live model, from one chunk that is the whole batch."""
    if "chunk" not in input_shapes(graph):
        return graph.run(None, {"waveform": waveform, "lengths": np.array(lengths, dtype=np.int64)})
    frames = -(-waveform.shape[1] // SAMPLES_PER_FRAME) + LOOKAHEAD
    chunk = np.pad(waveform, [(0, 0), (0, frames * SAMPLES_PER_FRAME - waveform.shape[1])])
    log_probs, *_ = graph.run(None, {"chunk": chunk, **silence(graph, len(chunk))})
    return log_probs[:, LOOKAHEAD:], -(-np.array(lengths) // SAMPLES_PER_FRAME)


def input_shapes(graph: onnxruntime.InferenceSession) -> dict[str, list[int | str]]:
    return {item.name: item.shape for item in graph.get_inputs()}


def silence(graph: onnxruntime.InferenceSession, batch: int) -> dict[str, np.ndarray]:
    """The state of a live model's graph before the first sample."""
    shapes = input_shapes(graph)
    return {name: np.zeros((batch, *shapes[name][1:]), dtype=np.float32) for name in StreamState._fields}


def ragged_batch(lengths: list[int]) -> np.ndarray:
    generator = np.random.default_rng(6)
    waveform = np.zeros((len(lengths), max(lengths)), dtype=np.float32)
    for row, length in zip(waveform, lengths, strict=True):
        row[:length] = 0.1 * generator.standard_normal(length)
    return waveform


@pytest.mark.parametrize(
    ("cell", "bidirectional", "normalization"), [*product(CELLS, (False, True), (False,)), ("lstm", True, True)]
)
def test_float_graph_equals_torch_at_other_sizes_than_the_example(
    cell: str, bidirectional: bool, normalization: bool, tmp_path: Path
):
    model = make_model(cell, bidirectional, normalization=normalization)
    export_onnx(model, tmp_path / "model.onnx")
    graph = session(tmp_path / "model.onnx")
    for lengths in ([24_000], [1], [40_123], [640, 641], LENGTHS):
        waveform = ragged_batch(lengths)
        log_probs, frames = run(graph, waveform, lengths)
        with torch.no_grad():
            expected, _, expected_frames = model(torch.from_numpy(waveform), torch.tensor(lengths))
        assert frames.tolist() == expected_frames.tolist()
        assert log_probs.shape == expected.shape
        for row, count in enumerate(frames):
            np.testing.assert_allclose(log_probs[row, :count], expected[row, :count].numpy(), atol=1e-4)


@pytest.mark.parametrize(("cell", "lookahead"), list(product(CELLS, (0, 1, 9))))
def test_a_live_graph_goes_on_as_torch_does_at_any_size_of_chunk_and_batch(cell: str, lookahead: int, tmp_path: Path):
    model = make_model(cell, False, size=16, lookahead=lookahead)
    export_onnx(model, tmp_path / "model.onnx")
    graph = session(tmp_path / "model.onnx")
    assert list(input_shapes(graph)) == ["chunk", *StreamState._fields]
    for batch in (1, 3):
        expected, state = model.start(batch), silence(graph, batch)
        for frames in (1, 2, 1, 40, 3):
            chunk = 0.1 * torch.randn(batch, frames * SAMPLES_PER_FRAME)
            with torch.no_grad():
                rows, _, expected = model.step(chunk, expected)
            log_probs, *after = graph.run(None, {"chunk": chunk.numpy(), **state})
            state = dict(zip(StreamState._fields, after, strict=True))
            np.testing.assert_allclose(log_probs, rows.numpy(), atol=1e-4)
            for name, tensor in expected._asdict().items():
                np.testing.assert_allclose(state[name], tensor.numpy(), atol=1e-4)


@every_model
def test_a_graph_may_give_the_encoded_frames_too(cell: str, bidirectional: bool, tmp_path: Path):
    model = make_model(cell, bidirectional)
    names = []
    for encoded in (False, True):
        export_onnx(model, tmp_path / "model.onnx", encoded)
        names.append([item.name for item in session(tmp_path / "model.onnx").get_outputs()])
    assert names[1] == [*names[0], "encoded"]  # none without being asked for
    quantize_weights(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    waveform = ragged_batch([40 * SAMPLES_PER_FRAME])
    for name, tolerance in (("model.onnx", 1e-4), ("int8.onnx", 0.3)):
        graph = session(tmp_path / name)
        with torch.no_grad():
            if bidirectional:
                inputs = {"lengths": np.array([waveform.shape[1]])}
                _, expected, _ = model(torch.from_numpy(waveform), torch.tensor([waveform.shape[1]]))
            else:
                inputs = silence(graph, 1)
                _, expected, _ = model.step(torch.from_numpy(waveform), model.start(1))
        (found,) = graph.run(["encoded"], {"waveform" if bidirectional else "chunk": waveform, **inputs})
        np.testing.assert_allclose(found, expected.numpy(), atol=tolerance)


@every_model
def test_int8_graph_is_close_to_the_float_one(cell: str, bidirectional: bool, tmp_path: Path):
    export_onnx(make_model(cell, bidirectional), tmp_path / "float.onnx")
    quantize_weights(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    waveform = ragged_batch([32_000] * 4)
    exact, _ = run(session(tmp_path / "float.onnx"), waveform, [32_000] * 4)
    close, _ = run(session(tmp_path / "int8.onnx"), waveform, [32_000] * 4)
    assert np.abs(exact - close).max() > 0  # it is another graph
    assert np.abs(exact - close).mean() < 0.02 * exact.std()
    assert (exact.argmax(2) == close.argmax(2)).mean() > 0.97


def test_int8_graph_is_much_smaller(tmp_path: Path):
    export_onnx(make_model(size=256), tmp_path / "float.onnx")
    quantize_weights(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    # The Fourier matrix and the mel filters, 0.9 MB, stay float32: a spectrum needs its 24 bits.
    fixed = 4 * (400 * 514 + 257 * 80)
    assert (tmp_path / "int8.onnx").stat().st_size - fixed < 0.27 * ((tmp_path / "float.onnx").stat().st_size - fixed)


@every_model
def test_only_large_weights_of_recurrent_and_linear_layers_are_int8(cell: str, bidirectional: bool, tmp_path: Path):
    export_onnx(make_model(cell, bidirectional), tmp_path / "float.onnx")
    quantize_weights(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    graph = onnx.load(tmp_path / "int8.onnx").graph
    int8 = [item for item in graph.initializer if item.data_type == onnx.TensorProto.INT8]
    # Two layers with W and U for each direction, and the projection; the head, 128 × 32, is too small to matter.
    assert len(int8) == 2 * 2 * (1 + bidirectional) + 1
    assert (400, 514) not in [tuple(item.dims) for item in int8]


@every_model
def test_a_row_of_the_int8_graph_is_the_same_alone_and_in_a_batch_of_16(cell: str, bidirectional: bool, tmp_path: Path):
    export_onnx(make_model(cell, bidirectional), tmp_path / "float.onnx")
    quantize_weights(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    graph = session(tmp_path / "int8.onnx")
    waveform = ragged_batch(LENGTHS)
    log_probs, frames = run(graph, waveform, LENGTHS)
    for row, length in enumerate(LENGTHS):
        alone, _ = run(graph, waveform[row : row + 1, :length], [length])
        assert alone.shape[1] == frames[row]
        np.testing.assert_allclose(log_probs[row, : frames[row]], alone[0], atol=1e-4)


def test_a_graph_computes_no_int8_arithmetic(tmp_path: Path):
    export_onnx(make_model(), tmp_path / "float.onnx")
    quantize_weights(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert not {name for name in operators if "Quantize" in name or name.endswith("Integer")}


def test_saved_weights_restore_the_model_within_half_precision(tmp_path: Path):
    model = make_model()
    save_weights(model, tmp_path / "weights.safetensors")
    restored = make_model(size=SIZE)
    torch.nn.init.zeros_(restored.head.weight)
    restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    waveform = torch.from_numpy(ragged_batch([16_000]))
    with torch.no_grad():
        expected, *_ = model(waveform, torch.tensor([16_000]))
        log_probs, *_ = restored(waveform, torch.tensor([16_000]))
    torch.testing.assert_close(log_probs, expected, atol=0.05, rtol=0)
