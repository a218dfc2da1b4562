"""Audio as it comes: a pipe that stays open, raw samples, an address."""

import functools
import http.server
import io
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import carrier
import numpy as np
import pytest
import soundfile
from program import PROGRAM, Command

from asr.audio.sources import read

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not on PATH")


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    samples = np.concatenate([carrier.speech("one two"), carrier.speech(" three", silence=60), np.zeros(16_000)])
    soundfile.write(tmp_path / "talk.wav", samples, carrier.RATE, subtype="PCM_16")
    return tmp_path / "talk.wav"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_pipe_is_listened_to_as_it_comes(streaming_carrier_bundle: Path, talk: Path) -> None:
    command = [*PROGRAM, "listen", "--model", streaming_carrier_bundle, "--input", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(talk.read_bytes())
        process.stdin.flush()
        assert process.stdout.readline() == b"one two\n"  # while the pipe is still open
        process.stdin.close()
        assert process.stdout.read() == b"three\n"
        assert process.wait() == 0


@pytest.mark.parametrize(("subtype", "name"), [("PCM_16", None), ("FLOAT", "f32le"), ("PCM_U8", "u8")])
def test_raw_samples_have_a_rate_and_a_format(
    program: Command, streaming_carrier_bundle: Path, talk: Path, subtype: str, name: str | None
) -> None:
    soundfile.write(talk.with_suffix(".raw"), read(talk), carrier.RATE, subtype=subtype)
    options = ["--input", "-", "--rate", "16000", *(["--sample-format", name] if name else [])]
    model = ["--model", str(streaming_carrier_bundle)]
    result = program("listen", *model, *options, stdin=talk.with_suffix(".raw").read_bytes())
    assert result.code == 0
    assert len(result.out.splitlines()) == 2
    assert subtype == "PCM_U8" or result.out == "one two\nthree\n"
    assert program("listen", *model, "--sample-format", "u8", "--input", "-").code == 2


def test_raw_samples_of_another_format_are_said(program: Command, streaming_carrier_bundle: Path, talk: Path) -> None:
    talk.with_suffix(".raw").write_bytes(np.full(32_000, -5, dtype="<i2").tobytes())  # NaN, each two of them
    options = ["--rate", "16000", "--sample-format", "f32le", "--model", str(streaming_carrier_bundle)]
    result = program("listen", "--input", talk.with_suffix(".raw"), *options)
    assert any("100% of its samples are no numbers" in line for line in result.errors)


def test_an_address_is_listened_to_and_transcribed(
    program: Command, streaming_carrier_bundle: Path, talk: Path, address: str
) -> None:
    model = ["--model", str(streaming_carrier_bundle)]
    result = program("listen", *model, "--input", f"{address}/{talk.name}")
    assert (result.code, result.out) == (0, "one two\nthree\n")
    assert program("transcribe", *model, f"{address}/{talk.name}").out == "one two\nthree\n"
    for command in (["listen", *model, "--input"], ["transcribe", *model]):
        missing = program(*command, f"{address}/none.wav")
        assert (missing.code, missing.out) == (1, "")
        assert missing.errors[-1].startswith(f"asr: {address}/none.wav: no audio that ffmpeg can read")


@pytest.fixture
def broadcast() -> Iterator[tuple[str, threading.Event]]:
    """The address of three utterances and 26 s of silence, after which no more comes until the event, or for a minute.

    Of the last word it is not known whether it is complete, nor of the one before it whether it ends its segment.
    """
    ended, content = threading.Event(), io.BytesIO()
    words = [carrier.speech(f" {word}", silence=60) for word in ("one", "two", "three", "four")]
    begin = np.concatenate([*words[:3], np.zeros(26 * carrier.RATE)])
    held = 44 + 2 * len(begin)  # a header, and samples of 16 bits
    soundfile.write(content, np.concatenate([begin, words[3]]), carrier.RATE, "PCM_16", format="WAV")

    class Broadcast(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content.getvalue())))
            self.end_headers()
            self.wfile.write(content.getvalue()[:held])
            ended.wait(60)
            ended.set()
            self.wfile.write(content.getvalue()[held:])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broadcast)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/live", ended
    ended.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("streaming", [False, True])
