"""Wyoming (github.com/OHF-Voice/wyoming), the protocol of Home Assistant's voice assistants, over TCP.

    → describe, or transcribe, audio-start, audio-chunk (16-bit), …, audio-stop
    ← info, or transcript-start, transcript-chunk, …, transcript, transcript-stop

The protocol knows no tokens.
"""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import numpy as np
from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Info

import asr
from asr.audio.sources import MAX_CHANNELS
from asr.errors import AsrError
from asr.output.events import Final
from asr.serve.service import ClientStream, RefusedError, Service
from asr.serve.sockets import next_message, until_first

MAX_BYTES = 1_000_000  # of the data or the audio of an event


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event, None at the end. RefusedError for what is none, or too large (the library would wait for it)."""
    try:
        line = await reader.readline()
        if not line:
            return None
        header = json.loads(line)
        sizes = [header.get(f"{part}_length") or 0 for part in ("data", "payload")]
        if not all(isinstance(size, int) and 0 <= size <= MAX_BYTES for size in sizes):
            raise RefusedError(400, "invalid_message", "an event is too large")
        data, payload = [await reader.readexactly(size) for size in sizes]
        return Event(str(header["type"]), {**header.get("data", {}), **json.loads(data or b"{}")}, payload)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RefusedError(400, "invalid_message", "this is no event") from None
    except asyncio.IncompleteReadError:
        return None


class Connection:
    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._service, self._reader, self._writer = service, reader, writer

    async def run(self) -> None:
        """Serve the client until it goes away."""
        try:
            while (event := await self._read()) is not None:
                if event.type == "describe":
                    await self._write(self._info())
                elif event.type == "audio-start":
                    client = self._writer.get_extra_info("peername")
                    with self._service.stream("wyoming", client[0] if client else "") as stream:
                        await self._transcribe(stream)
        except asyncio.CancelledError:  # the server ends; asyncio would log it
            pass
        except (AsrError, TimeoutError, OSError) as error:
            code = self._service.count_refusal(error)
            with suppress(OSError, TimeoutError):
                await self._write(Event("error", {"text": str(error), "code": code}))
        finally:
            self._writer.close()

    async def _read(self) -> Event | None:
        return await next_message(read_event(self._reader), self._service.settings.idle_seconds)

    async def _write(self, event: Event | Eventable) -> None:
        async with asyncio.timeout(self._service.settings.idle_seconds):
            await async_write_event(event if isinstance(event, Event) else event.event(), self._writer)

    async def _transcribe(self, stream: ClientStream) -> None:
        """From audio-start to the transcript."""
        texts: list[str] = []

        async def listen() -> None:
            while (event := await self._read()) is not None and event.type != "audio-stop":
                if event.type == "audio-chunk":
                    await stream.feed(*_samples(event))
            if event is None:
                raise ConnectionError("the client went away")
            stream.finish()
            await asyncio.Event().wait()  # what comes next is for after the transcript

        async def write() -> None:
            await self._write(TranscriptStart(language=language))
            async for update in stream.updates():
                for event in update.events:
                    if isinstance(event, Final):
                        await self._write(TranscriptChunk(f" {event.written}" if texts else event.written))
                        texts.append(event.written)
            await self._write(Transcript(" ".join(texts), language=language))
            await self._write(TranscriptStop())

        language = self._service.language[0]
        await until_first(listen(), write())

    def _info(self) -> Info:
        about: dict[str, Any] = {"attribution": Attribution("asr", ""), "installed": True, "version": asr.__version__}
        config = [*self._service.recognizers.values()][-1].bundle.config
        model = AsrModel(name=config.name, description=config.description, languages=[config.language], **about)
        about |= {"description": "Recurrent CTC models", "supports_transcript_streaming": True}
        return Info(asr=[AsrProgram(name="asr", models=[model], **about)])


def _samples(event: Event) -> tuple[np.ndarray, int]:
    """Samples (n, channels) of an audio-chunk, and their rate. RefusedError."""
    rate, width, channels = (event.data.get(name) for name in ("rate", "width", "channels"))
    payload = event.payload or b""
    if width != 2 or type(rate) is not int or type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
        raise RefusedError(400, "invalid_audio", "send 16-bit audio with its rate and channels")
    if len(payload) % (2 * channels):
        raise RefusedError(400, "invalid_audio", "an audio-chunk must hold whole samples")
    return np.frombuffer(payload, "<i2").reshape(-1, channels), rate


async def listen(service: Service, listening: socket.socket) -> asyncio.Server:
    """Serve Wyoming's clients at a socket, until the server is closed."""
    return await asyncio.start_server(lambda *streams: Connection(service, *streams).run(), sock=listening)
