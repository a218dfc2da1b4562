"""A trained model → the files of a bundle."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.files import replacing
from asr.model.tagger import FEATURES
from asr.nn.attention import AttentionDecoder
from asr.nn.ctc_model import SAMPLES_PER_FRAME, AcousticModel, StreamState
from asr.nn.language_model import LanguageModel
from asr.nn.tagger import EXTRAS, TaggerModel

OPSET = 17
# The axes, beside that of the batch, that vary.
AXES = {
    "waveform": {1: "samples"},
    "chunk": {1: "samples"},
    "tokens": {1: "tokens"},
    "features": {1: "words"},
    "extras": {1: "words"},
    "log_probs": {1: "frames"},
    "encoded": {1: "frames"},
    "weights": {2: "tokens", 3: "frames"},
}
RECURRENT_NODES = ("RNN", "LSTM", "GRU")
# Matrices below this many numbers are not worth quantising.
MIN_QUANTIZED = 10_000


class _Graph(nn.Module):
    """`AcousticModel.step` or `forward` with the inputs and outputs of a graph."""

    def __init__(self, model: AcousticModel, encoded: bool):
        super().__init__()
        self.model = model
        self.encoded = encoded

    def forward(self, waveform: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        after: tuple[Tensor, ...]
        if self.model.config.bidirectional:
            log_probs, encoded, frames = self.model.forward(waveform, *others)
            after = (frames,)
        else:
            log_probs, encoded, after = self.model.step(waveform, StreamState(*others))
        return log_probs, *after, *([encoded] if self.encoded else [])


def export_onnx(model: AcousticModel, path: Path, encoded: bool = False) -> None:
    """Write the float32 graph of a bundle.

    Bidirectional: waveform (B, N), lengths (B,) int64 → log_probs (B, T, V), frames (B,) int64.
    Unidirectional: chunk (B, 640 k) and the tensors of `StreamState` → log_probs (B, k, V) and `next_` those tensors.

    Args:
        model: set to eval mode and moved to the CPU.
        path: of the ONNX file.
        encoded: the graph has another output, encoded (B, T, size), for second passes.
    """
    model = model.eval().cpu()
    if model.config.bidirectional:
        inputs = {"waveform": torch.zeros(1, 24_000), "lengths": torch.tensor([24_000])}
        outputs = ["log_probs", "frames"]
    else:
        state = model.start(1)._asdict()
        inputs = {"chunk": torch.zeros(1, 3 * SAMPLES_PER_FRAME), **state}
        outputs = ["log_probs", *(f"next_{name}" for name in state)]
    _export(_Graph(model, encoded).eval(), inputs, [*outputs, *(["encoded"] if encoded else [])], path)


def export_language_model(model: LanguageModel, path: Path) -> None:
    """Write the float32 graph: tokens (B, T) int64, state → log_probs (B, T, V), next_state; see `LanguageModel`."""
    model = model.eval().cpu()
    inputs = {"tokens": torch.zeros(1, 3, dtype=torch.int64), "state": model.start(1)}
    _export(model, inputs, ["log_probs", "next_state"], path)


def export_attention(decoder: AttentionDecoder, path: Path) -> None:
    """Write the float32 graph of the decoder for token sequences of one recording; see `AttentionDecoder`.

    tokens (N, S) int64, state, encoded (1, T, size) → log_probs (N, S, V), next_state, weights (N, layers, S, T).
    """
    decoder = decoder.eval().cpu()
    tokens, encoded = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(1, 5, decoder.encoder_size)
    inputs = {"tokens": tokens, "state": decoder.start(2), "encoded": encoded}
    _export(decoder, inputs, ["log_probs", "next_state", "weights"], path)


def export_tagger(model: TaggerModel, path: Path) -> None:
    """Write the float32 graph: features, extras, lengths → log_probs; see `TaggerModel`."""
    model = model.eval().cpu()
    features, extras = torch.zeros(1, 3, FEATURES, dtype=torch.int64), torch.zeros(1, 3, EXTRAS)
    inputs = {"features": features, "extras": extras, "lengths": torch.tensor([3])}
    _export(model, inputs, ["log_probs"], path)


def _export(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    """`inputs`: an example of each."""
    axes = {name: {0: "batch"} | AXES.get(name, {}) for name in (*inputs, *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch's newer exporter bakes the example's number of frames into the graph, so the older one it is.
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
        )


def quantize_weights(source: Path, target: Path) -> None:
    """Store the weights of recurrent, linear and embedding layers as int8 with a float scale per output, symmetric.

    Only storage is int8: the graph casts and scales them back when it is loaded (of embeddings, the rows that it looks
    up), and computes in float32. Dynamic int8 arithmetic would take the scale of the activations from the whole batch,
    and the text of a file would then depend on what else is in it, and on how a stream is cut into chunks.
    """
    graph_model = onnx.load(source)
    graph = graph_model.graph
    axis_of_inputs: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in RECURRENT_NODES:  # weights (directions, gates, inputs): one scale per gate row
            axis_of_inputs |= {node.input[1]: -1, node.input[2]: -1}
        elif node.op_type == "MatMul" and not node.name.startswith("/features/"):  # a spectrum needs its 24 bits
            # (inputs, outputs): one scale per output column
            axis_of_inputs[node.input[1]] = 0
        elif node.op_type == "Gather" and all(
            user.op_type == "Gather" for user in graph.node if node.input[0] in user.input
        ):
            axis_of_inputs[node.input[0]] = -1  # (rows, size): one scale per row
    quantized_names = set()
    for initializer in list(graph.initializer):
        name = initializer.name
        weights = numpy_helper.to_array(initializer)
        if name not in axis_of_inputs or weights.size < MIN_QUANTIZED or weights.dtype != np.float32:
            continue
        scale = np.maximum(np.abs(weights).max(axis=axis_of_inputs[name], keepdims=True), 1e-8) / 127
        quantized = np.round(weights / scale).astype(np.int8)
        graph.initializer.remove(initializer)
        graph.initializer.extend(
            [numpy_helper.from_array(quantized, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
        )
        quantized_names.add(name)
    gathers = [node for node in graph.node if node.op_type == "Gather" and node.input[0] in quantized_names]
    tables = {node.input[0] for node in gathers}
    nodes = [node for name in sorted(quantized_names - tables) for node in _dequantized(name)]
    for node in graph.node:
        if node not in gathers:
            nodes.append(node)
            continue
        (table, rows), (output,) = node.input, node.output
        for part in ("int8", "scale"):
            nodes.append(helper.make_node("Gather", [f"{table}.{part}", rows], [f"{output}.{part}"]))
        nodes += _dequantized(output)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(graph_model)
    onnx.save(graph_model, target)


def _dequantized(name: str) -> list[onnx.NodeProto]:
    """NAME.int8 and NAME.scale → NAME, float32."""
    return [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]),
    ]


def save_weights(model: nn.Module, path: Path) -> None:
    """The weights in half precision: half the size, and nothing lost that training on from them would miss."""
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    with replacing(path) as part:
        save_file(tensors, part)
