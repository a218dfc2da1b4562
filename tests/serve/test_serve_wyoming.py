"""Home Assistant's protocol, by the client of its own library and byte by byte."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import pytest
from serving import GREEDY, make_service, pcm, program, running

from asr.recognize.offline import Recognizer

pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")
pytest.importorskip("wyoming", reason="pip install 'recurrent-asr[serve]'")

from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

FORMAT = {"rate": carrier.RATE, "width": 2, "channels": 1}
SPEECH = pcm(np.concatenate([carrier.speech("one two", 5), carrier.speech("", 40), carrier.speech("three", 5)]))
LIMIT = 30


@pytest.fixture(scope="module")
def port(carrier_recognizer: Recognizer, streaming_carrier_bundle: Path) -> Iterator[int]:
    service = make_service(carrier_recognizer, streaming_carrier_bundle, GREEDY, None, idle_seconds=5.0)
    with socket.create_server(("127.0.0.1", 0)) as listening, running(service, listening) as started:
        yield listening.getsockname()[1]
        deadline = time.monotonic() + LIMIT
        while started.service.streams and time.monotonic() < deadline:
            time.sleep(0.05)
        assert started.service.streams == set()


async def transcribe(client: AsyncTcpClient, audio: bytes, **format: int) -> list[Any]:
    """All events from the first chunk to the transcript's end."""
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(**{**FORMAT, **format}).event())
    for start in range(0, len(audio), 2048):
        await client.write_event(AudioChunk(audio=audio[start : start + 2048], **{**FORMAT, **format}).event())
    await client.write_event(AudioStop().event())
    events = []
    while not events or events[-1].type not in ("transcript-stop", "error"):
        events.append(await asyncio.wait_for(client.read_event(), LIMIT))
        assert events[-1] is not None
    return events


def test_the_client_of_wyoming(port: int) -> None:
    async def talk() -> None:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await asyncio.wait_for(client.read_event(), LIMIT))
            assert info.asr[0].models[0].languages == [carrier.CONFIG.language]
            for _ in range(2):  # one connection, several utterances
                events = await transcribe(client, SPEECH)
                (text,) = [Transcript.from_event(item).text for item in events if Transcript.is_type(item.type)]
                chunks = [TranscriptChunk.from_event(item).text for item in events if item.type == "transcript-chunk"]
                assert text == "one two three" == "".join(chunks)
            stereo = np.repeat(np.frombuffer(SPEECH, "<i2"), 2).tobytes()
            events = await transcribe(client, stereo, channels=2)
            assert "one two three" in [item.data.get("text") for item in events]
            assert (await transcribe(client, b""))[-2].data["text"] == ""

    asyncio.run(talk())


@pytest.mark.parametrize(
    "data",
    [
        b"no json\n",
        b"[1]\n",
        b"{}\n",
        b'{"type": "audio-start", "payload_length": 1000000000000}\n',
        b'{"type": "audio-start", "data_length": -5}\n',
        b'{"type": "describe", "data": 7}\n',
        b"x" * 100_000,
        b'{"type": "audio-start"}\n{"type": "audio-chunk", "data": {"rate": 1e9}, "payload_length": 2}\nxx',
        b'{"type": "audio-start"}\n{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, '
        b'"payload_length": 3}\nxxx',
        b'{"type": "audio-start"}\n{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": true}, '
        b'"payload_length": 2}\nxx',
        b'{"type": "audio-start"}\n{"type": "audio-chunk", "data": {"rate": -1, "width": 2, "channels": 1}, '
        b'"payload_length": 2}\nxx',
    ],
)
def test_what_is_no_event_is_an_error(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as client:
        client.sendall(data)
        found = b"".join(iter(lambda: client.recv(4096), b""))
    assert b'{"type": "error"' in found
    assert b'"code": "invalid_' in found or b'"code": "failed"' in found


def test_a_silent_client_is_told_why_it_is_cut_off(
    carrier_recognizer: Recognizer, streaming_carrier_bundle: Path
) -> None:
    service = make_service(carrier_recognizer, streaming_carrier_bundle, GREEDY, None, idle_seconds=0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        running(service, listening),
        socket.create_connection(listening.getsockname(), timeout=LIMIT) as client,
    ):
        found = b"".join(iter(lambda: client.recv(4096), b""))
    assert b'"text": "nothing came for 0.5 s; connect again", "code": "idle"' in found


def test_the_end_of_the_server_is_no_failure_of_an_open_connection(
    carrier_recognizer: Recognizer, streaming_carrier_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(carrier_recognizer, streaming_carrier_bundle, GREEDY, None)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        running(service, listening) as started,
        socket.create_connection(listening.getsockname(), timeout=LIMIT) as client,
    ):
        client.sendall(b'{"type": "describe"}\n')
        assert client.recv(1)
        started.server.should_exit = True
        for _ in iter(lambda: client.recv(4096), b""):
            pass
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_port_of_the_command(carrier_bundle: Path, streaming_carrier_bundle: Path) -> None:
    async def talk(port: int) -> tuple[Info, list[Any]]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await asyncio.wait_for(client.read_event(), LIMIT))
            return info, await transcribe(client, SPEECH)

    models = ["--model", carrier_bundle, "--live-model", streaming_carrier_bundle, "--decoder", "greedy"]
    with program("--port", "0", "--wyoming-port", "0", *models, addresses=2) as (process, (_, port)):
        info, events = asyncio.run(talk(port))
        process.terminate()
        assert process.wait(LIMIT) == 0
    assert [model.name for program in info.asr for model in program.models] == [carrier.CONFIG.name]
    assert Transcript.from_event(events[-2]).text == "one two three"


def test_a_client_that_vanishes_leaves_nothing_behind(port: int) -> None:
    """The fixture sees that no stream is left."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b'{"type": "audio-start"}\n{"type": "audio-chunk", "payload_length": 64')
