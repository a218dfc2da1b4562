"""Many streams in one batcher: each gives what it gives alone, whatever the others do."""

import asyncio
import gc
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import carrier
import live_model
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_model import cut

from asr import ArgumentError, AudioError, BundleError, Endpoint, Final, StreamingRecognizer
from asr.decode.build import DecoderName, DecoderOptions
from asr.model.bundle import load_bundle
from asr.model.engine import StreamingEngine
from asr.output.events import Event, Partial, Revised
from asr.output.transcript import Word
from asr.recognize.batcher import BatchedStream, Batcher
from asr.recognize.streaming import ENDPOINT, PIECE, LiveStream

RATE = carrier.RATE
RULES = Endpoint(0.3, 2.0, 1.5)
DECODERS: tuple[DecoderName, ...] = ("greedy", "beam")
NARROW = {decoder: DecoderOptions(decoder, 4) for decoder in DECODERS}
WITH_LM = {"greedy": NARROW["greedy"], "beam": DecoderOptions("beam", 4, lm="en-lm")}

every_decoder = pytest.mark.parametrize("decoder", DECODERS)


@pytest.fixture(scope="module")
def engine(live_bundle: Path) -> StreamingEngine:
    """A model with memory and look-ahead."""
    return StreamingEngine(load_bundle(live_bundle), threads=1)


@pytest.fixture(scope="module")
def plain(streaming_carrier_bundle: Path) -> StreamingEngine:
    """A model that reads `carrier.speech`."""
    return StreamingEngine(load_bundle(streaming_carrier_bundle), threads=1)


def recordings(count: int) -> list[np.ndarray]:
    """Speech that begins and ends at different places; the last one is empty."""
    samples = np.concatenate([live_model.speech(), np.zeros(2 * RATE, dtype=np.float32), live_model.speech()])
    return [samples[3_000 * number : 5 * RATE + 2_345 * number] for number in range(count - 1)] + [samples[:0]]


def words_of(event: Event) -> Sequence[Word]:
    return event.words if isinstance(event, Partial) else event.segment.words


def same(events: Sequence[Event], expected: Sequence[Event]) -> bool:
    """Texts, times and confidences; the latter to the precision that log-probs of another batch have."""

    def told(event: Event) -> tuple[Any, ...]:
        words = [(word.text, round(word.start, 3), round(word.end, 3)) for word in words_of(event)]
        return type(event), event.stable_prefix if isinstance(event, Partial) else event.utterance, words

    confidences = [
        [word.confidence for event in some for word in words_of(event)] for some in (events, expected)
    ]  # fmt: skip
    return [*map(told, events)] == [*map(told, expected)] and confidences[0] == pytest.approx(confidences[1], abs=1e-3)


def finals(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, Final)]


def alone(engine: StreamingEngine, decoder: DecoderName | DecoderOptions, chunks: Sequence[np.ndarray]) -> list[Event]:
    recognizer = StreamingRecognizer(engine, decoder, RULES)
    return [event for chunk in chunks for event in recognizer.accept(chunk, RATE)] + recognizer.finish()


class Inbox:
    """Where the events of streams are delivered."""

    def __init__(self) -> None:
        self.events: dict[BatchedStream, list[Event]] = defaultdict(list)
        self.done = threading.Semaphore(0)

    def __call__(self, stream: BatchedStream, events: list[Event]) -> None:
        self.events[stream] += events
        if stream.done:
            self.done.release()

    def wait(self, streams: int) -> None:
        assert all(self.done.acquire(timeout=120) for _ in range(streams))


@contextmanager
def running(batcher: Batcher, deliver: Any) -> Iterator[Batcher]:
    thread = threading.Thread(target=batcher.run, args=[deliver], daemon=True)
    thread.start()
    try:
        yield batcher
    finally:
        batcher.close()
        thread.join(60)
        assert not thread.is_alive()


def drain(batcher: Batcher) -> dict[BatchedStream, list[Event]]:
    """All that steps give until there is nothing left to do."""
    events: dict[BatchedStream, list[Event]] = defaultdict(list)
    while batcher.news.is_set():
        for stream, more in batcher.step():
            events[stream] += more
    return events


