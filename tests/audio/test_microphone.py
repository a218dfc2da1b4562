import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from virtual_microphone import VirtualMicrophone, virtual_microphone

from asr.audio import microphone as room
from asr.audio.microphone import Device, Microphone, find_device, list_devices
from asr.audio.resample import SAMPLE_RATE, Resampler
from asr.errors import DeviceError

SAMPLE = Path(__file__).parents[1] / "data/sample.flac"
CLEAN = 40.0  # decibels; 50 when PulseAudio has resampled; one lost sample makes it 26, a lost block 0
PATIENCE = 30.0  # seconds for anything that takes one or two on an idle machine

# Captures into a file until SIGINT, and says how it ended. {setup} prepares the case.
PROGRAM = """
import json, signal, sys, time
import sounddevice
from asr.audio import microphone as room
from asr.errors import DeviceError

pause, error = 0.0, None
{setup}
microphone = room.Microphone(room.find_device(None))
signal.signal(signal.SIGINT, lambda *_: microphone.stop())
with open(sys.argv[1], "wb", buffering=0) as file, microphone:
    print(microphone.rate, flush=True)
    try:
        for block in microphone:
            assert block.dtype == "float32" and len(block) % round(room.BLOCK_SECONDS * microphone.rate) == 0
            file.write(block.tobytes())
            time.sleep(pause)
    except DeviceError as vanished:
        error = str(vanished)
print(json.dumps([microphone.overruns, error]))
"""


class Capture:
    """A running PROGRAM; returns from its construction when the program listens."""

    def __init__(self, microphone: VirtualMicrophone, setup: str = "") -> None:
        self.file = microphone.folder / "captured"
        command = [sys.executable, "-c", PROGRAM.format(setup=setup), str(self.file)]
        self.process = subprocess.Popen(
            command, env=microphone.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first, self.process.communicate()[1]
        self.rate = int(first)

    def samples(self) -> np.ndarray:
        return np.fromfile(self.file, dtype=np.float32)

    def wait_for(self, seconds: float) -> None:
        """Until this much more has been handed out."""
        wanted = len(self.samples()) + seconds * self.rate
        wait_until(lambda: len(self.samples()) >= wanted)

    def stop(self) -> tuple[int, str | None]:
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> tuple[int, str | None]:
        """The overruns and the error, when the program has ended by itself."""
        out, messages = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, messages
        assert "Traceback" not in messages
        overruns, error = json.loads(out)
        return overruns, error


@contextmanager
def capture(microphone: VirtualMicrophone, setup: str = "") -> Iterator[Capture]:
    running = Capture(microphone, setup)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def speech(seconds: float) -> np.ndarray:
    samples, rate = soundfile.read(SAMPLE, dtype="float32", frames=round(seconds * SAMPLE_RATE))
    assert rate == SAMPLE_RATE
    return samples


def to_16_khz(samples: np.ndarray, rate: int) -> np.ndarray:
    resampler = Resampler(rate)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def signal_to_noise(heard: np.ndarray, played: np.ndarray) -> float:
    """Decibels by which `played`, wherever it is in `heard`, exceeds all that differs from it there.

    A filter of 2 ms may change it, because resampling moves it by a part of a sample; a lost, repeated or
    damaged block may not.
    """
    size = len(heard) + len(played)
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)), size)
    lag, reach = int(np.argmax(correlation[: len(heard)])), 16
    length = min(len(played), len(heard) - lag)
    heard = heard[lag : lag + length][reach:-reach]
    copies = np.lib.stride_tricks.sliding_window_view(played[:length], 2 * reach + 1)
    fitted = copies @ np.linalg.lstsq(copies, heard, rcond=None)[0]
    return float(10 * np.log10(np.sum(fitted**2) / np.sum((heard - fitted) ** 2)))


def refuse(*rates: int) -> str:
    """Setup for a device that does not take these rates; PulseAudio itself takes all of them."""
    return f"""
check = sounddevice.check_input_settings
def strict(*given, samplerate, **named):
    if samplerate in {rates}:
        raise sounddevice.PortAudioError("Invalid sample rate")
    check(*given, samplerate=samplerate, **named)
sounddevice.check_input_settings = strict
"""


