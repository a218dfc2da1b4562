"""A conversation over a WebSocket: messages in, a live stream, messages out."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from asr.errors import AsrError
from asr.serve.service import LiveStream, RefusedError, Service, Update

Send = Callable[[dict[str, Any]], Awaitable[None]]
CLOSE_SECONDS = 2.0  # for a client that does not read any more
CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_REFUSED, CLOSE_FAILED = 1000, 1001, 1008, 1011  # RFC 6455, section 7.4.1


class Conversation(Protocol):
    """One protocol's side of a stream. AsrError for a message that is not understood; it ends the conversation."""

    def __init__(self, stream: LiveStream, send: Send): ...

    async def begin(self) -> None: ...

    async def receive(self, message: str | bytes) -> None: ...

    async def update(self, update: Update) -> None: ...

    async def fail(self, error: AsrError) -> None: ...


def error_body(error: RefusedError) -> dict[str, Any]:
    """As OpenAI's API reports errors."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def error_response(error: RefusedError) -> JSONResponse:
    return JSONResponse(error_body(error), error.status)


def parse_json(text: str) -> dict[str, Any]:
    """The object in a message. AsrError if it holds none."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise RefusedError(400, "invalid_message", "a text message must be a JSON object")
    return message


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
    """Serve one connection, from its handshake to its close."""
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
            async with asyncio.timeout(None if stream.ended else limit):
                message = await websocket.receive()
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
    except RefusedError as error:
        service.metrics.add("asr_rejected_total", error.code)
        if websocket.application_state is WebSocketState.CONNECTING:
            await websocket.send_denial_response(error_response(error))
            return
        code = CLOSE_REFUSED
    except TimeoutError:
        service.metrics.add("asr_rejected_total", "idle")
        code = CLOSE_REFUSED
    except AsrError:
        code = CLOSE_FAILED
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # RuntimeError: the client closed it meanwhile
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code)
