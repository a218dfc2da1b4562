"""Many streams at once: one model call advances all that have audio.

    batcher = Batcher("en-gru")
    threading.Thread(target=batcher.run, args=[deliver], daemon=True).start()

    stream = batcher.open()                 # in any thread, as are
    stream.feed(samples, 48_000)
    stream.finish()                         # or cancel()

    def deliver(stream, events):            # in the batcher's thread, so it must not wait for anything
        loop.call_soon_threadsafe(queues[stream].put_nowait, (events, stream.done))

Each stream gives the finals that a `StreamingRecognizer` would give, whatever runs beside it. Without a thread of its
own, a batcher advances when the caller calls `step`; `news` is set when there is something to do.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from asr.audio.sources import Samples
from asr.decode.build import DEFAULT_DECODER, DecoderName, DecoderOptions, make_decoder
from asr.decode.hotwords import Hotwords
from asr.errors import AudioError
from asr.model.engine import Model, open_streaming_engine
from asr.output.events import Event
from asr.output.transcript import Style, check_style
from asr.recognize.endpoint import Endpoint
from asr.recognize.streaming import ENDPOINT, PIECE, STREAMING_MODEL, LiveStream, make_second_pass
from asr.recognize.written import find_formatter

log = logging.getLogger(__name__)


class Batcher:
    """Runs any number of streams with one model and one decoder.

    The arguments are those of `StreamingRecognizer`, but a second pass always runs in an executor: without one given,
    in a thread of its own.
    """

    def __init__(
        self,
        model: Model = STREAMING_MODEL,
        decoder: DecoderName | DecoderOptions = DEFAULT_DECODER,
        second_pass: Model | None = None,
        threads: int = 0,
        executor: Executor | None = None,
        providers: Sequence[str] = (),
        style: Style = "written",
    ):
        self.engine = open_streaming_engine(model, threads, providers)
        self.options = DecoderOptions(decoder) if isinstance(decoder, str) else decoder
        self.decoder = make_decoder(self.options, self.engine.bundle)
        self.style = check_style(style)
        self.second_pass = make_second_pass(second_pass, decoder, threads)
        self._own_executor: Executor | None = None
        if second_pass is not None and executor is None:
            from concurrent.futures import ThreadPoolExecutor

            executor = self._own_executor = ThreadPoolExecutor(1)
        self.executor = executor
        self._streams: dict[BatchedStream, LiveStream] = {}  # not yet over, in the order of their opening
        self._stepping = threading.Lock()
        self.news = threading.Event()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Batcher {self.engine.bundle.config.name}, streams: {self.streams}>"

    @property
    def streams(self) -> int:
        """How many are not over."""
        return len(self._streams)

    def open(self, endpoint: Endpoint | None = ENDPOINT, hotwords: Hotwords | None = None) -> "BatchedStream":
        """A new stream; a decoder is built for its `hotwords`, instead of the batcher's. AudioError after `close`."""
        if self._closed:
            raise AudioError("the batcher is closed; make another one")
        decoder, options = self.decoder, self.options
        if hotwords is not None:
            options = replace(options, hotwords=hotwords)
            decoder = make_decoder(options, self.engine.bundle)
        formatter = find_formatter(self.style, self.engine.bundle.config.language, options.hotwords)
        live = LiveStream(
            self.engine, decoder, endpoint, self.second_pass, self.executor, lambda _: self.news.set(), formatter
        )
        stream = BatchedStream(self)
        self._streams[stream] = live
        return stream

    def step(self) -> list[tuple["BatchedStream", list[Event]]]:
        """Advance all streams that have audio by up to two seconds → those that advanced, or that are `done` now."""
        with self._stepping:
            self.news.clear()
            # A list, made at once: other threads open and cancel streams.
            waiting = {stream: live for stream, live in list(self._streams.items()) if live.waiting}
            if not waiting:
                return []
            chunks = [live.take(PIECE) for live in waiting.values()]
            results = []
            try:
                rows = self.engine.run([live.position for live in waiting.values()], chunks)
            except Exception as error:  # onnxruntime's own exceptions share no base class
                return [(stream, stream.fail(error)) for stream in waiting if not stream.cancelled]
            for (stream, live), frames in zip(waiting.items(), rows, strict=True):
                if stream.done:  # cancelled meanwhile
                    continue
                try:
                    events = live.revisions()
                    if not live.complete:
                        events += live.decode(frames)
                except Exception as error:  # whatever it is, the other streams go on
                    events = stream.fail(error)
                if live.waiting:
                    self.news.set()
                if live.over:
                    self._streams.pop(stream, None)
                stream.feeds_decoded = live.feeds_taken
                results.append((stream, events))
            return [(stream, events) for stream, events in results if not stream.cancelled]

    def run(self, deliver: Callable[["BatchedStream", list[Event]], None]) -> None:
        """Step whenever there is audio, and hand out the results, until `close`; a step may bring a stream no events.

        `deliver` is called in this thread and must not wait for anything. A stream whose call raises is cancelled.
        """
        while not self._closed:
            self.news.wait()
            for stream, events in self.step():
                with stream._delivery:
                    try:
                        if not stream.cancelled:
                            deliver(stream, events)
                    except Exception as error:
                        log.warning("a stream was cancelled, since its events could not be delivered: %s", error)
                        stream.cancel()

    def close(self) -> None:
        """Cancel all streams and end `run`."""
        self._closed = True
        for stream in list(self._streams):
            stream.cancel()
        if self._own_executor is not None:
            self._own_executor.shutdown(wait=False, cancel_futures=True)
        self.news.set()


class BatchedStream:
    """One stream of a batcher. Its methods may be called in any thread, by one at a time, `cancel` at any moment."""

    def __init__(self, batcher: Batcher):
        self.error: Exception | None = None  # that ended the stream early
        self.cancelled = False
        self.feeds_decoded = 0  # calls of `feed` whose samples were all decoded
        self._batcher = batcher
        self._delivery = threading.RLock()  # `cancel` waits for a delivery; reentrant, as `deliver` may cancel

    @property
    def done(self) -> bool:
        """Whether nothing more will come: it was finished, cancelled, or ended by an error."""
        return self not in self._batcher._streams

    @property
    def backlog(self) -> float:
        """Seconds of audio that were fed and wait for the model: more and more of them if the machine is too slow."""
        live = self._batcher._streams.get(self)
        return live.backlog if live else 0.0

    def feed(self, samples: Samples, sample_rate: int) -> None:
        """Add samples, as `StreamingRecognizer.accept` takes them; AudioError also if it is finished or over."""
        self._live().feed(samples, sample_rate)
        self._batcher.news.set()

    def finish(self) -> None:
        """No more samples will come. The stream is done when its last events were given."""
        self._live().end()
        self._batcher.news.set()

    def cancel(self) -> None:
        """Forget the stream. After this returns nothing more of it is given."""
        with self._delivery:
            self.cancelled = True
            self._batcher._streams.pop(self, None)

    def _live(self) -> LiveStream:
        live = self._batcher._streams.get(self)
        if live is None:
            raise AudioError(f"the stream is over{f' ({self.error})' if self.error else ''}; open another one")
        return live

    def fail(self, error: Exception) -> list[Event]:
        """End the stream early, with an error and without more events."""
        self.error = error
        self._batcher._streams.pop(self, None)
        return []
