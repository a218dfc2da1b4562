"""Files over HTTP, as OpenAI's `POST /v1/audio/transcriptions` takes them (API reference, "Audio").

The body goes to the disk as it comes; a client that goes away ends the work that was begun for it.
"""

import asyncio
import json
import math
import threading
import time
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Message

from asr.errors import ArgumentError, AudioError, one_line
from asr.output.transcript import Segment, Transcript
from asr.output.writers import render
from asr.recognize.offline import Recognizer, Source
from asr.serve.service import RefusedError, Service
from asr.serve.sockets import error_body, error_response, until_first

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("word", "segment")
MAX_FIELDS = 1000  # of a form: `keywords[]` may be many
FIELD_BYTES = 100_000
FORM_BYTES = 1_000_000  # of a body beside its file


@dataclass(frozen=True)
class Options:
    """The fields of a request. RefusedError names one that cannot be."""

    file: UploadFile
    recognizer: Recognizer
    format: str
    granularities: tuple[str, ...]
    stream: bool
    temperature: float
    hotwords: list[str]

    @classmethod
    def of(cls, form: FormData, service: Service) -> "Options":
        def text(name: str) -> str:
            return value if isinstance(value := form.get(name, ""), str) else ""

        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.size:
            raise RefusedError(400, "missing_file", "send the recording as the form's file", "file")
        format = text("response_format") or "json"
        if format not in FORMATS:
            raise RefusedError(400, "unsupported_format", f"choose {', '.join(FORMATS)}", "response_format")
        code, name = service.language
        if (spoken := text("language").lower()) and spoken.replace("_", "-").split("-")[0] not in (code, name):
            raise RefusedError(400, "unsupported_language", f"{spoken!r:.40}: the model knows {name} only", "language")
        stream = text("stream").lower() in ("true", "1")
        if stream and format in ("srt", "vtt"):
            raise RefusedError(400, "unsupported_format", f"{format} cannot be streamed", "response_format")
        granularities = tuple(map(str, form.getlist("timestamp_granularities[]"))) or GRANULARITIES
        if not set(granularities) <= {*GRANULARITIES}:
            raise RefusedError(400, "invalid_value", "choose word, segment or both", "timestamp_granularities")
        try:
            temperature = float(text("temperature") or 0)
        except ValueError:
            temperature = math.nan
        if not 0 <= temperature <= 1:
            raise RefusedError(400, "invalid_value", "give a number from 0 to 1", "temperature")
        hotwords = [*map(str, form.getlist("keywords[]")), *text("hotwords").replace("\n", ",").split(",")]
        recognizer = service.recognizers.get(text("model")) or next(iter(service.recognizers.values()))
        hotwords = [phrase for phrase in hotwords if phrase.strip()]
        return cls(file, recognizer, format, granularities, stream, temperature, hotwords)


async def transcriptions(request: Request) -> Response:
    """`POST /v1/audio/transcriptions`, and `/inference` as whisper.cpp's server has it."""
    service: Service = request.app.state.service
    form: FormData | None = None
    try:
        service.begin_file()
        try:
            form = await _receive_form(request, service)
            job = Job(service, Options.of(form, service))
        except BaseException:
            service.end_file()
            if form is not None:
                await form.close()
            raise
        client = request.client.host if request.client else ""
        if job.options.stream:
            return StreamingResponse(_server_sent(job, client), media_type="text/event-stream")
        try:
            await until_first(job.finish(), _disconnected(request))
        finally:
            job.close(client)
        return _response(job)
    except ClientDisconnect:
        return Response()  # nobody is there to read it
    except RefusedError as error:
        service.metrics.add("asr_rejected_total", error.code)
        return error_response(error)


async def _receive_form(request: Request, service: Service) -> FormData:
    """The form, its file on the disk. RefusedError if it is none, too large, or does not come."""
    limit, received = service.settings.max_upload + FORM_BYTES, 0
    too_large = RefusedError(413, "file_too_large", f"a file may have {service.settings.max_upload} bytes", "file")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise too_large

    async def receive() -> Message:
        nonlocal received
        async with asyncio.timeout(service.settings.idle_seconds):
            message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_large
        return message

    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RefusedError(400, "invalid_form", "send a form (multipart/form-data) with the recording as its file")
    try:
        return await Request(request.scope, receive).form(max_files=1, max_fields=MAX_FIELDS, max_part_size=FIELD_BYTES)
    except (HTTPException, KeyError, ValueError) as error:  # of starlette and python-multipart
        detail = error.detail if isinstance(error, HTTPException) else "damaged"
        raise RefusedError(400, "invalid_form", f"the form cannot be read: {one_line(detail)}") from None
    except TimeoutError:
        raise RefusedError(408, "timeout", "the recording did not come in time") from None


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


class _CancelledError(Exception):
    """Nobody waits for the file any more."""

    code = "cancelled"


