"""OpenAI's realtime transcription, by its client library and message by message."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import carrier
import live_model
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import GREEDY, Running, Serve, pcm

pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from asr import Final, Recognizer, StreamingRecognizer, Transcript
from asr.model.bundle import load_bundle
from asr.model.engine import StreamingEngine

PATH = "/v1/realtime?intent=transcription"
RATE = carrier.RATE
LIMIT = 30
PAUSE = np.zeros(RATE, dtype=np.float32)
FORMAT = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": RATE}}}}


def event(kind: str, **values: Any) -> str:
    return json.dumps({"type": kind, **values})


def append(socket: ClientConnection, samples: np.ndarray, size: int = 2560) -> None:
    audio = pcm(samples)
    for start in range(0, len(audio), size):
        chunk = base64.b64encode(audio[start : start + size]).decode()
        socket.send(event("input_audio_buffer.append", audio=chunk))


def answer(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(socket.recv(LIMIT))


def until(socket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Events up to the next one that ends in `kind`."""
    events = [answer(socket)]
    while not events[-1]["type"].endswith(kind):
        assert events[-1]["type"] != "error", events[-1]
        events.append(answer(socket))
    return events


@contextmanager
def session(running: Running, **values: Any) -> Iterator[ClientConnection]:
    with connect(running.url(PATH, "ws"), max_size=None) as socket:
        assert answer(socket)["type"] == "session.created"
        socket.send(event("session.update", session={"type": "transcription", **FORMAT, **values}))
        assert answer(socket)["session"]["audio"]["input"]["format"]["rate"] == RATE
        yield socket


def test_utterances_are_items(server: Running) -> None:
    before = None
    with session(server) as socket:
        for text in ("one two", "three"):
            append(socket, np.concatenate([carrier.speech(text, 5), PAUSE]))
            events = until(socket, "completed")
            kinds = [item["type"].rpartition(".")[2] for item in events]
            assert kinds[0] == "speech_started"
            assert kinds[-1] == "completed"
            assert [kind for kind in kinds if kind != "delta"] == [
                "speech_started",
                "speech_stopped",
                "committed",
                "completed",
            ]
            assert "".join(item["delta"] for item in events if "delta" in item) == text == events[-1]["transcript"]
            (name,) = {item["item_id"] for item in events}
            committed = events[kinds.index("committed")]
            assert committed["previous_item_id"] == before
            assert events[0]["audio_start_ms"] < events[kinds.index("speech_stopped")]["audio_end_ms"]
            before = name


def test_a_commit_ends_the_utterance(server: Running) -> None:
    with session(server) as socket:
        for number in range(3):
            append(socket, carrier.speech("one two", 5))
            socket.send(event("input_audio_buffer.commit"))
            events = until(socket, "completed")
            assert events[-1]["transcript"] == "one two"
            seconds = len(carrier.speech("one two", 5)) / RATE
            assert events[-1]["usage"]["seconds"] == pytest.approx(seconds, abs=0.01)
            (started,) = [item for item in events if item["type"].endswith("speech_started")]
            assert started["audio_start_ms"] == pytest.approx(1000 * (number * seconds + 0.2), abs=90)
        append(socket, PAUSE)
        socket.send(event("input_audio_buffer.commit"))
        assert until(socket, "completed")[-1]["transcript"] == ""


def test_without_turn_detection_only_commits_end_items(server: Running) -> None:
    with session(server, turn_detection=None) as socket:
        socket.send(event("session.update", session={"audio": {"input": {"turn_detection": None}}}))
        assert answer(socket)["session"]["audio"]["input"]["turn_detection"] is None
        append(socket, np.concatenate([carrier.speech("one", 5), PAUSE, carrier.speech("two", 5), PAUSE]))
        socket.send(event("input_audio_buffer.commit"))
        events = until(socket, "completed")
        assert [item["type"].rpartition(".")[2] for item in events] == ["committed", "delta", "completed"]
        assert events[-1]["transcript"] == "one two"


def test_cleared_audio_is_not_recognized(server: Running) -> None:
    with session(server) as socket:
        append(socket, carrier.speech("one", 5))
        socket.send(event("input_audio_buffer.clear"))
        until(socket, "cleared")
        append(socket, carrier.speech("two", 5))
        socket.send(event("input_audio_buffer.commit"))
        assert until(socket, "completed")[-1]["transcript"] == "two"


