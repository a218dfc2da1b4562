"""`asr listen` on a microphone, as far as software can make one: PulseAudio plays, PortAudio captures."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jiwer
import pytest
from virtual_microphone import VirtualMicrophone, virtual_microphone

from asr.bundle import packaged_models
from asr.recognizer import Recognizer
from asr.streaming import STREAMING_MODEL, StreamingRecognizer, transcribe_live

pytestmark = pytest.mark.skipif(STREAMING_MODEL not in packaged_models(), reason=f"{STREAMING_MODEL} is not packaged")

SAMPLE = Path(__file__).parents[1] / "data/sample.flac"
# PulseAudio takes every rate: here is a device that takes only {rate} Hz.
PROGRAM = """
import sounddevice
check = sounddevice.check_input_settings
def strict(*given, samplerate, **named):
    if samplerate != {rate}:
        raise sounddevice.PortAudioError("Invalid sample rate")
    check(*given, samplerate=samplerate, **named)
sounddevice.check_input_settings = strict
from asr.cli.main import main
main()
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run `asr listen` with a virtual microphone and wait until it listens; killed at the end."""
    started = []

    def command(microphone: VirtualMicrophone, rate: int, *arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(rate=rate), "listen", *arguments],
            env=microphone.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert f"listening to default at {rate} Hz" in line, line + process.stderr.read()
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()


def differing(heard: str, text: str) -> float:
    """Share of characters that differ: a frame that begins elsewhere may change a letter of a weak model."""
    return jiwer.cer(text, heard)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_the_text_is_that_of_the_file(rate: int, start: Start, tmp_path: Path):
    saved = tmp_path / "heard.wav"
    with virtual_microphone(tmp_path, rate) as microphone:
        process = start(microphone, rate, "--save-audio", saved)
        microphone.play(SAMPLE)
        process.send_signal(signal.SIGINT)
        text, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    heard = " ".join(text.split())
    assert differing(heard, transcribe_live(StreamingRecognizer(), saved).transcript.text) <= 0.02  # saved in 16 bits
    assert differing(heard, Recognizer(STREAMING_MODEL).transcribe(SAMPLE).text) <= 0.15


def test_a_device_that_dies_half_way_leaves_the_text_so_far(start: Start, tmp_path: Path):
    with virtual_microphone(tmp_path) as microphone:
        process = start(microphone, 48_000, "--output", tmp_path / "text.txt")
        microphone.play(SAMPLE)  # to its end: how much of the next one is heard, nobody can say
        microphone.play(SAMPLE, wait=False)
        microphone.kill()
        text, errors = process.communicate(timeout=60)
    assert (process.returncode, text) == (1, "")
    (line,) = errors.splitlines()
    assert "vanished while listening" in line
    written = " ".join((tmp_path / "text.txt").read_text().split())
    whole = Recognizer(STREAMING_MODEL).transcribe(SAMPLE).text
    assert differing(written[: len(whole)], whole) <= 0.15
