"""Files over HTTP as OpenAI's API takes them, by its own client library and without it."""

import json
import os
import re
import socket as sockets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import pytest
from serving import Running, Serve, program, wav

httpx = pytest.importorskip("httpx", reason="pip install 'recurrent-asr[dev]'")
pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")

from asr.decode.build import DecoderOptions  # noqa: E402
from asr.output.writers import render  # noqa: E402
from asr.recognize.offline import Recognizer  # noqa: E402

PATH = "/v1/audio/transcriptions"
SPEECH = np.concatenate([carrier.speech("one two", 5), carrier.speech("", 40), carrier.speech(" three", 5)])


def post(running: Running, audio: bytes | None = None, path: str = PATH, **fields: Any) -> Any:
    files = {"file": ("talk.wav", wav(SPEECH) if audio is None else audio)}
    return httpx.post(running.url(path), files=files, data=fields, timeout=60, trust_env=False)


def error(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert "\n" not in found["message"]
    return found


# Formats


def test_every_format_is_that_of_the_recognizer(server: Running, carrier_recognizer: Recognizer) -> None:
    transcript = carrier_recognizer.transcribe(wav(SPEECH))
    assert transcript.text == "one two three"
    usage = {"type": "duration", "seconds": round(transcript.duration, 3)}
    assert post(server).json() == {"text": transcript.text, "usage": usage}
    for format, kind in (("text", "txt"), ("srt", "srt"), ("vtt", "vtt")):
        response = post(server, response_format=format)
        assert response.text == render(transcript, kind, "")
        assert response.headers["content-type"].startswith("text/plain")
    verbose = post(server, response_format="verbose_json", temperature="0.5").json()
    assert verbose["words"] == [word.to_dict() for word in transcript.words]
    assert [item["text"] for item in verbose["segments"]] == [segment.text for segment in transcript.segments]
    fields = "id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob"
    assert all(set(item) == set(fields.split()) for item in verbose["segments"])
    assert {name: verbose[name] for name in ("task", "language", "duration", "text", "usage")} == {
        "task": "transcribe",
        "language": "english",
        "duration": usage["seconds"],
        "text": transcript.text,
        "usage": usage,
    }


def test_granularities_choose_words_and_segments(server: Running) -> None:
    found = [
        {"words", "segments"} & set(post(server, response_format="verbose_json", **fields).json())
        for fields in ({}, {"timestamp_granularities[]": "word"}, {"timestamp_granularities[]": ["word", "segment"]})
    ]
    assert found == [{"words", "segments"}, {"words"}, {"words", "segments"}]


def test_other_names_of_models_and_paths(server: Running) -> None:
    for model in ("whisper-1", "carrier", "live", "gpt-4o-transcribe"):
        assert post(server, model=model, language="en-US", prompt="Numbers.").json()["text"] == "one two three"
    assert post(server, path="/inference", language="auto").json()["text"] == "one two three"
    models = httpx.get(server.url("/v1/models"), trust_env=False).json()
    assert [item["id"] for item in models["data"]] == ["carrier", "live"]


def test_hotwords(server: Running, serve: Serve) -> None:
    assert post(server, **{"keywords[]": ["one", "two:5"], "hotwords": "three"}).json()["text"] == "one two three"
    for field in ("hotwords", "hotwords[]", "keywords[]"):
        found = error(post(server, **{field: "1984"}), 400)
        assert found["param"] == "hotwords"
        assert "1984" in found["message"]


def test_text_comes_in_events_as_it_is_recognized(
    carrier_bundle: Path, streaming_carrier_bundle: Path, serve: Serve
) -> None:
    audio = wav(np.concatenate([carrier.speech(f" word{'abcdefgh'[n % 8]} two", 200) for n in range(8)]))
    recognizer = Recognizer(carrier_bundle, DecoderOptions(lm="NONE"), batch_size=1, threads=1)
    text = recognizer.transcribe(audio).text
    with serve(recognizer=recognizer) as running:
        response = post(running, audio, stream="true", response_format="verbose_json")
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    *deltas, done = map(json.loads, lines)
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert len(deltas) > 2
    assert "".join(event["delta"] for event in deltas) == text == done["text"]
    assert done["type"] == "transcript.text.done"
    assert " ".join(word["word"] for word in done["words"]) == text
    assert [word for event in deltas for word in event["words"]] == done["words"]


def test_the_first_text_comes_before_the_last_audio_is_recognized(
    carrier_bundle: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    openai = pytest.importorskip("openai", reason="pip install 'recurrent-asr[dev]'")
    audio = wav(np.concatenate([carrier.speech(f" word{'abcdefgh'[n % 8]} two", 200) for n in range(8)]))
    recognizer = Recognizer(carrier_bundle, DecoderOptions("greedy"), batch_size=1, threads=1)
    run, gate, windows = recognizer.engine.run, threading.Event(), 0

    def count(waveforms: Any) -> Any:
        nonlocal windows
        windows += 1
        return run(waveforms)

    monkeypatch.setattr(recognizer.engine, "run", count)
    text, last = recognizer.transcribe(audio).text, windows
    windows = 0

    def wait(waveforms: Any) -> Any:
        assert windows < last - 1 or gate.wait(30), "nothing was read before the last window"
        return count(waveforms)

    monkeypatch.setattr(recognizer.engine, "run", wait)
    with serve(recognizer=recognizer) as running, httpx.Client(trust_env=False) as http:
        client = openai.OpenAI(base_url=running.url("/v1"), api_key="none", http_client=http, max_retries=0)
        events = client.audio.transcriptions.create(file=("talk.wav", audio), model="whisper-1", stream=True)
        deltas = [next(events).delta]
        gate.set()
        *others, done = events
    assert "".join([*deltas, *(event.delta for event in others)]) == text == done.text
    assert windows == last > 1


# Clients


@pytest.fixture
def openai_client(server: Running) -> Any:
    openai = pytest.importorskip("openai", reason="pip install 'recurrent-asr[dev]'")
    http = httpx.Client(trust_env=False)
    return openai.OpenAI(base_url=server.url("/v1"), api_key="none", http_client=http, max_retries=0)


def test_the_openai_client(openai_client: Any, tmp_path: Path) -> None:
    create = openai_client.audio.transcriptions.create
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(SPEECH))
    with path.open("rb") as file:
        assert create(file=file, model="whisper-1").text == "one two three"
    upload = ("talk.wav", wav(SPEECH))
    verbose = create(
        file=upload, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert [word.word for word in verbose.words] == ["one", "two", "three"]
    assert " ".join(segment.text for segment in verbose.segments) == verbose.text
    assert verbose.language == "english"
    assert verbose.duration == pytest.approx(len(SPEECH) / carrier.RATE, abs=0.01)
    assert create(file=upload, model="whisper-1", response_format="text").split() == ["one", "two", "three"]
    assert create(file=upload, model="whisper-1", response_format="srt").startswith("1\n00:00:")
    assert create(file=upload, model="whisper-1", response_format="vtt").startswith("WEBVTT\n\n00:00:")
    events = [*create(file=upload, model="gpt-4o-transcribe", stream=True)]
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == "one two three"
    assert [model.id for model in openai_client.models.list()] == ["carrier", "live"]
    assert openai_client.models.retrieve("live").object == "model"


def test_errors_of_the_openai_client(openai_client: Any) -> None:
    import openai

    create = openai_client.audio.transcriptions.create
    with pytest.raises(openai.BadRequestError, match=r"talk\.txt: not an audio file") as refused:
        create(file=("talk.txt", b"not audio, but text" * 100), model="whisper-1")
    assert (refused.value.code, refused.value.param) == ("invalid_audio", "file")
    with pytest.raises(openai.APIError, match="not an audio file"):
        [*create(file=("talk.txt", b"not audio, but text" * 100), model="whisper-1", stream=True)]
    with pytest.raises(openai.NotFoundError, match="there is no model 'whisper-9'"):
        openai_client.models.retrieve("whisper-9")
    with pytest.raises(openai.BadRequestError, match="the file is empty, or did not come whole"):
        create(file=("talk.wav", b""), model="whisper-1")
    with pytest.raises(openai.BadRequestError, match="choose json, text"):
        create(file=("talk.wav", wav(SPEECH)), model="whisper-1", response_format="diarized_json")


# Faults


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"response_format": "srt", "stream": "true"}, "response_format"),
        ({"language": "de"}, "language"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"timestamp_granularities[]": "phone"}, "timestamp_granularities"),
    ],
)
def test_fields_that_cannot_be(server: Running, fields: dict[str, str], param: str) -> None:
    assert error(post(server, **fields), 400)["param"] == param


