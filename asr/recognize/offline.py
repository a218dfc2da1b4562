"""Offline recognition: audio → windows → log-probabilities → decoder → `Transcript`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.resample import SAMPLE_RATE, Resampler
from asr.audio.sources import read_blocks
from asr.decode.build import DEFAULT_DECODER, DecoderName, DecoderOptions, make_decoder
from asr.errors import AudioError
from asr.model.engine import Engine, Model, StreamingEngine, open_engine
from asr.output.transcript import Alternative, Transcript, split_segments

DEFAULT_MODEL = "en-bilstm"
# A long recording is recognised in windows. The model's memory reaches a second or two, so log-probabilities
# that are this far from a window's edge are as good as if there were no edge.
WINDOW_SECONDS = 20
CONTEXT_SECONDS = 2
BATCH_SIZE = 8  # windows run together

Source = str | Path | np.ndarray
OnProgress = Callable[[Source, float], None]


def check_samples(samples: np.ndarray) -> None:
    """AudioError unless the samples are floats of shape (samples,): integers and channels would give wrong text."""
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"samples must be float, shape (samples,), −1…1, but are {samples.dtype}, shape {samples.shape}; "
            "divide int16 by 32768, average the channels"
        )


@dataclass(frozen=True)
class Window:
    """samples (N,), and which of its frames of log-probabilities count: the others are context."""

    samples: np.ndarray
    first_frame: int
    last_frame: int | None


def cut_windows(blocks: Iterable[np.ndarray], frame_samples: int) -> Iterator[Window]:
    """Cut a stream of samples into overlapping windows whose counting frames follow each other without a gap.

    A recording of up to one window and its right context is one window. Only one window's samples are held.
    """
    frames, context = (
        round(WINDOW_SECONDS * SAMPLE_RATE / frame_samples),
        round(CONTEXT_SECONDS * SAMPLE_RATE / frame_samples),
    )
    buffer = np.zeros(0, dtype=np.float32)
    left = 0  # frames of context at the start of the buffer
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > (needed := (left + frames + context) * frame_samples):
            yield Window(buffer[:needed], left, left + frames)
            buffer = buffer[(left + frames - context) * frame_samples :]
            left = context
    if len(buffer) > left * frame_samples:
        yield Window(buffer, left, None)


@dataclass
class Recognition:
    """What became of one source: all that could be heard, and the error that kept the rest back, if any."""

    source: Source
    transcript: Transcript
    error: AudioError | None = None


@dataclass
class _Job:
    """A source on its way through the recogniser."""

    source: Source
    state: Any
    samples: int = 0
    error: AudioError | None = None
    read: bool = False  # to its end
    waiting: int = 0  # windows read and not yet decoded


class Recognizer:
    """Transcribes recordings with one model and one decoder; holds no state between calls.

        recognizer = Recognizer("en-bilstm")
        recognizer.transcribe("talk.mp3").text

    `batch_size` windows are run together, of one long recording or of many short ones; the text does not depend on
    it. A live model reads each recording as one stream instead. `threads` 0 uses every core. Memory does not grow with
    the length of a recording.
    """

    def __init__(
        self,
        model: Model = DEFAULT_MODEL,
        decoder: DecoderName | DecoderOptions = DEFAULT_DECODER,
        batch_size: int = BATCH_SIZE,
        threads: int = 0,
        graph: Path | None = None,
    ):
        self.engine = open_engine(model, graph, threads)
        self.bundle = self.engine.bundle
        self.decoder = make_decoder(decoder, self.bundle)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.batch_size = batch_size
        self.frame_samples = round(self.bundle.config.frame_seconds * SAMPLE_RATE)

    def transcribe(self, source: Source) -> Transcript:
        """Recognise a path, "-" for standard input, or samples (float32, (N,), 16 kHz, −1…1). Raises AudioError."""
        (recognition,) = self.transcribe_all([source])
        if recognition.error is not None:
            raise recognition.error
        return recognition.transcript

    def log_probs(self, source: Source, on_progress: OnProgress | None = None) -> np.ndarray:
        """What the model hears in a source: float32 (frames, tokens), natural log, all of it in memory.

        Raises AudioError, also when the source cannot be read to its end.
        """
        job, rows = _Job(source, None), [np.zeros((0, len(self.bundle.tokens)), dtype=np.float32)]
        for part in self._log_probs(job):
            rows.append(part)
            if on_progress is not None:
                on_progress(source, len(part) * self.bundle.config.frame_seconds)
        if job.error is not None:
            raise job.error
        return np.concatenate(rows)

    def _log_probs(self, job: _Job) -> Iterator[np.ndarray]:
        """The log-probabilities of a job, (frames, tokens), piece by piece."""
        blocks = self._blocks(job)
        if isinstance(self.engine, StreamingEngine):
            stream = self.engine.start()
            for block in blocks:
                yield from self.engine.advance([stream], [block])
            yield from self.engine.finish([stream])
            return
        windows = cut_windows(blocks, self.frame_samples)
        while batch := list(islice(windows, self.batch_size)):
            results = self.engine.log_probs([window.samples for window in batch])
            for window, result in zip(batch, results, strict=True):
                yield result[window.first_frame : window.last_frame].copy()

    def transcribe_all(self, sources: Iterable[Source], on_progress: OnProgress | None = None) -> Iterator[Recognition]:
        """Recognise many sources; each is given back in its turn, as soon as it and those before it are done.

        A source that cannot be read, or not to its end, has its error set and the text up to there.
        `on_progress(source, seconds)` is told of each stretch of audio that was recognised.
        """
        if isinstance(self.engine, StreamingEngine):  # its state is carried from block to block: it needs no windows
            for source in sources:
                job = _Job(source, self.decoder.reset())
                for log_probs in self._log_probs(job):
                    self.decoder.advance(job.state, log_probs)
                    if on_progress is not None:
                        on_progress(source, len(log_probs) * self.bundle.config.frame_seconds)
                yield self._recognition(job)
            return
        jobs: list[_Job] = []
        batch: list[tuple[_Job, Window]] = []
        # Windows are gathered until they amount to a full batch of the longest ones, then run in order of length, so
        # that short recordings are not padded to the length of long ones.
        enough = self.batch_size * (WINDOW_SECONDS + CONTEXT_SECONDS) * SAMPLE_RATE
        gathered = 0
        for source in sources:
            job = _Job(source, self.decoder.reset())
            jobs.append(job)
            for window in cut_windows(self._blocks(job), self.frame_samples):
                batch.append((job, window))
                job.waiting += 1
                gathered += len(window.samples)
                if gathered >= enough:
                    self._recognize(self.engine, batch, on_progress)
                    batch, gathered = [], 0
            job.read = True
            yield from self._finished(jobs)
        self._recognize(self.engine, batch, on_progress)
        yield from self._finished(jobs)

    def _blocks(self, job: _Job) -> Iterator[np.ndarray]:
        """The job's audio; counts its samples and keeps its error."""
        try:
            if isinstance(job.source, np.ndarray):
                check_samples(job.source)
                # Samples go the way of a file's, which makes silence of those that are not numbers.
                blocks: Iterable[np.ndarray] = [Resampler(SAMPLE_RATE).push(job.source)]
            else:
                blocks = read_blocks(job.source)
            for block in blocks:
                job.samples += len(block)
                yield block
        except AudioError as error:
            job.error = error

    def _recognize(self, engine: Engine, batch: list[tuple[_Job, Window]], on_progress: OnProgress | None) -> None:
        """Run the windows and hand their log-probabilities to each job's decoder, in the order they were read."""
        log_probs: list[np.ndarray] = [np.empty(0)] * len(batch)
        by_length = sorted(range(len(batch)), key=lambda index: len(batch[index][1].samples))
        for start in range(0, len(batch), self.batch_size):
            chosen = by_length[start : start + self.batch_size]
            results = engine.log_probs([batch[index][1].samples for index in chosen])
            for index, result in zip(chosen, results, strict=True):
                window = batch[index][1]
                log_probs[index] = result[window.first_frame : window.last_frame].copy()
        for (job, _), rows in zip(batch, log_probs, strict=True):
            self.decoder.advance(job.state, rows)
            job.waiting -= 1
            if on_progress is not None:
                on_progress(job.source, len(rows) * self.bundle.config.frame_seconds)

    def _finished(self, jobs: list[_Job]) -> Iterator[Recognition]:
        """Take the jobs that are done from the front of the list."""
        while jobs and jobs[0].read and not jobs[0].waiting:
            yield self._recognition(jobs.pop(0))

    def _recognition(self, job: _Job) -> Recognition:
        hypotheses = self.decoder.finish(job.state)
        alternatives = tuple(Alternative(item.text, item.acoustic, item.score, item.rescoring) for item in hypotheses)
        segments = split_segments(hypotheses[0].words)
        return Recognition(job.source, Transcript(segments, job.samples / SAMPLE_RATE, alternatives), job.error)


def load_model(
    name: str | Path = DEFAULT_MODEL,
    decoder: DecoderName | DecoderOptions = DEFAULT_DECODER,
    batch_size: int = BATCH_SIZE,
    threads: int = 0,
) -> Recognizer:
    """A recogniser with a packaged model, or with the bundle in a folder. BundleError if there is none."""
    return Recognizer(name, decoder, batch_size, threads)
