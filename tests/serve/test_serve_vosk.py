"""Live audio as vosk-server takes it: clients that send one message and wait for one."""

import asyncio
import gc
import json
import os
import socket as sockets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import carrier
import live_model
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr import Final, StreamingRecognizer
from asr.decode.build import DecoderOptions
from asr.model.bundle import load_bundle
from asr.model.engine import StreamingEngine
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import LiveStream

websockets = pytest.importorskip("websockets", reason="pip install 'recurrent-asr[serve]'")
from serving import GREEDY, Running, Serve, metric, pcm, wait_until  # noqa: E402, wait_until
from websockets.asyncio.client import connect as connect_async  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.frames import Close  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402

RATE = carrier.RATE
CHUNK = 2560  # samples, 160 ms
SPEECH = np.concatenate([carrier.speech("one two", 5), carrier.speech("", 40), carrier.speech("three", 5)])
Message = str | bytes
LIMIT = 30  # seconds that a reply may take on a busy machine


@contextmanager
def client(running: Running, config: dict[str, Any] | None = None, path: str = "/vosk") -> Iterator[ClientConnection]:
    with connect(running.url(path, "ws"), close_timeout=5, max_size=None) as socket:
        socket.send(json.dumps({"config": {"sample_rate": RATE} if config is None else config}))
        yield socket


