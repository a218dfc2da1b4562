"""What all protocols share: the models, the limits, counters and logs, and the end of the server."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.responses import JSONResponse

from asr.audio.sources import as_samples
from asr.decode.hotwords import Hotwords
from asr.errors import ArgumentError, AsrError
from asr.normalize import primary_language
from asr.output.events import Final
from asr.recognize.offline import Recognizer
from asr.serve.live import SWITCH_SECONDS, Live, Stream, Update
from asr.serve.log import report

RATES = (8000, 192_000)  # hertz, lowest and highest, of live audio
MAX_BACKLOG = 10.0  # seconds of a live stream that wait for the model before no more is read from its client
FILE_WORKERS = 2  # files recognized at a time; others wait
LATENCY_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0)  # seconds


@dataclass(frozen=True)
class Settings:
    """Limits and who may connect."""

    max_streams: int = 100  # live streams at a time, and as many files that wait or are recognized
    max_upload: int = 500_000_000  # bytes of a file
    max_seconds: float = 4 * 3600.0  # of audio of a file or a live stream
    idle_seconds: float = 60.0  # a client that neither sends nor reads for so long is disconnected
    stop_seconds: float = 10.0  # in which what is under way is finished when the server is asked to end
    token: str | None = None  # that clients must send
    allow_origin: Sequence[str] = ()  # web pages of other servers that may use this one, such as "https://example.org"
    log_text: bool = False  # whether the logs hold the recognized text


class RefusedError(AsrError):
    """A request that is not served, with the HTTP status and a short code that say why."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """As OpenAI's API reports errors."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {"www-authenticate": "Bearer"} if self.status == 401 else None
        return JSONResponse(self.body(), self.status, headers)


