"""Where live streams are decoded: in a thread of the server, or in processes beside it, on the other cores.

live = LiveThread(batcher)                      # or LiveProcess(make_batcher)
stream = live.open(hotwords)                    # feed, finish and cancel it, as a stream of the batcher
live.run(deliver)                               # in a thread of its own, until `close`
"""

import atexit
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

import numpy as np

from asr.decode.hotwords import Hotwords
from asr.errors import AsrError
from asr.output.events import Event, Partial
from asr.recognize.batcher import BatchedStream, Batcher
from asr.serve.log import log, report

# A chunk that comes soon after a step waits for others: a call of the model for eight takes a third of eight calls.
GATHER_SECONDS = 0.06
# Each time the event loop has sent something, the thread of the model may keep the interpreter for so long.
SWITCH_SECONDS = 0.001
# They may be sent to all processes; the server ends the others when what is spoken was finished.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESTART_SECONDS = 1.0  # after which a process that ended is started again


class Update(NamedTuple):
    """What a step of the model brought for one stream."""

    events: list[Event]
    feeds: int  # chunks of the stream that are decoded now, in all
    done: bool
    error: str = ""  # what ended the stream early


class Stream(Protocol):
    """A live stream. Its methods may be called in any thread, and do not wait for the model."""

    def feed(self, samples: np.ndarray, rate: int, /) -> None: ...

    def finish(self) -> None: ...

    def cancel(self) -> None: ...

    @property
    def done(self) -> bool: ...


Deliver = Callable[[list[tuple[Any, Update]], float], None]  # streams and their updates, seconds that the model took


class Live(Protocol):
    """Decodes live streams."""

    @property
    def streams(self) -> int:
        """How many are not over."""

    def open(self, hotwords: Hotwords | None) -> Stream:
        """A new stream. ArgumentError for hotwords that cannot be; they take a moment."""

    def run(self, deliver: Deliver) -> None:
        """Decode until `close`. `deliver` is called in this thread and must not wait for anything."""

    def close(self) -> None: ...


class LiveThread:
    """Decodes in the thread that calls `run`."""

    def __init__(self, batcher: Batcher):
        self.batcher = batcher
        self._closed = False

    @property
    def streams(self) -> int:
        return self.batcher.streams

    def open(self, hotwords: Hotwords | None) -> BatchedStream:
        return self.batcher.open(hotwords=hotwords)

    def run(self, deliver: Deliver) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        while not self._closed:
            self.batcher.news.wait()
            began = time.perf_counter()
            results = self.batcher.step()
            busy = time.perf_counter() - began
            if results and not self._closed:
                deliver([(stream, _update(stream, events)) for stream, events in results], busy)
            time.sleep(max(0.0, GATHER_SECONDS - busy))

    def close(self) -> None:
        self._closed = True
        self.batcher.close()


def _update(stream: BatchedStream, events: list[Event]) -> Update:
    return Update(events, stream.feeds_decoded, stream.done, str(stream.error or ""))


class LiveProcess:
    """Decodes in a process of its own, which is started again when it ends; its streams have failed then.

    make: the batcher, called in that process, where a spawned process must find it.
    """

    def __init__(self, make: Callable[[], Batcher]):
        self._make = make
        self._numbers = count()
        self._streams: dict[int, _RemoteStream] = {}
        self._opening: dict[int, Future[None]] = {}
        self._closed = False
        self._start()
        atexit.register(self.close)  # else the interpreter would wait for a process that waits for it

    def _start(self) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        process = context.Process(target=_decode, args=[other, self._make], daemon=True, name="asr-live")
        with _signals_held_back():
            process.start()
        other.close()
        # What is sent waits here, and not the event loop, for a process that does not read yet.
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=_send_all, args=[self._connection, self._outbox], daemon=True).start()

    @property
    def streams(self) -> int:
        return len(self._streams)

    def open(self, hotwords: Hotwords | None) -> "_RemoteStream":
        number = next(self._numbers)
        stream = self._streams[number] = _RemoteStream(self, number)
        try:
            if not hotwords:
                self.send(number, "open", None)
                return stream
            opened = self._opening[number] = Future()
            self.send(number, "open", hotwords)
            opened.result()
        except BaseException:
            self.forget(number)
            raise
        return stream

    def send(self, number: int, what: str, *arguments: Any) -> None:
        """A call of a stream's method. AsrError if it is over."""
        if number not in self._streams:
            raise AsrError("the stream is over; open another one")
        self._outbox.put((number, what, arguments))

    def forget(self, number: int) -> None:
        if self._streams.pop(number, None) is not None:
            self._outbox.put((number, "cancel", ()))

    def has(self, number: int) -> bool:
        return number in self._streams

    def run(self, deliver: Deliver) -> None:
        while not self._closed:
            try:
                self._receive(deliver, self._connection.recv())
            except (EOFError, OSError):
                if not self._closed:
                    report("process", outcome="ended", streams=len(self._streams))
                    self._fail(deliver)
                    time.sleep(RESTART_SECONDS)
                if not self._closed:
                    self._start()

    def _receive(self, deliver: Deliver, message: Any) -> None:
        if isinstance(message, _Opened):
            opened = self._opening.pop(message.number)
            if message.error is None:
                opened.set_result(None)
            else:
                opened.set_exception(message.error)
            return
        updates, busy = message
        found = [(self._streams.get(number), update) for number, update in updates]
        for number, update in updates:
            if update.done:
                self._streams.pop(number, None)
        deliver([(stream, update) for stream, update in found if stream is not None], busy)

    def _fail(self, deliver: Deliver) -> None:
        """Its process has ended."""
        lost, self._streams = self._streams, {}
        opening, self._opening = self._opening, {}
        for opened in opening.values():
            opened.set_exception(AsrError("the process of the stream ended; open another one"))
        deliver([(stream, Update([], 0, True, "its process ended")) for stream in lost.values()], 0.0)

    def close(self) -> None:
        self._closed = True
        self._outbox.put(None)