class Job:
    """The recognition of one file in a worker's thread, followed from the event loop."""

    def __init__(self, service: Service, options: Options):
        self.options = options
        self.transcript = Transcript((), 0.0)  # until `finish`
        self.seconds = 0.0  # that are recognized
        self.language = service.language[1]
        self._service, self._cancelled, self._busy = service, threading.Event(), 0.0
        self._loop = asyncio.get_running_loop()
        self._segments: asyncio.Queue[Segment | None] = asyncio.Queue()  # None at the end
        self._future = service.workers.submit(self._recognize)
        self._future.add_done_callback(self._release)

    def _recognize(self) -> Transcript:
        began, options = time.perf_counter(), self.options
        # A file object's name stands in messages.
        source: Any = SimpleNamespace(name=one_line(options.file.filename or "file"), read=options.file.file.read)
        on_segment = self._on_segment if options.stream else None
        try:
            (recognition,) = options.recognizer.transcribe_all(
                [source], self._on_progress, hotwords=options.hotwords or None, on_segment=on_segment
            )
            if recognition.error is not None:
                raise recognition.error
            return recognition.transcript
        except ArgumentError as error:
            raise RefusedError(400, "invalid_value", str(error), "hotwords") from None
        except AudioError as error:
            raise RefusedError(400, "invalid_audio", str(error), "file") from None
        finally:
            self._busy = time.perf_counter() - began

    def _on_progress(self, _source: Source, seconds: float) -> None:
        if self._cancelled.is_set() or self._service.closed:
            raise _CancelledError
        self.seconds += seconds
        if self.seconds > self._service.settings.max_seconds:
            limit = self._service.settings.max_seconds
            raise RefusedError(413, "too_long", f"a recording may have {limit:g} s; cut it", "file")

    def _on_segment(self, _source: Source, segment: Segment) -> None:
        self._loop.call_soon_threadsafe(self._segments.put_nowait, segment)

    def _release(self, _future: Future) -> None:
        """When no thread reads the file any more."""
        with suppress(Exception):
            self.options.file.file.close()
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._segments.put_nowait(None)
        self._service.end_file()
        self._service.metrics.add("asr_busy_seconds_total", "file", self._busy)
        self._service.metrics.add("asr_audio_seconds_total", "file", self.seconds)

    async def segments(self) -> AsyncIterator[Segment]:
        """Each segment as soon as it can no longer change, to the end of the file."""
        while (segment := await self._segments.get()) is not None:
            yield segment

    async def finish(self) -> None:
        """Wait for `transcript`. RefusedError."""
        self.transcript = await asyncio.wrap_future(self._future)

    def close(self, client: str) -> None:
        """End the work, if it goes on, and write the log."""
        self._cancelled.set()
        self._future.cancel()
        ended = self._future.done() and not self._future.cancelled()
        error = self._future.exception() if ended else _CancelledError()
        outcome = "finished" if error is None else getattr(error, "code", "failed")
        texts = [segment.text for segment in self.transcript.segments]
        self._service.report("file", client, texts, outcome=outcome, seconds=round(self.seconds, 2))


async def _server_sent(job: Job, client: str) -> AsyncIterator[str]:
    """Server-sent events: what was added to the text, and at the end all of it."""
    space = ""
    try:
        async for segment in job.segments():
            delta = {"type": "transcript.text.delta", "delta": space + segment.text, "seconds": round(job.seconds, 2)}
            yield _event(delta)
            space = " "
        await job.finish()
        yield _event({"type": "transcript.text.done", **_json(job)})
    except RefusedError as error:
        yield _event(error_body(error))
    finally:
        job.close(client)


def _event(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values)}\n\n"


def _response(job: Job) -> Response:
    format = job.options.format
    if format in ("json", "verbose_json"):
        return JSONResponse(_json(job))
    return PlainTextResponse(render(job.transcript, "txt" if format == "text" else format, ""))


def _json(job: Job) -> dict[str, Any]:
    transcript = job.transcript
    options, usage = job.options, {"type": "duration", "seconds": round(transcript.duration, 3)}
    if options.format != "verbose_json":
        return {"text": transcript.text, "usage": usage}
    values: dict[str, Any] = {
        "task": "transcribe",
        "language": job.language,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "usage": usage,
    }
    if "segment" in options.granularities:
        segments = enumerate(transcript.segments)
        values["segments"] = [_segment(number, segment, options.temperature) for number, segment in segments]
    if "word" in options.granularities:
        values["words"] = [word.to_dict() for word in transcript.words]
    return values


def _segment(number: int, segment: Segment, temperature: float) -> dict[str, Any]:
    """Whisper's fields. There are no ids of its tokens here; what holds no words is no segment."""
    data = segment.text.encode()
    logprobs = [math.log(max(word.confidence, 1e-3)) for word in segment.words]
    return {
        "id": number,
        "seek": round(segment.start * 100),  # in frames of 10 ms
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": temperature,
        "avg_logprob": round(sum(logprobs) / len(logprobs), 3),
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 3),
        "no_speech_prob": 0.0,
    }
