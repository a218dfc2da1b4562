"""A microphone as a stream of mono blocks, captured by PortAudio (the sounddevice library).

PortAudio's own thread puts each block into a queue and the iterator takes it out, so that a slow consumer delays only
itself. What the queue cannot hold is lost and counted. A device that dies ends the iteration with a DeviceError, even
where its driver never says so.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, Self

import numpy as np

from asr.audio.resample import SAMPLE_RATE
from asr.errors import DeviceError, one_line

BLOCK_SECONDS = 0.08  # longer ones come late, shorter ones cost more
QUEUE_SECONDS = 10.0  # of audio kept for a consumer that is late: 0.6 MB at 16 kHz
COMMON_RATES = (48000, 44100, 32000, 96000, 22050, 8000)  # hertz, tried when 16 kHz and the device's default fail
START_SECONDS = 10.0  # until the first block; a sound server or a Bluetooth headset takes a second or two
WAIT_SECONDS = 0.5  # for one block before asking whether the stream still runs
WAITS = 4  # without a block until a device counts as vanished; counted, so that Ctrl-Z and fg are not taken for it
CLOSE_SECONDS = 1.0  # closing takes milliseconds, or for ever when the sound server hangs

LIST_DEVICES = "`asr listen --list-devices` shows what there is"


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
    except (sounddevice.PortAudioError, ValueError):  # the system names none
        default = None
    # Windows shows each microphone once for each of its sound interfaces: their names tell them apart.
    interfaces = [f", {interface['name']}" for interface in sounddevice.query_hostapis()]
    if len({info["hostapi"] for info in infos}) < 2:
        interfaces = [""] * len(interfaces)
    return [
        Device(
            number=info["index"],
            name=one_line(info["name"] + interfaces[info["hostapi"]]),
            rate=round(info["default_samplerate"]),
            default=info["index"] == default,
        )
        for info in infos
    ]


def find_device(choice: str | None) -> Device:
    """The input with this number, or the only one with this in its name in any case; None is the system's default.

    A whole name is preferred to a part of one. Raises DeviceError when there is not exactly one.
    """
    devices = list_devices()
    if not devices:
        raise DeviceError("no microphone found; connect one, or start the sound server")
    if choice is None:
        found = [device for device in devices if device.default]
        if not found:
            raise DeviceError(f"the system has no default microphone; choose one ({LIST_DEVICES})")
        return found[0]
    if choice.isdecimal():
        found = [device for device in devices if device.number == int(choice)]
        if not found:
            raise DeviceError(f"no microphone has the number {choice}; {LIST_DEVICES}")
        return found[0]
    wanted = choice.casefold()
    found = [device for device in devices if wanted in device.name.casefold()]
    found = [device for device in found if wanted == device.name.casefold()] or found
    if not found:
        raise DeviceError(one_line(f"no microphone has “{choice}” in its name; {LIST_DEVICES}"))
    if len(found) > 1:
        names = ", ".join(f"{device.number} ({device.name})" for device in found)
        raise DeviceError(
            f"“{choice}” is in the names of several microphones: {names}; give a number or more of a name"
        )
    return found[0]


class Microphone:
    """Captures from `with` to `stop`; to iterate gives float32 blocks (n,), mono, −1…1, of 80 ms or more, in order.

    `with` opens the device, at 16 kHz where it can, and returns when audio flows. The iteration ends after `stop`
    when all that was captured is handed out; it may be broken off and begun again. Raises DeviceError: from `with`
    when the device cannot be opened, from the iteration when it vanishes, after all blocks captured until then.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.rate = device.rate  # hertz; the rate of the blocks inside `with`
        self.overruns = 0  # times that audio was lost: a block that found the queue full, or a report of PortAudio
        # SimpleQueue, because its `put` neither waits for the other side nor trips over a `get` that it interrupts.
        # None wakes an iterator that waits.
        self._queue: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._until: float | None = None  # the time, by the monotonic clock, when a stopped stream is at its end
        self._latency = 0.0  # seconds from the microphone to `_capture`
        self._stream: Any = None

    def __enter__(self) -> Self:
        self._stream = self._open()
        try:
            self._start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __iter__(self) -> Iterator[np.ndarray]:
        waits = 0
        while True:
            try:
                block = self._queue.get(timeout=self._patience())
            except Empty:
                if self._until is not None:
                    if time.monotonic() < self._until:
                        continue
                    return
                waits += 1
                dead = waits >= WAITS or not self._stream.active
                if dead and self._queue.empty():  # the last block may have come in after all
                    raise DeviceError(f"{self._name()}: vanished while listening; connect it and start again") from None
                continue
            if block is not None:
                waits = 0
                yield np.concatenate([block, *self._queued()])

    def stop(self) -> None:
        """Capture what was said until now, and no more. Never blocks, may be called twice and from a signal handler."""
        if self._until is None:
            self._until = time.monotonic() + self._latency + BLOCK_SECONDS
        self._queue.put(None)

    def _patience(self) -> float:
        """Seconds to wait for the next block."""
        return WAIT_SECONDS if self._until is None else max(0.0, self._until - time.monotonic())

    def _queued(self) -> Iterator[np.ndarray]:
        """The blocks that wait already: a consumer that is late gets them at once, which costs it less."""
        while True:
            try:
                block = self._queue.get_nowait()
            except Empty:
                return
            if block is not None:
                yield block

    def _open(self) -> Any:
        """A stream at the best rate that the device takes, which is `rate` from then on."""
        sounddevice = _sounddevice()
        self.rate, channels = self._settings(sounddevice)
        try:
            return sounddevice.InputStream(
                device=self.device.number,
                samplerate=self.rate,
                channels=channels,
                dtype="float32",
                blocksize=round(BLOCK_SECONDS * self.rate),
                callback=self._capture,
            )
        except sounddevice.PortAudioError as error:
            raise DeviceError(self._refusal(error)) from None

    def _settings(self, sounddevice: ModuleType) -> tuple[int, int]:
        """The rate and the number of channels: 16 kHz before other rates, one channel before all of them."""
        device = self.device.number
        refusal: Exception | None = None
        for channels in (1, sounddevice.query_devices(device)["max_input_channels"]):
            for rate in (SAMPLE_RATE, self.device.rate, *COMMON_RATES):
                try:
                    sounddevice.check_input_settings(device, channels, "float32", samplerate=rate)
                except sounddevice.PortAudioError as error:
                    refusal = refusal or error
                else:
                    return rate, channels
        raise DeviceError(self._refusal(refusal))

    def _capture(self, frames: np.ndarray, count: int, times: Any, status: Any) -> None:
        """PortAudio's thread: takes the frames (n, channels), whose memory PortAudio uses again."""
        if self._until is not None and time.monotonic() > self._until:
            return
        self.overruns += status.input_overflow
        if self._queue.qsize() * BLOCK_SECONDS < QUEUE_SECONDS:
            self._queue.put(frames.mean(axis=1))
        else:
            self.overruns += 1

    def _start(self) -> None:
        """Start the stream and wait until audio flows."""
        try:
            self._stream.start()
            self._latency = self._stream.latency
        except _sounddevice().PortAudioError as error:
            raise DeviceError(self._refusal(error)) from None
        deadline = time.monotonic() + START_SECONDS
        while self._queue.empty():  # `stop` puts something, too
            if time.monotonic() > deadline or not self._stream.active:
                raise DeviceError(f"{self._name()}: delivers no audio; check that it is connected and not in use")
            time.sleep(BLOCK_SECONDS / 2)

    def _close(self) -> None:
        self.stop()
        # Not `stop` or `abort`: a stream that hangs there is still on PortAudio's list, and hangs the program's end.
        closing = threading.Thread(target=self._stream.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _name(self) -> str:
        return f"microphone {self.device.number} ({self.device.name})"

    def _refusal(self, error: object) -> str:
        return (
            f"{self._name()}: cannot be opened: {one_line(error)}; close other programs that use it, or choose another"
        )


def _sounddevice() -> ModuleType:
    """The library, imported only by who listens: it loads PortAudio and searches all devices."""
    try:
        import sounddevice
    except OSError:
        raise DeviceError(
            "the PortAudio library is missing; install it: apt-get install libportaudio2 (Debian, Ubuntu)"
            " or dnf install portaudio (Fedora)"
        ) from None
    except Exception as error:  # a PortAudioError, which has no name before the import has worked
        raise DeviceError(f"PortAudio cannot start: {one_line(error)}; check the sound system") from None
    return sounddevice
