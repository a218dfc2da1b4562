"""Two servers behind nginx, with the configuration of asr/serve/README.md."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import pytest
from serving import Running, Serve, pcm, wav

httpx = pytest.importorskip("httpx", reason="pip install 'recurrent-asr[dev]'")
pytest.importorskip("websockets", reason="pip install 'recurrent-asr[serve]'")

from websockets.sync.client import ClientConnection, connect  # noqa: E402

README = Path(__file__).parents[2] / "asr/serve/README.md"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")  # which is not in everybody's path
HOST = "captions.example.org"
ORIGIN = f"https://{HOST}"
LIMIT = 30  # seconds
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Proxy:
    """nginx, and clients that take it for the host of its certificate."""

    def __init__(self, port: int, certificate: Path):
        self._port, self._context = port, ssl.create_default_context(cafile=str(certificate))

    @contextmanager
    def stream(self) -> Iterator[ClientConnection]:
        with (
            socket.create_connection(("127.0.0.1", self._port), LIMIT) as raw,
            connect(f"wss://{HOST}/vosk", sock=raw, ssl=self._context, origin=ORIGIN, close_timeout=5) as client,
        ):
            client.send(json.dumps({"config": {"sample_rate": carrier.RATE}}))
            yield client

    def post(self, audio: bytes, **fields: str) -> Any:
        url = f"https://127.0.0.1:{self._port}/v1/audio/transcriptions"
        with httpx.Client(verify=self._context, trust_env=False, timeout=LIMIT) as client:
            request = client.build_request(
                "POST", url, files={"file": ("talk.wav", audio)}, data=fields, headers={"host": HOST, "origin": ORIGIN}
            )
            request.extensions["sni_hostname"] = HOST
            return client.send(request)


@pytest.fixture
def servers(serve: Serve) -> Iterator[tuple[Running, Running]]:
    with serve(allow_origin=(ORIGIN,)) as one, serve(allow_origin=(ORIGIN,)) as other:
        yield one, other


@pytest.fixture
def proxy(servers: tuple[Running, Running], tmp_path: Path) -> Iterator[Proxy]:
    if NGINX is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "captions.pem", tmp_path / "captions.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={HOST}", "-days", "1"]
    command += ["-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (site,) = re.findall(r"```nginx\n(.*?)```", README.read_text(), re.DOTALL)
    for given, here in (
        ("127.0.0.1:8001", f"127.0.0.1:{servers[0].port}"),
        ("127.0.0.1:8002", f"127.0.0.1:{servers[1].port}"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("/etc/ssl/captions.pem", str(certificate)),
        ("/etc/ssl/captions.key", str(key)),
    ):
        assert site.count(given) == 1, given
        site = site.replace(given, here)
    folders = "".join(f"{name}_temp_path {tmp_path / name};\n" for name in TEMPORARY)
    user = "user root;\n" if os.geteuid() == 0 else ""  # others cannot read the folder
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"{user}daemon off;\npid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{site}}}\n"
    )
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen([NGINX, "-e", "stderr", "-p", tmp_path, "-c", configuration], stderr=log) as process,
    ):
        try:
            _wait_for(port, process, tmp_path / "log")
            yield Proxy(port, certificate)
        finally:
            process.terminate()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        with ExitStack() as stack:
            try:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT))
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return
    pytest.fail(f"nginx does not listen: {log.read_text()}")


def answer(client: ClientConnection) -> dict[str, Any]:
    return json.loads(client.recv(LIMIT))


def test_uploads_and_their_events_go_through(proxy: Proxy) -> None:
    silence = carrier.speech("", 1000)  # 2.6 MB
    audio = wav(np.concatenate([carrier.speech("one two", 5), silence, carrier.speech(" three", 5)]))
    assert proxy.post(audio).json()["text"] == "one two three"
    events = proxy.post(audio, stream="true").text.split("\n\n")
    done = json.loads(events[-2].removeprefix("data: "))
    assert (done["type"], done["text"]) == ("transcript.text.done", "one two three")
    assert proxy.post(b"nonsense" * 500_000).json()["error"]["code"] == "invalid_audio"


def test_each_stream_stays_with_its_server(proxy: Proxy, servers: tuple[Running, Running]) -> None:
    said = [f"{letter} one two" for letter in "abcd"]
    chunks = [np.array_split(np.frombuffer(pcm(carrier.speech(text, 5)), "<i2"), 8) for text in said]
    with ExitStack() as stack:
        clients = [stack.enter_context(proxy.stream()) for _ in said]
        for part in zip(*chunks, strict=True):  # in turn, so that a stream at another's server would be seen
            for client, samples in zip(clients, part, strict=True):
                client.send(samples.tobytes())
                assert "partial" in answer(client)
        assert [len(running.service.streams) for running in servers] == [2, 2]
        for client in clients:
            client.send('{"eof": 1}')
        assert [answer(client)["text"] for client in clients] == said


def test_while_one_server_ends_the_other_takes_new_streams(proxy: Proxy, servers: tuple[Running, Running]) -> None:
    ending, staying = servers
    ending.service.files = 1  # which it waits for
    ending.server.should_exit = True
    deadline = time.monotonic() + LIMIT
    while not ending.service.stopping and time.monotonic() < deadline:
        time.sleep(0.02)
    with ExitStack() as stack:
        for client in [stack.enter_context(proxy.stream()) for _ in range(3)]:
            client.send(bytes(320))
            assert "partial" in answer(client)
        assert len(staying.service.streams) == 3
    ending.service.files = 0
