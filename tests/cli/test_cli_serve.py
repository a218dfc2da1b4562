"""`asr serve` as a program."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import carrier
import pytest
from program import PROGRAM, Command

httpx = pytest.importorskip("httpx", reason="pip install 'recurrent-asr[dev]'")
pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'recurrent-asr[serve]'")

from websockets.sync.client import connect  # noqa: E402

from asr.cli.serve import Clients  # noqa: E402


@contextmanager
def serving(*arguments: str | Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The program, and the addresses that it printed."""
    command = [*PROGRAM, "serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment) as process:
        assert process.stderr is not None
        addresses = []
        for _ in range(2 if "--vosk-port" in arguments else 1):
            line = process.stderr.readline()
            found = re.fullmatch(r"asr: listening at (https?://.*:\d+)/\n", line)
            assert found, line
            addresses.append(found[1])
        try:
            yield process, addresses
        finally:
            process.kill()


@pytest.fixture
def models(carrier_bundle: Path, streaming_carrier_bundle: Path) -> list[str | Path]:
    return ["--model", carrier_bundle, "--live-model", streaming_carrier_bundle, "--decoder", "greedy"]


def test_the_packaged_models_serve_on_this_machine_alone() -> None:
    sample = Path(__file__).parents[1] / "data/sample.flac"
    with serving() as (process, (address,)):
        assert address.startswith("http://127.0.0.1:")
        files = {"file": ("sample.flac", sample.read_bytes())}
        text = httpx.post(f"{address}/v1/audio/transcriptions", files=files, timeout=60, trust_env=False).json()["text"]
        assert len(text.split()) > 10
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_termination_request_finishes_what_is_spoken(models: list[str | Path]) -> None:
    with serving("--vosk-port", "0", *models) as (process, (_, vosk)):
        with connect(vosk.replace("http", "ws")) as speaker:
            speaker.send('{"config": {"sample_rate": 16000}}')
            speaker.send((carrier.speech("one two", 5) * 32768).astype("<i2").tobytes())
            assert "one" in str(speaker.recv(30))
            process.terminate()
            assert '"text": "one two"' in str(speaker.recv(30))
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert '"event": "stream"' in process.stderr.read()


def test_a_second_signal_ends_at_once(models: list[str | Path]) -> None:
    with (
        serving(*models, "--stop-seconds", "600") as (process, (address,)),
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as half,
    ):
        half.sendall(b"POST /inference HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n")
        half.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x")
        while "\nasr_open_files 1.0\n" not in httpx.get(f"{address}/metrics", trust_env=False).text:
            time.sleep(0.05)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert process.wait(30) == 0


def test_the_token_may_stand_in_the_environment(models: list[str | Path]) -> None:
    with serving(*models, ASR_TOKEN="secret") as (_, (address,)):
        assert httpx.get(f"{address}/v1/models", trust_env=False).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{address}/v1/models", headers=headers, trust_env=False).status_code == 200


@pytest.mark.parametrize("token", ["", "secret"])
def test_a_server_open_to_the_network_without_a_token_says_so(models: list[str | Path], token: str) -> None:
    warning = "asr: without a token everybody in the network may use this server; set one in ASR_TOKEN\n"
    command = [*PROGRAM, "serve", "--host", "0.0.0.0", "--port", "0", *map(str, models)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"ASR_TOKEN": token}) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("asr: listening") if token else line == warning
        process.kill()


def test_https(models: list[str | Path], tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except OSError:
        pytest.skip("openssl is not installed")
    with serving(*models, "--certificate", certificate, "--key", key) as (_, (address,)):
        assert address.startswith("https://")
        assert httpx.get(f"{address}/healthz", verify=False, trust_env=False).json() == {"status": "ok"}


def test_what_cannot_be_served_is_one_line(run: Command, tmp_path: Path, models: list[str | Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (line,) = run("serve", "--port", str(taken.getsockname()[1]), *models).errors
        assert "cannot listen" in line
    (line,) = run("serve", "--port", "0", "--live-model", "nothing").errors
    assert "nothing" in line
    key = tmp_path / "key.pem"
    key.write_text("no key")
    (line,) = run("serve", "--port", "0", *models, "--certificate", key, "--key", key).errors
    assert "PEM" in line
    assert run("serve", "--certificate", key).code == 2
    (line,) = run("serve", "--host", "no.such.host.invalid", *models).errors
    assert "cannot listen" in line


@pytest.mark.parametrize("origin", ["captions.example.org", "*", "ftp://example.org", "https://", "https://a.org/page"])
def test_an_origin_that_no_browser_sends_is_refused(run: Command, origin: str) -> None:
    result = run("serve", "--port", "0", "--allow-origin", origin)
    assert result.code == 2
    assert "give https://HOST" in " ".join(result.err.split())


def test_origins_are_compared_as_browsers_send_them() -> None:
    clients = Clients(allow_origin=["HTTPS://Captions.Example.org/", "http://[::1]:8000"])
    assert clients.settings().allow_origin == ["https://captions.example.org", "http://[::1]:8000"]


def test_without_its_packages_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['starlette'] = None\nfrom asr.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "serve"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("pip install 'recurrent-asr[serve]'")