class Metrics:
    """For Prometheus."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.streams = counter("asr_streams", "Live streams begun.", ["kind"])
        self.files = counter("asr_files", "Files accepted.")
        self.rejected = counter("asr_rejected", "Requests refused, by reason.", ["kind"])
        self.audio = counter("asr_audio_seconds", "Audio recognized.", ["kind"])
        self.busy = counter("asr_busy_seconds", "Time of the models; over audio it is the real-time factor.", ["kind"])
        about = "From a chunk's arrival to its events."
        self.latency = Histogram("asr_chunk_latency_seconds", about, buckets=LATENCY_BOUNDS, registry=registry)
        self.open_streams = gauge("asr_open_streams", "Live streams now.")
        self.open_files = gauge("asr_open_files", "Files that wait or are recognized now.")
        self.backlog = gauge("asr_backlog_seconds", "Audio of live streams that waits for the model.")


class Service:
    """The models and their threads. All methods are called in the event loop.

    Args:
        recognizers: for files, by the model's name; the first is the default, the last has the model of live streams.
        lives: decode live streams.
        language: code and English name of the language, such as ("en", "english").
    """

    def __init__(
        self,
        recognizers: Mapping[str, Recognizer],
        lives: Sequence[Live],
        language: tuple[str, str],
        settings: Settings,
    ):
        self.recognizers, self.lives, self.language, self.settings = recognizers, lives, language, settings
        self.metrics = Metrics()
        self.workers = ThreadPoolExecutor(FILE_WORKERS, "asr-file")
        self.files = 0  # that wait or are recognized
        self.streams: set[ClientStream] = set()
        self.stopping = self.closed = False
        self.metrics.open_streams.set_function(lambda: len(self.streams))
        self.metrics.open_files.set_function(lambda: self.files)
        self.metrics.backlog.set_function(lambda: sum(stream.backlog for stream in self.streams))

    def start(self) -> None:
        """Begin to advance live streams, for the event loop that runs now."""
        loop = asyncio.get_running_loop()
        sys.setswitchinterval(SWITCH_SECONDS)

        def deliver(updates: list[tuple[Stream, Update]], busy: float) -> None:
            if not self.closed:
                loop.call_soon_threadsafe(self._deliver, updates, busy)

        for live in self.lives:
            live.start(deliver)

    def _deliver(self, updates: list[tuple[Stream, Update]], busy: float) -> None:
        self.metrics.busy.labels("live").inc(busy)
        for stream, update in updates:
            if stream.receive is not None:
                stream.receive(update)

    def check_language(self, spoken: str) -> None:
        """RefusedError for a language, by its code or English name, that the models do not know."""
        code, name = self.language
        base = primary_language(spoken)
        if base not in ("", "auto", code, name):
            raise RefusedError(400, "unsupported_language", f"{spoken!r:.40}: the model knows {name} only", "language")

    def count_refusal(self, error: Exception) -> str:
        """Count a client that was refused or was too slow. Returns the error's code, "failed" if it is the server's."""
        code = "idle" if isinstance(error, TimeoutError) else getattr(error, "code", "failed")
        if code != "failed":
            self.metrics.rejected.labels(code).inc()
        return code

    def _check_room(self, status: int, count: int, kind: str) -> None:
        if self.stopping:
            raise RefusedError(503, "stopping", "the server is ending; try again later")
        if count >= self.settings.max_streams:
            raise RefusedError(status, f"too_many_{kind}", f"{count} {kind} are under way; try again later")

    @contextmanager
    def stream(self, protocol: str, client: str) -> Iterator["ClientStream"]:
        """A live stream. RefusedError if there are too many."""
        self._check_room(503, len(self.streams), "streams")
        stream, outcome = ClientStream(self), "finished"
        self.streams.add(stream)
        self.metrics.streams.labels(protocol).inc()
        try:
            yield stream
        except BaseException as error:
            code = getattr(error, "code", type(error).__name__)
            outcome = code if isinstance(code, str) else "left"  # a WebSocket's number, of a client that closed it
            raise
        finally:
            self.streams.remove(stream)
            stream.clear()
            fields = {"protocol": protocol, "outcome": outcome, "seconds": round(stream.seconds, 2)}
            self.report("stream", client, stream.finals, **fields)

    def begin_file(self) -> None:
        """Count a file. RefusedError if too many wait."""
        self._check_room(429, self.files, "files")
        self.files += 1
        self.metrics.files.inc()

    def report(self, event: str, client: str, finals: list[str], **fields: Any) -> None:
        """A line of the log: one JSON object, with texts only if the settings say so."""
        words = sum(len(text.split()) for text in finals)
        text = {"text": " ".join(finals)} if self.settings.log_text else {}
        report(event, client=client, **fields, words=words, **text)

    async def stop(self, at_once: Callable[[], bool]) -> None:
        """Take nothing new, and wait for the last words of all streams and files, within `stop_seconds`."""
        self.stopping = True
        for stream in self.streams:
            stream.finish()
        deadline = time.monotonic() + self.settings.stop_seconds
        while (self.streams or self.files) and time.monotonic() < deadline and not at_once():
            await asyncio.sleep(0.05)

    def close(self) -> None:
        self.closed = True
        for live in self.lives:
            live.close()
        self.workers.shutdown(wait=False, cancel_futures=True)


class ClientStream:
    """One live stream, from its client's first chunk to its last result. It belongs to the event loop."""

    def __init__(self, service: Service) -> None:
        self.hotwords: Hotwords | None = None  # to be set before the first chunk
        self.finals: list[str] = []
        self.seconds = 0.0  # of audio that were fed
        self.ended = False  # nothing more is taken
        self.service = service
        self._stream: Stream | None = None  # from the first chunk on
        self._waiting: deque[tuple[float, float]] = deque()  # the chunks that are not decoded: when they came, seconds
        self._decoded = 0  # chunks
        self._updates: asyncio.Queue[Update] = asyncio.Queue()
        self._progress = asyncio.Event()

    async def feed(self, samples: np.ndarray, rate: int) -> None:
        """Add int16 samples (n,) or (n, channels); waits while the model is far behind.

        RefusedError when the stream is too long, or for a rate that cannot be.
        """
        if self.ended:
            return
        try:
            as_samples(samples[:0], rate)
        except ArgumentError as error:
            raise RefusedError(422, "invalid_value", str(error)) from None
        if self._stream is None:
            self._stream = min(self.service.lives, key=attrgetter("streams")).open(self.hotwords, self.deliver)
        self._stream.feed(samples, rate)
        seconds, limit = len(samples) / rate, self.service.settings.max_seconds
        self._waiting.append((time.monotonic(), seconds))
        self.seconds += seconds
        self.service.metrics.audio.labels("live").inc(seconds)
        if self.seconds > limit:
            raise RefusedError(413, "too_long", f"a stream may have {limit:g} s; begin another one")
        while self._stream is not None and self.backlog > MAX_BACKLOG:
            self._progress.clear()
            await self._progress.wait()

    @property
    def backlog(self) -> float:
        """Seconds of audio that are not decoded: more and more of them if the machine is too slow."""
        return sum(seconds for _, seconds in self._waiting)

    def flush(self) -> None:
        """End the utterance in progress: its update is `done`, and what is fed after it is a stream of its own."""
        if self._stream is not None and not self.ended:
            self._stream.finish()

    def finish(self) -> None:
        """No more audio will come: the last update is `done`."""
        if not self.ended and self._stream is not None:
            self._stream.finish()
        elif not self.ended:
            self._updates.put_nowait(Update([], self._decoded, True))
        self.ended = True

    def deliver(self, update: Update) -> None:
        now = time.monotonic()
        for _ in range(len(self._waiting) if update.done else update.feeds - self._decoded):
            came, _ = self._waiting.popleft()
            if update.error is None:
                self.service.metrics.latency.observe(now - came)
        self._decoded = update.feeds
        self.finals += [event.text for event in update.events if isinstance(event, Final)]
        self._updates.put_nowait(update)
        if update.done and not self.ended and update.error is None:
            self._forget()
        self._progress.set()

    async def updates(self) -> AsyncIterator[Update]:
        """Whatever the model brings, to the end of the stream.

        AsrError if the stream failed; RefusedError for hotwords that cannot be.
        """
        while True:
            update = await self._updates.get()
            if isinstance(update.error, ArgumentError):
                raise RefusedError(422, "invalid_value", str(update.error))
            if update.error is not None:
                raise AsrError(f"the stream failed ({update.error}); begin another one")
            yield update
            if update.done and self.ended:
                return

    def clear(self) -> None:
        """Forget what is not finished. What is fed after that is another stream of the model."""
        self._forget()
        while not self._updates.empty():
            self._updates.get_nowait()

    def _forget(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
        self._stream, self._decoded = None, 0
        self._waiting.clear()
