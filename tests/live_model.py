"""A small live model with random weights, as a real bundle, and the ways in which audio may be cut into chunks.

It reads nothing sensible, but each frame of its output depends on all that the model carries from chunk to chunk and on
its look-ahead, so that a state that is lost or mixed up is seen.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import carrier
import numpy as np
from hypothesis import strategies as st

from asr.audio.sources import read
from asr.model.bundle import write_config

LOOKAHEAD = 3  # frames
RATE, FRAME = carrier.RATE, carrier.FRAME


@cache
def speech() -> np.ndarray:
    """5 s of real speech, float32 (samples,)."""
    return read(Path(__file__).parent / "data/sample.flac")


def write_bundle(folder: Path, int8: bool) -> Path:
    import torch

    from asr.nn.ctc_model import AcousticConfig, AcousticModel
    from asr.nn.export import export_onnx, quantize_weights

    folder.mkdir(parents=True)
    torch.manual_seed(7)
    config = AcousticConfig(cell="gru", bidirectional=False, layers=2, hidden_size=64, lookahead=LOOKAHEAD)
    model = AcousticModel(config, len(carrier.TOKENS)).eval()
    heard = torch.from_numpy(speech())
    model.features.fit([heard])
    # A new model looks at the present frame alone and says the same of every frame: both would hide mistakes.
    torch.nn.init.normal_(model.lookahead.weight, std=0.5)
    torch.nn.init.normal_(model.head.weight, std=0.5)
    with torch.no_grad():
        log_probs, *_ = model(heard.unsqueeze(0), torch.tensor([len(heard)]))
        model.head.bias -= log_probs.mean(dim=(0, 1))
        model.head.bias[:2] += 3.0  # blanks, and new words
    export_onnx(model, folder / "model.onnx")
    if int8:
        quantize_weights(folder / "model.onnx", folder / "model.onnx")
    carrier.TOKENS.save(folder / "tokens.txt")
    write_config(
        folder, replace(carrier.CONFIG, name="live", streaming=True, lookahead=LOOKAHEAD, model=asdict(config))
    )
    return folder


def cut(samples: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Chunks of these sizes, as far as the samples go, and the rest."""
    return np.split(samples, np.cumsum(sizes, dtype=int))


def chunk_sizes(most: int = 10 * RATE, frame: int = FRAME) -> st.SearchStrategy[list[int]]:
    """From one sample to `most`, stretches of single samples, empty chunks, exact frames and one sample off them."""
    size = st.sampled_from([0, 1, frame - 1, frame, frame + 1, 4 * frame, most]) | st.integers(1, most)
    piece = size.map(lambda samples: [samples]) | st.just([1] * (frame + 1))
    return st.lists(piece, max_size=8).map(lambda pieces: [samples for piece in pieces for samples in piece])
