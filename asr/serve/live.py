"""Where live streams are decoded: in a thread of the server, or in processes beside it, on the other cores.

    live = Live(Decoding(batcher))              # or Live(Process(make_batcher))
    live.start(deliver)                         # called in another thread: deliver([(stream, update), …], seconds)
    stream = live.open(hotwords, receive)       # who is to get the stream's updates
    stream.feed(samples, rate)                  # or finish() or cancel(); nothing of this waits, or fails

What the two processes send each other are pickles of their own making, through a pipe that nobody else can open.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
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
    error: AsrError | None = None  # what ended the stream early


Results = list[tuple[int, Update]] | None  # of streams by their numbers; None: all of them have failed
Send = Callable[[Results, float], Any]  # with the seconds that the model took


class Decoding:
    """The streams of a batcher, by numbers that others give them. `send` gets what comes of them, in any thread."""

    running = True
    send: Send

    def __init__(self, batcher: Batcher):
        self.batcher = batcher
        self._streams: dict[int, BatchedStream] = {}
        self._numbers: dict[BatchedStream, int] = {}
        # Streams for whose hotwords a decoder is made, one after the other; what else is asked of them waits for that.
        self._opening: dict[int, list[tuple[Any, ...]]] = {}
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._closed = False

    def do(self, number: int, what: str, *arguments: Any) -> None:
        """Open a stream (hotwords), feed it (samples, rate), finish or cancel it. Returns at once."""
        with self._lock:
            if (waiting := self._opening.get(number)) is not None:
                waiting.append((what, *arguments))
                return
            if has_hotwords := what == "open" and bool(arguments[0]):
                self._opening[number] = []
        if has_hotwords:
            threading.Thread(target=self._open, args=[number, *arguments], daemon=True).start()
        else:
            self._do(number, what, *arguments)

    def _open(self, number: int, hotwords: Hotwords) -> None:
        with self._making:
            if ("cancel",) not in self._opening[number]:
                self._do(number, "open", hotwords)
        while True:
            with self._lock:
                waiting, self._opening[number] = self._opening[number], []
                if not waiting:
                    del self._opening[number]
                    return
            for request in waiting:
                self._do(number, *request)

    def _do(self, number: int, what: str, *arguments: Any) -> None:
        stream = self._streams.get(number)
        try:
            if what == "open":
                stream = self.batcher.open(hotwords=arguments[0])
                self._streams[number], self._numbers[stream] = stream, number
            elif what == "cancel":
                self._forget(number)
            elif stream is not None and not stream.done:  # if it is over, its last update is under way
                getattr(stream, what)(*arguments)
        except Exception as error:
            if stream is None:
                self.send([(number, Update([], 0, True, _sendable(error)))], 0.0)
            elif not stream.done:
                stream.fail(error)
                self._deliver([(stream, [])], 0.0)

    def run(self) -> None:
        """Decode until `close`."""
        while not self._closed:
            self.batcher.news.wait()
            began = time.perf_counter()
            results = self.batcher.step()
            busy = time.perf_counter() - began
            if results and not self._closed:
                self._deliver(results, busy)
            time.sleep(max(0.0, GATHER_SECONDS - busy))

    def _deliver(self, results: list[tuple[BatchedStream, list[Event]]], busy: float) -> None:
        numbers = [self._numbers.get(stream) for stream, _ in results]  # None: cancelled meanwhile
        updates = [_update(*result) for result in results]
        found = [(number, update) for number, update in zip(numbers, updates, strict=True) if number is not None]
        for number, update in found:
            if update.done:
                self._forget(number)
        self.send(found, busy)

    def _forget(self, number: int) -> None:
        if (stream := self._streams.pop(number, None)) is not None:
            self._numbers.pop(stream, None)
            stream.cancel()

    def close(self) -> None:
        self._closed = True
        self.batcher.close()


def _update(stream: BatchedStream, events: list[Event]) -> Update:
    # Without most words of what may change: no protocol sends them, and there are many.
    events = [replace(event, words=event.words[:1]) if isinstance(event, Partial) else event for event in events]
    return Update(events, stream.feeds_decoded, stream.done, _sendable(stream.error) if stream.error else None)


def _sendable(error: BaseException) -> AsrError:
    """An error that another process can read; any but our own may be none."""
    return error if isinstance(error, AsrError) else AsrError(str(error) or type(error).__name__)


class Stream:
    """A live stream. `receive` gets its updates; it is None when the stream was cancelled."""

    def __init__(self, ask: Callable[..., None], receive: Callable[[Update], None]):
        self.receive: Callable[[Update], None] | None = receive
        self._ask = ask

    def feed(self, samples: np.ndarray, rate: int) -> None:
        self._ask("feed", samples, rate)

    def finish(self) -> None:
        self._ask("finish")

    def cancel(self) -> None:
        self.receive = None
        self._ask("cancel")


Deliver = Callable[[list[tuple[Stream, Update]], float], None]  # and the seconds that the model took


class Live:
    """Streams of the server, by numbers. `open` and the methods of a stream are called by one thread at a time."""

    def __init__(self, decoding: "Decoding | Process"):
        self.decoding = decoding
        self._numbers, self._streams = count(), dict[int, Stream]()

    @property
    def streams(self) -> int:
        """How many are not over. Where they cannot be decoded now there are more than anywhere else."""
        return len(self._streams) + (0 if self.decoding.running else sys.maxsize // 2)

    def open(self, hotwords: Hotwords | None, receive: Callable[[Update], None]) -> Stream:
        number = next(self._numbers)
        stream = self._streams[number] = Stream(partial(self._ask, number), receive)
        self._ask(number, "open", hotwords or None)
        return stream

    def _ask(self, number: int, what: str, *arguments: Any) -> None:
        if what == "cancel":
            self._streams.pop(number, None)
        self.decoding.do(number, what, *arguments)

    def start(self, deliver: Deliver) -> None:
        self._deliver, self.decoding.send = deliver, self._receive
        threading.Thread(target=self.decoding.run, name="asr-live", daemon=True).start()

    def _receive(self, results: Results, busy: float) -> int:
        """Returns for how many streams these were; of None all streams have failed."""
        if results is None:
            results = [(number, Update([], 0, True, AsrError(ENDED))) for number in list(self._streams)]
        found = [(stream, update) for number, update in results if (stream := self._streams.get(number))]
        for number, update in results:
            if update.done:
                self._streams.pop(number, None)
        self._deliver(found, busy)
        return len(found)

    def close(self) -> None:
        self.decoding.close()


class Process:
    """A `Decoding` in a process of its own. If that ends, its streams have failed, and another one is started.

    make: the batcher; called in that process.
    """

    send: Send

    def __init__(self, make: Callable[[], Batcher]):
        self.running = self._closed = False
        self._make = make
        self._outbox: SimpleQueue[Any] = SimpleQueue()  # of what is asked; None: the process is to end
        atexit.register(self.close)  # or the interpreter would wait for a process that waits for it

    def do(self, *request: Any) -> None:
        self._outbox.put(request)

    def run(self) -> None:
        pause, longest = PAUSES
        while not self._closed:
            process, problem = None, "ended"
            try:
                process, connection = self._start()
                with connection, suppress(EOFError, OSError):
                    while True:
                        message = connection.recv()
                        if isinstance(message, AsrError):
                            raise message
                        self.send(*message)
                        pause, _ = PAUSES
            except Exception as error:  # it cannot be started, or said why it ends
                problem = str(_sendable(error))
            self.running = False
            # What is asked from here on is for the next process. It knows no stream of this one, and takes no notice.
            outbox, self._outbox = self._outbox, SimpleQueue()
            outbox.put(None)
            lost = self.send(None, 0.0)
            if process is not None:
                process.join(1)
            if self._closed:
                break
            report("process", outcome=problem, exit_code=process and process.exitcode, streams=lost)
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def _start(self) -> tuple[BaseProcess, Connection]:
        context = get_context("spawn")
        connection, other = context.Pipe()
        process = context.Process(target=_decode, args=[other, self._make], daemon=True, name="asr-live")
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # it starts with the first process, and lets signals through then
        with held_back(), other:  # it gets none before it can ignore them
            process.start()
        # The event loop does not wait for a process that does not read yet: another thread does.
        threading.Thread(target=_send_all, args=[self._outbox, connection], daemon=True).start()
        self.running = True
        return process, connection

    def close(self) -> None:
        self._closed = True
        self._outbox.put(None)


def _send_all(outbox: SimpleQueue[Any], connection: Connection) -> None:
    """Send what is asked, to the end: None."""
    with suppress(OSError):  # the process has ended
        message: Any = ()
        while message is not None:
            message = outbox.get()
            connection.send(message)


def _decode(connection: Connection, make: Callable[[], Batcher]) -> None:
    """In the other process: do what is asked through the connection, to its end, or until None comes."""
    for number in ENDINGS:  # they may be sent to all; the server ends this process when what is spoken was finished
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    sending = threading.Lock()

    def send(message: Any) -> None:
        with suppress(OSError), sending:  # the server has ended
            connection.send(message)

    def run() -> None:
        try:
            decoding.run()
        except BaseException as error:  # the streams cannot go on
            send(_sendable(error))
            os._exit(1)

    try:
        decoding = Decoding(make())
        decoding.send = lambda *results: send(results)
    except Exception as error:
        send(_sendable(error))
        return
    threading.Thread(target=run, daemon=True).start()
    with suppress(EOFError, OSError):  # the server has ended
        while (request := connection.recv()) is not None:
            decoding.do(*request)
    decoding.close()