def test_forms_that_cannot_be(server: Running) -> None:
    url, kind = server.url(PATH), "multipart/form-data"
    cases = [
        {"data": {"model": "whisper-1"}},
        {"files": {"file": ("talk.wav", b"")}},
        {"files": [("file", ("a.wav", wav(SPEECH))), ("file", ("b.wav", wav(SPEECH)))]},
        {"files": {"other": ("talk.wav", wav(SPEECH))}},
        {"content": b"text", "headers": {"content-type": kind}},
        {"content": b"text", "headers": {"content-type": f"{kind}; boundary=x"}},
        {"content": b"--x\r\nnonsense", "headers": {"content-type": f"{kind}; boundary=x"}},
        {"content": b"", "headers": {"content-type": f"{kind}; boundary=x"}},
        {"files": {"file": ("talk.wav", wav(SPEECH)), "model": (None, "x" * 200_000)}},
    ]
    for case in cases:
        error(httpx.post(url, trust_env=False, **case), 400)  # type: ignore[arg-type]
    assert error(httpx.get(url, trust_env=False), 405)
    assert error(httpx.get(server.url("/nothing"), trust_env=False), 404)
    assert server.service.files == 0


def test_damaged_recordings_are_refused(server: Running) -> None:
    found = error(post(server, wav(SPEECH)[:30]), 400)
    assert found["code"] == "invalid_audio"


