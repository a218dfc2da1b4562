"""Runs the ONNX graph of a bundle: whole recordings (`Engine`), or streams chunk by chunk (`StreamingEngine`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from asr.audio.resample import SAMPLE_RATE
from asr.errors import ArgumentError, BundleError, one_line
from asr.model.bundle import Bundle, load_bundle
from asr.model.session import Graph

# A chunk of a stream is run in pieces of at most this many frames (20 s), so that a long one takes no more memory.
FRAMES_PER_RUN = 500


class Frames(NamedTuple):
    """Output of the model for some frames of one waveform."""

    log_probs: np.ndarray  # float32 (frames, tokens), natural log
    encoded: np.ndarray | None  # float32 (frames, size), the input of the output layer, if the graph gives it

    def cut(self, rows: slice) -> "Frames":
        """Copies of some of them: a view would keep those of a whole batch."""
        return Frames(self.log_probs[rows].copy(), None if self.encoded is None else self.encoded[rows].copy())

    @staticmethod
    def join(parts: Sequence["Frames"], tokens: int) -> "Frames":
        """Parts of one waveform, one after the other; none are no frames of so many tokens."""
        encoded = [part.encoded for part in parts if part.encoded is not None]
        log_probs = np.concatenate([np.zeros((0, tokens), dtype=np.float32), *(part.log_probs for part in parts)])
        return Frames(log_probs, np.concatenate(encoded) if encoded else None)


class _BundleEngine:
    """A bundle and its open graph. Holds no state between calls; threads may share one."""

    def __init__(
        self, bundle: Bundle, graph: str | Path | None = None, threads: int = 0, providers: Sequence[str] = ()
    ) -> None:
        if bundle.config.sample_rate != SAMPLE_RATE:
            raise BundleError(f"{bundle.path}: wants {bundle.config.sample_rate} Hz, only {SAMPLE_RATE} is supported")
        self.bundle = bundle
        self.frame_samples = round(bundle.config.frame_seconds * SAMPLE_RATE)
        self._graph = Graph(bundle.graph if graph is None else Path(graph), threads, providers)
        self._tokens, found = len(bundle.tokens), self._graph.tokens
        if [self._tokens] != found:
            size = one_line(found[0]) if found else "none"
            problem = f"tokens.txt has {self._tokens} tokens, {self._graph.path.name} {size}"
            raise BundleError(f"{bundle.path}: {problem}; copy it again")


class Engine(_BundleEngine):
    """Waveforms in, log-probabilities out."""

    def run(self, waveforms: Sequence[np.ndarray]) -> list[Frames]:
        """Each float32 (samples,) at 16 kHz, not empty → its ⌈samples / 640⌉ frames, run as one batch."""
        lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int64)
        batch = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = waveform
        counts = -(-lengths // self.frame_samples)
        shape = len(batch), counts.max(), self._tokens
        outputs = self._graph.run({"waveform": batch, "lengths": lengths}, shape)
        encoded = outputs.get("encoded")
        return [
            Frames(outputs["log_probs"][row, :count], None if encoded is None else encoded[row, :count])
            for row, count in enumerate(counts)
        ]


@dataclass
class Stream:
    pending: np.ndarray  # (n,), n < one frame: samples that wait for the rest of their frame
    state: dict[str, np.ndarray]  # of the graph, each (1, …)
    early: int  # frames still to be dropped: the graph's first ones precede the stream
    samples: int = 0  # that were given


class StreamingEngine(_BundleEngine):
    """Chunks and states in, log-probabilities and states out: the same as of the whole recording, however it is cut.

        stream = engine.start()
        (frames,) = engine.run([stream], [samples])                # as often as there are chunks
        (frames,) = engine.run([stream], [engine.tail(stream)])    # the last ones

    All that a stream carries is in its `Stream`: threads and streams may share one engine, and many streams, wherever
    each is in its audio, advance in one batch.
    """

    def __init__(
        self, bundle: Bundle, graph: str | Path | None = None, threads: int = 0, providers: Sequence[str] = ()
    ) -> None:
        super().__init__(bundle, graph, threads, providers)
        # Every input but the chunk is state, with the batch as its first axis.
        self._shapes = {name: self._graph.state_shape(name) for name in self._graph.inputs if name != "chunk"}
        if missing := {f"next_{name}" for name in self._shapes} - set(self._graph.outputs):
            raise BundleError(f"{self._graph.path}: has no output {one_line(min(missing))}; copy it again")

    def start(self) -> Stream:
        state = {name: np.zeros((1, *shape), dtype=np.float32) for name, shape in self._shapes.items()}
        return Stream(np.zeros(0, dtype=np.float32), state, self.bundle.config.lookahead)

    def tail(self, stream: Stream, samples: int = 0) -> np.ndarray:
        """The silence (n,) that completes the frames of a stream which so many more `samples` will be given first.

        With it a stream has ⌈samples / 640⌉ frames in all, and is used up.
        """
        given = stream.samples + samples
        frames = -(-given // self.frame_samples) + self.bundle.config.lookahead if given else 0
        return np.zeros(frames * self.frame_samples - given, dtype=np.float32)

    def run(self, streams: Sequence[Stream], chunks: Sequence[np.ndarray]) -> list[Frames]:
        """Give each stream its next samples, float32 (n,), 16 kHz, n ≥ 0 → its next frames."""
        for stream, chunk in zip(streams, chunks, strict=True):
            stream.pending = np.concatenate([stream.pending, chunk.astype(np.float32, copy=False)])
            stream.samples += len(chunk)
        found: list[list[Frames]] = [[] for _ in streams]
        while ready := [row for row, stream in enumerate(streams) if len(stream.pending) >= self.frame_samples]:
            for row, frames in zip(ready, self._step([streams[row] for row in ready]), strict=True):
                found[row].append(frames)
        return [Frames.join(parts, self._tokens) for parts in found]

    def _step(self, streams: Sequence[Stream]) -> list[Frames]:
        """Run as many frames as all of the streams have."""
        frames = min(FRAMES_PER_RUN, *(len(stream.pending) // self.frame_samples for stream in streams))
        samples = frames * self.frame_samples
        inputs = {name: np.concatenate([stream.state[name] for stream in streams]) for name in streams[0].state}
        inputs["chunk"] = np.stack([stream.pending[:samples] for stream in streams])
        outputs = self._graph.run(inputs, (len(streams), frames, self._tokens))
        if wrong := [name for name in streams[0].state if outputs[f"next_{name}"].shape != inputs[name].shape]:
            raise BundleError(f"{self._graph.path}: next_{one_line(wrong[0])} has another shape than it; copy it again")
        encoded, results = outputs.get("encoded"), []
        for row, stream in enumerate(streams):
            # Copies: a view would keep a whole chunk, and the states of all streams of the batch.
            stream.pending = stream.pending[samples:].copy()
            stream.state = {name: outputs[f"next_{name}"][row : row + 1].copy() for name in stream.state}
            dropped = min(stream.early, frames)
            stream.early -= dropped
            kept = slice(dropped, None)
            results.append(Frames(outputs["log_probs"][row, kept], None if encoded is None else encoded[row, kept]))
        return results


class HasEngine(Protocol):
    @property
    def engine(self) -> Engine | StreamingEngine: ...


Model = str | Path | Bundle | Engine | StreamingEngine | HasEngine


def open_engine(
    model: Model, graph: str | Path | None = None, threads: int = 0, providers: Sequence[str] = ()
) -> Engine | StreamingEngine:
    """The engine of a model: opened, or shared if the model is open already; the other arguments are then unused.

    graph: another than the bundle's own. threads, providers: as of `open_session`. Raises BundleError if there is no
    such model or it cannot be run, ArgumentError for anything that is no model.
    """
    engine = getattr(model, "engine", model)
    if isinstance(engine, Engine | StreamingEngine):
        return engine
    if isinstance(model, str | Path):
        model = load_bundle(model)
    if not isinstance(model, Bundle):
        raise ArgumentError(f"model must be a name, a folder, a bundle, an engine or a recognizer, not {model!r:.80}")
    return (StreamingEngine if model.config.streaming else Engine)(model, graph, threads, providers)


def open_streaming_engine(model: Model, threads: int = 0, providers: Sequence[str] = ()) -> StreamingEngine:
    """`open_engine` for a model that can stream; BundleError for another one."""
    engine = open_engine(model, None, threads, providers)
    if not isinstance(engine, StreamingEngine):
        raise BundleError(
            f"{engine.bundle.path}: reads whole recordings, not chunk by chunk; choose a live model (see `asr models`)"
        )
    return engine
