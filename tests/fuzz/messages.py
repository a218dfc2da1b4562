"""Messages to the server, which it gets without a socket: vosk's and OpenAI's, Wyoming's events, and forms."""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import carrier
from inputs import HOSTILE, audio_seeds, damage, json_text
from promises import SECONDS, BrokenPromise

from asr.decode.build import DecoderOptions
from asr.recognize.batcher import Batcher
from asr.recognize.offline import Recognizer

AUDIO = (carrier.speech("the cat") * 32768).clip(-32768, 32767).astype("<i2").tobytes()[:20_000]
VOSK = {"config": {"sample_rate": 16_000, "words": True, "max_alternatives": 1, "phrase_list": ["the cat"]}}
INPUT = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": {"type": "server_vad"}, "transcription": {}}
EVENTS: list[dict[str, Any]] = [
    {"type": "session.update", "session": {"type": "transcription", "audio": {"input": INPUT}}},
    {"type": "transcription_session.update", "session": {"input_audio_format": "pcm16", "turn_detection": None}},
    {"type": "input_audio_buffer.append", "audio": "AAAAAAAA" * 500, "event_id": "1"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]
FORMAT = {"rate": 16_000, "width": 2, "channels": 1}
FIELDS = {
    "model": ("whisper-1", "live"), "language": ("en", "english"), "prompt": ("",), "temperature": ("0", "0.5"),
    "response_format": ("json", "text", "srt", "vtt", "verbose_json", "diarized_json"), "stream": ("true", "false"),
    "timestamp_granularities[]": ("word", "segment"), "keywords[]": ("the cat", "cat:5"), "hotwords": ("the, cat",),
}  # fmt: skip
CODES = (1000, 1001, 1008, 1011)  # with which a WebSocket may be closed


@cache
def server(bundles: Path) -> tuple[asyncio.AbstractEventLoop, Any]:
    import asr.serve.wyoming  # noqa: F401
    from asr.serve.app import make_app
    from asr.serve.live import Decoding, Live
    from asr.serve.service import Service, Settings

    logging.getLogger("asr.serve").setLevel(logging.ERROR)
    whole, live = carrier.write_bundle(bundles / "served"), carrier.write_bundle(bundles / "spoken", streaming=True)
    decoder = DecoderOptions(beam_width=4, lm="NONE")
    batcher = Batcher(live, decoder, threads=1)
    recognizers = {"whole": Recognizer(whole, decoder, threads=1), "live": Recognizer(batcher, decoder)}
    loop = asyncio.new_event_loop()
    service = Service(
        recognizers, [Live(Decoding(batcher))], ("en", "english"), Settings(max_seconds=20, max_upload=2_000_000)
    )
    loop.call_soon(service.start)
    return loop, make_app(service)


def messages(dice: random.Random, folder: Path) -> None:
    loop, app = server(folder.parent / "bundles")
    loop.run_until_complete(asyncio.wait_for(talk(dice, app, app.state.service), SECONDS))


async def talk(dice: random.Random, app: Any, service: Any) -> None:
    await dice.choice((vosk, vosk, realtime, realtime, form, wyoming))(dice, app)
    while service.streams or service.files or service.lives[0].streams:  # else it hangs
        await asyncio.sleep(0.001)


async def vosk(dice: random.Random, app: Any) -> None:
    kinds: list[Callable[[], str | bytes]] = [
        lambda: json_text(dice, VOSK).decode(errors="replace"),
        lambda: json.dumps(VOSK),
        lambda: AUDIO[: dice.choice((0, 1, 320, 5120, 5121, 20_000))],
        lambda: damage(dice, AUDIO),
        lambda: json_text(dice, {"eof": 1}).decode(errors="replace"),
    ]
    await over_websocket(app, "/vosk", [dice.choice(kinds)() for _ in range(dice.randrange(6))] + ['{"eof": 1}'])


async def realtime(dice: random.Random, app: Any) -> None:
    sent = [dice.choice(EVENTS) for _ in range(dice.randrange(1, 6))]
    texts = [
        json_text(dice, event).decode(errors="replace") if dice.random() < 0.5 else json.dumps(event) for event in sent
    ]
    await over_websocket(app, "/v1/realtime", texts)


async def over_websocket(app: Any, path: str, sent: list[str | bytes]) -> None:
    """Speak and go away, unless the server ends the conversation first."""
    told: list[dict[str, Any]] = []
    ended = asyncio.Event()

    def messages() -> Iterator[dict[str, Any]]:
        yield {"type": "websocket.connect"}
        for message in sent:
            yield {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    coming = messages()

    async def receive() -> dict[str, Any]:
        if (message := next(coming, None)) is not None:
            return message
        if path == "/vosk":  # which the server closes after the eof
            await ended.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)
        if message["type"] == "websocket.close":
            ended.set()

    scope = {"type": "websocket", "path": path, "headers": [(b"host", b"localhost")], "query_string": b""}
    await app({**scope, "subprotocols": [], "client": ("127.0.0.1", 1), "scheme": "ws"}, receive, send)
    answers = [json.loads(message["text"]) for message in told if message["type"] == "websocket.send"]
    code = next((message["code"] for message in told if message["type"] == "websocket.close"), 1000)
    errors = [str(answer["error"]) for answer in answers if "error" in answer]
    if code not in CODES or any("the stream failed" in error or len(error) > 700 for error in errors):
        raise BrokenPromise(f"closed with {code}: {errors}")
    binary = sum(isinstance(message, bytes) for message in sent)
    if path == "/vosk" and code == 1000 and not errors and len(answers) > binary + 1:
        raise BrokenPromise(f"{len(answers)} replies to {binary} messages")


async def form(dice: random.Random, app: Any) -> None:
    fields = [(name, dice.choice(FIELDS[name])) for name in dice.sample([*FIELDS], dice.randrange(5))]
    fields = [(name, value if dice.random() < 0.7 else str(dice.choice(HOSTILE))[:5000]) for name, value in fields]
    audio = dice.choice(audio_seeds())[1]
    parts = [f'name="{name}"\r\n\r\n{value}'.encode("utf-8", "surrogatepass") for name, value in fields]
    name = dice.choice(("talk.wav", "\x1b[2J", "../../x", "x" * 300, ""))
    parts.append(
        f'name="file"; filename="{name}"\r\n\r\n'.encode() + (audio if dice.random() < 0.5 else damage(dice, audio))
    )
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    body = damage(dice, body) if dice.random() < 0.3 else body
    cuts = [0, *sorted(dice.randrange(len(body) + 1) for _ in range(dice.randrange(3))), len(body)]
    pieces = [body[start:end] for start, end in pairwise(cuts)]
    coming = iter(
        [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces] + [{"type": "http.request"}]
    )
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if (message := next(coming, None)) is not None:
            return message
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/audio/transcriptions",
        "headers": headers,
        "query_string": b"",
    }
    await app({**scope, "client": ("127.0.0.1", 1), "scheme": "http"}, receive, send)
    status, content = told[0]["status"], b"".join(message.get("body", b"") for message in told)
    if status not in (200, 400, 413):
        raise BrokenPromise(f"status {status}: {content[:300]!r}")
    if status != 200 and not json.loads(content)["error"]["message"].isprintable():
        raise BrokenPromise(f"an error with control characters: {content[:300]!r}")


async def wyoming(dice: random.Random, app: Any) -> None:
    from asr.serve.wyoming import Connection

    sent = b""
    for kind in ("describe", "transcribe", "audio-start", "audio-chunk", "audio-chunk", "audio-stop"):
        audio = AUDIO[: dice.choice((0, 2048, 5121))] if kind == "audio-chunk" else b""
        event = {"type": kind, "data": FORMAT, "payload_length": len(audio)}
        sent += (json_text(dice, event) if dice.random() < 0.2 else json.dumps(event).encode()) + b"\n" + audio
    reader, writer = asyncio.StreamReader(), Writer()
    reader.feed_data(damage(dice, sent) if dice.random() < 0.3 else sent)
    reader.feed_eof()
    await Connection(app.state.service, reader, writer).run()  # type: ignore[arg-type]


class Writer:
    """An asyncio.StreamWriter that leads nowhere."""

    def write(self, data: bytes) -> None: ...

    def writelines(self, data: list[bytes]) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...

    def get_extra_info(self, name: str) -> None: ...
