"""`asr listen` on a microphone, as far as software can make one: PulseAudio plays, PortAudio captures."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import PROGRAM
from virtual_microphone import VirtualMicrophone, virtual_microphone

from asr.recognizer import Recognizer
from asr.streaming import STREAMING_MODEL, StreamingRecognizer, transcribe_live

SAMPLE = Path(__file__).parents[1] / "data/sample.flac"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run `asr listen` with a virtual microphone and wait until it listens; killed at the end."""
    started = []

    def command(microphone: VirtualMicrophone, *arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PROGRAM, "listen", *arguments],
            env=microphone.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "listening to" in line, line + process.stderr.read()
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ctrl-C, and what the program wrote."""
    process.send_signal(2)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return " ".join(text.split()), errors


def errors_in(heard: str, text: str) -> float:
    import jiwer

    return jiwer.wer(text, heard)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_the_text_is_that_of_the_file(rate: int, start: Start, tmp_path: Path):
    saved = tmp_path / "heard.wav"
    with virtual_microphone(tmp_path, rate) as microphone:
        process = start(microphone, "--save-audio", saved)
        microphone.play(SAMPLE)
        text, errors = ended(process)
    assert errors == ""
    # What the microphone heard, as a file, gives exactly that text; and it is the file that was played, but for where
    # the frames begin and for PulseAudio's resampling.
    assert text == transcribe_live(StreamingRecognizer(), saved).transcript.text
    assert text.replace(" ", "") == Recognizer(STREAMING_MODEL).transcribe(saved).text.replace(" ", "")
    assert errors_in(text, Recognizer(STREAMING_MODEL).transcribe(SAMPLE).text) <= 0.1
    assert np.abs(soundfile.read(saved)[0]).max() > 0.1


def test_a_device_that_dies_leaves_the_text_so_far(start: Start, tmp_path: Path):
    with virtual_microphone(tmp_path) as microphone:
        process = start(microphone, "--output", tmp_path / "text.txt")
        microphone.play(SAMPLE)
        microphone.play(SAMPLE, wait=False)
        microphone.kill()
        text, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "vanished" in errors
    assert text == ""
    written = (tmp_path / "text.txt").read_text()
    whole = Recognizer(STREAMING_MODEL).transcribe(SAMPLE).text
    assert errors_in(" ".join(written.split()[: len(whole.split())]), whole) <= 0.1