@pytest.mark.parametrize(
    ("rate", "setup", "opened"),
    [
        (16_000, "", 16_000),
        (48_000, "", 16_000),
        (44_100, refuse(16_000), 44_100),
        (48_000, refuse(16_000, 44_100), 48_000),
    ],
    ids=["16 kHz", "48 kHz", "44.1 kHz only", "48 kHz only"],
)
def test_what_is_played_is_what_is_captured(tmp_path, rate, setup, opened):
    played, least = speech(2.0), 100 if rate == opened == SAMPLE_RATE else CLEAN
    for _ in range(3):
        with (
            virtual_microphone(tmp_path, rate) as microphone,
            microphone.recording(rate) as reference,
            capture(microphone, setup) as running,
        ):
            assert running.rate == opened
            microphone.play(played)
            running.wait_for(0.5)
            assert running.stop() == (0, None)
        heard = to_16_khz(running.samples(), running.rate)
        as_loud = np.abs(heard).max() == pytest.approx(np.abs(played).max(), rel=0.05)
        if as_loud and signal_to_noise(heard, played) > least:
            return
        # Where the machine stands still for a moment, PulseAudio leaves out some of it: then nobody has it whole.
        recorded = to_16_khz(np.fromfile(reference, dtype=np.float32), rate)
        assert signal_to_noise(recorded, played) <= CLEAN, (
            "lost or changed by us: PulseAudio's own recorder has it whole"
        )
    pytest.fail("PulseAudio does not get through what is played, each time")


def test_a_consumer_at_half_speed_gets_all_that_was_captured_until_stop(tmp_path):
    played = speech(1.2)
    with virtual_microphone(tmp_path) as microphone, capture(microphone, "pause = 0.5") as running:
        microphone.play(played)
        time.sleep(0.5)  # on its way through PulseAudio
        assert running.stop() == (0, None)
        heard = running.samples()
    assert signal_to_noise(heard, played) > CLEAN


def test_a_player_that_waits_for_the_processor_leaves_no_gap_in_the_virtual_microphone(tmp_path):
    played = speech(3.0)
    with virtual_microphone(tmp_path) as microphone, capture(microphone) as running:
        microphone.play(played, wait=False)
        (player,) = microphone.players
        time.sleep(1.0)
        player.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        player.send_signal(signal.SIGCONT)
        assert player.wait() == 0
        time.sleep(0.5)  # on its way through PulseAudio
        assert running.stop() == (0, None)
        heard = running.samples()
    assert signal_to_noise(heard, played) > CLEAN


def test_a_device_that_dies_is_an_error_after_all_that_was_captured(tmp_path):
    played = speech(5.0)
    with virtual_microphone(tmp_path) as microphone, capture(microphone, "pause = 0.5") as running:
        microphone.play(played, wait=False)
        running.wait_for(1.2)
        microphone.kill()
        overruns, error = running.end()
        heard = running.samples()
    assert (overruns, error) == (0, "microphone 0 (default): vanished while listening; connect it and start again")
    assert signal_to_noise(heard, played) > CLEAN


def test_a_sound_server_that_hangs_is_an_error_and_the_program_ends(tmp_path):
    with virtual_microphone(tmp_path) as microphone, capture(microphone) as running:
        running.wait_for(0.2)
        microphone.freeze()
        overruns, error = running.end()
    assert (overruns, error) == (0, "microphone 0 (default): vanished while listening; connect it and start again")


def test_what_a_slow_consumer_loses_is_counted_and_the_memory_is_bounded(tmp_path):
    setup = "pause, room.QUEUE_SECONDS = 1.5, 0.4"
    with virtual_microphone(tmp_path) as microphone, capture(microphone, setup) as running:
        running.wait_for(0.2)
        before = len(running.samples())
        overruns, error = running.stop()
    assert overruns > 5
    assert error is None
    assert len(running.samples()) - before <= (2 * 0.4 + 3 * room.BLOCK_SECONDS) * SAMPLE_RATE


