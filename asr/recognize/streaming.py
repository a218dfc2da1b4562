"""Live recognition: chunks of audio → log-probabilities → decoder → partial and final text.

    recognizer = asr.StreamingRecognizer("en-gru")
    for samples in microphone:                              # float32 (n,), any n
        for event in recognizer.accept(samples, 48_000):    # Partial or Final
            ...
    events = recognizer.finish()

Neither the texts nor the times of the finals depend on how the audio is cut into chunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.audio.resample import SAMPLE_RATE, Resampler
from asr.audio.sources import as_samples
from asr.decode.build import DEFAULT_DECODER, DecoderName, DecoderOptions, make_decoder
from asr.errors import AudioError
from asr.model.engine import Model, open_streaming_engine
from asr.model.tokens import BLANK_ID
from asr.output.transcript import Segment, Word
from asr.recognize.endpoint import Endpoint, EndpointDetector, level
from asr.recognize.offline import Recognizer

STREAMING_MODEL = "en-gru"
CHUNK_SECONDS = 0.16  # of audio at a time, where a recording takes the place of the microphone
ENDPOINT = Endpoint()
SECOND_PASS_MARGIN = 0.5  # s of audio before the first and after the last word that the second pass hears too


@dataclass(frozen=True)
class Partial:
    """What is heard so far of the utterance in progress.

    stable_prefix: the words at the start of `text` that no further audio will change. (A second pass still may.)
    """

    text: str
    stable_prefix: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Final:
    """A finished utterance; times are in seconds from the start of the stream."""

    segment: Segment


Event = Partial | Final


class StreamingRecognizer:
    """Recognises one stream of audio as it comes.

    model: a packaged live model's name, a bundle, its folder, or an engine that several recognisers share.
    endpoint: when an utterance ends; None never ends one before `finish`, and the time for a chunk then grows slowly
        with what was heard.
    second_pass: a model that reads whole recordings (its name, folder or recogniser) and hears each finished utterance
        again; its text is the final one.
    threads: 0 uses every core.

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
    ):
        self.engine = open_streaming_engine(model, threads)
        if second_pass is not None and not isinstance(second_pass, Recognizer):
            second_pass = Recognizer(second_pass, decoder, threads=threads)
        self.decoder = make_decoder(decoder, self.engine.bundle)
        self.endpoint = endpoint
        self.second_pass = second_pass
        self.frame_seconds = self.engine.bundle.config.frame_seconds
        self._frame_samples = round(self.frame_seconds * SAMPLE_RATE)
        self._begin()

    def _begin(self) -> None:
        """At the start of a stream."""
        self._resampler: Resampler | None = None
        self._stream = self.engine.start()
        self._detector = EndpointDetector(self.endpoint, self.frame_seconds) if self.endpoint else None
        self._unheard = np.zeros(0, dtype=np.float32)  # samples whose level the detector has not been told
        self._audio: list[np.ndarray] = []  # of the utterance, for the second pass
        self._audio_first = 0  # frame with which that begins
        self._decoded = 0  # frames
        self._begin_utterance()

    def _begin_utterance(self) -> None:
        self._state = self.decoder.reset()
        self._first = self._decoded  # frame
        self._shown = ""

    def accept(self, samples: np.ndarray, sample_rate: int) -> list[Event]:
        """Take the next samples, float (n,), −1…1, at `sample_rate` hertz; return what became of them, in order.

        There is at most one Partial, the last event, and only if its text is new. AudioError for samples of another
        shape or type, or if the rate changes within a stream.
        """
        samples = as_samples(samples, sample_rate)
        if self._resampler is None:
            self._resampler = Resampler(sample_rate)
        if sample_rate != self._resampler.rate:
            raise AudioError(
                f"the stream began at {self._resampler.rate} Hz and goes on at {sample_rate} Hz; "
                "finish() it, and begin another one"
            )
        return self._advance(self._resampler.push(samples))

    def finish(self) -> list[Event]:
        """End the stream: the last utterance, if there is one. What is accepted after that is a new stream."""
        events = self._advance(self._resampler.flush()) if self._resampler is not None else []
        (log_probs,) = self.engine.finish([self._stream])
        self.decoder.advance(self._state, log_probs)
        self._decoded += len(log_probs)
        finals = [event for event in events if isinstance(event, Final)]  # a last partial would be outdated
        finals += self._end_utterance()
        self._begin()
        return list(finals)

    def _advance(self, audio: np.ndarray) -> list[Event]:
        """Go on by 16 kHz samples (n,)."""
        if self.second_pass is not None:
            self._audio.append(audio)
        if self._detector is not None:
            self._unheard = np.concatenate([self._unheard, audio])
        (log_probs,) = self.engine.advance([self._stream], [audio])
        events: list[Event] = []
        done = 0
        for end in self._endpoints(log_probs):
            self.decoder.advance(self._state, log_probs[done:end])
            self._decoded += end - done
            done = end
            events += self._end_utterance()
        self.decoder.advance(self._state, log_probs[done:])
        self._decoded += len(log_probs) - done
        hypothesis = self.decoder.partial(self._state) if len(log_probs) else None
        if hypothesis is not None and hypothesis.text != self._shown:
            self._shown = hypothesis.text
            stable = " ".join(word.text for word in hypothesis.words[: hypothesis.stable])
            events.append(Partial(hypothesis.text, stable, self._in_stream(hypothesis.words)))
        return events

    def _endpoints(self, log_probs: np.ndarray) -> list[int]:
        """How many of the frames lie before each end of an utterance among them."""
        if self._detector is None:
            return []
        frames = self._unheard[: len(self._unheard) // self._frame_samples * self._frame_samples]
        self._unheard = self._unheard[len(frames) :].copy()
        audio = frames.reshape(-1, self._frame_samples)
        blank = log_probs.argmax(axis=1) == BLANK_ID
        # At the start of a stream the audio gets ahead by the look-ahead; from then on both are frame by frame.
        ahead = len(audio) - len(blank)
        for frame in audio[:ahead]:
            self._detector.accept_level(level(frame))
        ends = []
        for row, frame in enumerate(audio[ahead:]):
            self._detector.accept_level(level(frame))
            if self._detector.accept_frame(bool(blank[row])):
                self._detector.restart()
                ends.append(row + 1)
        return ends

    def _end_utterance(self) -> list[Final]:
        words = self._in_stream(self.decoder.finish(self._state)[0].words)
        final = words
        if self.second_pass is not None:
            audio = np.concatenate([*self._audio, np.zeros(0, dtype=np.float32)])
            final = self._second_pass(words, audio, self.second_pass) or words
            # The onset of a word comes before its first token: where nothing was heard yet, some audio stays.
            margin = 0 if words else round(SECOND_PASS_MARGIN / self.frame_seconds)
            first = max(self._audio_first, self._decoded - margin)
            self._audio = [audio[(first - self._audio_first) * self._frame_samples :].copy()]
            self._audio_first = first
        self._begin_utterance()
        return [Final(Segment(final))] if final else []

    def _second_pass(self, words: tuple[Word, ...], audio: np.ndarray, recognizer: Recognizer) -> tuple[Word, ...]:
        """Hear the utterance again, from its first to its last word; nothing if there were none."""
        if not words:
            return ()
        begin = self._audio_first * self.frame_seconds
        start = max(0.0, words[0].start - SECOND_PASS_MARGIN - begin)
        # Not beyond the utterance: how much is heard of what follows depends on the chunks, and it has its own turn.
        end = min(words[-1].end + SECOND_PASS_MARGIN, self._decoded * self.frame_seconds) - begin
        audio = audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        again = recognizer.transcribe(audio, SAMPLE_RATE)
        return _shift(again.words, begin + start)

    def _in_stream(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """Words with times from the start of the utterance → from the start of the stream."""
        return _shift(words, self._first * self.frame_seconds)


def _shift(words: Sequence[Word], seconds: float) -> tuple[Word, ...]:
    return tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in words)
