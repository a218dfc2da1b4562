"""A trained acoustic model → the files of a bundle."""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from asr.nn.acoustic import AcousticModel

OPSET = 17
RECURRENT_NODES = ("RNN", "LSTM", "GRU")
# Matrices below this many numbers are not worth quantising.
MIN_QUANTIZED = 10_000


def export_onnx(model: AcousticModel, path: Path) -> None:
    """Write the float32 graph: waveform (B, N), lengths (B,) int64 → log_probs (B, T, V), frames (B,) int64."""
    model = model.eval().cpu()
    example = (torch.zeros(1, 24_000), torch.tensor([24_000]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch's newer exporter bakes the example's number of frames into the graph, so the older one it is.
        torch.onnx.export(
            model,
            example,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["waveform", "lengths"],
            output_names=["log_probs", "frames"],
            dynamic_axes={
                "waveform": {0: "batch", 1: "samples"},
                "lengths": {0: "batch"},
                "log_probs": {0: "batch", 1: "frames"},
                "frames": {0: "batch"},
            },
        )


def quantize_weights(source: Path, target: Path) -> None:
    """Store the weights of recurrent and linear layers as int8 with one float scale per output, symmetric.

    Only storage is int8: the graph casts and scales them back when it is loaded, and computes in float32. Dynamic
    int8 arithmetic would take the scale of the activations from the whole batch, and the text of a file would then
    depend on what else is in it, and on how a stream is cut into chunks.
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
    dequantize = []
    for initializer in list(graph.initializer):
        name = initializer.name
        weights = numpy_helper.to_array(initializer)
        if name not in axis_of_inputs or weights.size < MIN_QUANTIZED:
            continue
        scale = np.maximum(np.abs(weights).max(axis=axis_of_inputs[name], keepdims=True), 1e-8) / 127
        quantized = np.round(weights / scale).astype(np.int8)
        graph.initializer.remove(initializer)
        graph.initializer.extend(
            [numpy_helper.from_array(quantized, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
        )
        dequantize += [
            helper.make_node("Cast", [f"{name}.int8"], [f"{name}.cast"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]),
        ]
    nodes = [*dequantize, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(graph_model)
    onnx.save(graph_model, target)


def save_weights(model: AcousticModel, path: Path) -> None:
    """The weights in half precision: half the size, and nothing lost that training on from them would miss."""
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, path, metadata={"config": json.dumps(dataclasses.asdict(model.config))})