def ask(microphone: VirtualMicrophone, expression: str) -> Any:
    """The value of an expression of a program that has the virtual microphone as its sound system."""
    program = "import json; from dataclasses import asdict; from asr.audio.microphone import *\n"
    command = [sys.executable, "-c", program + f"print(json.dumps({expression}))"]
    done = subprocess.run(command, env=microphone.environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_devices_are_listed_and_found_by_number_and_by_name(tmp_path):
    with virtual_microphone(tmp_path) as microphone:
        with (microphone.folder / ".asoundrc").open("a") as config:
            config.write("pcm.kitchen { type pulse }\npcm.kitchen_window { type pulse }\n")
            config.write("pcm.speaker { type asym playback.pcm { type pulse } }\n")
        devices = ask(microphone, "[asdict(device) for device in list_devices()]")
        number = next(device["number"] for device in devices if device["name"] == "kitchen_window")
        chosen = ask(microphone, f"[find_device(choice).name for choice in (None, 'KITCHEN', 'window', '{number}')]")
        for choice, message in (
            ("99", "device 99"),
            (str(number + 1), "device"),  # a loudspeaker
            ("speaker", "speaker"),
            ("kit", "'kit': .* kitchen.* kitchen_window"),
        ):
            with pytest.raises(
                AssertionError, match=f"DeviceError: .*{message}.*; choose a microphone that `asr listen"
            ):
                ask(microphone, f"find_device('{choice}')")
    assert sorted((device["name"], device["default"]) for device in devices) == [
        ("default", True),
        ("kitchen", False),
        ("kitchen_window", False),
    ]
    assert all(device["rate"] >= 8000 for device in devices)
    assert chosen == ["default", "kitchen", "kitchen_window", "kitchen_window"]


def test_no_sound_server_is_no_microphone(tmp_path):
    with virtual_microphone(tmp_path) as microphone:
        microphone.kill()
        assert ask(microphone, "list_devices()") == []


def test_a_device_that_is_gone_before_it_is_opened(tmp_path):
    setup = "room.find_device, device = lambda _: device, room.find_device(None); import os; os.kill({daemon}, 9)"
    with virtual_microphone(tmp_path) as microphone:
        setup = setup.format(daemon=microphone.daemon.pid)
        with pytest.raises(AssertionError, match=r"DeviceError: microphone 0 \(default\): cannot be opened: .+; close"):
            Capture(microphone, setup)


# From here on a PortAudio that does what PulseAudio does not.


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """sounddevice with one stereo microphone, one loudspeaker and whatever a test adds."""
    fake = SimpleNamespace(
        PortAudioError=type("PortAudioError", (Exception,), {}),
        devices=[info(0, "Loudspeaker", inputs=0), info(1, "USB Microphone")],
        interfaces=[{"name": "Core Audio"}, {"name": "WASAPI"}],
        default=1,
        supported=lambda rate, channels: True,
        delivers=np.zeros((640, 1), dtype=np.float32),
        overflow=False,
        refuses_to_start=False,
        closed=False,
    )

    def query_devices(number: int | None = None, kind: str | None = None) -> Any:
        if kind == "input" and number is None:
            number = fake.default
        if number is None:
            return fake.devices
        if number not in range(len(fake.devices)):
            raise fake.PortAudioError(f"Error querying device {number}")
        if kind == "input" and not fake.devices[number]["max_input_channels"]:
            raise ValueError(f"Not an input device: {fake.devices[number]['name']!r}")
        return fake.devices[number]

    def check_input_settings(device: int, channels: int, dtype: str, samplerate: int) -> None:
        if not fake.supported(samplerate, channels):
            raise fake.PortAudioError(f"Invalid sample rate {samplerate} [PaErrorCode -9997]")

    def open_stream(callback: Callable, **settings: Any) -> SimpleNamespace:
        """A stream that delivers one block when it starts, and another at each further `start`."""

        def start() -> None:
            if fake.refuses_to_start:
                raise fake.PortAudioError("Device unavailable")
            if fake.delivers is not None:
                callback(fake.delivers, len(fake.delivers), None, SimpleNamespace(input_overflow=fake.overflow))

        def close() -> None:
            fake.closed = True

        fake.stream = SimpleNamespace(settings=settings, active=True, latency=0.0, start=start, close=close)
        return fake.stream

    fake.query_devices, fake.check_input_settings, fake.InputStream = query_devices, check_input_settings, open_stream
    fake.query_hostapis = lambda: fake.interfaces
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def info(number: int, name: str, inputs: int = 2, interface: int = 0) -> dict[str, Any]:
    names = {"index": number, "name": name, "hostapi": interface}
    return names | {"max_input_channels": inputs, "default_samplerate": 44_100.0}


@pytest.mark.parametrize(
    ("supported", "opened"),
    [
        (lambda rate, channels: True, (16_000, 1)),
        (lambda rate, channels: rate != 16_000, (44_100, 1)),
        (lambda rate, channels: rate in (48_000, 96_000), (48_000, 1)),
        (lambda rate, channels: rate == 8000, (8000, 1)),
        (lambda rate, channels: channels == 2, (16_000, 2)),
        (lambda rate, channels: channels == 2 and rate == 96_000, (96_000, 2)),
    ],
)
def test_settings_are_the_first_that_the_device_takes(sound, supported, opened):
    sound.supported = supported
    with Microphone(find_device(None)) as microphone:
        assert (microphone.rate, sound.stream.settings["channels"]) == opened
        assert sound.stream.settings["blocksize"] == round(room.BLOCK_SECONDS * opened[0])


def test_a_device_that_takes_no_settings_is_an_error_with_its_first_reason(sound):
    sound.supported = lambda rate, channels: False
    with pytest.raises(
        DeviceError, match=r"^microphone 1 \(USB Microphone\): cannot be opened: Invalid sample rate 16000"
    ):
        Microphone(find_device(None)).__enter__()


def test_a_device_that_does_not_start_is_closed_and_an_error(sound):
    sound.refuses_to_start = True
    with pytest.raises(DeviceError, match="cannot be opened: Device unavailable; close other programs"):
        Microphone(find_device(None)).__enter__()
    wait_until(lambda: sound.closed)


def test_several_channels_are_averaged_and_the_block_is_a_copy(sound):
    sound.delivers = np.array([[0.5, 0.0], [-1.0, 0.5]], dtype=np.float32)
    with Microphone(find_device(None)) as microphone:
        sound.delivers.fill(9)
        microphone.stop()
        (block,) = microphone
    assert block.dtype == np.float32
    np.testing.assert_array_equal(block, [0.25, -0.25])


def test_an_overflow_in_portaudio_is_counted(sound):
    sound.overflow = True
    with Microphone(find_device(None)) as microphone:
        assert microphone.overruns == 1


def test_iteration_that_was_broken_off_goes_on_and_stop_may_be_called_twice(sound):
    with Microphone(find_device(None)) as microphone:
        sound.stream.start()
        assert len(next(iter(microphone))) == 2 * 640  # what waits comes at once
        sound.stream.start()
        microphone.stop()
        microphone.stop()
        sound.stream.start()  # was still on its way
        time.sleep(2 * room.BLOCK_SECONDS)
        sound.stream.start()  # too late
        assert [len(block) for block in microphone] == [2 * 640]
        assert list(microphone) == []


def test_a_stream_that_ends_by_itself_hands_out_all_and_is_an_error(sound):
    with Microphone(find_device(None)) as microphone:
        sound.stream.start()
        sound.stream.active = False
        blocks = iter(microphone)
        assert len(next(blocks)) == 2 * 640
        with pytest.raises(DeviceError, match="vanished"):
            next(blocks)


def test_a_device_that_never_delivers_is_an_error_instead_of_listening(sound, monkeypatch):
    monkeypatch.setattr(room, "START_SECONDS", 0.1)
    sound.delivers = None
    with pytest.raises(DeviceError, match="delivers no audio; check"):
        Microphone(find_device(None)).__enter__()


def test_only_inputs_are_devices(sound):
    assert list_devices() == [Device(number=1, name="USB Microphone", rate=44_100, default=True)]


def test_one_microphone_at_several_sound_interfaces_has_names_that_differ(sound):
    sound.devices.append(info(2, "USB Microphone", interface=1))
    assert [device.name for device in list_devices()] == ["USB Microphone, Core Audio", "USB Microphone, WASAPI"]
    assert find_device("2").name == "USB Microphone, WASAPI"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("0", "Not an input device: 'Loudspeaker'; choose a microphone that `asr listen --list-devices` shows"),
        ("7", "Error querying device 7; choose a microphone that `asr listen --list-devices` shows"),
        (None, "Error querying device -1; choose a microphone that `asr listen --list-devices` shows"),
    ],
)
def test_a_choice_that_is_not_one_microphone_is_an_error_that_helps(sound, choice, message):
    sound.devices.append(info(2, "Microphone array"))
    sound.default = -1
    with pytest.raises(DeviceError) as raised:
        find_device(choice)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_no_microphone_at_all(sound):
    del sound.devices[1]
    with pytest.raises(DeviceError, match="no microphone found; connect one"):
        find_device("usb")


def test_portaudio_is_loaded_only_by_who_listens():
    program = "import sys, asr.audio.microphone; assert 'sounddevice' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere sounddevice brings PortAudio with it")
def test_missing_portaudio_is_one_line_with_its_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(DeviceError, match=r"^the PortAudio library is missing; .* apt-get install libportaudio2 .*$"):
        list_devices()
