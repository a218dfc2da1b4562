"""`asr listen` on a microphone, as far as software can make one: PulseAudio plays, PortAudio captures."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jiwer
import numpy as np
import pytest
from virtual_microphone import VirtualMicrophone, virtual_microphone

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.model.bundle import packaged_models
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import STREAMING_MODEL

pytestmark = [
    pytest.mark.skipif(STREAMING_MODEL not in packaged_models(), reason=f"{STREAMING_MODEL} is not packaged"),
    pytest.mark.usefixtures("written_words"),
]

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
    """Share of characters that differ."""
    return jiwer.cer(text, " ".join(heard.split()))


def file_text(saved: Path) -> str:
    """What the file that was played says when it begins where it began in what was saved.

    Where frames begin changes letters of a weak model, and a program cannot choose when it is played to.
    """
    heard, played = read(saved), read(SAMPLE)
    size = len(heard) + len(played)
    offset = int(np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(played, size).conj()).argmax())
    aligned = np.concatenate([np.zeros(offset, dtype=np.float32), played, np.zeros(SAMPLE_RATE, dtype=np.float32)])
    return Recognizer(STREAMING_MODEL).transcribe(aligned[: max(len(heard), offset + len(played))], SAMPLE_RATE).written


# PulseAudio and our resampler between them change some samples by a few parts in a thousand; at 16 kHz nothing does.
@pytest.mark.parametrize(("rate", "tolerance"), [(16_000, 0.0), (44_100, 0.1), (48_000, 0.1)])
def test_the_text_is_that_of_the_file(rate: int, tolerance: float, start: Start, tmp_path: Path):
    saved = tmp_path / "heard.wav"
    with virtual_microphone(tmp_path, rate) as microphone:
        process = start(microphone, rate, "--save-audio", saved)
        microphone.play(SAMPLE)
        process.send_signal(signal.SIGINT)
        text, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    if not tolerance:
        assert text.split() == file_text(saved).split()
    # Resampled audio may have another text at a weak word, so it is compared with its own.
    assert differing(text, Recognizer(STREAMING_MODEL).transcribe(saved).written) <= tolerance
    assert likeness(saved) > 0.99


def likeness(saved: Path) -> float:
    """Of what was saved to the file that was played, at the place where they are most alike: 1 if nothing else."""
    heard, played = read(saved), read(SAMPLE)
    size = len(heard) + len(played)
    products = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(played, size).conj())
    return float(products.max() / (np.linalg.norm(heard) * np.linalg.norm(played)))


def test_a_device_that_dies_half_way_leaves_the_text_so_far(start: Start, tmp_path: Path):
    saved, output = tmp_path / "heard.wav", tmp_path / "text.txt"
    with virtual_microphone(tmp_path, 16_000) as microphone:
        process = start(microphone, 16_000, "--output", output, "--save-audio", saved)
        microphone.play(SAMPLE)  # to its end: how much of the next one is heard, nobody can say
        microphone.play(SAMPLE, wait=False)
        microphone.kill()
        text, errors = process.communicate(timeout=60)
    assert (process.returncode, text) == (1, "")
    (line,) = errors.splitlines()
    assert "vanished while listening" in line
    whole = file_text(saved)
    assert differing(" ".join(output.read_text().split())[: len(whole)], whole) <= 0.1
