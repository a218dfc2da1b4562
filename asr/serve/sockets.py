"""A conversation over a WebSocket: messages in, a live stream, messages out."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from asr.errors import AsrError
from asr.serve.live import Update
from asr.serve.service import ClientStream, RefusedError, Service

Send = Callable[[dict[str, Any]], Awaitable[None]]
Message = TypeVar("Message")
CLOSE_SECONDS = 2.0  # for a client that does not read any more
CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_REFUSED, CLOSE_FAILED = 1000, 1001, 1008, 1011  # RFC 6455, section 7.4.1


class Conversation:
    """One protocol's side of a stream. AsrError for a message that is not understood; it ends the conversation."""

    def __init__(self, stream: ClientStream, send: Send):
        self.stream, self.send = stream, send
        self.odd = b""  # half a sample, whose other half comes with the next message

    async def begin(self) -> None: ...

    async def receive(self, message: str | bytes) -> None: ...

    async def update(self, update: Update) -> None: ...

    async def fail(self, error: AsrError) -> None: ...

    async def feed(self, data: bytes, rate: int) -> None:
        data = self.odd + data
        whole = len(data) - len(data) % 2
        self.odd = data[whole:]
        await self.stream.feed(np.frombuffer(data[:whole], "<i2"), rate)


def parse_json(text: str) -> dict[str, Any]:
    """The object in a message. RefusedError if it holds none."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise RefusedError(400, "invalid_message", "a text message must be a JSON object")
    return message


def parse_number(value: object) -> float:
    """A number, or one in a text; NaN for anything else."""
    try:
        return float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return math.nan


async def next_message(message: Awaitable[Message], limit: float | None) -> Message:
    """A message when it has come; RefusedError if none does for `limit` seconds, None for any time."""
    try:
        async with asyncio.timeout(limit):
            return await message
    except TimeoutError:
        raise RefusedError(408, "idle", f"nothing came for {limit:g} s; connect again") from None


async def until_first(*awaitables: Awaitable[Any]) -> None:
    """Wait for the first of them to end, cancel the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def converse(websocket: WebSocket, protocol: str, kind: type[Conversation]) -> None:
    """Serve one connection, from its handshake to its close. RefusedError before the handshake."""
    service: Service = websocket.app.state.service
    limit, client = service.settings.idle_seconds, websocket.client.host if websocket.client else ""
    sending = asyncio.Lock()

    async def send(message: dict[str, Any]) -> None:
        async with sending, asyncio.timeout(limit):  # of a client that does not read
            await websocket.send_text(json.dumps(message))
            await asyncio.sleep(0)  # others have their turn

    async def read() -> None:
        while True:
            async with sending:  # nothing is read from a client that does not read
                await asyncio.sleep(0)
            message = await next_message(websocket.receive(), None if stream.ended else limit)
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            data = message.get("bytes")
            if not stream.ended:
                await conversation.receive(message["text"] if data is None else data)

    async def write() -> None:
        async for update in stream.updates():
            await conversation.update(update)

    try:
        with service.stream(protocol, client) as stream:
            await websocket.accept("realtime" if "realtime" in websocket.scope["subprotocols"] else None)
            conversation = kind(stream, send)
            try:
                await conversation.begin()
                await until_first(read(), write())
                code = CLOSE_GOING_AWAY if service.stopping else CLOSE_NORMAL
            except AsrError as error:
                await conversation.fail(error)
                raise
    except WebSocketDisconnect:
        return
    except (AsrError, TimeoutError) as error:
        if websocket.application_state is WebSocketState.CONNECTING:
            raise
        code = CLOSE_FAILED if service.count_refusal(error) == "failed" else CLOSE_REFUSED
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # RuntimeError: the client closed it meanwhile
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code)
