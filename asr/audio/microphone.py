"""A microphone as a stream of mono blocks, captured by PortAudio (the sounddevice library).

PortAudio's thread puts blocks into a queue and the iterator takes them out, so a slow consumer delays only itself.
Dropped audio (overruns) is counted. A device that vanishes ends the iteration with a DeviceError, even where its
driver does not report it.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, Self

import numpy as np

from asr.audio.resample import SAMPLE_RATE, to_mono
from asr.errors import DeviceError, one_line
from asr.signals import held_back

BLOCK_SECONDS = 0.08  # longer ones come late, shorter ones cost more
QUEUE_SECONDS = 10.0  # of audio kept for a consumer that is late: 0.6 MB at 16 kHz
COMMON_RATES = (48000, 44100, 32000, 96000, 22050, 8000)  # hertz, tried when 16 kHz and the device's default fail
START_SECONDS = 10.0  # until the first block; a sound server or a Bluetooth headset takes a second or two
WAIT_SECONDS = 0.5  # for one block before checking whether the stream still runs
WAITS = 4  # without a block until a device counts as vanished; counted, so that Ctrl-Z and fg are not taken for it
CLOSE_SECONDS = 1.0  # closing takes milliseconds, or for ever when the sound server hangs


@dataclass(frozen=True)
class Device:
    """An input of the sound system; `rate` is its default sample rate in hertz."""

    number: int
    name: str
    rate: int
    default: bool


def list_devices() -> list[Device]:
    """All inputs, in the order of their numbers, which are PortAudio's; DeviceError when PortAudio is missing."""
    sounddevice = _sounddevice()
    infos = [info for info in sounddevice.query_devices() if info["max_input_channels"] > 0]
    try:
        default = sounddevice.query_devices(kind="input")["index"]
    except (sounddevice.PortAudioError, ValueError):  # the system has none
        default = None
    # Windows lists each microphone once for each of its sound interfaces: their names tell them apart.
    interfaces = [f", {interface['name']}" for interface in sounddevice.query_hostapis()]
    several = len({info["hostapi"] for info in infos}) > 1
    return [
        Device(
            number=info["index"],
            name=one_line(info["name"] + (interfaces[info["hostapi"]] if several else "")),
            rate=round(info["default_samplerate"]),
            default=info["index"] == default,
        )
        for info in infos
    ]


def find_device(choice: str | None) -> Device:
    """The input with this number, or with this in its name; None is the system's default. DeviceError if not just one.

    Names are searched as sounddevice does: in any case, a whole name is preferred to a part of one.
    """
    devices = list_devices()
    if not devices:
        raise DeviceError("no microphone found; connect one, or start the sound server")
    sounddevice = _sounddevice()
    wanted = int(choice) if choice is not None and choice.isdecimal() else choice
    try:
        number = sounddevice.query_devices(wanted, "input")["index"]
    except (sounddevice.PortAudioError, ValueError) as error:
        raise DeviceError(f"{one_line(error)}; choose a microphone that `asr listen --list-devices` shows") from None
    return next(device for device in devices if device.number == number)


