"""`asr serve`: a server for files and live audio, with a page of captions."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from asr.cli import options
from asr.cli.messages import complain
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DEFAULT_DECODER
from asr.errors import AsrError
from asr.model.engine import Model
from asr.recognize.batcher import Batcher
from asr.recognize.offline import DEFAULT_MODEL, Recognizer
from asr.recognize.streaming import STREAMING_MODEL

LiveModel = Annotated[str, Option(help="Packaged model or bundle for live audio.")]
SecondPass = Annotated[
    str | None, Option(metavar="MODEL", help="Model that recognizes finished utterances again, such as en-bilstm.")
]
Host = Annotated[str, Option(help="Address to listen at; 0.0.0.0 for every network.")]
Token = Annotated[
    str | None,
    Option(envvar="ASR_TOKEN", help="Clients must send it; better set in ASR_TOKEN, which `ps` does not show."),
]
Origins = Annotated[
    list[str] | None, Option(metavar="URL", help="Web pages of another server that may use this one; repeatable.")
]


def serve(
    host: Host = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    vosk_port: Annotated[int | None, Option(min=0, max=65535, help="Another one, for clients of vosk-server.")] = None,
    wyoming_port: Annotated[int | None, Option(min=0, max=65535, help="For Home Assistant; without a token.")] = None,
    style: options.Style = None,
    model: options.Model = DEFAULT_MODEL,
    live_model: LiveModel = STREAMING_MODEL,
    second_pass: SecondPass = None,
    decoder: options.Decoder = DEFAULT_DECODER,
    beam_width: options.BeamWidth = BEAM_WIDTH,
    lm: options.LanguageModel = None,
    hotwords: options.Hotwords = None,
    hotwords_file: options.HotwordsFile = None,
    threads: options.Threads = 0,
    token: Token = None,
    allow_origin: Origins = None,
    certificate: Annotated[Path | None, Option(metavar="FILE", help="For https: a PEM file.")] = None,
    key: Annotated[Path | None, Option(metavar="FILE", help="The certificate's key.")] = None,
    max_streams: Annotated[int, Option(min=1, help="Live streams at a time, and files that wait.")] = 100,
    max_upload: Annotated[int, Option(min=1, metavar="MB", help="Size of a file.")] = 500,
    max_seconds: Annotated[float, Option(min=1, help="Audio of a file or a live stream.")] = 4 * 3600.0,
    idle_seconds: Annotated[float, Option(min=1, help="A client that is silent or does not read is cut off.")] = 60.0,
    stop_seconds: Annotated[float, Option(min=0, help="To finish what is spoken when asked to end.")] = 10.0,
    log_text: Annotated[bool, Option("--log-text", help="Write the recognized text to the log.")] = False,
) -> None:
    """Serve files and live audio, with a page of captions.

    Speaks OpenAI's API for files and live audio, vosk-server's WebSocket and Wyoming. Nothing is kept. Ctrl-C or
    SIGTERM finishes what is spoken and ends. The log, a JSON object a line, goes to standard error.
    """
    try:
        from asr.serve.app import Server, listen_at
        from asr.serve.service import Service, Settings

        if wyoming_port is not None:
            import asr.serve.wyoming  # noqa: F401
    except ModuleNotFoundError as error:
        raise AsrError(
            f"the server needs more packages ({error.name} is missing): pip install 'recurrent-asr[serve]'"
        ) from None
    decoding = options.Decoding(decoder, beam_width, lm, hotwords, hotwords_file).options(second_pass=second_pass)
    if (certificate is None) != (key is None):
        raise typer.BadParameter("goes with --key", param_hint="--certificate")
    bundle = options.load_model(model, None)
    settings = Settings(
        max_streams,
        max_upload * 1_000_000,
        max_seconds,
        idle_seconds,
        stop_seconds,
        token or None,
        tuple(allow_origin or ()),
        log_text,
    )
    sockets = [listen_at(host, number) for number in (port, vosk_port) if number is not None]
    wyoming = listen_at(host, wyoming_port) if wyoming_port is not None else None
    chosen = options.chosen_style(style, bundle)
    recognizer = Recognizer(bundle, decoding, threads=threads, style=chosen)
    second: Model | None = second_pass if second_pass != options.NO_SECOND_PASS else None
    if second_pass == model:
        second = Recognizer(recognizer, decoding, style="spoken")  # of the same open model
    # One thread advances all streams; more of them in the model would take the processor from the others.
    batcher = Batcher(options.load_model(live_model, None), decoding, second, threads=1, style=chosen)
    files = (recognizer, Recognizer(batcher, decoding, style=chosen))
    recognizers = {item.bundle.config.name: item for item in files}
    language = bundle.config.language, options.language_name(bundle).lower()
    service = Service(recognizers, batcher, language, settings)

    def announce() -> None:
        scheme = "https" if certificate else "http"
        for item in [*sockets, *([wyoming] if wyoming else [])]:
            name, number = item.getsockname()[:2]
            url = f"{scheme if item in sockets else 'tcp'}://{f'[{name}]' if ':' in name else name}:{number}"
            complain(f"listening at {url}/")

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("asr.serve")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    Server(service, sockets, certificate, key, announce, wyoming).run(sockets)
