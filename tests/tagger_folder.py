"""A tagger whose graph is a few lines, the sum of a word's rows: all around the network is tested without torch."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from asr.model.bundle import write_config
from asr.model.tagger import CASES, FEATURES, GRAPH, LISTED, MARKS, TaggingConfig

ROWS = 50
LABELS = len(MARKS) + len(CASES)


def write_tagger(folder: Path) -> Path:
    """A folder of a tagger that any text can be given to; what it finds means nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    table = np.random.default_rng(1).normal(size=(ROWS, LABELS)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "features"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axes"], ["sums"], keepdims=0),
        helper.make_node("LogSoftmax", ["sums"], ["log_probs"], axis=-1),
    ]
    inputs = [
        helper.make_tensor_value_info("features", TensorProto.INT64, ["batch", "words", FEATURES]),
        helper.make_tensor_value_info("extras", TensorProto.FLOAT, ["batch", "words", 4]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "words", LABELS])]
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([2]), "axes")]
    graph = helper.make_graph(nodes, "tagger", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    (folder / LISTED).write_text("McDonald\niPhone\n", encoding="utf-8")
    about = "By chance."
    config = TaggingConfig(
        name="t", language="en", description=about, license="CC0", model={}, rows=ROWS, kind="tagger"
    )
    write_config(folder, config)
    return folder