# Exactness


@every_decoder
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9))
def test_each_stream_gives_the_events_that_it_gives_alone(
    engine: StreamingEngine, decoder: DecoderName, seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    batcher = Batcher(engine, NARROW[decoder])
    chunks = [cut(source, rng.integers(0, rng.choice([1_000, PIECE]), 400)) for source in recordings(count)]
    waiting = {number: iter(parts) for number, parts in enumerate(chunks)}
    streams: dict[int, BatchedStream] = {}
    found: dict[BatchedStream, list[Event]] = defaultdict(list)
    cancelled = set()
    while waiting:
        for number in [number for number in waiting if rng.random() < 0.6]:  # some join late, some pause
            stream = streams.setdefault(number, batcher.open(RULES)) if number not in streams else streams[number]
            chunk = next(waiting[number], None)
            if rng.random() < 0.01:
                stream.cancel()
                cancelled.add(number)
            elif chunk is not None:
                stream.feed(chunk, RATE)
                continue
            else:
                stream.finish()
            del waiting[number]
        for stream, events in batcher.step():
            found[stream] += events
    for stream, events in drain(batcher).items():
        found[stream] += events
    for number, stream in streams.items():
        assert stream.done
        expected = alone(engine, NARROW[decoder], chunks[number])
        assert same(found[stream], expected[: len(found[stream])] if number in cancelled else expected)


def test_recordings_that_are_fed_at_once_are_spread_over_steps(engine: StreamingEngine) -> None:
    batcher = Batcher(engine, NARROW["beam"])
    sources = recordings(4)
    streams = [batcher.open(RULES) for _ in sources]
    for stream, source in zip(streams, sources, strict=True):
        stream.feed(source, RATE)
        stream.finish()
    assert streams[0].backlog == 5.0
    batcher.step()
    assert streams[0].backlog == 5.0 - PIECE / RATE
    found = drain(batcher)
    for stream, source in zip(streams, sources, strict=True):
        assert same(finals(found[stream]), finals(alone(engine, NARROW["beam"], [source])))
        assert (stream.done, stream.backlog) == (True, 0.0)


def test_streams_of_other_rates_and_without_endpoints_run_together(plain: StreamingEngine) -> None:
    batcher = Batcher(plain, "greedy")
    samples = carrier.speech("some words", 50)
    telephone, whole = batcher.open(), batcher.open(endpoint=None)
    telephone.feed(np.repeat(np.pad(samples[:: carrier.FRAME], (1, 0)), 320)[160:], 8_000)
    whole.feed(np.tile(samples, 3), RATE)
    for stream in (telephone, whole):
        stream.finish()
    found = drain(batcher)
    assert [event.text for event in found[telephone] if isinstance(event, Final)] == ["some words"]
    assert [event.text for event in found[whole] if isinstance(event, Final)] == ["some words" * 3]


# Threads


@every_decoder
def test_32_streams_of_8_threads_give_every_text_as_if_alone(engine: StreamingEngine, decoder: DecoderName) -> None:
    sources = recordings(32)
    expected = [finals(alone(engine, WITH_LM[decoder], [source])) for source in sources]
    inbox = Inbox()
    with running(Batcher(engine, WITH_LM[decoder]), inbox) as batcher, ThreadPoolExecutor(8) as pool:

        def speak(source: np.ndarray) -> BatchedStream:
            stream = batcher.open(RULES)
            for chunk in cut(source, [2_560] * 50):
                stream.feed(chunk, RATE)
            stream.finish()
            return stream

        streams = list(pool.map(speak, sources))
        inbox.wait(len(streams))
    assert all(same(finals(inbox.events[stream]), wanted) for stream, wanted in zip(streams, expected, strict=True))
    assert sum(map(len, expected)) > 60


@every_decoder
def test_8_threads_share_one_engine_and_one_decoder_for_32_streams(
    engine: StreamingEngine, decoder: DecoderName
) -> None:
    options = WITH_LM[decoder]
    sources = recordings(32)
    expected = [finals(alone(engine, options, [source])) for source in sources]
    shared = Batcher(engine, options).decoder

    def recognize(source: np.ndarray) -> list[Event]:
        stream = LiveStream(engine, shared, RULES)
        events: list[Event] = []
        for chunk in [*cut(source, [2_560] * 50), None]:
            stream.end() if chunk is None else stream.feed(chunk, RATE)
            (frames,) = engine.run([stream.position], [stream.take()])
            events += stream.decode(frames)
        return events

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places all the time
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(recognize, sources))
    finally:
        sys.setswitchinterval(interval)
    assert all(same(finals(events), wanted) for events, wanted in zip(found, expected, strict=True))


