"""Who may use the server: token, origin and host of each request; the answer to what is refused; headers of pages."""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from asr.serve.service import RefusedError, Service

OPEN_PATHS = ("/", "/page.css", "/page.js", "/worklet.js", "/healthz")  # without a token, to read
SUBPROTOCOL_TOKEN = "openai-insecure-api-key."  # how OpenAI's clients in browsers send theirs
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests before the application sees them, and answers those that it refuses.

    `local`: whether the server listens on this machine only. Then it must be addressed as such, or a web page whose
    name was made to mean 127.0.0.1 could use it (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, service: Service, local: bool):
        self._app, self._service, self._local = app, service, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_with_headers)
        except RefusedError as error:
            self._service.count_refusal(error)
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send_with_headers).send_denial_response(error.response())
            else:
                await error.response()(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers, settings = Headers(scope=scope), self._service.settings
        host, origin, method = headers.get("host", ""), headers.get("origin"), scope.get("method")
        if self._local and _name(f"//{host}") not in (*LOCAL_HOSTS, *map(_name, settings.allow_origin)):
            raise RefusedError(403, "wrong_host", "this server is for its own machine; use --allow-origin for a host")
        if origin is not None and origin not in settings.allow_origin and origin.partition("//")[2] != host:
            raise RefusedError(403, "wrong_origin", "pages of other servers may not use this one; see --allow-origin")
        if method == "OPTIONS" or (method in ("GET", "HEAD") and scope["path"] in OPEN_PATHS) or not settings.token:
            return
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        given = [sent.strip().encode("latin-1")] if scheme.lower() == "bearer" else []
        if scope["type"] == "websocket":  # a browser's cannot have headers
            given += [item.removeprefix(SUBPROTOCOL_TOKEN).encode() for item in scope["subprotocols"]]
            given.append(QueryParams(scope["query_string"]).get("token", "").encode())
        if not any(hmac.compare_digest(token, settings.token.encode()) for token in given):
            raise RefusedError(401, "invalid_api_key", "the token is missing or wrong; send it as a bearer token")


def _name(url: str) -> str:
    """The host of a URL, without its port."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # of brackets that are no IPv6 address
        return ""