def test_a_file_that_is_too_large(serve: Serve) -> None:
    with serve(max_upload=10_000) as running:
        assert error(post(running, bytes(2_000_000)), 413)["code"] == "file_too_large"

        def endless() -> Any:  # whose length is not announced
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            for _ in range(1000):
                yield bytes(100_000)

        headers = {"content-type": "multipart/form-data; boundary=x"}
        try:
            response = httpx.post(running.url(PATH), content=endless(), headers=headers, trust_env=False)
        except httpx.HTTPError:  # the server does not read the rest
            pass
        else:
            error(response, 413)
        assert post(running, wav(SPEECH)[:9000]).status_code in (200, 400)
        assert running.service.files == 0


@pytest.fixture
def needs_proc() -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("there is no /proc here, which tells of open files and memory")


@pytest.mark.usefixtures("needs_proc")
def test_thirty_megabytes_of_nonsense(carrier_bundle: Path, streaming_carrier_bundle: Path) -> None:
    nonsense = np.random.default_rng(0).bytes(30_000_000)

    def memory(field: str) -> int:
        """Bytes of the server."""
        status = Path(f"/proc/{process.pid}/status").read_text()
        return 1024 * int(re.findall(rf"{field}:\s*(\d+) kB", status)[0])

    def send(data: bytes) -> dict[str, Any]:
        url = f"http://127.0.0.1:{port}{PATH}"
        return error(httpx.post(url, files={"file": ("talk.wav", data)}, timeout=60, trust_env=False), 400)

    models = ["--model", carrier_bundle, "--live-model", streaming_carrier_bundle, "--decoder", "greedy"]
    with program("--port", "0", *models) as (process, (port,)):
        send(nonsense[:100_000])  # what is loaded for the first file stays
        before = memory("VmRSS")
        found = send(nonsense)
        assert memory("VmHWM") - before < len(nonsense) // 2
    assert found["code"] == "invalid_audio"
    assert re.match(r"talk\.wav: not an audio file", found["message"])