def test_what_was_committed_is_not_cleared(server: Running) -> None:
    previous = None
    with session(server, turn_detection=None) as socket:
        for text in ("one two", "three"):
            append(socket, carrier.speech(text, 5))
            socket.send(event("input_audio_buffer.commit"))
            socket.send(event("input_audio_buffer.clear"))
            events = until(socket, "cleared")
            (committed,) = [item for item in events if item["type"].endswith("committed")]
            (completed,) = [item for item in events if item["type"].endswith("completed")]
            assert completed["item_id"] == committed["item_id"] != ""
            assert completed["transcript"] == text
            assert committed["previous_item_id"] == previous
            previous = committed["item_id"]


def test_each_of_several_commits_is_billed_for_its_own_audio(server: Running) -> None:
    speech = carrier.speech("one two", 5)
    with session(server, turn_detection=None) as socket:
        for _ in range(3):
            append(socket, speech, len(pcm(speech)))
            socket.send(event("input_audio_buffer.commit"))
        for _ in range(3):
            seconds = until(socket, "completed")[-1]["usage"]["seconds"]
            assert seconds == pytest.approx(len(speech) / RATE, abs=0.002)


def test_a_commit_is_answered_when_only_a_revision_comes(serve: Serve, carrier_recognizer: Recognizer) -> None:
    gate = threading.Event()

    class Slow(Recognizer):
        def transcribe(self, *arguments: Any, **named: Any) -> Transcript:
            assert gate.wait(LIMIT)
            return super().transcribe(*arguments, **named)

    second_pass = Slow(carrier_recognizer, "greedy")
    with serve(second_pass=second_pass) as running, session(running) as socket:
        append(socket, np.concatenate([carrier.speech("one two", 5), PAUSE, PAUSE]))
        until(socket, "completed")
        append(socket, PAUSE)
        socket.send(event("input_audio_buffer.commit"))
        time.sleep(0.2)  # the commit is there before the revision
        gate.set()
        assert until(socket, "completed")[-1]["transcript"] == ""


def test_texts_are_those_of_a_streaming_recognizer(serve: Serve, live_bundle: Any) -> None:
    samples = np.frombuffer(pcm(np.concatenate([live_model.speech(), PAUSE, live_model.speech()])), "<i2")
    recognizer = StreamingRecognizer(StreamingEngine(load_bundle(live_bundle), threads=1), GREEDY)
    finals = [item for item in [*recognizer.accept(samples, RATE), *recognizer.finish()] if isinstance(item, Final)]
    found: list[dict[str, Any]] = []
    with serve(live=live_bundle) as running, session(running) as socket:
        append(socket, samples / 32768, 3001)
        socket.send(event("input_audio_buffer.commit"))
        while sum(item["type"].endswith("completed") for item in found) < len(finals):
            found.append(answer(socket))
    assert [item["transcript"] for item in found if "transcript" in item] == [final.text for final in finals]
    assert "".join(item["delta"] for item in found if "delta" in item) == "".join(final.text for final in finals)


def test_without_a_session_the_rate_is_that_of_openai(serve: Serve, live_bundle: Path) -> None:
    rate, engine = 24_000, StreamingEngine(load_bundle(live_bundle), threads=1)
    samples = np.frombuffer(pcm(np.concatenate([live_model.speech(), np.zeros(rate), live_model.speech()])), "<i2")
    texts = []
    for hertz in (rate, RATE):
        recognizer = StreamingRecognizer(engine, GREEDY)
        events = [*recognizer.accept(samples, hertz), *recognizer.finish()]
        texts.append([item.text for item in events if isinstance(item, Final)])
    found: list[dict[str, Any]] = []
    with serve(live=live_bundle) as running, connect(running.url(PATH, "ws"), max_size=None) as socket:
        created = answer(socket)
        append(socket, samples / 32768, 4800)
        socket.send(event("input_audio_buffer.commit"))
        while sum(item["type"].endswith("completed") for item in found) < len(texts[0]):
            found.append(answer(socket))
    assert created["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": rate}
    assert [item["transcript"] for item in found if "transcript" in item] == texts[0] != texts[1]
    seconds = sum(item["usage"]["seconds"] for item in found if "usage" in item)
    assert seconds == pytest.approx(len(samples) / rate, abs=0.01)


