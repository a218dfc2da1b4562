"""Who may use the server: token, origin and host of each request, and the headers that keep a page to itself."""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from asr.serve.service import RefusedError, Service
from asr.serve.sockets import error_response

OPEN_PATHS = ("/", "/page.js", "/worklet.js", "/healthz")  # without a token, to read
SUBPROTOCOL_TOKEN = "openai-insecure-api-key."  # how OpenAI's clients in browsers send theirs
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Refuses requests before the application sees them.

    Args:
        local: whether the server listens on this machine only. Then it must be addressed as such, or a web page whose
            name was made to mean 127.0.0.1 could use it (DNS rebinding).
        headers: for every response.
    """

    def __init__(self, app: ASGIApp, service: Service, local: bool, headers: dict[str, str]):
        self._app, self._service, self._local, self._headers = app, service, local, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        try:
            self._check(scope)
        except RefusedError as error:
            self._service.metrics.add("asr_rejected_total", error.code)
            response = error_response(error)
            if scope["type"] == "websocket":
                await receive()  # its "connect"
                await WebSocket(scope, receive, send_with_headers).send_denial_response(response)
            else:
                await response(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers, settings = Headers(scope=scope), self._service.settings
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._local and _name(f"//{host}") not in (*LOCAL_HOSTS, *map(_name, settings.origins)):
            raise RefusedError(
                403, "wrong_host", "this server is for its own machine; allow a host with --allow-origin"
            )
        if origin is not None and origin not in settings.origins and origin.partition("//")[2] != host:
            raise RefusedError(403, "wrong_origin", "pages of other servers may not use this one; see --allow-origin")
        method = scope.get("method")
        is_open = method == "OPTIONS" or (method in ("GET", "HEAD") and scope["path"] in OPEN_PATHS)
        if settings.token is not None and not is_open:
            expected = settings.token.encode()
            if not any(hmac.compare_digest(given, expected) for given in _tokens(scope, headers)):
                raise RefusedError(401, "invalid_api_key", "the token is missing or wrong; send it as a bearer token")


def _name(url: str) -> str:
    """The host of a URL, without its port."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # of brackets that are no IPv6 address
        return ""


def _tokens(scope: Scope, headers: Headers) -> list[bytes]:
    """The tokens that a request brings; a browser's WebSocket cannot have headers."""
    tokens = [headers.get("authorization", "").removeprefix("Bearer ").encode("latin-1")]
    if scope["type"] == "websocket":
        tokens += [item.removeprefix(SUBPROTOCOL_TOKEN).encode() for item in scope["subprotocols"]]
        tokens.append(QueryParams(scope["query_string"]).get("token", "").encode())
    return tokens