@pytest.mark.usefixtures("needs_proc")
def test_an_upload_is_stored_once(carrier_bundle: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = Recognizer(carrier_bundle, DecoderOptions("greedy"), batch_size=1, threads=1)
    run, audio = recognizer.engine.run, wav(np.concatenate([np.zeros(60 * carrier.RATE, dtype=np.float32), SPEECH]))
    copies: list[int] = []

    def look(waveforms: Any) -> Any:
        """Count the open files of that size; at the first of several windows the recording is not read to its end."""
        status = []
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                status.append(os.stat(int(number)))
        copies.append(len({item.st_ino for item in status if item.st_size == len(audio)}))
        return run(waveforms)

    monkeypatch.setattr(recognizer.engine, "run", look)
    with serve(recognizer=recognizer) as running:
        assert post(running, audio).json()["text"] == "one two three"
    assert copies == [1] * len(copies)
    assert len(copies) > 2


def test_a_recording_that_is_too_long(serve: Serve) -> None:
    with serve(max_seconds=1.0) as running:
        assert error(post(running), 413)["code"] == "too_long"


def test_an_upload_that_stops_ends(serve: Serve) -> None:
    with serve(idle_seconds=0.5) as running, sockets.create_connection(("127.0.0.1", running.port)) as raw:
        raw.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode()
        )
        raw.settimeout(30)
        assert b" 408 " in raw.recv(1000)
        assert running.service.files == 0


@pytest.mark.parametrize(
    "sent", [b"--x\r\n", b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc']
)
def test_a_client_that_goes_away_while_it_sends(server: Running, caplog: pytest.LogCaptureFixture, sent: bytes) -> None:
    with sockets.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
            "Content-Type: Multipart/Form-Data; boundary=x\r\n\r\n".encode()
            + sent
        )
        while not server.service.files:
            time.sleep(0.01)
    deadline = time.monotonic() + 30
    while server.service.files and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.service.files == 0
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_a_failure_of_the_server_is_an_error_of_it(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.service, "begin_file", lambda: 1 / 0)
    assert error(post(server), 500)["code"] == "internal_error"


def test_too_many_files_are_refused(serve: Serve) -> None:
    with serve(max_streams=1) as running:
        running.service.files = 1
        assert error(post(running), 429)["code"] == "too_many_files"
        running.service.files = 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_work(
    carrier_bundle: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    recognizer = Recognizer(carrier_bundle, DecoderOptions("greedy"), batch_size=1, threads=1)
    windows = 0
    run = recognizer.engine.run

    def slow(waveforms: Any) -> Any:
        nonlocal windows
        windows += 1
        time.sleep(0.3)
        return run(waveforms)

    monkeypatch.setattr(recognizer.engine, "run", slow)
    audio = wav(np.zeros(carrier.RATE * 60 * 20, dtype=np.float32))  # 60 windows
    with serve(recognizer=recognizer) as running:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                running.url(PATH),
                files={"file": ("long.wav", audio)},
                data={"stream": str(stream)},
                timeout=httpx.Timeout(30, read=1.0 if not stream else 0.2),
                trust_env=False,
            )
        deadline = time.monotonic() + 30
        while running.service.files and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.service.files == 0
        assert 0 < windows < 30


def test_the_end_of_the_server_answers_files_that_are_not_done(
    carrier_bundle: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recognizer = Recognizer(carrier_bundle, DecoderOptions("greedy"), batch_size=1, threads=1)
    run, began = recognizer.engine.run, threading.Event()

    def slow(waveforms: Any) -> Any:
        began.set()
        time.sleep(0.3)
        return run(waveforms)

    monkeypatch.setattr(recognizer.engine, "run", slow)
    audio = wav(np.zeros(carrier.RATE * 60 * 20, dtype=np.float32))  # 60 windows
    with serve(recognizer=recognizer, stop_seconds=0.1) as running, ThreadPoolExecutor(1) as client:
        answer = client.submit(post, running, audio)
        assert began.wait(30)
        running.server.should_exit = True
        assert error(answer.result(30), 503)["code"] == "stopping"
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.usefixtures("needs_proc")
def test_what_is_uploaded_is_closed_when_it_was_read(server: Running) -> None:
    post(server)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(10):
        post(server, wav(np.zeros(20 * carrier.RATE)))
        post(server, b"nonsense" * 200_000)
    time.sleep(0.2)
    assert len([*Path("/proc/self/fd").iterdir()]) <= before + 2