def test_a_slow_consumer_in_an_event_loop_holds_up_nobody(plain: StreamingEngine) -> None:
    samples = carrier.speech("slow and quick", 30)

    async def main() -> tuple[list[str], list[str]]:
        loop = asyncio.get_running_loop()
        queues: dict[BatchedStream, asyncio.Queue[tuple[list[Event], bool]]] = defaultdict(asyncio.Queue)

        def deliver(stream: BatchedStream, events: list[Event]) -> None:
            loop.call_soon_threadsafe(queues[stream].put_nowait, (events, stream.done))

        async def talk(released: asyncio.Event, release: asyncio.Event) -> list[str]:
            stream, texts, done = batcher.open(), [], False
            for chunk in cut(samples, [2_560] * 99):
                stream.feed(chunk, RATE)
            stream.finish()
            while not done:
                await asyncio.wait_for(released.wait(), 60)
                events, done = await asyncio.wait_for(queues[stream].get(), 60)
                texts += [event.text for event in events if isinstance(event, Final)]
            release.set()
            return texts

        free, quick_is_done = asyncio.Event(), asyncio.Event()
        free.set()
        with running(Batcher(plain), deliver) as batcher:
            # The first one takes nothing before the second one has everything.
            return tuple(await asyncio.gather(talk(quick_is_done, free), talk(free, quick_is_done)))  # type: ignore[return-value]

    assert asyncio.run(main()) == (["slow and quick"], ["slow and quick"])


# Cancelling


def live_streams() -> int:
    """How many streams are held in memory."""
    gc.collect()
    return sum(type(item) is LiveStream for item in gc.get_objects())


def test_a_cancelled_stream_is_forgotten_and_the_others_go_on(engine: StreamingEngine) -> None:
    batcher = Batcher(engine, NARROW["beam"])
    source = recordings(2)[0]
    kept, dropped = batcher.open(RULES), batcher.open(RULES)
    for stream in (kept, dropped):
        stream.feed(source[: 2 * RATE], RATE)
    batcher.step()
    dropped.feed(source, RATE)
    before = live_streams()
    dropped.cancel()
    assert live_streams() == before - 1  # its memory is free
    assert (dropped.cancelled, dropped.done, dropped.backlog) == (True, True, 0.0)
    kept.feed(source[2 * RATE :], RATE)
    kept.finish()
    found = drain(batcher)
    assert dropped not in found
    expected = finals(alone(engine, NARROW["beam"], [source]))
    assert same(finals(found[kept]), expected)
    for call in (lambda: dropped.feed(source, RATE), dropped.finish, kept.finish):
        with pytest.raises(AudioError, match="the stream is over; open another one"):
            call()
    dropped.cancel()  # once more does no harm


def test_nothing_comes_out_of_a_stream_after_it_was_cancelled(plain: StreamingEngine) -> None:
    late: list[BatchedStream] = []
    inbox = Inbox()

    def deliver(stream: BatchedStream, events: list[Event]) -> None:
        if stream in gone:
            late.append(stream)
        inbox(stream, events)

    gone: set[BatchedStream] = set()
    samples = carrier.speech("word " * 20)
    with running(Batcher(plain, "greedy"), deliver) as batcher:
        for number in range(60):
            stream = batcher.open()
            for chunk in cut(samples, [1_280] * 50):
                stream.feed(chunk, RATE)
            time.sleep(0.0005 * (number % 7))  # at another moment of a step
            stream.cancel()
            gone.add(stream)
        last = batcher.open()
        last.feed(samples, RATE)
        last.finish()
        inbox.wait(1)
    assert late == []
    assert [event.text for event in inbox.events[last] if isinstance(event, Final)] == [("word " * 20).strip()]


