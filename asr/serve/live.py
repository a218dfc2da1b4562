"""Where live streams are decoded: in a thread of the server, or in processes beside it, on the other cores.

    live = LiveThread(batcher)                      # or LiveProcess(make_batcher)
    stream = live.open(hotwords).result()           # feed, finish and cancel it, as a stream of the batcher
    live.run(deliver)                               # in a thread of its own, until `close`

What the two processes send each other are pickles of their own making, through a pipe that nobody else can open.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from itertools import count
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from asr.decode.hotwords import Hotwords
from asr.errors import AsrError
from asr.output.events import Event, Partial
from asr.recognize.batcher import BatchedStream, Batcher
from asr.serve.log import report
from asr.signals import ENDINGS, held_back

# A chunk that comes soon after a step waits for others: a call of the model for eight takes a third of eight calls.
GATHER_SECONDS = 0.06
# Each time the event loop has sent something, the thread of the model may keep the interpreter for so long.
SWITCH_SECONDS = 0.001
PAUSES = (1.0, 10.0)  # seconds before a process that ended is started again: the first time, and at most
ENDED = "the process that decoded it has ended"


class Update(NamedTuple):
    """What a step of the model brought for one stream."""

    events: list[Event]
    feeds: int  # chunks of the stream that are decoded now, in all
    done: bool
    error: str | None = None  # what ended the stream early


Deliver = Callable[[list[tuple[Any, Update]], float], None]  # streams and their updates, seconds that the model took


class LiveThread:
    """Decodes in the thread that calls `run`. All other methods return at once, and may be called in any thread."""

    def __init__(self, batcher: Batcher):
        self.batcher = batcher
        self._closed = False

    @property
    def streams(self) -> int:
        return self.batcher.streams

    def open(self, hotwords: Hotwords | None) -> Future[BatchedStream]:
        """A new stream: now, or in a moment if there are hotwords. ArgumentError for those that cannot be."""
        opened: Future[BatchedStream] = Future()

        def prepare() -> None:
            try:
                opened.set_result(self.batcher.open(hotwords=hotwords))
            except Exception as error:  # it is for who waits
                opened.set_exception(error)

        if hotwords:  # a decoder is made for them
            threading.Thread(target=prepare, daemon=True).start()
        else:
            prepare()
        return opened

    def run(self, deliver: Deliver) -> None:
        """Decode until `close`. `deliver` is called in this thread and must not wait for anything."""
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
    error = stream.error
    return Update(events, stream.feeds_decoded, stream.done, None if error is None else _reason(error))


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


class LiveProcess:
    """A `LiveThread` in a process of its own. If that ends, its streams have failed, and another one is started.

    make: the batcher; called in that process.
    """

    def __init__(self, make: Callable[[], Batcher]):
        self._make = make
        self._process = _Process()
        self._closing = threading.Lock()
        self._closed = False
        atexit.register(self.close)  # or the interpreter would wait for a process that waits for it

    @property
    def streams(self) -> int:
        return self._process.count

    def open(self, hotwords: Hotwords | None) -> "Future[_RemoteStream]":
        return self._process.open(hotwords)

    def run(self, deliver: Deliver) -> None:
        pause, longest = PAUSES
        while not self._closed:
            process, problem = self._process, None
            try:
                for streams, busy in process.run(self._make):
                    deliver(streams, busy)
                    pause, _ = PAUSES
            except Exception as error:  # it cannot be started, or said why it ends
                problem = _reason(error)
            with self._closing:
                if self._closed:
                    break
                self._process = _Process()
            lost = process.end()
            report("process", outcome=problem or "ended", exit_code=process.exit_code, streams=len(lost))
            deliver([(stream, Update([], 0, True, ENDED)) for stream in lost], 0.0)
            time.sleep(pause)
            pause = min(2 * pause, longest)
        self._process.end()

    def close(self) -> None:
        with self._closing:
            self._closed = True
        self._process.end()


class _Process:
    """A process, from before its start to after its end: what it is asked waits until it runs."""

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._lock = threading.Lock()  # of the streams
        self._numbers = count()
        self._streams: dict[int, _RemoteStream] = {}
        self._opening: dict[int, Future[_RemoteStream]] = {}  # those with hotwords
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self._running = self._ended = False

    @property
    def count(self) -> int:
        """Streams; one that does not run has more than any other."""
        return len(self._streams) + (0 if self._running else sys.maxsize // 2)

    def open(self, hotwords: Hotwords | None) -> "Future[_RemoteStream]":
        opened: Future[_RemoteStream] = Future()
        with self._lock:
            if self._ended:
                raise AsrError(f"{ENDED}; open another one")
            number = next(self._numbers)
            stream = self._streams[number] = _RemoteStream(self, number)
            if hotwords:
                self._opening[number] = opened
            else:
                opened.set_result(stream)
            self._outbox.put((number, "open", (hotwords or None,)))
        return opened

    def ask(self, number: int, what: str, *arguments: Any) -> None:
        """Call a method of a stream there. AsrError if it is over."""
        with self._lock:
            if number not in self._streams:
                raise AsrError("the stream is over; open another one")
            self._outbox.put((number, what, arguments))
            if what == "cancel":
                del self._streams[number]

    def run(self, make: Callable[[], Batcher]) -> "Iterator[tuple[list[tuple[_RemoteStream, Update]], float]]":
        """Start it; what its streams got, until it ends. AsrError for what it could not do."""
        context = get_context("spawn")
        connection, other = context.Pipe()
        with connection:
            process = context.Process(target=_decode, args=[other, make], daemon=True, name="asr-live")
            if hasattr(signal, "pthread_sigmask"):
                resource_tracker.ensure_running()  # it starts with the first process, and lets signals through then
            with held_back(), other:  # it gets none before it can ignore them
                process.start()
            # The event loop does not wait for a process that does not read yet: another thread does.
            threading.Thread(target=self._send, args=[connection], daemon=True).start()
            self._running = True
            try:
                while True:
                    message = connection.recv()
                    if isinstance(message, str):
                        raise AsrError(message)
                    yield from self._receive(message)
            except (EOFError, OSError):
                pass
            finally:
                process.join(1)
                self.exit_code = process.exitcode

    def _send(self, connection: Connection) -> None:
        with suppress(OSError):  # it has ended
            message: Any = ()
            while message is not None:
                message = self._outbox.get()
                connection.send(message)

    def _receive(self, message: Any) -> "Iterator[tuple[list[tuple[_RemoteStream, Update]], float]]":
        if isinstance(message, _Opened):
            with self._lock:
                opened, stream = self._opening.pop(message.number, None), self._streams.get(message.number)
                if message.error is not None:
                    self._streams.pop(message.number, None)
            if opened is not None and message.error is not None:
                opened.set_exception(message.error)
            elif opened is not None and stream is not None:
                opened.set_result(stream)
            return
        updates, busy = message
        with self._lock:
            found = [(self._streams.get(number), update) for number, update in updates]
            for number, update in updates:
                if update.done:
                    self._streams.pop(number, None)
        yield [(stream, update) for stream, update in found if stream is not None], busy

    def end(self) -> "list[_RemoteStream]":
        """Let it end when it has read what it was asked. Returns the streams that are not over."""
        with self._lock:
            self._ended, self._running = True, False
            opening, self._opening = self._opening, {}
            streams, self._streams = self._streams, {}
            self._outbox.put(None)
        for opened in opening.values():
            opened.set_exception(AsrError(f"{ENDED}; open another one"))
        return [stream for number, stream in streams.items() if number not in opening]


class _RemoteStream:
    def __init__(self, process: _Process, number: int):
        self._process, self._number = process, number

    def feed(self, samples: np.ndarray, rate: int) -> None:
        self._process.ask(self._number, "feed", samples, rate)

    def finish(self) -> None:
        self._process.ask(self._number, "finish")

    def cancel(self) -> None:
        with suppress(AsrError):
            self._process.ask(self._number, "cancel")


class _Opened(NamedTuple):
    """The answer to a stream with hotwords."""

    number: int
    error: BaseException | None


Live = LiveThread | LiveProcess
Stream = BatchedStream | _RemoteStream


# In the other process


def _decode(connection: Connection, make: Callable[[], Batcher]) -> None:
    """Decode what comes through the connection, to its end, or until None comes."""
    for number in ENDINGS:  # they may be sent to all; the server ends this process when what is spoken was finished
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        live = LiveThread(make())
    except Exception as error:
        connection.send(_reason(error))
        return
    decoding = _Decoding(connection, live)
    threading.Thread(target=decoding.run, daemon=True).start()
    try:
        while (message := connection.recv()) is not None:
            decoding.do(*message)
    except (EOFError, OSError):  # the server has ended
        pass
    finally:
        live.close()


class _Decoding:
    """The streams that the server has opened here, by their numbers."""

    def __init__(self, connection: Connection, live: LiveThread):
        self._connection, self._live = connection, live
        self._sending = threading.Lock()
        self._streams: dict[int, BatchedStream] = {}
        self._numbers: dict[BatchedStream, int] = {}

    def run(self) -> None:
        try:
            self._live.run(self._deliver)
        except BaseException as error:  # the streams cannot go on
            self._send(_reason(error))
            os._exit(1)

    def do(self, number: int, what: str, arguments: tuple[Any, ...]) -> None:
        """What the server asks of a stream."""
        stream = self._streams.get(number)
        if what == "open":
            hotwords: Hotwords | None = arguments[0]
            self._live.open(hotwords).add_done_callback(lambda opened: self._add(number, hotwords, opened))
        elif what == "cancel" and stream is not None:
            self._remove(stream)
            stream.cancel()
        elif stream is not None and not stream.done:  # if it is over, its last update is under way
            try:
                getattr(stream, what)(*arguments)
            except Exception as error:
                if not stream.done:
                    stream.fail(error)
                    self._deliver([(stream, _update(stream, []))], 0.0)

    def _add(self, number: int, hotwords: Hotwords | None, opened: Future[BatchedStream]) -> None:
        if (error := opened.exception()) is None:
            stream = opened.result()
            self._streams[number], self._numbers[stream] = stream, number
        elif not isinstance(error, AsrError):
            error = AsrError(_reason(error))  # any other may be none that can be sent
        if hotwords:
            self._send(_Opened(number, error))
        elif error is not None:
            self._send(([(number, Update([], 0, True, str(error)))], 0.0))

    def _remove(self, stream: BatchedStream) -> None:
        self._streams.pop(self._numbers.pop(stream, -1), None)

    def _deliver(self, results: list[tuple[BatchedStream, Update]], busy: float) -> None:
        # -1: cancelled meanwhile
        updates = [(self._numbers.get(stream, -1), _slim(update)) for stream, update in results]
        for stream, update in results:
            if update.done:
                self._remove(stream)
        self._send((updates, busy))

    def _send(self, message: Any) -> None:
        with suppress(OSError), self._sending:  # the server has ended
            self._connection.send(message)


def _slim(update: Update) -> Update:
    """Without most words of what may change: no protocol sends them, and there are many."""
    events = [replace(item, words=item.words[:1]) if isinstance(item, Partial) else item for item in update.events]
    return update._replace(events=events)
