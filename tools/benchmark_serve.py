"""How many live streams `asr serve` carries, and how long a file takes: the part `serve` of tools/benchmark.py.

The load comes from a process of its own, which runs this file: vosk's protocol in real time, without a library, so that
it takes little of the processor.
"""

import asyncio
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.recognize.streaming import CHUNK_SECONDS

CHUNK_BYTES = 2 * round(CHUNK_SECONDS * SAMPLE_RATE)
WARM_SECONDS = 5.0  # of each run that are not counted: the streams begin one after the other
WARM_STREAMS = 4  # before each run, since some are decoded in one process and some in the other
PROGRAM = [sys.executable, "-c", "from asr.cli.main import main; main()"]


class Stream(asyncio.Protocol):
    """A client of vosk's protocol: sends chunks, and notes when the reply to each has come."""

    def __init__(self, latencies: list[float]):
        self.sent: deque[float] = deque()
        self.latencies, self._received = latencies, b""
        self.upgraded = asyncio.Event()  # what is sent before, the server may pass over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        transport.write(b"GET /vosk HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + key)

    def data_received(self, data: bytes) -> None:
        now, data = time.monotonic(), self._received + data
        if not self.upgraded.is_set() and b"\r\n\r\n" in data:
            data = data.partition(b"\r\n\r\n")[2]
            self.transport.write(frame(1, b'{"config": {"sample_rate": %d}}' % SAMPLE_RATE))
            self.upgraded.set()
        while self.upgraded.is_set() and len(data) > 1:
            short = data[1] & 127
            begin = 2 if short < 126 else 4  # replies are shorter than 64 kB
            end = begin + (short if short < 126 else int.from_bytes(data[2:4], "big"))
            if len(data) < end:
                break
            if data[0] & 15 == 9:  # a ping
                self.transport.write(frame(10, data[begin:end]))
            elif data[0] & 15 == 1:
                self.latencies.append(now - self.sent.popleft())
            data = data[end:]
        self._received = data


def frame(kind: int, content: bytes) -> bytes:
    """A message of a client (RFC 6455, section 5.2), whose mask is zero."""
    return bytes([0x80 | kind, 0xFE]) + len(content).to_bytes(2, "big") + bytes(4) + content


async def load(port: int, streams: int, seconds: float, pid: int, audio: bytes) -> dict[str, Any]:
    """Speak with so many streams for so long: latencies, and CPU seconds of this process and of the server `pid`."""
    loop, latencies, clients = asyncio.get_running_loop(), [], []
    chunks = [frame(2, audio[start : start + CHUNK_BYTES]) for start in range(0, len(audio), CHUNK_BYTES)]
    began, before, late = time.monotonic(), (0.0, 0.0), 0.0
    for _ in range(streams):
        _, client = await loop.create_connection(lambda: Stream(latencies), "127.0.0.1", port)
        await client.upgraded.wait()
        clients.append(client)
    rounds = round((WARM_SECONDS + seconds) / CHUNK_SECONDS)
    for number in range(rounds):
        if number == round(WARM_SECONDS / CHUNK_SECONDS):
            latencies.clear()
            before, late = (time.process_time(), processor_seconds(pid)), 0.0
        for place, client in enumerate(clients):  # spread over the time of a chunk, as clients are
            due = began + (number + place / streams) * CHUNK_SECONDS
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            late = max(late, time.monotonic() - due)
            client.sent.append(time.monotonic())
            client.transport.write(chunks[(number + 37 * place) % len(chunks)])
    result = {"load": time.process_time() - before[0], "server": processor_seconds(pid) - before[1]}
    result |= {"memory": memory(pid).tolist(), "late": late}
    now = time.monotonic()
    latencies += [now - sent for client in clients for sent in client.sent]  # at least, of what was not answered
    for client in clients:
        client.transport.abort()
    return result | {f"p{number}": float(np.percentile(latencies, number)) for number in (50, 99, 100)}