def test_a_stream_that_is_cancelled_while_the_graph_fails_does_not_come_out(
    plain: StreamingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = Batcher(plain, "greedy")
    streams = [batcher.open() for _ in range(2)]
    for stream in streams:
        stream.feed(carrier.speech("one"), RATE)

    def fail(*_: object) -> None:
        streams[0].cancel()
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(plain, "run", fail)
    assert [stream for stream, _ in batcher.step()] == streams[1:]
    batcher.close()


def test_a_consumer_may_cancel_or_fail_and_the_others_go_on(
    plain: StreamingEngine, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    samples = carrier.speech("one two three")

    def deliver(stream: BatchedStream, events: list[Event]) -> None:
        inbox(stream, events)
        if stream is streams[0]:
            stream.cancel()
        if stream is streams[1]:
            raise RuntimeError("the socket is closed")

    with running(Batcher(plain, "greedy"), deliver) as batcher:
        streams = [batcher.open() for _ in range(3)]
        for chunk in cut(samples, [2_560] * 9):
            for stream in streams:
                if not stream.done:
                    stream.feed(chunk, RATE)
            while streams[2].backlog:
                time.sleep(0.001)
        streams[2].finish()
        inbox.wait(1)
        assert [stream.cancelled for stream in streams] == [True, True, False]
    assert [len(inbox.events[stream]) for stream in streams[:2]] == [1, 1]
    assert inbox.events[streams[2]][-1] == Final(inbox.events[streams[2]][-1].segment)  # type: ignore[union-attr]
    assert "the socket is closed" in caplog.text


def test_closing_ends_all_streams_and_the_thread(plain: StreamingEngine) -> None:
    with running(Batcher(plain, "greedy"), Inbox()) as batcher:
        stream = batcher.open()
    assert stream.done
    assert batcher.step() == []


def test_after_the_end_of_a_stream_or_of_the_batcher_nothing_is_taken(plain: StreamingEngine) -> None:
    batcher = Batcher(plain)
    stream = batcher.open()
    stream.feed(carrier.speech("a"), RATE)
    stream.finish()
    with pytest.raises(AudioError, match="the stream is over; open another one"):
        stream.feed(carrier.speech("b"), RATE)
    ((_, events),) = batcher.step()
    assert [word.text for event in finals(events) for word in words_of(event)] == ["a"]
    batcher.close()
    with pytest.raises(AudioError, match="the batcher is closed; make another one"):
        batcher.open()


def test_closing_leaves_the_callers_executor_running(plain: StreamingEngine, carrier_bundle: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        Batcher(plain, "greedy", second_pass=carrier_bundle, executor=executor).close()
        assert executor.submit(int).result() == 0


# Errors


def test_bad_samples_are_the_error_of_one_stream(engine: StreamingEngine) -> None:
    batcher = Batcher(engine, NARROW["beam"])
    source = recordings(2)[0]
    good, bad = batcher.open(RULES), batcher.open(RULES)
    good.feed(source, RATE)
    for samples, rate in ((source * 32768, RATE), (np.zeros((2, 100)), RATE), (source, None), ("talk.wav", RATE)):
        with pytest.raises(ArgumentError):
            bad.feed(samples, rate)  # type: ignore[arg-type]
    bad.feed(np.full(RATE, np.nan, dtype=np.float32), RATE)  # silence
    with pytest.raises(AudioError, match="goes on at 8000 Hz"):
        bad.feed(source, 8_000)
    bad.feed(source, RATE)
    for stream in (good, bad):
        stream.finish()
    found = drain(batcher)
    assert same(finals(found[good]), finals(alone(engine, NARROW["beam"], [source])))
    silence = np.zeros(RATE, dtype=np.float32)
    assert same(finals(found[bad]), finals(alone(engine, NARROW["beam"], [np.concatenate([silence, source])])))


class FailingDecoder:
    """A decoder that fails at the 20th frame of streams that were opened while `failing`."""

    def __init__(self, decoder: Any):
        self.decoder, self.failing = decoder, False

    def reset(self) -> tuple[Any, list[int]]:
        return self.decoder.reset(), [20 if self.failing else 10**9]

    def advance(self, state: tuple[Any, list[int]], log_probs: np.ndarray, encoded: object = None) -> None:
        state[1][0] -= len(log_probs)
        if state[1][0] < 0:
            raise MemoryError("no room for hypotheses")
        self.decoder.advance(state[0], log_probs)

    def partial(self, state: tuple[Any, list[int]]) -> Any:
        return self.decoder.partial(state[0])

    def finish(self, state: tuple[Any, list[int]]) -> Any:
        return self.decoder.finish(state[0])


def test_an_error_in_one_stream_ends_that_one_only(engine: StreamingEngine) -> None:
    batcher = Batcher(engine, "greedy")
    batcher.decoder = decoder = FailingDecoder(batcher.decoder)
    good = batcher.open(None)
    decoder.failing = True
    bad = batcher.open(None)
    decoder.failing = False
    source = recordings(2)[0]
    for stream in (good, bad):
        stream.feed(source, RATE)
        stream.finish()
    results = []
    while batcher.news.is_set():
        results += batcher.step()
    assert isinstance(bad.error, MemoryError)
    assert bad.done
    assert (bad, []) in results  # so that whoever waits for it learns of its end
    with pytest.raises(AudioError, match="no room for hypotheses"):
        bad.feed(source, RATE)
    assert good.error is None
    assert [event.text for stream, events in results for event in events if stream is good][-1]


def test_how_many_feeds_are_decoded_is_known(engine: StreamingEngine) -> None:
    """Also of feeds that are empty, too short for a frame, or taken in several steps."""
    batcher = Batcher(engine, "greedy")
    stream = batcher.open()
    decoded = []
    for feeds in ([0], [1], [carrier.FRAME, 3], [5 * RATE, 0]):
        for samples in feeds:
            stream.feed(np.zeros(samples, dtype=np.float32), RATE)
        steps = 0
        while batcher.step():
            steps += 1
        decoded.append((stream.feeds_decoded, steps))
    assert [count for count, _ in decoded] == [1, 2, 4, 6]
    assert decoded[-1][1] > 1


def test_a_model_for_whole_recordings_is_refused(carrier_bundle: Path) -> None:
    with pytest.raises(BundleError, match="choose a live model"):
        Batcher(carrier_bundle)


# Options of a stream


def test_streams_have_their_own_hotwords(plain: StreamingEngine) -> None:
    batcher = Batcher(plain, DecoderOptions(lm="NONE"))
    samples = carrier.speech("ivanho", 5)
    usual, preferring = batcher.open(), batcher.open(hotwords={"ivanhoe": 60.0})
    for stream in (usual, preferring):
        stream.feed(samples, RATE)
        stream.finish()
    found = drain(batcher)
    expected = StreamingRecognizer(plain, DecoderOptions(lm="NONE", hotwords={"ivanhoe": 60.0}))
    assert found[usual][-1].text == "ivanho"
    assert found[preferring][-1].text == [*expected.accept(samples, RATE), *expected.finish()][-1].text
    with pytest.raises(ArgumentError, match="hotwords: the greedy decoder ignores them"):
        Batcher(plain, "greedy").open(hotwords={"ivanhoe": 1.0})


def test_the_second_pass_runs_beside_the_streams(plain: StreamingEngine, carrier_bundle: Path) -> None:
    inbox = Inbox()
    samples = np.concatenate([carrier.speech("one two", 30), carrier.speech("three", 30)])
    with running(Batcher(plain, "greedy", second_pass=carrier_bundle), inbox) as batcher:
        streams = [batcher.open(ENDPOINT) for _ in range(4)]
        for stream in streams:
            stream.feed(samples, RATE)
            stream.finish()
        inbox.wait(len(streams))
        for stream in streams:
            events = inbox.events[stream]
            told = [[event.text for event in events if type(event) is kind] for kind in (Final, Revised)]
            assert told == [["one two", "three"]] * 2
            assert [event.utterance for event in events if isinstance(event, Revised)] == [0, 1]