class Microphone:
    """Captures from `with` to `stop`; to iterate gives float32 blocks (n,), mono, −1…1, of 80 ms or more, in order.

    channel: from 1; None mixes those that the device has. apart: blocks (n, channels) of all of them.

    `with` opens the device, at 16 kHz where it can, and returns when audio flows. The iteration ends after `stop`
    when all that was captured is handed out; it may be broken off and begun again. Raises DeviceError: from `with`
    when the device cannot be opened, from the iteration when it vanishes, after all blocks captured until then.
    """

    def __init__(self, device: Device, channel: int | None = None, apart: bool = False) -> None:
        self.device = device
        self.channels = 1  # of the blocks, inside `with`
        self._channel, self._apart = channel, apart
        self.rate = device.rate  # hertz; the rate of the blocks inside `with`
        self.overruns = 0  # times that audio was lost: a block that found the queue full, or a report of PortAudio
        # SimpleQueue: `put` never blocks, also not in a signal handler that interrupts a `get`. None wakes an iterator.
        self._queue: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._until: float | None = None  # the time, by the monotonic clock, when a stopped stream is at its end
        self._latency = 0.0  # seconds from the microphone to `_capture`
        self._stream: Any = None
        self._name = f"microphone {device.number} ({device.name})"

    def __enter__(self) -> Self:
        self._stream = self._open()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        # Not `stop` or `abort`: a stream that hangs there is still on PortAudio's list, and hangs the program's end.
        closing = threading.Thread(target=self._stream.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def __iter__(self) -> Iterator[np.ndarray]:
        waits = 0
        while True:
            left = WAIT_SECONDS if self._until is None else max(0.0, self._until - time.monotonic())
            try:
                blocks = [self._queue.get(timeout=left)]
            except Empty:
                if self._until is None:
                    waits += 1
                    dead = waits >= WAITS or not self._stream.active
                    if dead and self._queue.empty():  # the last block may have come in after all
                        raise DeviceError(
                            f"{self._name}: vanished while listening; connect it and start again"
                        ) from None
                elif time.monotonic() >= self._until:
                    return
                continue
            while not self._queue.empty():  # a consumer that is late gets all at once, which costs it less
                blocks.append(self._queue.get())
            if audio := [block for block in blocks if block is not None]:
                waits = 0
                frames = np.concatenate(audio)
                yield frames if self._apart else to_mono(frames, self._channel, self._name)

    def stop(self) -> None:
        """Capture what was said until now, and no more. Never blocks, may be called twice and from a signal handler."""
        if self._until is None:
            self._until = time.monotonic() + self._latency + BLOCK_SECONDS
        self._queue.put(None)

    def _open(self) -> Any:
        """A stream at the first settings that the device takes: 16 kHz before other rates, one channel before all."""
        sounddevice, number, refusal = _sounddevice(), self.device.number, None
        most = sounddevice.query_devices(number)["max_input_channels"]
        channels = [most] if self._apart or self._channel else [1, most]
        for count, rate in product(channels, (SAMPLE_RATE, self.device.rate, *COMMON_RATES)):
            settings = {"device": number, "channels": count, "dtype": "float32", "samplerate": rate}
            try:
                sounddevice.check_input_settings(**settings)
                stream = sounddevice.InputStream(
                    **settings, blocksize=round(BLOCK_SECONDS * rate), callback=self._capture
                )
                self.rate, self.channels = rate, count if self._apart else 1
                return stream
            except sounddevice.PortAudioError as error:
                refusal = refusal or error
        raise self._refused(refusal)

    def _start(self) -> None:
        try:
            self._stream.start()
            self._latency = self._stream.latency
        except _sounddevice().PortAudioError as error:
            raise self._refused(error) from None
        deadline = time.monotonic() + START_SECONDS
        while self._queue.empty():  # `stop` puts something, too
            if time.monotonic() > deadline or not self._stream.active:
                raise DeviceError(f"{self._name}: delivers no audio; check that it is connected and not in use")
            time.sleep(BLOCK_SECONDS / 2)

    def _capture(self, frames: np.ndarray, count: int, times: Any, status: Any) -> None:
        """Called in PortAudio's thread with frames (n, channels), whose memory PortAudio uses again."""
        if self._until is not None and time.monotonic() > self._until:
            return
        self.overruns += status.input_overflow
        if self._queue.qsize() * BLOCK_SECONDS < QUEUE_SECONDS:
            self._queue.put(frames.copy())
        else:
            self.overruns += 1

    def _refused(self, error: object) -> DeviceError:
        return DeviceError(
            f"{self._name}: cannot be opened: {one_line(error)}; close other programs that use it, or choose another"
        )


def _sounddevice() -> ModuleType:
    """The library, imported only when listening: it loads PortAudio and searches all devices."""
    try:
        with held_back():
            import sounddevice
    except OSError:
        raise DeviceError(
            "the PortAudio library is missing; install it: apt-get install libportaudio2 (Debian, Ubuntu)"
            " or dnf install portaudio (Fedora)"
        ) from None
    except Exception as error:  # a PortAudioError, which has no name before the import has worked
        raise DeviceError(f"PortAudio cannot start: {one_line(error)}; check the sound system") from None
    return sounddevice
