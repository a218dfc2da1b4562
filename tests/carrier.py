"""Audio that carries text, and a model bundle that reads it back exactly.

The level of the first sample of each 40 ms frame is the id of the token that the frame spells. The bundle is real (its
graph runs in onnxruntime), so all that lies around an acoustic model is tested without the mistakes of one.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper, numpy_helper

from asr.lm.lexicon import Entry, Lexicon
from asr.model.bundle import BundleConfig, write_config
from asr.model.tokens import BLANK, WORD_START, Tokens

RATE = 16_000  # hertz
FRAME = 640  # samples, 40 ms
TONE = np.cos(np.arange(FRAME) * (2 * np.pi * 4 / FRAME))  # 100 Hz, at its peak where the model reads it
LEVEL = 1 / 256  # of amplitude for each token id: exact in 16-bit audio
TOKENS = Tokens([BLANK, WORD_START, *"abcdefghijklmnopqrstuvwxyz'"])
SOUNDS = "aAuowIbdDeREfghijklmnprstTz"  # phones, in place of the letters where a bundle spells pronunciations
CONFIG = BundleConfig(
    name="carrier",
    language="qaa",  # for private use: nobody has a tagger for it
    description="Reads text from the level of the samples.",
    license="CC0-1.0",
    sample_rate=RATE,
    frame_seconds=FRAME / RATE,
    streaming=False,
    model={},
    tokenizer={},
)


def speech(text: str, silence: int = 0) -> np.ndarray:
    """Samples (N,) that spell the text, each character a frame and a blank one, after `silence` blank frames."""
    ids = [TOKENS.symbols.index(WORD_START if character == " " else character) for character in text]
    frames = [0] * silence + [level for token in ids for level in (token, 0)]
    return np.outer(np.array(frames) * LEVEL, TONE).ravel().astype(np.float32)


def pronounced(phones: str, silence: int = 0) -> np.ndarray:
    """Samples (N,) that spell words of `SOUNDS`."""
    return speech(phones.translate(str.maketrans(SOUNDS, "".join(TOKENS.symbols[2:]))), silence)


def save(path: Path, text: str, silence: int = 0) -> Path:
    """A 16-bit wav file that spells the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech(text, silence), RATE, subtype="PCM_16")
    return path


def write_bundle(folder: Path, streaming: bool = False) -> Path:
    """The bundle that reads such audio; a streaming one has no state and no delay beyond its frame."""
    folder.mkdir(parents=True)
    write_config(folder, replace(CONFIG, streaming=streaming))
    TOKENS.save(folder / "tokens.txt")
    (folder / "model.onnx").write_bytes(graph(streaming).SerializeToString())
    return folder


def write_pronouncing_bundle(folder: Path, entries: list[Entry], streaming: bool = False) -> Path:
    """The same with tokens that are phones, and a lexicon inside."""
    write_bundle(folder, streaming)
    write_config(folder, replace(CONFIG, streaming=streaming, spelling="phones", lexicon="own.lex"))
    Tokens([BLANK, WORD_START, *SOUNDS]).save(folder / "tokens.txt")
    Lexicon.of(entries).save(folder / "own.lex")
    return folder


def graph(streaming: bool) -> onnx.ModelProto:
    """waveform (B, N), lengths (B,) → log_probs (B, ⌈N / 640⌉, V), frames (B,); or chunk (B, 640 k) → log_probs."""
    audio = "chunk" if streaming else "waveform"

    def constant(name: str, value: object, kind: type) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(value, dtype=kind), name)

    integers = {
        "first": [0],
        "last": [2**62],
        "samples": [1],
        "frame": [FRAME],
        "padding": FRAME - 1,
        "vocabulary": [2],
    }
    constants = [constant(name, value, np.int64) for name, value in integers.items()]
    constants += [
        constant("levels", np.arange(len(TOKENS)) * LEVEL, np.float32),
        constant("sharpness", -20 / LEVEL**2, np.float32),
    ]
    nodes = [
        helper.make_node("Slice", [audio, "first", "last", "samples", "frame"], ["heard"]),
        helper.make_node("Unsqueeze", ["heard", "vocabulary"], ["column"]),
        helper.make_node("Sub", ["column", "levels"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "sharpness"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["log_probs"], axis=2),
    ]
    inputs = [(audio, TensorProto.FLOAT, ["batch", "samples"])]
    outputs = [("log_probs", TensorProto.FLOAT, ["batch", "frames", len(TOKENS)])]
    if not streaming:
        nodes += [
            helper.make_node("Add", ["lengths", "padding"], ["padded"]),
            helper.make_node("Div", ["padded", "frame"], ["frames"]),
        ]
        inputs.append(("lengths", TensorProto.INT64, ["batch"]))
        outputs.append(("frames", TensorProto.INT64, ["batch"]))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "carrier",
            [helper.make_tensor_value_info(*item) for item in inputs],
            [helper.make_tensor_value_info(*item) for item in outputs],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
