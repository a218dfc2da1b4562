"""Who may use a server, and what it tells about itself."""

import json
import logging
import re
import socket
import time
from contextlib import suppress
from typing import Any

import carrier
import pytest
from serving import Running, Serve, pcm

httpx = pytest.importorskip("httpx", reason="pip install 'recurrent-asr[dev]'")
pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")

from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

TOKEN = "a secret é"


def get(running: Running, path: str, **headers: str) -> Any:
    return httpx.get(running.url(path), headers=headers, trust_env=False)


def handshake(running: Running, path: str = "/vosk", **options: Any) -> int:
    """The status with which a WebSocket is answered."""
    try:
        with connect(running.url(path, "ws"), **options):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code if "error" in json.loads(refused.response.body) else 0


def bearer(token: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {token}".encode()}


def test_a_token_is_asked_for_everywhere_but_at_the_page(serve: Serve) -> None:
    with serve(token=TOKEN) as running:
        for path in ("/", "/page.css", "/page.js", "/worklet.js", "/healthz"):
            assert get(running, path).status_code == 200
            assert httpx.head(running.url(path), trust_env=False).status_code == 200
        for path in ("/v1/models", "/metrics"):
            assert get(running, path).json()["error"]["code"] == "invalid_api_key"
            assert get(running, path, **bearer("wrong")).status_code == 401
            assert get(running, path, authorization="Bearer").status_code == 401
            assert get(running, path, **bearer(TOKEN)).status_code == 200
            assert get(running, path, authorization=f"bearer  {TOKEN}".encode()).status_code == 200
            assert get(running, path, authorization=TOKEN.encode()).status_code == 401
            assert get(running, path).headers["www-authenticate"] == "Bearer"
        assert httpx.post(running.url("/"), trust_env=False).status_code == 401
        assert httpx.post(running.url("/v1/audio/transcriptions"), trust_env=False).status_code == 401


def test_a_token_for_sockets(serve: Serve) -> None:
    token = "plain-1"
    with serve(token=token) as running:
        assert handshake(running) == 401
        assert handshake(running, "/") == 401
        assert handshake(running, "/vosk?token=wrong") == 401
        assert handshake(running, "/vosk?token=plain-1") == 101
        assert handshake(running, additional_headers={"Authorization": "Bearer plain-1"}) == 101


def test_a_browser_sends_its_token_as_a_subprotocol(serve: Serve) -> None:
    path = "/v1/realtime?intent=transcription"
    with serve(token="plain-1") as running:
        for sent in ("openai-insecure-api-key.plain-2", "openai-insecure-api-key.", "openai-insecure-api-key"):
            assert handshake(running, path, subprotocols=["realtime", sent]) == 401
        assert handshake(running, path, subprotocols=["realtime"]) == 401
        right = ["realtime", "openai-insecure-api-key.plain-1", "openai-beta.realtime-v1"]
        with connect(running.url(path, "ws"), subprotocols=right) as client:
            assert client.subprotocol == "realtime"
            assert json.loads(client.recv(30))["type"] == "session.created"


def test_health_while_the_server_ends(serve: Serve) -> None:
    with serve() as running:
        assert get(running, "/healthz").json() == {"status": "ok"}
        running.service.files = 1  # which it waits for
        running.server.should_exit = True
        deadline = time.monotonic() + 30
        while not running.service.stopping and time.monotonic() < deadline:
            time.sleep(0.02)
        ending = get(running, "/healthz")
        refused = handshake(running)
        running.service.files = 0
    assert (ending.status_code, ending.json(), refused) == (503, {"status": "stopping"}, 503)


def test_pages_of_other_servers_are_refused(serve: Serve) -> None:
    with serve(allow_origin=("https://example.org",)) as running:
        host = f"127.0.0.1:{running.port}"
        for origin, status in (
            (f"http://{host}", 200),
            ("https://example.org", 200),
            ("http://example.org", 403),
            ("http://127.0.0.1:1", 403),
            ("null", 403),
            ("http://[", 403),
        ):
            assert get(running, "/v1/models", origin=origin).status_code == status
            assert handshake(running, origin=origin) == (101 if status == 200 else status)
        allowed = get(running, "/v1/models", origin="https://example.org")
        assert allowed.headers["access-control-allow-origin"] == "https://example.org"
        asked = {"origin": "https://example.org", "access-control-request-method": "POST"}
        assert httpx.options(running.url("/v1/audio/transcriptions"), headers=asked, trust_env=False).status_code == 200


def test_no_other_page_may_read_answers_unless_allowed(server: Running) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    assert "access-control-allow-origin" not in get(server, "/v1/models", origin=origin).headers


def test_a_name_that_was_made_to_mean_this_machine_is_refused(serve: Serve) -> None:
    with serve(allow_origin=("https://captions.example.org",)) as running:
        for host, status in (
            ("localhost", 200),
            (f"127.0.0.1:{running.port}", 200),
            ("[::1]:8000", 200),
            ("captions.example.org", 200),  # a proxy on this machine
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("[", 403),
            ("", 403),
        ):
            assert get(running, "/v1/models", host=host).status_code == status, host


def test_a_page_can_reach_nothing_else(server: Running) -> None:
    response = get(server, "/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"https?://", response.text) == []
    assert "content-security-policy" in get(server, "/page.js").headers
    for path in ("/page.js", "/worklet.js"):
        assert get(server, path).headers["content-type"].startswith("text/javascript")


def test_metrics_are_those_of_prometheus(serve: Serve) -> None:
    with serve() as running:
        with connect(running.url("/vosk", "ws")) as socket:
            socket.send('{"config": {"sample_rate": 16000}}')
            for _ in range(4):
                socket.send(bytes(16_000))
                socket.recv(30)
            text = get(running, "/metrics").text
        get(running, "/v1/models", host="evil.example")
        refused = get(running, "/metrics").text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, value in lines}
    assert values["asr_open_streams"] == values['asr_streams_total{kind="vosk"}'] == 1
    assert values['asr_audio_seconds_total{kind="live"}'] == 2
    assert values["asr_chunk_latency_seconds_count"] == 4 == values['asr_chunk_latency_seconds_bucket{le="+Inf"}']
    assert values['asr_busy_seconds_total{kind="live"}'] > 0
    assert 'asr_rejected_total{kind="wrong_host"} 1' in refused
    names = re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert all(line.startswith(("# HELP ", "# TYPE ", *names)) for line in text.splitlines())


@pytest.mark.parametrize("log_text", [False, True])
def test_the_log_has_texts_only_if_asked(serve: Serve, caplog: pytest.LogCaptureFixture, log_text: bool) -> None:
    caplog.set_level(logging.INFO, logger="asr.serve")
    with serve(log_text=log_text) as running, connect(running.url("/vosk?token=tell", "ws")) as client:
        client.send('{"config": {"sample_rate": 16000}}')
        client.send(pcm(carrier.speech("one two", 5)))
        client.send('{"eof": 1}')
        assert len([*client]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.name == "asr.serve"]
    entry = json.loads(line)
    assert (entry["event"], entry["protocol"], entry["outcome"], entry["words"]) == ("stream", "vosk", "finished", 2)
    assert entry.get("text") == ("one two" if log_text else None)
    assert "tell" not in line


def test_the_log_says_in_words_that_a_client_left(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="asr.serve")
    with serve() as running, connect(running.url("/vosk", "ws")) as client:
        client.send(pcm(carrier.speech("one two", 5)))
    (line,) = [record.getMessage() for record in caplog.records if record.name == "asr.serve"]
    assert json.loads(line)["outcome"] == "left"


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: 127", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGE"]
)
def test_a_connection_without_a_whole_request_is_closed(serve: Serve, sent: bytes) -> None:
    with serve(idle_seconds=2.0) as running, socket.create_connection(("127.0.0.1", running.port), timeout=30) as raw:
        raw.sendall(sent)
        with suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
        with connect(running.url("/vosk", "ws")) as other:  # which is none of those
            for _ in range(10):
                other.send(bytes(320))
                other.recv(30)
                time.sleep(0.3)
