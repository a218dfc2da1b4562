"""Files over HTTP, as OpenAI's `POST /v1/audio/transcriptions` takes them (API reference, "Audio").

The body goes to the disk as it comes; a client that goes away ends the work that was begun for it.
"""

import asyncio
import json
import math
import os
import re
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Message

from asr.audio.files import OPEN_FILES
from asr.errors import ArgumentError, AudioError, one_line
from asr.output.transcript import Segment, Transcript
from asr.output.writers import render
from asr.recognize.offline import Recognizer, Source
from asr.serve.service import RefusedError, Service
from asr.serve.sockets import parse_number, until_first

CUES = ("srt", "vtt")
FORMATS = ("json", "text", *CUES, "verbose_json")
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
    granularities: set[str]
    stream: bool
    temperature: float
    hotwords: list[str]

    @classmethod
    def of(cls, form: FormData, service: Service) -> "Options":
        def text(name: str) -> str:
            return value if isinstance(value := form.get(name, ""), str) else ""

        file, format = form.get("file"), text("response_format") or "json"
        streamed = text("stream").lower() in ("true", "1")
        granularities = {*map(str, form.getlist("timestamp_granularities[]"))} or {*GRANULARITIES}
        temperature = parse_number(text("temperature") or 0)
        if not isinstance(file, UploadFile):
            raise RefusedError(400, "missing_file", "send the recording as the form's file", "file")
        service.check_language(text("language"))
        for right, problem, message, param in (
            (format in FORMATS, "unsupported_format", f"choose {', '.join(FORMATS)}", "response_format"),
            (not streamed or format not in CUES, "unsupported_format", f"no {format} as a stream", "response_format"),
            (file.size, "empty_file", "the file is empty, or did not come whole", "file"),
            (granularities <= {*GRANULARITIES}, "invalid_value", "choose word or segment", "timestamp_granularities"),
            (0 <= temperature <= 1, "invalid_value", "give a number from 0 to 1", "temperature"),
        ):
            if not right:
                raise RefusedError(400, problem, message, param)
        phrases = [*form.getlist("keywords[]"), *form.getlist("hotwords[]"), *re.split("[,\n]", text("hotwords"))]
        hotwords = [phrase for phrase in map(str, phrases) if phrase.strip()]
        recognizer = service.recognizers.get(text("model")) or next(iter(service.recognizers.values()))
        return cls(file, recognizer, format, granularities, streamed, temperature, hotwords)


async def transcriptions(request: Request) -> Response:
    """`POST /v1/audio/transcriptions`, and `/inference` as whisper.cpp's server has it."""
    service: Service = request.app.state.service
    service.begin_file()
    form: FormData | None = None
    try:
        form = await _receive_form(request, service)
        job = Job(service, Options.of(form, service), request.client.host if request.client else "")
    except BaseException:
        service.files -= 1
        if form is not None:
            await form.close()
        raise
    if job.options.stream:
        return StreamingResponse(_server_sent(job), media_type="text/event-stream")
    try:
        await until_first(job.finish(), _disconnected(request))
    except asyncio.CancelledError:
        if not service.stopping:
            raise
        raise RefusedError(503, "stopping", "the server ended before the file was done; try again later") from None
    finally:
        job.close()
    if job.options.format in ("json", "verbose_json"):
        return JSONResponse(_json(job))
    return PlainTextResponse(render(job.transcript, "txt" if job.options.format == "text" else job.options.format, ""))


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


def _on_disk(file: UploadFile) -> Any:
    """The path of an upload; where an open file has no path, a file object, of which the recognizer makes a copy."""
    if not os.path.isdir(OPEN_FILES):
        return SimpleNamespace(name=file.filename or "file", read=file.file.read)
    path = Path(f"/proc/{os.getpid()}/fd/{file.file.fileno()}")  # `fileno` moves what is still in memory to the disk
    file.file.flush()
    return path


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