def test_the_text_of_a_broadcast_is_shown_as_each_segment_is_done(
    carrier_bundle: Path,
    streaming_carrier_bundle: Path,
    talk: Path,
    broadcast: tuple[str, threading.Event],
    streaming: bool,
) -> None:
    address, ended = broadcast
    model = streaming_carrier_bundle if streaming else carrier_bundle
    command = [*PROGRAM, "transcribe", "--model", model, talk, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == [
            f"{talk}\tone two\n",
            f"{talk}\tthree\n",
            f"{address}\tone\n",
        ]
        assert not ended.is_set()
        ended.set()
        assert process.stdout.read() == "".join(f"{address}\t{word}\n" for word in ("two", "three", "four"))
        assert process.wait() == 0


def test_a_pipe_at_the_speed_of_speech_is_written_before_it_ends(streaming_carrier_bundle: Path, talk: Path) -> None:
    paced = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-i", str(talk), "-f", "s16le", "-"]
    command = [*PROGRAM, "listen", "--model", streaming_carrier_bundle, "--input", "-", "--rate", "16000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(bytes(64_000))  # two seconds of silence
        process.stdin.flush()
        assert b"listening to standard input" in process.stderr.readline()  # the clock starts when the program has
        with subprocess.Popen(paced, stdout=process.stdin) as speaker:
            assert process.stdout.readline() == b"one two\n"
            assert speaker.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b"three\n"
        assert process.wait() == 0


def test_a_list_of_segments_is_followed_over_the_network(
    program: Command, streaming_carrier_bundle: Path, talk: Path, address: str
) -> None:
    hls = ["-c:a", "alac", "-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", "1", "-hls_list_size", "0"]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-i", talk, *hls, talk.with_suffix(".m3u8")], check=True)
    for command in (["listen", "--input"], ["transcribe"]):
        result = program(*command, f"{address}/talk.m3u8", "--model", streaming_carrier_bundle)
        assert (result.code, result.out) == (0, "one two\nthree\n")


def test_what_cannot_be_played_as_it_comes_is_one_line(
    program: Command, streaming_carrier_bundle: Path, talk: Path, address: str
) -> None:
    m4a = talk.with_suffix(".m4a")  # its index comes last, and this server cannot begin in the middle
    subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-stream_loop", "60", "-i", talk, "-c:a", "alac", m4a], check=True
    )
    for command in (["listen", "--input"], ["transcribe"]):
        result = program(*command, f"{address}/talk.m4a", "--model", streaming_carrier_bundle)
        assert (result.code, result.out) == (1, "")
        assert "no sound that can be played as it comes" in result.errors[-1]


def serve_rtsp(listening: socket.socket, samples: bytes) -> None:
    """One listener of an RTSP server (RFC 2326): 16-bit samples, packets inside of the connection."""
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as requests:
        while head := list(iter(requests.readline, b"\r\n")):
            verb, number = head[0].split()[0], next(line for line in head if line.lower().startswith(b"cseq"))
            sdp = b"v=0\r\ns=talk\r\nt=0 0\r\nm=audio 0 RTP/AVP 96\r\na=rtpmap:96 L16/16000/1\r\na=control:1\r\n"
            more = {
                b"OPTIONS": b"Public: DESCRIBE, SETUP, PLAY\r\n\r\n",
                b"DESCRIBE": b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(sdp), sdp),
                b"SETUP": b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
            }.get(verb, b"Session: 1\r\n\r\n")
            connection.sendall(b"RTSP/1.0 200 OK\r\n" + number + more)
            if verb == b"PLAY":
                for packet, start in enumerate(range(0, len(samples), 640)):
                    part = struct.pack(">BBHII", 128, 96, packet, start // 2, 7) + samples[start : start + 640]
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(part)) + part)
                return


def test_a_camera_is_listened_to(program: Command, streaming_carrier_bundle: Path, talk: Path) -> None:
    samples = (read(talk) * 32767).astype(">i2").tobytes()
    for command in (["listen", "--input"], ["transcribe"]):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=serve_rtsp, args=(listening, samples), daemon=True).start()
            address = f"rtsp://127.0.0.1:{listening.getsockname()[1]}/talk"
            result = program(*command, address, "--model", streaming_carrier_bundle)
        assert (result.code, result.out) == (0, "one two\nthree\n")


def test_a_pipe_without_audio_is_one_line(program: Command, streaming_carrier_bundle: Path) -> None:
    for stdin in (b"", b"no audio at all" * 100):
        result = program("listen", "--model", streaming_carrier_bundle, "--input", "-", stdin=stdin)
        assert (result.code, result.out) == (1, "")
        assert len(result.errors) == 1
        assert "standard input" in result.err


def test_a_file_that_cannot_be_read_from_a_pipe_is_read_whole(
    program: Command, streaming_carrier_bundle: Path, talk: Path
) -> None:
    alac = talk.with_suffix(".m4a")  # its index comes last
    subprocess.run(["ffmpeg", "-v", "error", "-i", talk, "-c:a", "alac", alac], check=True, stdin=subprocess.DEVNULL)
    result = program("listen", "--model", streaming_carrier_bundle, "--input", "-", stdin=alac.read_bytes())
    assert (result.code, result.out) == (0, "one two\nthree\n")
