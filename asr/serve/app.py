"""The routes of the server, and how it runs: `Server(service, sockets).run(sockets)`."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from asr.errors import AsrError, one_line
from asr.serve.files import transcriptions
from asr.serve.guard import LOCAL_HOSTS, Guard
from asr.serve.realtime import Realtime
from asr.serve.service import RefusedError, Service
from asr.serve.sockets import converse
from asr.serve.vosk import Vosk

PAGE = Path(__file__).parent / "page"
MESSAGE_BYTES = 4_000_000  # of a message over a WebSocket: a minute of audio
REPORT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus


def make_app(service: Service, local: bool = True) -> Starlette:
    """The ASGI application. `local`: whether only this machine can reach it."""

    def described(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": 0, "owned_by": "asr"}

    async def models(_: Request) -> Response:
        items = [*map(described, service.recognizers)]
        return JSONResponse({"object": "list", "data": items, "language": service.language[1].capitalize()})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in service.recognizers:
            raise RefusedError(404, "model_not_found", f"there is no model {name!r:.80} here", "model")
        return JSONResponse(described(name))

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "stopping" if service.stopping else "ok"}, 503 if service.stopping else 200)

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(generate_latest(service.metrics.registry), media_type=REPORT_TYPE)

    async def page(path: Path, _: Request) -> Response:
        return FileResponse(path)

    async def problem(_: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return RefusedError(error.status_code, error.detail.lower().replace(" ", "_"), error.detail).response()
        return RefusedError(500, "internal_error", "the server failed; its log says why").response()

    async def gone(_: Request, __: Exception) -> Response:
        return Response()  # nobody is there to read it

    live = partial(converse, protocol="vosk", kind=Vosk)
    routes = [
        *(Route(f"/{path.name}".removesuffix("index.html"), partial(page, path)) for path in PAGE.iterdir()),
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        Route("/inference", transcriptions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/healthz", health),
        Route("/metrics", metrics),
        WebSocketRoute("/v1/realtime", partial(converse, protocol="realtime", kind=Realtime)),
        WebSocketRoute("/vosk", live),
        WebSocketRoute("/", live),  # where vosk's clients look, on a port of their own
    ]
    middleware = [Middleware(Guard, service=service, local=local)]
    if origins := service.settings.allow_origin:
        cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
        middleware.insert(0, cors)
    handlers: dict[Any, Any] = {HTTPException: problem, 500: problem, ClientDisconnect: gone}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.state.service = service
    return app


def listen_at(host: str, port: int) -> socket.socket:
    """A socket that takes connections. AsrError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while ")[0]  # the address again
        problem = f"{host}:{port}: cannot listen there ({reason}); choose another --port or --host"
        raise AsrError(problem) from None


class Server(uvicorn.Server):
    """Ends when a signal asks for it, after what is under way was finished (`Settings`); at a second one at once.

    `wyoming` is a socket for that protocol. AsrError for a certificate that cannot be used.
    """

    def __init__(
        self,
        service: Service,
        sockets: Sequence[socket.socket],
        certificate: Path | None = None,
        key: Path | None = None,
        on_ready: Callable[[], object] = lambda: None,
        wyoming: socket.socket | None = None,
    ):
        self._service, self._on_ready, self._wyoming = service, on_ready, wyoming
        idle_seconds = service.settings.idle_seconds
        for item in sockets:
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a closed connection to who does not read ends, too
                item.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(idle_seconds * 1000))
        config = uvicorn.Config(
            make_app(service, local=all(item.getsockname()[0] in LOCAL_HOSTS for item in sockets)),
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="error",
            ws="websockets-sansio",
            ws_max_size=MESSAGE_BYTES,
            ws_ping_timeout=idle_seconds,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            server_header=False,
            proxy_headers=False,
        )
        # uvicorn 0.54 says that it did not answer when it has answered a WebSocket with an error.
        logging.getLogger("uvicorn.error").addFilter(lambda record: "completing handshake" not in record.getMessage())
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each damaged form
        try:
            config.load()
        except OSError as error:
            raise AsrError(f"{certificate}: cannot be used with {key} ({one_line(error)}); give PEM files") from None
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.start()
        await super().startup(sockets)
        if self._wyoming is not None:
            from asr.serve.wyoming import listen

            await listen(self._service, self._wyoming)
        self._watch = asyncio.create_task(self._drop_silent())
        self._on_ready()

    async def _drop_silent(self) -> None:
        """Close connections that bring no whole request in time: uvicorn would wait for ever."""
        before: dict[Any, Any] = {}  # connection: its last request
        while True:
            now = {item: item.cycle for item in self.server_state.connections if hasattr(item, "cycle")}
            for connection, cycle in now.items():
                if before.get(connection, now) is cycle and (cycle is None or cycle.response_complete):
                    connection.transport.close()
            before = now
            await asyncio.sleep(self._service.settings.idle_seconds)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.stop(lambda: self.force_exit)
        await super().shutdown(sockets)
        self._service.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit, self.should_exit = self.should_exit, True
