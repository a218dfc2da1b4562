"""Which protocol has the written form of a text, and where."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import pytest
import rule_tagger

httpx = pytest.importorskip("httpx", reason="pip install 'recurrent-asr[dev]'")
pytest.importorskip("websockets", reason="pip install 'recurrent-asr[serve]'")

from serving import Running, make_service, pcm, running, wav  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from asr.decode.build import DecoderOptions  # noqa: E402
from asr.recognize.offline import Recognizer  # noqa: E402

SPOKEN = "where is ada", "she paid two five dollars to smith"
WRITTEN = "Where is Ada?", "She paid $25 to Smith."
AUDIO = np.concatenate([carrier.speech(f" {text}", 30) for text in SPOKEN])
OPTIONS = DecoderOptions(lm="NONE")
LIMIT = 30  # seconds


@pytest.fixture(scope="module")
def server(carrier_bundle: Path, streaming_carrier_bundle: Path) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        rule_tagger.install(patch)
        recognizer = Recognizer(carrier_bundle, OPTIONS, threads=1)
        with running(make_service(recognizer, streaming_carrier_bundle, OPTIONS, recognizer)) as started:
            yield started


def post(server: Running, **fields: Any) -> Any:
    files = {"file": ("talk.wav", wav(AUDIO))}
    url = server.url("/v1/audio/transcriptions")
    return httpx.post(url, files=files, data=fields, timeout=60, trust_env=False)


def test_files(server: Running) -> None:
    text = " ".join(WRITTEN)
    assert post(server).json()["text"] == text
    assert post(server, response_format="text").text == "".join(f"{line}\n" for line in WRITTEN)
    assert WRITTEN[1] in post(server, response_format="srt").text
    verbose = post(server, response_format="verbose_json").json()
    assert [item["text"] for item in verbose["segments"]] == [*WRITTEN]
    assert " ".join(word["word"] for word in verbose["words"]) == text
    (price,) = [word for word in verbose["words"] if word["word"] == "$25"]
    assert set(price) == {"word", "start", "end", "confidence"}
    lines = post(server, stream="true").text.split("\n\n")
    *deltas, done = (json.loads(line.removeprefix("data: ")) for line in lines if line)
    assert "".join(event["delta"] for event in deltas) == text == done["text"]
    assert post(server, **{"keywords[]": "PAID"}).json()["text"] == text.replace("paid", "PAID")


def test_vosk_has_both(server: Running) -> None:
    with connect(server.url("/vosk", "ws")) as client:
        client.send(json.dumps({"config": {"sample_rate": carrier.RATE, "phrase_list": ["PAID"]}}))
        replies = []
        for start in range(0, len(AUDIO), 4000):
            client.send(pcm(AUDIO[start : start + 4000]))
            replies.append(json.loads(client.recv(LIMIT)))
        client.send('{"eof": 1}')
        replies.append(json.loads(client.recv(LIMIT)))
        revised = [item for reply in replies for item in reply.get("revised", [])]
    results = [reply for reply in replies if reply.get("text")]
    written = [WRITTEN[0], WRITTEN[1].replace("paid", "PAID")]
    assert [reply["text"] for reply in results] == [*SPOKEN]
    assert [reply["written"] for reply in results] == written
    words = results[1]["result"]
    assert [word["word"] for word in words] == SPOKEN[1].split()
    assert " ".join(word["written"] for word in words if word["written"]) == written[1]
    assert all(item["written"] in written for item in revised)


def test_realtime_deltas_are_spoken_and_what_is_complete_is_written(server: Running) -> None:
    import base64

    found: list[dict[str, Any]] = []
    with connect(server.url("/v1/realtime?intent=transcription", "ws")) as client:
        session = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcm", "rate": carrier.RATE}}}}
        client.send(json.dumps({"type": "session.update", "session": session}))
        for start in range(0, len(AUDIO), 4000):
            audio = base64.b64encode(pcm(AUDIO[start : start + 4000])).decode()
            client.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        client.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while sum(item["type"].endswith("completed") for item in found) < 2:
            found.append(json.loads(client.recv(LIMIT)))
    assert "".join(item.get("delta", "") for item in found) == "".join(SPOKEN)
    assert [item["transcript"] for item in found if "transcript" in item] == [*WRITTEN]


def test_realtime_with_commits_alone_joins_what_is_written(server: Running) -> None:
    import base64

    found: list[dict[str, Any]] = []
    with connect(server.url("/v1/realtime?intent=transcription", "ws")) as client:
        pcm_format = {"format": {"type": "audio/pcm", "rate": carrier.RATE}, "turn_detection": None}
        session = {"type": "transcription", "audio": {"input": pcm_format}}
        client.send(json.dumps({"type": "session.update", "session": session}))
        audio = base64.b64encode(pcm(AUDIO)).decode()
        client.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        client.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while not found or not found[-1]["type"].endswith("completed"):
            found.append(json.loads(client.recv(LIMIT)))
    assert found[-1]["transcript"] == " ".join(WRITTEN)


def test_wyoming(carrier_bundle: Path, streaming_carrier_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wyoming", reason="pip install 'recurrent-asr[serve]'")
    from wyoming.asr import Transcript, TranscriptChunk
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient

    rule_tagger.install(monkeypatch)
    shape = {"rate": carrier.RATE, "width": 2, "channels": 1}

    async def talk(port: int) -> list[Any]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            for event in (AudioStart(**shape), AudioChunk(audio=pcm(AUDIO), **shape), AudioStop()):
                await client.write_event(event.event())
            events = []
            while not events or events[-1].type != "transcript-stop":
                events.append(await asyncio.wait_for(client.read_event(), LIMIT))
            return events

    recognizer = Recognizer(carrier_bundle, OPTIONS, threads=1)
    service = make_service(recognizer, streaming_carrier_bundle, OPTIONS, None)
    with socket.create_server(("127.0.0.1", 0)) as listening, running(service, listening):
        events = asyncio.run(talk(listening.getsockname()[1]))
    (text,) = [Transcript.from_event(item).text for item in events if Transcript.is_type(item.type)]
    chunks = [TranscriptChunk.from_event(item).text for item in events if TranscriptChunk.is_type(item.type)]
    assert text == " ".join(WRITTEN) == "".join(chunks)