def _send_all(connection: Connection, outbox: "SimpleQueue[Any]") -> None:
    """Send what is put into the outbox, up to None, the last message."""
    message: Any = ()
    with suppress(OSError):  # the process has ended
        while message is not None:
            message = outbox.get()
            connection.send(message)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process that is started meanwhile gets none of `SIGNALS` before it can ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it starts with the first process, and lets signals through then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _RemoteStream:
    def __init__(self, live: LiveProcess, number: int):
        self._live, self._number = live, number

    @property
    def done(self) -> bool:
        return not self._live.has(self._number)

    def feed(self, samples: np.ndarray, rate: int) -> None:
        self._live.send(self._number, "feed", samples, rate)

    def finish(self) -> None:
        with suppress(AsrError):  # its last update says so
            self._live.send(self._number, "finish")

    def cancel(self) -> None:
        self._live.forget(self._number)


class _Opened(NamedTuple):
    """The answer to a stream with hotwords."""

    number: int
    error: AsrError | None


# In the other process


def _decode(connection: Connection, make: Callable[[], Batcher]) -> None:
    """Decode what comes through the connection, to its end, or until None comes."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        live = LiveThread(make())
    except AsrError as error:  # the server has opened the model, so it was taken away since
        log.error("asr: %s", error)
        return
    streams: dict[int, BatchedStream] = {}
    numbers: dict[BatchedStream, int] = {}
    sending = threading.Lock()

    def send(message: Any) -> None:
        with suppress(OSError), sending:  # the server has ended
            connection.send(message)

    def add(number: int, stream: BatchedStream) -> None:
        streams[number], numbers[stream] = stream, number

    def prepare(number: int, hotwords: Hotwords) -> None:
        try:
            add(number, live.open(hotwords))
            send(_Opened(number, None))
        except AsrError as error:
            send(_Opened(number, error))

    def deliver(results: list[tuple[BatchedStream, Update]], busy: float) -> None:
        updates = [(numbers.get(stream, -1), _slim(update)) for stream, update in results]  # -1: cancelled meanwhile
        for stream, update in results:
            if update.done:
                streams.pop(numbers.pop(stream, -1), None)
        send((updates, busy))

    threading.Thread(target=live.run, args=[deliver], daemon=True).start()
    with suppress(EOFError, OSError):
        while (message := connection.recv()) is not None:
            number, what, arguments = message
            match what:
                case "open" if arguments[0] is None:
                    add(number, live.open(None))
                case "open":
                    threading.Thread(target=prepare, args=[number, *arguments], daemon=True).start()
                case "cancel":
                    if (stream := streams.pop(number, None)) is not None:
                        numbers.pop(stream, None)
                        stream.cancel()
                case _ if (stream := streams.get(number)) is not None:
                    try:
                        getattr(stream, what)(*arguments)
                    except AsrError as error:
                        stream.cancel()
                        deliver([(stream, Update([], stream.feeds_decoded, True, str(error)))], 0.0)


def _slim(update: Update) -> Update:
    """Without most words of what may change: no protocol sends them, and there are many."""
    events = [replace(item, words=item.words[:1]) if isinstance(item, Partial) else item for item in update.events]
    return update._replace(events=events)