def test_the_openai_client(server: Running) -> None:
    openai = pytest.importorskip("openai", reason="pip install 'recurrent-asr[dev]'")
    client = openai.OpenAI(base_url=server.url("/v1"), api_key="none")
    with client.realtime.connect(model="gpt-4o-transcribe", extra_query={"intent": "transcription"}) as connection:
        connection.session.update(session={"type": "transcription", **FORMAT})  # type: ignore[typeddict-item]
        audio = base64.b64encode(pcm(np.concatenate([carrier.speech("one two", 5), PAUSE]))).decode()
        connection.input_audio_buffer.append(audio=audio)
        kinds = []
        for item in connection:
            kinds.append(item.type)
            if item.type == "conversation.item.input_audio_transcription.completed":
                assert item.transcript == "one two"
                break
    assert kinds[:2] == ["session.created", "session.updated"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", "invalid_message"),
        (b"binary", "invalid_message"),
        (event("response.create"), "unknown_event"),
        (event("input_audio_buffer.append", audio="no base64!"), "invalid_value"),
        (event("input_audio_buffer.append", audio=5), "invalid_value"),
        (event("input_audio_buffer.append"), "invalid_value"),
        (event("input_audio_buffer.commit"), "input_audio_buffer_commit_empty"),
        (event("session.update", session={"input_audio_format": "g711_ulaw"}), "invalid_value"),
        (event("session.update", session={"input_audio_transcription": {"language": "de"}}), "unsupported_language"),
        ('{"type": "x", "event_id": ' + 900 * "[" + 900 * "]" + "}", "unknown_event"),
        (event("session.update", session={"audio": {"input": {"format": {"rate": 1e9}}}}), "invalid_value"),
    ],
)
def test_a_wrong_event_is_an_error_and_the_session_goes_on(server: Running, message: Any, code: str) -> None:
    with session(server) as socket:
        socket.send(message)
        assert answer(socket)["error"]["code"] == code
        append(socket, carrier.speech("one", 5))
        socket.send(event("input_audio_buffer.commit"))
        assert until(socket, "completed")[-1]["transcript"] == "one"


def test_the_end_of_the_server_completes_what_is_spoken(serve: Serve) -> None:
    with serve() as running, session(running) as socket:
        append(socket, carrier.speech("one two", 5))
        socket.send(event("session.update", session={}))  # is answered after all that was sent before it
        until(socket, "session.updated")
        running.server.should_exit = True
        assert until(socket, "completed")[-1]["transcript"] == "one two"
        with pytest.raises(ConnectionClosed):
            socket.recv(LIMIT)


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), MemoryError()])
def test_an_item_that_fails_is_named(error: Exception, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    with serve() as running, session(running) as socket:
        append(socket, carrier.speech("one two", 5))
        name = until(socket, "speech_started")[-1]["item_id"]
        monkeypatch.setattr(running.service.lives[0].decoding.batcher.engine, "run", fail)
        append(socket, carrier.speech("three", 5))
        found = until(socket, "failed")[-1]
        assert (found["item_id"], found["error"]["type"]) == (name, "server_error")
        assert answer(socket)["type"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(LIMIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011


@pytest.mark.parametrize("manual", [False, True])
def test_what_fails_after_a_commit_is_not_completed(
    manual: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    with serve() as running, session(running) as socket:
        if manual:
            socket.send(event("session.update", session={"turn_detection": None}))
            until(socket, "session.updated")
        monkeypatch.setattr(running.service.lives[0].decoding.batcher.engine, "run", fail)
        append(socket, carrier.speech("one", 5))
        socket.send(event("input_audio_buffer.commit"))
        kinds = []
        with suppress(ConnectionClosed):
            while True:
                kinds.append(answer(socket)["type"])
    assert kinds == ["error"]


def test_of_a_transcription_what_is_known_is_kept(server: Running) -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    with session(server) as socket:
        given = {"language": "en", "prompt": deep, "unknown": deep, "model": 5}
        socket.send(event("session.update", session={"input_audio_transcription": given}))
        assert answer(socket)["session"]["audio"]["input"]["transcription"] == {"language": "en"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
inputs = st.fixed_dictionaries(
    {}, optional={"format": values, "turn_detection": values, "transcription": values, "input_audio_format": values}
)
nested = st.fixed_dictionaries({"audio": st.fixed_dictionaries({"input": inputs | values}) | values})
sessions = inputs | nested | values
audio = st.binary(max_size=2000).map(lambda data: base64.b64encode(data).decode()) | values
KINDS = ("session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear")
events = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | values}, optional={"session": sessions, "audio": audio, "event_id": values}
)


@settings(max_examples=60)
@given(sent=st.lists((events | values).map(json.dumps) | st.text(max_size=10), max_size=8))
def test_no_events_break_the_server(server: Running, sent: list[str]) -> None:
    with session(server) as socket:
        for message in sent:
            socket.send(message)
        socket.send(event("no.such.event", event_id="last"))
        found: list[dict[str, Any]] = []
        with suppress(ConnectionClosed):
            while not found or found[-1].get("error", {}).get("event_id") != "last":
                found.append(answer(socket))
    assert found[-1]["error"]["event_id"] == "last", found
