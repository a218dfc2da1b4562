"""`asr serve`: a server for files and live audio, with a page of captions."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from typer import Option

from asr.cli import options
from asr.cli.messages import complain
from asr.model.session import usable_cores
from asr.recognize.batcher import Batcher
from asr.recognize.offline import DEFAULT_MODEL, Recognizer
from asr.recognize.streaming import STREAMING_MODEL

if TYPE_CHECKING:
    from asr.serve.service import Settings

MAX_PROCESSES = 4  # by default


@dataclass(frozen=True)
class Clients:
    """Options that say who may be a client, and what one may do."""

    token: Annotated[
        str | None,
        Option(envvar="ASR_TOKEN", help="Clients must send it; better set in ASR_TOKEN, which `ps` does not show."),
    ] = None
    allow_origin: Annotated[
        list[str], Option(metavar="URL", help="Web pages of another server that may use this one; repeatable.")
    ] = ()  # type: ignore[assignment]
    max_streams: Annotated[int, Option(min=1, help="Live streams at a time, and files that wait.")] = 100
    max_upload: Annotated[int, Option(min=1, metavar="MB", help="Size of a file.")] = 500
    max_seconds: Annotated[float, Option(min=1, help="Audio of a file or a live stream.")] = 4 * 3600.0
    idle_seconds: Annotated[float, Option(min=1, help="A client that is silent or does not read is cut off.")] = 60.0
    stop_seconds: Annotated[float, Option(min=0, help="To finish what is spoken when asked to end.")] = 10.0
    log_text: Annotated[bool, Option("--log-text", help="Write the recognized text to the log.")] = False

    def settings(self) -> "Settings":
        from asr.serve.service import Settings

        origins = [*map(_origin, self.allow_origin)]
        return Settings(**vars(self) | {"allow_origin": origins, "max_upload": self.max_upload * 1_000_000})


def _origin(url: str) -> str:
    """The origin of a URL as browsers send it: scheme, host and port only, in lower case."""
    origin = url.lower().removesuffix("/")
    with suppress(ValueError):  # of brackets that are no IPv6 address
        parts = urlsplit(origin)
        if parts.hostname and not parts.username and origin in (f"http://{parts.netloc}", f"https://{parts.netloc}"):
            return origin
    raise typer.BadParameter(
        f"{url!r:.80} is no origin; give https://HOST or http://HOST:PORT", param_hint="--allow-origin"
    )


def serve(
    *,
    host: Annotated[str, Option(help="Address to listen at; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    vosk_port: Annotated[int | None, Option(min=0, max=65535, help="Another one, for clients of vosk-server.")] = None,
    wyoming_port: Annotated[int | None, Option(min=0, max=65535, help="For Home Assistant; without a token.")] = None,
    style: options.Style = None,
    model: options.Model = DEFAULT_MODEL,
    live_model: Annotated[str, Option(help="Packaged model or bundle for live audio.")] = STREAMING_MODEL,
    second_pass: Annotated[
        str | None, Option(metavar="MODEL", help="Model that recognizes finished utterances again, such as en-bilstm.")
    ] = None,
    decoding: options.Decoding,
    threads: options.Threads = 0,
    processes: Annotated[
        int | None,
        Option(
            min=1,
            help="Processes for live audio; 1: none beside the server's own.",
            show_default="one a core, at most 4",
        ),
    ] = None,
    certificate: Annotated[Path | None, Option(metavar="FILE", help="For https: a PEM file.")] = None,
    key: Annotated[Path | None, Option(metavar="FILE", help="The certificate's key.")] = None,
    clients: Clients,
) -> None:
    """Serve files and live audio, with a page of captions.

    Speaks OpenAI's API for files and live audio, vosk-server's WebSocket and Wyoming. Nothing is kept. Ctrl-C or
    SIGTERM finishes what is spoken and ends. The log, a JSON object a line, goes to standard error.
    """
    from asr.serve.app import Server, listen_at
    from asr.serve.live import Decoding, Live, Process
    from asr.serve.service import Service

    if wyoming_port is not None:
        import asr.serve.wyoming  # noqa: F401
    decoder = decoding.options(second_pass=second_pass)
    options.reject_if((certificate is None) != (key is None), "--certificate", "goes with --key")
    bundle = options.load_model(model, None)
    sockets = [listen_at(host, number) for number in (port, vosk_port) if number is not None]
    wyoming = listen_at(host, wyoming_port) if wyoming_port is not None else None
    chosen = options.chosen_style(style, bundle)
    recognizer = Recognizer(bundle, decoder, threads=threads, style=chosen)
    again = second_pass if second_pass != options.NO_SECOND_PASS else None
    # A second pass by the model of files runs on the same open model.
    second = Recognizer(recognizer, decoder, style="spoken") if again == model else again
    live = Batcher(options.load_model(live_model, None), decoder, second, threads=1, style=chosen)
    files = (recognizer, Recognizer(live, decoder, style=chosen))
    lives = [Live(Decoding(live))]  # more threads would take the processor from the others
    # Their models are opened here even so: for files, and to say at once what cannot be opened.
    if (count := processes or min(MAX_PROCESSES, usable_cores())) > 1:
        make = partial(Batcher, live_model, decoder, again, threads=1, style=chosen)
        lives = [Live(Process(make)) for _ in range(count)]
    recognizers = {item.bundle.config.name: item for item in files}
    language = bundle.config.language, options.language_name(bundle).lower()
    service = Service(recognizers, lives, language, clients.settings())
    _log_to_stderr()
    if not clients.token and not ip_address(sockets[0].getsockname()[0]).is_loopback:
        complain("without a token everybody in the network may use this server; set one in ASR_TOKEN")
    addresses = [_address(item, "https" if certificate else "http") for item in sockets]
    addresses += [_address(wyoming, "tcp")] if wyoming else []
    Server(service, sockets, certificate, key, lambda: [*map(complain, addresses)], wyoming).run(sockets)


def _address(listening: socket, scheme: str) -> str:
    name, number = listening.getsockname()[:2]
    return f"listening at {scheme}://{f'[{name}]' if ':' in name else name}:{number}/"


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("asr.serve")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
