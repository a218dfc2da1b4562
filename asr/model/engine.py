"""Runs the ONNX graph of a bundle: whole recordings (`Engine`), or streams chunk by chunk (`StreamingEngine`)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from asr.audio.resample import SAMPLE_RATE
from asr.errors import BundleError, one_line
from asr.model.bundle import Bundle

# A chunk of a stream is run in pieces of at most this many frames (20 s), so that a long one takes no more memory.
FRAMES_PER_RUN = 500


def usable_cores() -> int:
    """Cores this process may run on; onnxruntime by itself asks for all of the machine's, and may not get them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(bundle: Bundle, path: Path, threads: int) -> onnxruntime.InferenceSession:
    """The graph at `path`, ready to run; `threads` 0 uses every core this process may use. Raises BundleError."""
    if bundle.config.sample_rate != SAMPLE_RATE:
        raise BundleError(f"{bundle.path}: wants {bundle.config.sample_rate} Hz, only {SAMPLE_RATE} is supported")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3  # errors only
    # Waiting threads sleep: spinning takes the cores from whoever else works on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Every batch has another shape: plans made for the last one would only hold memory.
    options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise BundleError(f"{path}: cannot be run ({one_line(error)}); copy the bundle again") from error
    outputs = session.get_outputs()[0].shape[-1]
    if outputs != len(bundle.tokens):
        raise BundleError(
            f"{bundle.path}: tokens.txt has {len(bundle.tokens)} tokens, {path.name} {outputs}; copy it again"
        )
    return session


class Engine:
    """Waveforms in, log-probabilities out. Holds no state between calls; threads may share one."""

    def __init__(self, bundle: Bundle, graph: Path | None = None, threads: int = 0):
        """`graph` is another graph than the bundle's own."""
        self._session = open_session(bundle, graph or bundle.graph, threads)

    def log_probs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each float32 (samples,) at 16 kHz, not empty → float32 (⌈samples / 640⌉, tokens), run as one batch."""
        lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int64)
        batch = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = waveform
        log_probs, frames = self._session.run(None, {"waveform": batch, "lengths": lengths})
        return [rows[:count] for rows, count in zip(log_probs, frames, strict=True)]


@dataclass
class Stream:
    """One stream's place in the audio."""

    pending: np.ndarray  # (n,), n < one frame: samples that wait for the rest of their frame
    state: dict[str, np.ndarray]  # of the graph, each (1, …)
    early: int  # frames still to be dropped: the graph's first ones precede the stream
    samples: int = 0  # that were given


class StreamingEngine:
    """Chunks and states in, log-probabilities and states out: the same as of the whole recording, however it is cut.

        stream = engine.start()
        (log_probs,) = engine.advance([stream], [samples])      # as often as there are chunks
        (log_probs,) = engine.finish([stream])

    All that a stream carries is in its `Stream`: threads and streams may share one engine, and many streams, wherever
    each is in its audio, advance in one batch.
    """

    def __init__(self, bundle: Bundle, graph: Path | None = None, threads: int = 0):
        """`graph` is another graph than the bundle's own. BundleError if the model cannot stream."""
        if not bundle.config.streaming:
            raise BundleError(
                f"{bundle.path}: reads whole recordings, not chunk by chunk; choose a live model (see `asr models`)"
            )
        self.bundle = bundle
        self._session = open_session(bundle, graph or bundle.graph, threads)
        self._frame_samples = round(bundle.config.frame_seconds * bundle.config.sample_rate)
        # Every input but the chunk is state, with the batch as its first axis.
        self._state_shapes = {item.name: item.shape[1:] for item in self._session.get_inputs() if item.name != "chunk"}
        self._outputs = [item.name for item in self._session.get_outputs()]

    def start(self) -> Stream:
        """A stream before its first sample."""
        state = {name: np.zeros((1, *shape), dtype=np.float32) for name, shape in self._state_shapes.items()}
        return Stream(np.zeros(0, dtype=np.float32), state, self.bundle.config.lookahead)

    def advance(self, streams: Sequence[Stream], chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give each stream its next samples, float32 (n,), 16 kHz, n ≥ 0 → its next log-probs, float32 (t, tokens)."""
        for stream, chunk in zip(streams, chunks, strict=True):
            stream.pending = np.concatenate([stream.pending, chunk.astype(np.float32, copy=False)])
            stream.samples += len(chunk)
        results: list[list[np.ndarray]] = [[] for _ in streams]
        while ready := [index for index, stream in enumerate(streams) if len(stream.pending) >= self._frame_samples]:
            for index, log_probs in zip(ready, self._run([streams[index] for index in ready]), strict=True):
                results[index].append(log_probs)
        empty = np.zeros((0, len(self.bundle.tokens)), dtype=np.float32)
        return [np.concatenate([empty, *parts]) for parts in results]

    def finish(self, streams: Sequence[Stream]) -> list[np.ndarray]:
        """End the streams → the rest of their log-probs: ⌈samples / 640⌉ frames in all. The streams are used up."""
        silences = []
        for stream in streams:
            frames = -(-stream.samples // self._frame_samples) + self.bundle.config.lookahead if stream.samples else 0
            silences.append(np.zeros(frames * self._frame_samples - stream.samples, dtype=np.float32))
        return self.advance(streams, silences)

    def _run(self, streams: Sequence[Stream]) -> list[np.ndarray]:
        """Run as many frames as all of the streams have."""
        frames = min(FRAMES_PER_RUN, *(len(stream.pending) // self._frame_samples for stream in streams))
        samples = frames * self._frame_samples
        feed = {name: np.concatenate([stream.state[name] for stream in streams]) for name in self._state_shapes}
        feed["chunk"] = np.stack([stream.pending[:samples] for stream in streams])
        after = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        results = []
        for row, stream in enumerate(streams):
            # Copies: a view would keep a whole chunk, and the states of all streams of the batch.
            stream.pending = stream.pending[samples:].copy()
            stream.state = {name: after[f"next_{name}"][row : row + 1].copy() for name in self._state_shapes}
            dropped = min(stream.early, frames)
            stream.early -= dropped
            results.append(after["log_probs"][row, dropped:])
        return results