class Job:
    """The recognition of one file in a worker's thread, followed from the event loop."""

    def __init__(self, service: Service, options: Options, client: str):
        self.options = options
        self.transcript = Transcript((), 0.0)  # until `finish`
        self.seconds = 0.0  # that are recognized
        self.language = service.language[1]
        self._service, self._client, self._cancelled = service, client, threading.Event()
        self._loop = asyncio.get_running_loop()
        self._source = _on_disk(options.file)
        # Each as soon as it can no longer change, where they are streamed; None at the end.
        self.segments: asyncio.Queue[Segment | None] = asyncio.Queue()
        self._future = service.workers.submit(self._recognize)
        self._future.add_done_callback(lambda _: self._call(self._release))

    def _recognize(self) -> Transcript:
        began, options = time.perf_counter(), self.options
        on_segment = self._on_segment if options.stream else None
        try:
            (recognition,) = options.recognizer.transcribe_all(
                [self._source], self._on_progress, hotwords=options.hotwords or None, on_segment=on_segment
            )
            if recognition.error is not None:
                raise recognition.error
            return recognition.transcript
        except ArgumentError as error:
            raise RefusedError(400, "invalid_value", str(error), "hotwords") from None
        except AudioError as error:
            message = str(error).replace(str(self._source), one_line(options.file.filename or "file"))
            raise RefusedError(400, "invalid_audio", message, "file") from None
        finally:
            self._service.metrics.busy.labels("file").inc(time.perf_counter() - began)

    def _on_progress(self, _source: Source, seconds: float) -> None:
        self.seconds += seconds
        self._service.metrics.audio.labels("file").inc(seconds)
        if self._cancelled.is_set() or self._service.closed:
            raise RefusedError(400, "cancelled", "nobody waits for the file any more")
        if self.seconds > (limit := self._service.settings.max_seconds):
            raise RefusedError(413, "too_long", f"a recording may have {limit:g} s; cut it", "file")

    def _on_segment(self, _source: Source, segment: Segment) -> None:
        self._call(self.segments.put_nowait, segment)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(function, *args)

    def _release(self) -> None:
        """When no thread reads the file any more."""
        self.options.file.file.close()
        self.segments.put_nowait(None)
        self._service.files -= 1

    async def finish(self) -> None:
        """Wait for `transcript`. RefusedError."""
        self.transcript = await asyncio.wrap_future(self._future)

    def close(self) -> None:
        """End the work, if it goes on, and write the log."""
        self._cancelled.set()
        self._future.cancel()
        ended = self._future.done() and not self._future.cancelled()
        error = self._future.exception() if ended else None
        outcome = getattr(error, "code", "failed") if error else "finished" if ended else "cancelled"
        texts = [segment.text for segment in self.transcript.segments]
        self._service.report("file", self._client, texts, outcome=outcome, seconds=round(self.seconds, 2))


async def _server_sent(job: Job) -> AsyncIterator[str]:
    """Server-sent events: what was added to the text, in verbose_json with its words, and at the end all of it."""

    def event(values: dict[str, Any]) -> str:
        return f"data: {json.dumps(values)}\n\n"

    kind, space = "transcript.text.delta", ""
    try:
        while (segment := await job.segments.get()) is not None:
            values = {"type": kind, "delta": space + segment.written, "seconds": round(job.seconds, 2)}
            if job.options.format == "verbose_json":
                values["words"] = [word.to_dict() for word in segment.written_words]
            yield event(values)
            space = " "
        await job.finish()
        yield event({"type": "transcript.text.done", **_json(job)})
    except RefusedError as error:
        yield event(error.body())
    finally:
        job.close()


def _json(job: Job) -> dict[str, Any]:
    transcript, granularities = job.transcript, job.options.granularities
    seconds = round(transcript.duration, 3)
    values: dict[str, Any] = {"text": transcript.written, "usage": {"type": "duration", "seconds": seconds}}
    if job.options.format != "verbose_json":
        return values
    values |= {"task": "transcribe", "language": job.language, "duration": seconds}
    if "segment" in granularities:
        segments = enumerate(transcript.segments)
        values["segments"] = [_segment(number, segment, job.options.temperature) for number, segment in segments]
    if "word" in granularities:
        values["words"] = [word.to_dict() for word in transcript.written_words]
    return values


def _segment(number: int, segment: Segment, temperature: float) -> dict[str, Any]:
    """Whisper's fields. There are no ids of its tokens here; what holds no words is no segment."""
    data = segment.written.encode()
    logprobs = [math.log(max(word.confidence, 1e-3)) for word in segment.words]
    return {
        "id": number,
        "seek": round(segment.start * 100),  # in frames of 10 ms
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.written,
        "tokens": [],
        "temperature": temperature,
        "avg_logprob": round(sum(logprobs) / len(logprobs), 3),
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 3),
        "no_speech_prob": 0.0,
    }
