"""Streaming recognition: chunks of audio → log-probabilities → decoder → partial and final text.

    recognizer = asr.StreamingRecognizer("en-gru")
    for samples in microphone:                              # any number of samples
        for event in recognizer.accept(samples, 48_000):    # Partial or Final
            ...
    events = recognizer.finish()

Neither the texts nor the times of the finals depend on how the audio is cut into chunks.
"""

import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from threading import Lock

import numpy as np

from asr.audio.resample import SAMPLE_RATE, Mixer, Resampler
from asr.audio.sources import Samples, as_samples
from asr.decode.base import Decoder
from asr.decode.build import DEFAULT_DECODER, DecoderName, DecoderOptions, make_decoder
from asr.decode.word_times import shift, sounding
from asr.errors import ArgumentError, AudioError
from asr.model.engine import Frames, Model, StreamingEngine, open_streaming_engine
from asr.model.tokens import BLANK_ID
from asr.output.events import Event, Final, Partial, Revised
from asr.output.transcript import Segment, Style, Word, within
from asr.recognize.endpoint import Endpoint, EndpointDetector, level
from asr.recognize.offline import Recognizer
from asr.recognize.written import Before, Formatter, find_formatter

STREAMING_MODEL = "en-gru"
CHUNK_SECONDS = 0.16  # of audio at a time, where a recording takes the place of the microphone
ENDPOINT = Endpoint()
PIECE = SAMPLE_RATE  # most samples of a stream that wait as one
SECOND_PASS_MARGIN = 0.5  # s of audio before the first and after the last word that the second pass is given


class StreamingRecognizer:
    """Recognizes one stream of audio as it comes.

    Args:
        model: a packaged streaming model's name, a bundle or its folder; or an engine or another recognizer, whose
            loaded model is shared.
        decoder: its name or options.
        endpoint: when an utterance ends. None never ends one before `finish`, and the time for a chunk then grows
            slowly with the length of the stream.
        second_pass: a model (or a Recognizer) that recognizes each finished utterance again.
        threads: that the model uses; 0 for every core.
        executor: runs the second pass. Without one a final waits for it and has its text; with one a `Final` comes at
            once and a `Revised` later, at the latest from `finish`.
        providers: where onnxruntime runs, in order of preference, such as "cuda"; the CPU is the last resort.
        style: "written" adds marks, capitals and numbers to finals, where a model for that is installed.

    With an `endpoint`, memory and time per chunk do not grow with the length of the stream. BundleError if there is no
    such model.
    """

    def __init__(
        self,
        model: Model = STREAMING_MODEL,
        decoder: DecoderName | DecoderOptions = DEFAULT_DECODER,
        endpoint: Endpoint | None = ENDPOINT,
        second_pass: Model | None = None,
        threads: int = 0,
        executor: Executor | None = None,
        providers: Sequence[str] = (),
        style: Style = "written",
    ):
        self.engine = open_streaming_engine(model, threads, providers)
        options = decoder if isinstance(decoder, DecoderOptions) else DecoderOptions(decoder)
        self.decoder = make_decoder(options, self.engine.bundle)
        self.formatter = find_formatter(style, self.engine.bundle.config.language, options.hotwords)
        self.endpoint = endpoint
        self.second_pass = make_second_pass(second_pass, decoder, threads)
        self.executor = executor
        self.cancel()

    def __repr__(self) -> str:
        seconds = self.stream.position.samples / SAMPLE_RATE
        return f"<StreamingRecognizer {self.engine.bundle.config.name}, {seconds:.2f} s>"

    def accept(self, samples: Samples, sample_rate: int) -> list[Event]:
        """Take the next samples and return the events they lead to, in order.

        There is at most one Partial, the last event, and only if its text is new.

        Args:
            samples: shape (n,) or (n, channels), int16 or float −1…1; see `asr.audio.sources.as_samples`.
            sample_rate: in hertz, the same for all of a stream.

        Raises ArgumentError for other samples, AudioError if the rate changes; the stream then goes on without them.
        """
        return self._accept(self.stream, samples, sample_rate)

    def _accept(self, stream: "LiveStream", samples: Samples, sample_rate: int) -> list[Event]:
        with stream.turn:
            stream.feed(samples, sample_rate)
            return [*stream.revisions(), *self._decode(stream)]

    def finish(self) -> list[Event]:
        """End the stream: the last utterance, if there is one. What is accepted after that is a new stream."""
        return self._finish(self.stream)

    def _finish(self, stream: "LiveStream") -> list[Event]:
        try:
            with stream.turn:
                stream.end()
                return [*self._decode(stream), *stream.revisions(wait=True)]
        finally:
            self._leave(stream)

    def _decode(self, stream: "LiveStream") -> list[Event]:
        (frames,) = self.engine.run([stream.position], [stream.take()])
        return stream.decode(frames)

    def cancel(self) -> None:
        """Forget the stream. What is accepted after that is a new one."""
        self.stream = LiveStream(
            self.engine, self.decoder, self.endpoint, self.second_pass, self.executor, formatter=self.formatter
        )

    def _leave(self, stream: "LiveStream") -> None:
        if self.stream is stream:  # else another one was begun meanwhile
            self.cancel()

    async def events(self, chunks: AsyncIterable[Samples], sample_rate: int) -> AsyncIterator[Event]:
        """Events of one stream as its chunks come; the model runs in a thread and does not block the event loop."""
        import asyncio

        self.cancel()
        stream = self.stream
        try:
            async for samples in chunks:
                for event in await asyncio.to_thread(self._accept, stream, samples, sample_rate):
                    yield event
            for event in await asyncio.to_thread(self._finish, stream):
                yield event
        finally:
            self._leave(stream)


