"""A server as `asr serve` starts it, inside the test's process or in one of its own, on a free port of this machine."""

import io
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import carrier
import numpy as np
import pytest
import soundfile

from asr.decode.build import DecoderOptions
from asr.recognize.batcher import Batcher
from asr.recognize.offline import Recognizer

if TYPE_CHECKING:
    from asr.serve.app import Server
    from asr.serve.service import Service

MISSING = "the server's packages are missing: pip install 'recurrent-asr[serve]'"
GREEDY = DecoderOptions("greedy")


@dataclass
class Running:
    """A server that listens."""

    server: "Server"
    service: "Service"
    port: int

    def url(self, path: str = "/", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"


Serve = Callable[..., "contextmanager[Running]"]


@contextmanager
def running(service: "Service", wyoming: socket.socket | None = None) -> Iterator[Running]:
    from asr.serve.app import Server, listen_at

    ready = threading.Event()
    with listen_at("127.0.0.1", 0) as listening:
        server = Server(service, [listening], on_ready=ready.set, wyoming=wyoming)
        thread = threading.Thread(target=server.run, args=[[listening]], daemon=True)
        thread.start()
        assert ready.wait(60)
        try:
            yield Running(server, service, listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@contextmanager
def program(*options: str | Path, addresses: int = 1) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """`asr serve` as a process of its own, and the ports that it said it listens at."""
    command = [sys.executable, "-c", "from asr.cli.main import main; main()", "serve", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(addresses)]
        found = [re.fullmatch(r"asr: listening at \w+://.*:(\d+)/\n", line) for line in lines]
        try:
            yield process, [int(address[1]) for address in found if address is not None]
        finally:
            process.kill()


def make_service(
    recognizer: Recognizer, live: Path, decoder: DecoderOptions, second_pass: Recognizer | None, **limits: object
) -> "Service":
    pytest.importorskip("starlette", reason=MISSING)
    pytest.importorskip("uvicorn", reason=MISSING)
    pytest.importorskip("websockets", reason=MISSING)
    pytest.importorskip("multipart", reason=MISSING)
    pytest.importorskip("prometheus_client", reason=MISSING)
    from asr.serve.live import Decoding, Live
    from asr.serve.service import Service, Settings

    batcher = Batcher(live, decoder, second_pass, threads=1)
    settings: Settings = replace(Settings(stop_seconds=20.0), **limits)  # type: ignore[arg-type]
    name = recognizer.bundle.config.name
    return Service(
        {name: recognizer, "live": Recognizer(batcher, decoder)}, [Live(Decoding(batcher))], ("en", "english"), settings
    )


def metric(running: Running, name: str) -> float:
    """The value of a line of the server's metrics, 0 before there is one."""
    from prometheus_client import generate_latest

    lines = generate_latest(running.service.metrics.registry).decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def pcm(samples: np.ndarray) -> bytes:
    """16-bit audio as clients send it."""
    return (samples * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def wav(samples: np.ndarray) -> bytes:
    """A 16-bit wav file of the rate of `carrier.speech`."""
    data = io.BytesIO()
    soundfile.write(data, samples, carrier.RATE, format="WAV", subtype="PCM_16")
    return data.getvalue()


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()