def answer(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(socket.recv(LIMIT))


def speak(socket: ClientConnection, audio: bytes, size: int = 2 * CHUNK) -> list[dict[str, Any]]:
    """Send and receive in turn, as vosk's test client does; all replies, the last one to eof."""
    replies = []
    for start in range(0, len(audio), size):
        socket.send(audio[start : start + size])
        replies.append(answer(socket))
    socket.send('{"eof" : 1}')
    replies.append(answer(socket))
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(LIMIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    return replies


def drain(socket: ClientConnection, replies: list[dict[str, Any]]) -> Close:
    """All replies to the end of the connection, and how it was closed."""
    try:
        while True:
            replies.append(answer(socket))
    except ConnectionClosed as closed:
        return closed.rcvd or Close(1006, "")


def texts(replies: Sequence[dict[str, Any]]) -> list[str]:
    return [reply["text"] for reply in replies if reply.get("text")]


# The protocol


def test_one_reply_for_each_message(server: Running) -> None:
    audio = pcm(SPEECH)
    with client(server) as socket:
        replies = speak(socket, audio)
    assert len(replies) == -(-len(audio) // (2 * CHUNK)) + 1
    assert all(("partial" in reply) != ("text" in reply) for reply in replies)
    assert texts(replies) == ["one two", "three"]
    words = [word["word"] for reply in replies for word in reply.get("result", [])]
    assert words == ["one", "two", "three"]
    assert all(set(word) == {"conf", "start", "end", "word"} for reply in replies for word in reply.get("result", []))


def test_the_root_is_for_clients_with_a_port_of_their_own(server: Running) -> None:
    with client(server, path="/") as socket:
        assert texts(speak(socket, pcm(SPEECH))) == ["one two", "three"]


def test_without_a_configuration_the_rate_is_that_of_vosk_server(server: Running) -> None:
    with connect(server.url("/vosk", "ws")) as socket:
        replies = speak(socket, bytes(16_000))
    assert replies[-1] == {"text": ""}
    assert metric(server, 'asr_audio_seconds_total{kind="live"}') >= 1.0


def test_several_finals_of_one_message_are_joined(server: Running) -> None:
    with client(server) as socket:
        replies = speak(socket, pcm(np.concatenate([SPEECH, carrier.speech("", 40)])), size=10**6)
    assert [reply["text"] for reply in replies] == ["one two three", ""]
    assert len(replies[0]["result"]) == 3


def test_words_and_alternatives_as_configured(server: Running) -> None:
    with client(server, {"sample_rate": RATE, "words": False}) as socket:
        assert [set(reply) for reply in speak(socket, pcm(SPEECH), 10**6)][-1] == {"text", "utterance"}
    with client(server, {"sample_rate": RATE, "max_alternatives": 3}) as socket:
        (best,) = speak(socket, pcm(SPEECH), 10**6)[-1]["alternatives"]
    assert best["text"] == "three"
    assert set(best["result"][0]) == {"start", "end", "word"}


def test_phrases_are_preferred(serve: Serve, live_bundle: Path) -> None:
    options, phrases = DecoderOptions("beam", 4, lm="NONE"), ["e:30", "abc:30"]
    engine = StreamingEngine(load_bundle(live_bundle), threads=1)
    samples = np.frombuffer(pcm(live_model.speech()), "<i2")
    found, expected = [], []
    with serve(live=live_bundle, decoder=options) as running:
        for hotwords in ([], phrases):
            recognizer = StreamingRecognizer(engine, replace(options, hotwords=hotwords))
            events = [*recognizer.accept(samples, RATE), *recognizer.finish()]
            expected.append([event.text for event in events if isinstance(event, Final)])
            with client(running, {"sample_rate": RATE, "phrase_list": [*hotwords, "[unk]"]}) as socket:
                found.append(texts(speak(socket, samples.tobytes())))
    assert found == expected
    assert found[0] != found[1]


def test_messages_sent_without_waiting_are_all_answered(server: Running) -> None:
    audio = pcm(SPEECH)
    chunks = [audio[start : start + 1000] for start in range(0, len(audio), 1000)]
    with client(server) as socket:
        for chunk in chunks:
            socket.send(chunk)
        socket.send('{"eof": 1}')
        replies = [json.loads(message) for message in socket]
    assert len(replies) == len(chunks) + 1
    assert texts(replies) == ["one two", "three"]


def test_the_end_without_audio(server: Running) -> None:
    with client(server) as socket:
        assert speak(socket, b"") == [{"text": ""}]
    with client(server) as socket:
        socket.send(b"")
        assert answer(socket)["partial"] == ""


# Equality with StreamingRecognizer


@pytest.mark.parametrize("size", [1, 321, 2 * CHUNK, 10**6])
def test_finals_are_those_of_a_streaming_recognizer(serve: Serve, live_bundle: Path, size: int) -> None:
    samples = live_model.speech()[: {1: RATE // 100, 321: 2 * RATE}.get(size)]  # each message has its step of the model
    whole = np.frombuffer(pcm(samples), "<i2")
    recognizer = StreamingRecognizer(StreamingEngine(load_bundle(live_bundle), threads=1), GREEDY)
    events = [*recognizer.accept(whole, RATE), *recognizer.finish()]
    with serve(live=live_bundle) as running, client(running) as socket:
        replies = speak(socket, whole.tobytes(), size)
    assert " ".join(texts(replies)) == " ".join(event.text for event in events if isinstance(event, Final))
    found = [(word["word"], word["start"]) for reply in replies for word in reply.get("result", [])]
    words = [word for event in events if isinstance(event, Final) for word in event.segment.words]
    assert found == [(word.text, round(word.start, 3)) for word in words]
    assert found or size == 1


def test_other_rates_are_resampled(serve: Serve, live_bundle: Path) -> None:
    rate = 44_100
    samples = np.frombuffer(pcm(np.repeat(live_model.speech(), 3)[: 4 * rate]), "<i2")
    recognizer = StreamingRecognizer(StreamingEngine(load_bundle(live_bundle), threads=1), GREEDY)
    events = [*recognizer.accept(samples, rate), *recognizer.finish()]
    with serve(live=live_bundle) as running, client(running, {"sample_rate": float(rate)}) as socket:
        replies = speak(socket, samples.tobytes(), 8192)
    assert " ".join(texts(replies)) == " ".join(event.text for event in events if isinstance(event, Final))


def test_streams_do_not_mix(server: Running) -> None:
    said = [f"{a}{b} {c}" for a in "abc" for b in "de" for c in ("one", "two")]
    found: dict[str, list[str]] = {}

    def one(text: str) -> None:
        with client(server) as socket:
            found[text] = texts(speak(socket, pcm(carrier.speech(text, 3)), 2000))

    threads = [threading.Thread(target=one, args=[text]) for text in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {text: [text] for text in said}


def test_the_second_pass_comes_beside_other_replies(serve: Serve, carrier_recognizer: Recognizer) -> None:
    with serve(second_pass=carrier_recognizer) as running, client(running) as socket:
        replies = speak(socket, pcm(SPEECH))
    assert texts(replies) == ["one two", "three"]
    revised = [item for reply in replies for item in reply.get("revised", [])]
    assert [(item["utterance"], item["text"]) for item in revised] == [(0, "one two"), (1, "three")]


# Faults


def wait_until_gone(running: Running) -> None:
    wait_until(lambda: not running.service.streams and not running.service.lives[0].streams)


def test_half_a_sample_waits_for_its_other_half(server: Running) -> None:
    with client(server) as socket:
        replies = speak(socket, pcm(SPEECH), 2 * CHUNK - 1)
    assert texts(replies) == ["one two", "three"]


def test_a_client_that_vanishes_leaves_nothing_behind(serve: Serve) -> None:
    with serve() as running:
        for _ in range(5):
            with client(running) as socket:
                socket.send(pcm(SPEECH)[:20_000])
                answer(socket)
                socket.socket.shutdown(sockets.SHUT_RDWR)  # in the middle of a word, without a goodbye
        wait_until_gone(running)
        with client(running) as socket:
            assert texts(speak(socket, pcm(SPEECH))) == ["one two", "three"]


def test_a_client_that_vanishes_while_its_phrases_are_prepared(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as running:
        batcher = running.service.lives[0].decoding.batcher
        opened, open_stream = threading.Event(), batcher.open

        def slow(**options: Any) -> Any:
            time.sleep(1)
            stream = open_stream()
            opened.set()
            return stream

        monkeypatch.setattr(batcher, "open", slow)
        with client(running, {"sample_rate": RATE, "phrase_list": ["one"]}) as socket:
            socket.send(bytes(320))
            time.sleep(0.3)
            socket.socket.shutdown(sockets.SHUT_RDWR)
        assert opened.wait(LIMIT)
        wait_until_gone(running)


def test_phrases_of_others_are_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    phrases = {"sample_rate": RATE, "phrase_list": ["one"]}
    with serve(decoder=DecoderOptions("beam", 4, lm="NONE")) as running, client(running, phrases) as first:
        first.send(bytes(320))
        answer(first)
        batcher = running.service.lives[0].decoding.batcher
        opening, go_on, open_stream = [], threading.Event(), batcher.open

        def slow(**options: Any) -> Any:
            opening.append(options)
            go_on.wait(LIMIT)
            return open_stream(**options)

        monkeypatch.setattr(batcher, "open", slow)
        with client(running, phrases) as second:
            second.send(bytes(320))
            with client(running, phrases) as third:  # which leaves before its turn has come
                third.send(bytes(320))
                wait_until(lambda: running.service.lives[0].streams == 3)
            wait_until(lambda: running.service.lives[0].streams == 2)
            assert texts(speak(first, pcm(SPEECH))) == ["one two", "three"]
            go_on.set()
            answer(second)
        wait_until_gone(running)
        assert len(opening) == 1


HANDSHAKE = (
    b"GET /vosk HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(kind: int, content: bytes) -> bytes:
    """A message of a client without a library, whose mask is zero."""
    return bytes([0x80 | kind, 0xFE]) + len(content).to_bytes(2, "big") + bytes(4) + content


def test_half_a_frame_ends_the_stream(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="asr.serve")
    with serve() as running:
        for cut in (1, 3, 6, 8, 1600):  # bytes: within the header, its length and its mask, and within the audio
            with sockets.create_connection(("127.0.0.1", running.port), timeout=LIMIT) as raw:
                raw.sendall(HANDSHAKE)
                found = raw.recv(4096)
                raw.sendall(frame(2, pcm(SPEECH)[:3200]))
                while b'"partial"' not in found:
                    found += raw.recv(4096)
                raw.sendall(frame(2, bytes(3200))[:cut])
            wait_until_gone(running)
        with client(running) as socket:
            assert texts(speak(socket, pcm(SPEECH))) == ["one two", "three"]
    outcomes = [json.loads(item.getMessage())["outcome"] for item in caplog.records if item.name == "asr.serve"]
    assert outcomes == 5 * ["left"] + ["finished"]
    assert not [record for record in caplog.records if record.exc_info or record.levelname in ("WARNING", "ERROR")]


def test_a_thousand_sessions_leave_no_memory_behind(serve: Serve) -> None:
    """Every second one is broken off."""
    audio = pcm(carrier.speech("one", 5))

    def sessions(count: int) -> tuple[int, int]:
        for number in range(count):
            with sockets.create_connection(("127.0.0.1", running.port), timeout=LIMIT) as raw:
                raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
                raw.sendall(HANDSHAKE + frame(1, b'{"config": {"sample_rate": 16000}}'))
                assert raw.recv(1000).startswith(b"HTTP/1.1 101")
                raw.sendall(frame(2, audio if number % 10 == 0 else bytes(3200)))
                if number % 2 == 0:
                    raw.sendall(frame(1, b'{"eof": 1}'))
                    found = b""
                    while b"\x88\x02\x03\xe8" not in found:  # closed, 1000
                        found += raw.recv(4096)
                    assert (b'"one"' in found) == (number % 10 == 0)
        wait_until_gone(running)
        gc.collect()
        return memory(), sum(type(item) is LiveStream for item in gc.get_objects())

    with serve() as running:
        sessions(50)
        before, streams = sessions(50)
        after, streams_after = sessions(1000)
        assert streams_after <= streams + 4
        assert after - before < 8_000_000  # bytes


def memory() -> int:
    """Bytes in use."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


WRONG = [
    ("no json", "JSON object"),
    ("[1]", "JSON object"),
    ("[" * 100_000, "JSON object"),
    ('{"unknown": 1}', "config"),
    ('{"config": 5}', "config"),
    ('{"config": {"sample_rate": 0}}', "sample_rate"),
    ('{"config": {"sample_rate": NaN}}', "sample_rate"),
    ('{"config": {"sample_rate": "fast"}}', "sample_rate"),
    ('{"config": {"sample_rate": [16000]}}', "sample_rate"),
    ('{"config": {"max_alternatives": 0.5}}', "max_alternatives"),
    ('{"config": {"sample_rate": 1e400}}', "sample_rate"),
    ('{"config": {"phrase_list": "one"}}', "phrase_list"),
    ('{"config": {"phrase_list": [1]}}', "phrase_list"),
    ('{"config": {"max_alternatives": null}}', "max_alternatives"),
]


@pytest.mark.parametrize(("message", "problem"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_a_wrong_message_is_answered_and_ends_the_stream(server: Running, message: str, problem: str) -> None:
    with client(server) as socket:
        socket.send(message)
        assert problem in answer(socket)["error"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(LIMIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_phrases_that_cannot_be_are_named(server: Running) -> None:
    with client(server, {"sample_rate": RATE, "phrase_list": ["\ud800 12"]}) as socket:
        socket.send(bytes(320))
        assert "hotword" in answer(socket)["error"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(LIMIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_numbers_may_be_texts(server: Running) -> None:
    with client(server, {"sample_rate": str(RATE), "max_alternatives": "1"}) as socket:
        replies = speak(socket, pcm(SPEECH))
    assert [reply["alternatives"][0]["text"] for reply in replies if "alternatives" in reply] == ["one two", "three"]


def test_the_rate_cannot_change_within_a_stream(server: Running) -> None:
    with client(server) as socket:
        socket.send(bytes(320))
        answer(socket)
        socket.send('{"config": {"sample_rate": 8000}}')
        assert "before the audio" in answer(socket)["error"]


def test_a_message_that_is_too_large_ends_the_connection(server: Running) -> None:
    with client(server) as socket:
        with suppress(ConnectionClosed):
            socket.send(bytes(10_000_000))
        assert drain(socket, []).code in (1006, 1009)
    wait_until_gone(server)


def test_too_many_streams_are_refused(serve: Serve) -> None:
    with serve(max_streams=1) as running, client(running) as first:
        first.send(bytes(320))
        answer(first)
        with pytest.raises(InvalidStatus) as refused:
            connect(running.url("/vosk", "ws"))
        assert refused.value.response.status_code == 503
        assert b"too_many_streams" in refused.value.response.body
        assert metric(running, 'asr_rejected_total{kind="too_many_streams"}') == 1


def test_of_two_hundred_connections_those_beyond_the_limit_are_refused(serve: Serve) -> None:
    async def ask(url: str) -> tuple[list[Any], list[Any]]:
        """Connections that are open, and what refused the others."""
        results = await asyncio.gather(*(connect_async(url) for _ in range(200)), return_exceptions=True)
        opened = [item for item in results if not isinstance(item, BaseException)]
        for item in opened:
            await item.send(bytes(320))
        for item in opened:
            assert "partial" in json.loads(await asyncio.wait_for(item.recv(), LIMIT))
        for item in opened:
            item.transport.abort()
        return opened, [item for item in results if isinstance(item, BaseException)]

    with serve() as running:
        limit = running.service.settings.max_streams
        opened, refused = asyncio.run(ask(running.url("/vosk", "ws")))
        assert (len(opened), len(refused)) == (limit, 200 - limit)
        assert {item.response.status_code for item in refused} == {503}
        errors = [json.loads(item.response.body)["error"] for item in refused]
        assert {error["code"] for error in errors} == {"too_many_streams"}
        assert {error["message"] for error in errors} == {f"{limit} streams are under way; try again later"}
        wait_until_gone(running)
        with client(running) as socket:
            assert texts(speak(socket, pcm(SPEECH))) == ["one two", "three"]


def test_a_stream_that_is_too_long_ends(serve: Serve) -> None:
    with serve(max_seconds=1.0) as running, client(running) as socket:
        socket.send(bytes(3 * RATE))
        replies: list[dict[str, Any]] = []
        assert drain(socket, replies).code == 1008
    assert "1 s" in replies[-1]["error"]


def test_a_silent_client_is_cut_off(serve: Serve) -> None:
    with serve(idle_seconds=0.5) as running:
        with client(running) as socket:
            assert answer(socket)["error"] == "nothing came for 0.5 s; connect again"
            with pytest.raises(ConnectionClosed):
                socket.recv(LIMIT)
        wait_until_gone(running)


def test_a_client_that_does_not_read_is_cut_off(serve: Serve) -> None:
    """Replies fill the buffers of both sides, then the server gives up; others go on meanwhile."""
    with serve(idle_seconds=3.0) as running:
        raw = sockets.create_connection(("127.0.0.1", running.port))
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        raw.sendall(HANDSHAKE)
        empty = b"\x82\x80\x00\x00\x00\x00"  # a masked binary frame without content
        raw.settimeout(0.5)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                raw.sendall(empty * 1000)
            except TimeoutError:  # the server does not read any more, since it cannot write
                continue
            except OSError:
                break
        else:
            pytest.fail("the server kept a client that does not read")
        with client(running) as socket:
            assert texts(speak(socket, pcm(SPEECH))) == ["one two", "three"]
        wait_until_gone(running)
        raw.close()


def test_the_end_of_the_server_finishes_what_is_spoken(serve: Serve) -> None:
    with serve() as running, client(running) as socket:
        socket.send(pcm(carrier.speech("one two", 5)))
        assert answer(socket)["partial"].startswith("one")
        running.server.should_exit = True
        assert answer(socket)["text"] == "one two"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(LIMIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
configs = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | good
        for name, good in {
            "sample_rate": st.sampled_from([8000, 16_000, 44_100.0]),
            "words": st.booleans(),
            "max_alternatives": st.integers(-1, 3),
            "phrase_list": st.lists(st.text("abc ", max_size=5), max_size=3),
        }.items()
    },
)
objects = json_values | st.fixed_dictionaries({"config": configs | json_values})
messages = st.lists(st.text(max_size=30) | objects.map(json.dumps) | st.binary(max_size=3000), max_size=6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=messages)
def test_no_messages_break_the_server(server: Running, caplog: pytest.LogCaptureFixture, sent: list[Message]) -> None:
    replies: list[dict[str, Any]] = []
    with connect(server.url("/vosk", "ws"), max_size=None) as socket:
        with suppress(ConnectionClosed):
            for message in [*sent, '{"eof": 1}']:
                socket.send(message)
        closed = drain(socket, replies)
    assert closed.code in (1000, 1008, 1011)
    assert (closed.code == 1000) == ("error" not in replies[-1])
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
