"""Audio as it comes: a pipe that stays open, raw samples, an address."""

import functools
import http.server
import shutil
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
