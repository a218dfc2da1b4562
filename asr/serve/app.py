"""The routes of the server, and how it runs: `make_server(service, sockets).run(sockets)`."""

import asyncio
import base64
import hashlib
import logging
import re
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from asr.errors import AsrError, one_line
from asr.serve.files import transcriptions
from asr.serve.guard import LOCAL_HOSTS, Guard
from asr.serve.realtime import Realtime
from asr.serve.service import RefusedError, Service
from asr.serve.sockets import converse, error_response
from asr.serve.vosk import Vosk

PAGE = Path(__file__).parent / "page"
MESSAGE_BYTES = 4_000_000  # of a message over a WebSocket: a minute of audio
PROBLEMS = {
    404: ("not_found", "there is nothing here"),
    405: ("wrong_method", "use another method"),
    500: ("internal_error", "the server failed; its log says why"),
}
REPORT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus


def make_app(service: Service, local: bool = True) -> Starlette:
    """The ASGI application. `local`: whether only this machine can reach it."""
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    styles = [hashlib.sha256(style.encode()).digest() for style in re.findall(r"<style>(.*?)</style>", html, re.DOTALL)]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in styles)
    headers = {
        "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self'; media-src blob:; "
        f"style-src {allowed}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "permissions-policy": "microphone=(self)",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }

    async def page(_: Request) -> Response:
        return HTMLResponse(html)

    async def models(_: Request) -> Response:
        items = [{"id": name, "object": "model", "created": 0, "owned_by": "asr"} for name in service.recognizers]
        return JSONResponse({"object": "list", "data": items, "language": service.language[1].capitalize()})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "stopping" if service.stopping else "ok"}, 503 if service.stopping else 200)

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(service.metrics.render(service.gauges()), media_type=REPORT_TYPE)

    async def problem(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code, message = PROBLEMS[status]
        return error_response(RefusedError(status, code, message))

    live = partial(converse, protocol="vosk", kind=Vosk)
    routes = [
        Route("/", page),
        *(Route(f"/{path.name}", partial(_file, path)) for path in PAGE.glob("*.js")),
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        Route("/inference", transcriptions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/healthz", health),
        Route("/metrics", metrics),
        WebSocketRoute("/v1/realtime", partial(converse, protocol="realtime", kind=Realtime)),
        WebSocketRoute("/vosk", live),
        WebSocketRoute("/", live),  # where vosk's clients look, on a port of their own
    ]
    middleware = [Middleware(Guard, service=service, local=local, headers=headers)]
    if service.settings.origins:
        cors = Middleware(
            CORSMiddleware, allow_origins=service.settings.origins, allow_methods=["*"], allow_headers=["*"]
        )
        middleware.insert(0, cors)
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=dict.fromkeys(PROBLEMS, problem))
    app.state.service = service
    return app


async def _file(path: Path, _: Request) -> Response:
    return FileResponse(path)


def listen_at(host: str, port: int) -> socket.socket:
    """A socket that takes connections. AsrError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise AsrError(
            f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port or --host"
        ) from None


def make_server(
    service: Service,
    sockets: Sequence[socket.socket],
    certificate: Path | None = None,
    key: Path | None = None,
    on_ready: Callable[[], object] = lambda: None,
    wyoming: socket.socket | None = None,
) -> "Server":
    """A server to `run(sockets)`, with another socket for Wyoming. AsrError for a certificate that cannot be used."""
    for item in sockets:
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a closed connection to a client that does not read ends, too
            item.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(service.settings.idle_seconds * 1000))
    local = all(item.getsockname()[0] in LOCAL_HOSTS for item in sockets)
    config = uvicorn.Config(
        make_app(service, local),
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_ping_timeout=service.settings.idle_seconds,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        server_header=False,
        proxy_headers=False,
    )
    # uvicorn 0.54 says that it did not answer when it has answered a WebSocket with an error.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "completing handshake" not in record.getMessage())
    try:
        config.load()
    except OSError as error:
        raise AsrError(f"{certificate}: cannot be used with {key} ({one_line(error)}); give PEM files") from None
    return Server(config, service, on_ready, wyoming)


class Server(uvicorn.Server):
    """Ends when a signal asks for it, after what is under way was finished (`Settings`); at a second one at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        on_ready: Callable[[], object],
        wyoming: socket.socket | None,
    ):
        super().__init__(config)
        self._service, self._on_ready, self._wyoming = service, on_ready, wyoming
        self._end: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._service.start()
        await super().startup(sockets)
        if self._wyoming is not None:
            from asr.serve.wyoming import listen

            await listen(self._service, self._wyoming)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._service.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._end is not None:
            self.should_exit = self.force_exit = True
        self.end()

    def end(self) -> None:
        """Begin to end, from any thread."""
        self._loop.call_soon_threadsafe(self._begin_end)

    def _begin_end(self) -> None:
        if self._end is None:
            self._end = self._loop.create_task(self._finish())

    async def _finish(self) -> None:
        await self._service.stop()
        self.should_exit = True
