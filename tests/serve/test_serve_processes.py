"""Live streams that are decoded in processes beside the server: as one process decodes them, and when one ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import pytest

pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")
pytest.importorskip("websockets", reason="pip install 'recurrent-asr[serve]'")
from serving import pcm, program, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

RATE = carrier.RATE
SPEECH = pcm(np.concatenate([carrier.speech("one two", 5), carrier.speech("", 40), carrier.speech("three", 5)]))
LIMIT = 30.0  # seconds
CHUNK = 5120  # bytes, 160 ms


@contextmanager
def served(*options: str | Path) -> Iterator[tuple[int, int]]:
    """A server with two processes for live audio: its own process, and its port."""
    with program("--port", "0", "--processes", "2", *options) as (process, (port,)):
        yield process.pid, port


@pytest.fixture
def models(carrier_bundle: Path, streaming_carrier_bundle: Path) -> list[str]:
    options = ["--model", carrier_bundle, "--live-model", streaming_carrier_bundle, "--lm", "NONE"]
    return [*map(str, options)]


@contextmanager
def client(port: int, **config: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}/vosk", close_timeout=5, max_size=None) as socket:
        socket.send(json.dumps({"config": {"sample_rate": RATE, **config}}))
        yield socket


def answer(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(socket.recv(LIMIT))


def speak(socket: ClientConnection, audio: bytes = SPEECH) -> list[str]:
    """The texts of all results; each message has one reply."""
    replies = []
    for start in range(0, len(audio), CHUNK):
        socket.send(audio[start : start + CHUNK])
        replies.append(answer(socket))
    socket.send('{"eof": 1}')
    return [reply["text"] for reply in [*replies, answer(socket)] if reply.get("text")]


def children(pid: int) -> list[int]:
    """Processes for live audio: those that have opened a model."""
    found = [number for file in Path(f"/proc/{pid}/task").glob("*/children") for number in file.read_text().split()]
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
class TestProcesses:
    def test_streams_are_spread_and_do_not_mix(self, models: list[str]) -> None:
        said = [f"{a}{b} {c}" for a in "ab" for b in "de" for c in ("one", "two")]
        found: dict[str, list[str]] = {}

        def one(text: str) -> None:
            with client(port) as socket:
                found[text] = speak(socket, pcm(carrier.speech(text, 3)))

        with served(*models, "--second-pass", models[1]) as (pid, port):
            wait_until(lambda: len(children(pid)) == 2)
            before = {child: seconds(child) for child in children(pid)}
            threads = [threading.Thread(target=one, args=[text]) for text in said]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
            assert found == {text: [text] for text in said}
            assert all(seconds(child) > before[child] for child in before)

    def test_phrases_are_preferred_and_those_that_cannot_be_are_refused(self, models: list[str]) -> None:
        with served(*models) as (_, port):
            with client(port, phrase_list=["one"]) as socket:
                assert speak(socket) == ["one two", "three"]
            with client(port, phrase_list=["one:no boost"]) as socket:
                socket.send(SPEECH[:CHUNK])
                assert "error" in answer(socket)
        with served(*models[:4], "--decoder", "greedy") as (_, port), client(port, phrase_list=["one"]) as socket:
            socket.send(SPEECH[:CHUNK])
            assert "greedy" in answer(socket)["error"]

    def test_when_a_process_ends_its_streams_fail_and_another_one_takes_its_place(self, models: list[str]) -> None:
        with served(*models) as (pid, port), client(port) as first, client(port) as second:
            for socket in (first, second):
                socket.send(SPEECH[:CHUNK])
                answer(socket)
            one, _ = children(pid)
            threads = len(os.listdir(f"/proc/{pid}/task"))
            os.kill(one, signal.SIGKILL)
            ended, went_on = [], []
            for socket in (first, second):
                try:
                    went_on += speak(socket, SPEECH[CHUNK:])
                except (ConnectionClosed, KeyError):
                    ended.append(socket)
            assert (len(ended), went_on) == (1, ["one two", "three"])
            for _ in range(4):  # at once, by the other one, and while a new one starts
                with client(port) as socket:
                    assert speak(socket) == ["one two", "three"]
            for process in children(pid):
                os.kill(process, signal.SIGKILL)
            time.sleep(0.3)  # the server has seen it
            with client(port) as socket:  # waits for a new one
                assert speak(socket) == ["one two", "three"]
            wait_until(lambda: len(children(pid)) == 2)
            assert len(os.listdir(f"/proc/{pid}/task")) < threads + 3  # those that ended leave none behind

    def test_a_signal_to_all_of_them_lets_what_is_spoken_finish(self, models: list[str]) -> None:
        with served(*models) as (pid, port), client(port) as socket:
            socket.send(SPEECH)
            time.sleep(0.3)  # it is read now, but the other processes may still open their model
            decoding = children(pid)
            for process in (*decoding, pid):
                os.kill(process, signal.SIGTERM)
            said = []
            with suppress(ConnectionClosed):
                while True:
                    said.append(answer(socket).get("text", ""))
            assert " ".join(filter(None, said)) == "one two three"
            wait_until(lambda: not any(map(alive, [pid, *decoding])))

    def test_phrases_that_are_prepared_do_not_keep_it_from_ending(self, models: list[str]) -> None:
        phrases = [f"{one} {two} {three}" for one in "abcde" for two in "abcde" for three in ("one", "two", "three")]
        with served(*models) as (pid, port), client(port, phrase_list=phrases) as socket:
            socket.send(SPEECH[:CHUNK])
            time.sleep(0.3)  # it is read, and the process that prepares them is still starting
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not alive(pid))

    def test_what_a_process_could_not_open_is_said_at_the_start(self, models: list[str]) -> None:
        for wrong in (["--second-pass", "nothing"], ["--live-model", models[1]]):
            command = [sys.executable, "-c", "from asr.cli.main import main; main()", "serve", "--port", "0"]
            ended = subprocess.run([*command, *models, "--processes", "2", *wrong], capture_output=True, text=True)
            assert ended.returncode == 1
            assert re.fullmatch(r"asr: .+\n", ended.stderr)

    def test_none_outlives_a_server_that_is_killed(self, models: list[str]) -> None:
        with served(*models) as (pid, port):
            with client(port) as socket:
                socket.send(SPEECH[:CHUNK])
                answer(socket)
            decoding = children(pid)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not any(map(alive, decoding)))


def seconds(pid: int) -> float:
    """Of the processor that a process has used."""
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9