def make_second_pass(model: Model | None, decoder: DecoderName | DecoderOptions, threads: int = 0) -> Recognizer | None:
    """The recognizer for a second pass: `model` itself if it is one."""
    if model is None or isinstance(model, Recognizer):
        return model
    return Recognizer(model, decoder, threads=threads, style="spoken")  # the stream writes the words


class LiveStream:
    """One stream in three steps, so that the second can be one model call for many streams.

        stream.feed(samples, sample_rate)       # or end(); resamples, in any thread
        (frames,) = engine.run([stream.position], [stream.take()])
        events = stream.decode(frames)          # endpoints, decoder, second pass

    All but `feed` and `end` belong to one thread at a time.
    """

    def __init__(
        self,
        engine: StreamingEngine,
        decoder: Decoder,
        endpoint: Endpoint | None,
        second_pass: Recognizer | None = None,
        executor: Executor | None = None,
        on_revision: Callable[[Future], None] = lambda _: None,  # called in the executor's thread
        formatter: Formatter | None = None,  # of finals
    ):
        """`on_revision` is called, in the executor's thread, when `revisions` has something."""
        if not isinstance(endpoint, Endpoint | None):
            raise ArgumentError(f"endpoint: {endpoint!r:.80} is neither an Endpoint nor None")
        self.engine, self.decoder, self.second_pass, self.executor = engine, decoder, second_pass, executor
        self.position = engine.start()
        self.complete = False  # decoded to its end
        self._ended = False  # no more samples will be fed
        self._taken = False  # nor taken
        self._on_revision = on_revision
        self._frame_seconds = engine.bundle.config.frame_seconds
        self.turn = Lock()  # of a thread that takes and decodes
        self._mixer = Mixer()
        self._resampler: Resampler | None = None
        self.feeds_taken = 0  # calls of `feed` whose samples were all taken
        self._fed: deque[tuple[np.ndarray, bool]] = deque()  # 16 kHz, not yet taken; whether it is a feed's last piece
        self._detector = EndpointDetector(endpoint, self._frame_seconds) if endpoint is not None else None
        self._unleveled = np.zeros(0, dtype=np.float32)  # the begun frame
        self._levels: deque[float] = deque()  # of frames that the detector has not had
        self._audio: list[np.ndarray] = []  # for the second pass, from frame `_audio_first` on
        self._audio_first = 0
        self._decoded = 0  # frames
        self._samples = 0  # taken; the silence that follows is not counted
        self._finals = 0
        self._before = Before(formatter)
        self._jobs: deque[tuple[int, Future[tuple[Word, ...]]]] = deque()
        self._begin_utterance()

    def _begin_utterance(self) -> None:
        self._state = self.decoder.reset()
        self._first = self._decoded  # frame
        self._shown = ""  # text of the last Partial

    def feed(self, samples: Samples, sample_rate: int) -> None:
        """Add samples, see `StreamingRecognizer.accept`. Nothing is added when it raises."""
        samples = as_samples(samples, sample_rate)
        if self._ended:
            raise AudioError("the stream is over; open another one")
        if self._resampler is None:
            self._resampler = Resampler(int(sample_rate))
        if sample_rate != self._resampler.rate:
            raise AudioError(
                f"the stream began at {self._resampler.rate} Hz and goes on at {sample_rate} Hz; "
                "finish() it, and begin another one"
            )
        audio = self._resampler.push(self._mixer.push(samples, self._resampler.rate))
        starts = range(0, max(1, len(audio)), PIECE)
        self._fed.extend((audio[start : start + PIECE], start == starts[-1]) for start in starts)

    def end(self) -> None:
        if self._resampler is not None and not self._ended:
            self._fed.append((self._resampler.flush(), False))
        self._ended = True

    @property
    def waiting(self) -> bool:
        """Whether there is anything to take, to decode, or to get from `revisions`."""
        revised = bool(self._jobs) and self._jobs[0][1].done()
        return revised or bool(self._fed) or (self._ended and not self.complete)

    @property
    def over(self) -> bool:
        """Whether all events were given."""
        return self.complete and not self._jobs

    @property
    def backlog(self) -> float:
        """Seconds of audio that were fed and not taken."""
        return sum(len(audio) for audio, _ in list(self._fed)) / SAMPLE_RATE

    def take(self, most: float = math.inf) -> np.ndarray:
        """The next 16 kHz samples (n,) for the engine, about so many, and after the end the silence that follows."""
        ended = self._ended  # before the rest is taken, or something might come in between
        parts = [np.zeros(0, dtype=np.float32)]
        while self._fed and most > 0:
            audio, last = self._fed.popleft()
            parts.append(audio)
            self.feeds_taken += last
            most -= len(audio)
        audio = np.concatenate(parts)
        self._samples += len(audio)
        if self.second_pass is not None:
            self._audio.append(audio)
        if self._detector is not None:
            samples = np.concatenate([self._unleveled, audio])
            whole = len(samples) - len(samples) % self.engine.frame_samples
            self._levels.extend(level(frame) for frame in samples[:whole].reshape(-1, self.engine.frame_samples))
            self._unleveled = samples[whole:].copy()
        if ended and not self._fed and not self._taken:
            self._taken = True
            return np.concatenate([audio, self.engine.tail(self.position, len(audio))])
        return audio

    def decode(self, frames: Frames) -> list[Event]:
        """The events of what was taken: the model's output for it."""
        events: list[Event] = []
        begin = 0
        for end in self._endpoints(frames.log_probs):
            self._advance(frames.cut(slice(begin, end)))
            events += self._end_utterance()
            begin = end
        self._advance(frames.cut(slice(begin, None)))
        if self._taken:
            self.complete = True
            return [*events, *self._end_utterance(last=True)]
        hypothesis = self.decoder.partial(self._state) if len(frames.log_probs) else None
        if hypothesis is not None and hypothesis.text != self._shown:
            self._shown = hypothesis.text
            stable = " ".join(word.text for word in hypothesis.words[: hypothesis.stable])
            words = self._timed(hypothesis.words)
            events.append(Partial(hypothesis.text, stable, words))
        return events

    def _advance(self, frames: Frames) -> None:
        self.decoder.advance(self._state, *frames)
        self._decoded += len(frames.log_probs)

    def _endpoints(self, log_probs: np.ndarray) -> list[int]:
        """How many of the frames lie before each end of an utterance among them."""
        if self._detector is None:
            return []
        ends = []
        for row, blank in enumerate((log_probs.argmax(axis=1) == BLANK_ID).tolist()):
            # Audio is ahead of the log-probs by the look-ahead.
            lookahead = self.engine.bundle.config.lookahead
            while self._levels and self._detector.ahead <= lookahead:
                self._detector.accept_level(self._levels.popleft())
            if self._detector.ahead <= lookahead:
                break  # the silence at the end has no level
            if self._detector.accept_frame(blank):
                self._detector.restart()
                ends.append(row + 1)
        return ends

    def _end_utterance(self, last: bool = False) -> list[Event]:
        words = self._timed(self.decoder.finish(self._state)[0].words)
        number, self._finals = self._finals, self._finals + bool(words)
        write = partial(self._before.write, until=self._decoded * self._frame_seconds, ended=last)
        if self.second_pass is not None:
            audio, begin = self._cut_audio(words)
            if words and self.executor is not None:
                future = self.executor.submit(_again, self.second_pass, audio, begin, write)
                self._jobs.append((number, future))
                future.add_done_callback(self._on_revision)
            elif words:
                words = _again(self.second_pass, audio, begin) or words
        self._begin_utterance()
        if not words:
            return []
        words, self._before = write(words)
        return [Final(Segment(within(words, self._samples / SAMPLE_RATE)), number)]

    def _timed(self, words: Sequence[Word]) -> tuple[Word, ...]:
        return sounding(words, True, self._frame_seconds, self._first * self._frame_seconds)

    def _cut_audio(self, words: tuple[Word, ...]) -> tuple[np.ndarray, float]:
        """Audio (n,) from the first to the last of the words, and the second of the stream at which it begins."""
        audio = np.concatenate(self._audio)
        begin, frame_samples = self._audio_first * self._frame_seconds, self.engine.frame_samples
        # The onset of a word comes before its first token: where nothing was recognized yet, some audio stays.
        margin = 0 if words else round(SECOND_PASS_MARGIN / self._frame_seconds)
        first = max(self._audio_first, self._decoded - margin)
        self._audio = [audio[(first - self._audio_first) * frame_samples :].copy()]
        self._audio_first = first
        if not words:
            return audio[:0], begin
        start = max(0.0, words[0].start - SECOND_PASS_MARGIN - begin)
        # Not beyond the utterance: how much there is of what follows depends on the chunks, and it has its own turn.
        end = min(words[-1].end + SECOND_PASS_MARGIN, self._decoded * self._frame_seconds) - begin
        return audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)], begin + start

    def revisions(self, wait: bool = False) -> list[Event]:
        """What the second pass has finished in the executor; `wait` for all of it."""
        events: list[Event] = []
        while self._jobs and (wait or self._jobs[0][1].done()):
            number, future = self._jobs.popleft()
            if words := future.result():
                events.append(Revised(Segment(words), number))
        return events


def _again(
    recognizer: Recognizer,
    audio: np.ndarray,
    begin: float,
    write: Callable[[Sequence[Word]], tuple[tuple[Word, ...], Before]] | None = None,
) -> tuple[Word, ...]:
    """Words of 16 kHz audio that begins at `begin` seconds of the stream, in their written form if `write` is given."""
    words = shift(recognizer.transcribe(audio, SAMPLE_RATE).words, begin)
    return write(words)[0] if write is not None and words else words