def family(pid: int) -> list[Path]:
    """What /proc has of a process and those that it started."""
    folder = Path(f"/proc/{pid}")
    children = [child for file in folder.glob("task/*/children") for child in file.read_text().split()]
    return [folder, *(other for child in children for other in family(int(child)))]


def processor_seconds(pid: int) -> float:
    """Of a process and those that it started."""
    fields = [(folder / "stat").read_text().rpartition(")")[2].split() for folder in family(pid)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> np.ndarray:
    """Bytes in memory of a process and those that it started: all, and without pages of files.

    The language model and the lexicon are such pages, which processes share.
    """
    numbers = [(folder / "statm").read_text().split() for folder in family(pid)]
    resident, shared = (sum(int(each[index]) for each in numbers) for index in (1, 2))
    return np.array([resident, resident - shared], float) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def server(*options: str) -> Iterator[tuple[int, int]]:
    """`asr serve` in a process of its own: its port and its process."""
    command = [*PROGRAM, "serve", "--port", "0", "--max-streams", "1000", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            address = re.search(r":(\d+)/", process.stderr.readline())
            if address is None:
                sys.exit(f"the server does not start: {process.stderr.read()}")
            yield int(address[1]), process.pid
        finally:
            process.terminate()


def serving(sources: Sequence[Path], decoders: Sequence[str], streams: Sequence[int], seconds: float) -> None:
    """Print the table of live streams."""
    heads = ["decoder", "streams", "p50", "p99", "p100", "server: CPU s per s; per stream", "load: CPU s per s"]
    print("|", " | ".join([*heads, "MB a stream; not of files"]), "|")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "audio.pcm"
        samples = np.concatenate([read(source) for source in sources])
        audio.write_bytes((samples * 32767).astype("<i2").tobytes()[: len(samples) * 2 // CHUNK_BYTES * CHUNK_BYTES])
        for decoder in decoders:
            for count in streams:
                with server("--decoder", decoder) as (port, pid):
                    run_load(port, pid, WARM_STREAMS, 1.0, audio)  # each process loads what is loaded once
                    before = memory(pid)
                    found = run_load(port, pid, count, seconds, audio)
                times = " | ".join(f"{1000 * found[name]:.0f} ms" for name in ("p50", "p99", "p100"))
                cores, per_stream = found["server"] / seconds, found["server"] / seconds / count
                grown, private = (np.array(found["memory"]) - before) / count / 1e6
                row = (
                    f"| {decoder} | {count} | {times} | {cores:.2f}, {per_stream:.4f} | {found['load'] / seconds:.2f} |"
                )
                print(f"{row} {grown:.1f}, {private:.1f} |", flush=True)


def run_load(port: int, pid: int, streams: int, seconds: float, audio: Path) -> dict[str, Any]:
    arguments = [str(port), str(pid), str(streams), str(seconds), str(audio)]
    return json.loads(subprocess.check_output([sys.executable, __file__, *arguments]))


def file_over_http(recording: Path, repeats: int) -> None:
    """Print how long the server and the command take for a recording."""
    boundary = secrets.token_hex(8)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="talk.wav"\r\n\r\n'
    body = head.encode() + recording.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    over_http, command = [], []
    with server() as (port, _):
        for _ in range(repeats + 1):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/audio/transcriptions", body, headers)
            began = time.perf_counter()
            text = json.loads(urllib.request.urlopen(request).read())["text"]
            over_http.append(time.perf_counter() - began)
            began = time.perf_counter()
            printed = subprocess.check_output([*PROGRAM, "transcribe", recording], text=True)
            command.append(time.perf_counter() - began)
            assert printed.split() == text.split()
    times = [
        f"{statistics.median(each[1:]):.2f} ({min(each[1:]):.2f} – {max(each[1:]):.2f}) s"
        for each in (over_http, command)
    ]
    print(f"\nA file of 5 minutes: {times[0]} over HTTP, {times[1]} by `asr transcribe`.")


if __name__ == "__main__":
    number, process, amount, duration, path = sys.argv[1:]
    data = Path(path).read_bytes()
    print(json.dumps(asyncio.run(load(int(number), int(amount), float(duration), int(process), data))))
