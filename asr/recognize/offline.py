"""Offline recognition: audio → windows → log-probabilities → decoder → `Transcript`."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.level import Level
from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import AudioFile, Excerpt, Samples, read_blocks
from asr.audio.stream import is_address
from asr.decode.base import Decoder
from asr.decode.build import DEFAULT_DECODER, DecoderName, DecoderOptions, make_decoder
from asr.decode.hotwords import Hotwords
from asr.decode.word_times import sounding
from asr.errors import ArgumentError, AsrError, AudioError
from asr.model.engine import Engine, Frames, Model, StreamingEngine, open_engine
from asr.output.transcript import Alternative, Segment, Style, Transcript, Word, check_style, split_segments, within
from asr.recognize.written import Writing, find_formatter

DEFAULT_MODEL = "en-bilstm"
# A long recording is recognised in windows. The model's memory reaches a second or two, so log-probabilities
# that are this far from a window's edge are as good as if there were no edge.
WINDOW_SECONDS = 20
CONTEXT_SECONDS = 2
BATCH_SIZE = 8  # windows run together
MAX_BATCH_SIZE = 1024

SHOW_SECONDS = 20  # of audio between two looks for segments that are complete, or 5 % of the audio so far


Source = AudioFile | tuple[Samples, int] | Excerpt  # samples come with their rate
OnProgress = Callable[[Source, float], None]
OnSegment = Callable[[Source, Segment], None]

log = logging.getLogger(__name__)


Window = tuple[np.ndarray, slice]  # samples (N,); which of the frames of log-probabilities count: others are context


def cut_windows(blocks: Iterable[np.ndarray], frame_samples: int) -> Iterator[Window]:
    """Cut a stream of samples into overlapping windows whose counting frames follow each other without a gap.

    A recording of up to one window and its right context is one window. Only one window's samples are held.
    """
    frames, context = (round(seconds * SAMPLE_RATE / frame_samples) for seconds in (WINDOW_SECONDS, CONTEXT_SECONDS))
    buffer = np.zeros(0, dtype=np.float32)
    left = 0  # frames of context at the start of the buffer
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > (needed := (left + frames + context) * frame_samples):
            yield buffer[:needed], slice(left, left + frames)
            buffer = buffer[(left + frames - context) * frame_samples :]
            left = context
    if len(buffer) > left * frame_samples:
        yield buffer, slice(left, None)


@dataclass
class Recognition:
    """Result for one source: the transcript, the error if reading stopped early, and what made it hard to recognize."""

    source: Source
    transcript: Transcript
    error: AudioError | ArgumentError | None = None
    problem: str | None = None


@dataclass
class _Job:
    source: Source
    writing: Writing | None = None
    written: list[str] = field(default_factory=list)  # as Word.written, of its first words
    passed: int = 0  # words to `writing`
    error: AudioError | ArgumentError | None = None
    level: Level = field(default_factory=Level)  # of what was read so far

    @property
    def _audio(self) -> object:
        """The source, without the rate of samples."""
        return self.source[0] if isinstance(self.source, tuple) and self.source else self.source

    @property
    def start(self) -> float:
        return self._audio.start if isinstance(self._audio, Excerpt) else 0.0

    @property
    def live(self) -> bool:
        """Whether the audio may come as slowly as it is spoken."""
        return is_address(self._audio.source if isinstance(self._audio, Excerpt) else self._audio)

    def write(self, words: Sequence[Word], complete: bool, begin: int = 0) -> tuple[Word, ...]:
        """From the one at `begin` on, the words so far that have a written form that no more words change; all if none
        is to be made.
        """
        if self.writing is None:
            return tuple(words[begin:])
        stop = len(words) if complete else max(self.passed, len(words) - 1)  # the last one may still become longer
        self.written += self.writing.add(words[self.passed : stop], complete)
        self.passed = stop
        return tuple(
            replace(word, written=text) for word, text in zip(words[begin:], self.written[begin:], strict=False)
        )

    def blocks(self) -> Iterator[np.ndarray]:
        """The audio up to its end or to an error."""
        pair = self.source if isinstance(self.source, tuple) else (self.source, None)
        try:
            if len(pair) != 2:
                raise ArgumentError(f"source: {len(pair)} values; give (samples, sample_rate)")
            source, rate = pair
            for block in read_blocks(source, sample_rate=rate):
                self.level.add(block)
                yield block
        except (AudioError, ArgumentError) as error:
            log.warning("%s", error)
            self.error = error


class Recognizer:
    """Recognises whole recordings with one model. Holds no state between calls; threads may share one.

    Args:
        model: a packaged model's name, a bundle or its folder; or another recognizer, whose open model is shared, with
            its threads, graph and providers.
        decoder: "greedy" or "beam", or a decoder's options.
        batch_size: windows of 20 s recognised together: memory for speed. The text does not depend on it.
        threads: 0 uses every core.
        providers: where onnxruntime runs, in order of preference, such as "cuda"; the CPU is the last resort.
        graph: another graph than the bundle's own.
        style: "written" adds marks, capitals and numbers, where a model for that is installed.

    Raises BundleError if there is no such model, ArgumentError for other arguments that cannot be.
    """

    def __init__(
        self,
        model: Model = DEFAULT_MODEL,
        decoder: DecoderName | DecoderOptions = DEFAULT_DECODER,
        batch_size: int = BATCH_SIZE,
        threads: int = 0,
        providers: Sequence[str] = (),
        graph: str | Path | None = None,
        style: Style = "written",
    ):
        if not isinstance(batch_size, int) or not 1 <= batch_size <= MAX_BATCH_SIZE:
            raise ArgumentError(f"batch_size: {batch_size!r:.40}; give 1 to {MAX_BATCH_SIZE}")
        self.engine = open_engine(model, graph, threads, providers)
        self.bundle = self.engine.bundle
        self.options = decoder if isinstance(decoder, DecoderOptions) else DecoderOptions(decoder)
        self.decoder = make_decoder(self.options, self.bundle)
        self.batch_size, self.style = batch_size, check_style(style)
        self.frame_samples = self.engine.frame_samples

    def __repr__(self) -> str:
        return f"<Recognizer {self.bundle.config.name}, {self.options.name}>"

    def transcribe(
        self,
        source: AudioFile | Samples | Excerpt,
        sample_rate: int | None = None,
        *,
        hotwords: Hotwords | None = None,
    ) -> Transcript:
        """Recognise one recording, or an excerpt of one.

        Args:
            source: the path of an audio file, "-" for standard input, the bytes of an audio file, a binary file object;
                or samples: int16, int32 or float (full scale ±1), shape (n,) or (n, channels), or a list of them.
            sample_rate: of samples, in hertz; an audio file has its own.
            hotwords: phrases to prefer in this call, in place of those of the decoder's options, each as in "Ivanhoe"
                or "knee jerk:8" with a boost in nats.

        Raises AudioError if the recording cannot be read to its end, ArgumentError for arguments that do not fit.
        """
        (recognition,) = self.transcribe_all([_with_rate(source, sample_rate)], hotwords=hotwords)
        if recognition.error is not None:
            raise recognition.error
        return recognition.transcript

    def transcribe_all(
        self,
        sources: Iterable[Source],
        on_progress: OnProgress | None = None,
        *,
        hotwords: Hotwords | None = None,
        on_segment: OnSegment | None = None,
    ) -> Iterator[Recognition]:
        """Recognise many sources; each result comes in its turn, as soon as it and those before it are done.

        A source that cannot be read, or not to its end, has its error set and the text up to there. ArgumentError if
        `sources` are not several, or for hotwords.

        Args:
            sources: as for `transcribe`, but samples with their rate as a tuple (samples, sample_rate).
            on_progress: called with the source and the seconds of each stretch of audio that was recognised.
            hotwords: as for `transcribe`.
            on_segment: called with the source and each segment of its transcript, in order, as soon as no further
                audio can change it.
        """
        if isinstance(sources, str | bytes | PathLike | np.ndarray | Excerpt) or not isinstance(sources, Iterable):
            raise ArgumentError(f"sources: {sources!r:.80} is no list; give [source], or use transcribe()")
        decoder = self.decoder
        if hotwords is not None:
            decoder = make_decoder(replace(self.options, hotwords=hotwords), self.bundle)
        start = partial(self._start, hotwords=hotwords)
        state, shown, told, seconds, looked = decoder.reset(), 0, 0, 0.0, 0.0  # shown segments, and words in them
        for job, frames in self._frames(map(start, sources)):
            segments: tuple[Segment, ...] = ()
            if frames is None:
                recognition = self._recognition(job, decoder, state)
                segments = recognition.transcript.segments[shown:]
            else:
                decoder.advance(state, *frames)
                step = len(frames.log_probs) * self.bundle.config.frame_seconds
                seconds += step
                if on_progress is not None:
                    on_progress(job.source, step)
                if on_segment is not None and seconds >= looked + max(SHOW_SECONDS, 0.05 * seconds):
                    looked, hypothesis = seconds, decoder.partial(state)
                    words = self._timed(hypothesis.words[: hypothesis.stable], job)
                    segments = split_segments(job.write(words, complete=False, begin=told))[:-1]
            if on_segment is not None:
                for segment in segments:
                    on_segment(job.source, segment)
                shown, told = shown + len(segments), told + sum(len(segment.words) for segment in segments)
            if frames is None:
                yield recognition
                state, shown, told, seconds, looked = decoder.reset(), 0, 0, 0.0, 0.0

    def log_probs(self, source: AudioFile | Samples | Excerpt, sample_rate: int | None = None) -> np.ndarray:
        """CTC log-probabilities of a source: float32 (frames, tokens), natural log, all of it in memory.

        Raises AudioError, also when the source cannot be read to its end.
        """
        return self.frames_and_level(source, sample_rate)[0].log_probs

    def window_frames(self, source: AudioFile | Excerpt, windows: slice) -> tuple[Frames, Level, AsrError | None]:
        """Of some of the windows of a recording, by their numbers, the model's output: for several processes.

        Returns it, the level of what was read for it from the start of the recording on, and the error at which reading
        stopped. The model must be one that reads windows.
        """
        assert not isinstance(self.engine, StreamingEngine)
        job, found = _Job(source), list[Frames]()
        chosen = islice(cut_windows(job.blocks(), self.frame_samples), windows.start, windows.stop)
        while batch := [(job, window) for window in islice(chosen, self.batch_size)]:
            found += [frames for _, frames in self._run(self.engine, batch) if frames is not None]
        return Frames.join(found, len(self.bundle.tokens)), job.level, job.error

    def decode(self, pieces: Iterable[Frames], level: Level) -> Recognition:
        """The result for a recording of this level from the model's output, one piece after the other."""
        state, job = self.decoder.reset(), self._start("-")
        job.level = level
        for frames in pieces:
            if len(frames.log_probs):
                self.decoder.advance(state, frames.log_probs, frames.encoded)
        return self._recognition(job, self.decoder, state)

    def frames_and_level(
        self,
        source: AudioFile | Samples | Excerpt,
        sample_rate: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[Frames, Level]:
        """All of the model's output for a source, and the level of the audio, which ends inside the last frame."""
        job, parts = _Job(_with_rate(source, sample_rate)), []
        for _, frames in self._frames([job]):
            if frames is not None:
                parts.append(frames)
                if on_progress is not None:
                    on_progress(job.source, len(frames.log_probs) * self.bundle.config.frame_seconds)
        if job.error is not None:
            raise job.error
        return Frames.join(parts, len(self.bundle.tokens)), job.level

    def _frames(self, jobs: Iterable[_Job]) -> Iterator[tuple[_Job, Frames | None]]:
        """The model's output for sources, in order, piece by piece; None at the end of each."""
        if isinstance(self.engine, StreamingEngine):  # its state is carried from block to block: it needs no windows
            for job in jobs:
                stream = self.engine.start()
                for block in job.blocks():
                    yield job, self.engine.run([stream], [block])[0]
                yield job, self.engine.run([stream], [self.engine.tail(stream)])[0]
                yield job, None
            return
        # Windows are gathered until they amount to a full batch of the longest ones, then run in order of length, so
        # that short recordings are not padded to the length of long ones. Those of an address are run one by one: it
        # may be a broadcast, of which the next one comes after 20 s or never.
        enough = self.batch_size * (WINDOW_SECONDS + CONTEXT_SECONDS) * SAMPLE_RATE
        gathered: list[tuple[_Job, Window | None]] = []  # no window is the end of a source
        samples = 0
        for job in jobs:
            if job.live:
                yield from self._run(self.engine, gathered)
                gathered, samples = [], 0
            for window in cut_windows(job.blocks(), self.frame_samples):
                gathered.append((job, window))
                samples += len(window[0])
                if samples >= enough or job.live:
                    yield from self._run(self.engine, gathered)
                    gathered, samples = [], 0
            gathered.append((job, None))
            if samples == 0:
                yield from self._run(self.engine, gathered)
                gathered = []
        yield from self._run(self.engine, gathered)

    def _run(
        self, engine: Engine, gathered: Sequence[tuple[_Job, Window | None]]
    ) -> Iterator[tuple[_Job, Frames | None]]:
        """Run windows in batches of similar length; their output, in the order they were read."""
        windows = [(place, window) for place, (_, window) in enumerate(gathered) if window is not None]
        windows.sort(key=lambda item: len(item[1][0]))
        results: dict[int, Frames] = {}
        for start in range(0, len(windows), self.batch_size):
            batch = windows[start : start + self.batch_size]
            outputs = engine.run([samples for _, (samples, _) in batch])
            for (place, (_, counting)), frames in zip(batch, outputs, strict=True):
                results[place] = frames.cut(counting)
        for place, (job, _) in enumerate(gathered):
            yield job, results.get(place)

    def _start(self, source: Source, hotwords: Hotwords | None = None) -> _Job:
        hotwords = self.options.hotwords if hotwords is None else hotwords
        formatter = find_formatter(self.style, self.bundle.config.language, hotwords)
        return _Job(source, None if formatter is None else Writing(formatter))

    def _timed(self, words: Sequence[Word], job: _Job) -> tuple[Word, ...]:
        config = self.bundle.config
        return sounding(words, config.streaming, config.frame_seconds, job.start)

    def _recognition(self, job: _Job, decoder: Decoder, state: Any) -> Recognition:
        hypotheses = decoder.finish(state)
        alternatives = tuple(Alternative(item.text, item.acoustic, item.score, item.rescoring) for item in hypotheses)
        start, seconds = job.start, job.level.seconds
        words = job.write(within(self._timed(hypotheses[0].words, job), start + seconds), complete=True)
        transcript = Transcript(split_segments(words), seconds, alternatives, self.bundle.config.language, start)
        problem = None if job.error is not None else job.level.problem(recognized=bool(words))
        return Recognition(job.source, transcript, job.error, problem)


load_model = Recognizer  # under the name that other packages have for it


def _with_rate(source: AudioFile | Samples | Excerpt, sample_rate: int | None) -> Any:
    return source if sample_rate is None else (source, sample_rate)
