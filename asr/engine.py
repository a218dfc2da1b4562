"""Runs the ONNX graph of a bundle."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from asr.bundle import Bundle
from asr.errors import BundleError, one_line


def usable_cores() -> int:
    """Cores this process may run on; onnxruntime by itself asks for all of the machine's, and may not get them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """Waveforms in, log-probabilities out. Holds no state between calls; threads may share one."""

    def __init__(self, bundle: Bundle, graph: Path | None = None, threads: int = 0):
        """`graph` is another graph than the bundle's own; `threads` 0 uses every core this process may use."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3  # errors only
        # Waiting threads sleep: spinning takes the cores from whoever else works on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Every batch has another shape: plans made for the last one would only hold memory.
        options.enable_mem_pattern = False
        path = graph or bundle.graph
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise BundleError(f"{path}: cannot be run ({one_line(error)}); copy the bundle again") from error
        outputs = self._session.get_outputs()[0].shape[-1]
        if outputs != len(bundle.tokens):
            raise BundleError(
                f"{bundle.path}: tokens.txt has {len(bundle.tokens)} tokens, {path.name} {outputs}; copy it again"
            )

    def log_probs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each float32 (samples,) at 16 kHz, not empty → float32 (⌈samples / 640⌉, tokens), run as one batch."""
        lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int64)
        batch = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = waveform
        log_probs, frames = self._session.run(None, {"waveform": batch, "lengths": lengths})
        return [rows[:count] for rows, count in zip(log_probs, frames, strict=True)]
