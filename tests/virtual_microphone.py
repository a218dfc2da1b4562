"""A microphone made of software: a PulseAudio daemon of our own, whose source hears what is played into its sink.

    with virtual_microphone(tmp_path, rate=48000) as microphone:
        program = subprocess.Popen([…], env=microphone.environment)
        …  # wait until the program says that it listens: what is played before that, nobody hears
        microphone.play("speech.wav")
        microphone.kill()

PortAudio sees it through ALSA. It needs no sound card, no desktop and no D-Bus, and leaves the machine's sound alone.
"""

import ctypes.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile

PACKAGES = "pulseaudio pulseaudio-utils libasound2-plugins libportaudio2"
START_SECONDS = 30.0
ASOUNDRC = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"


@dataclass
class VirtualMicrophone:
    """A running daemon; with `environment` a program's PortAudio has its source as the only input and the default."""

    folder: Path
    environment: dict[str, str]
    daemon: subprocess.Popen[bytes]
    players: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def play(self, source: str | Path | np.ndarray, rate: int = 16_000, wait: bool = True) -> None:
        """Play an audio file, or samples (n,) at `rate` hertz; return when all is played, or (no `wait`) at once.

        A tenth of a second of silence follows, because PulseAudio swallows the last milliseconds that it resamples.
        """
        samples, rate = (source, rate) if isinstance(source, np.ndarray) else soundfile.read(source, dtype="float32")
        silence = np.zeros((rate // 10, *samples.shape[1:]))
        file = self.folder / f"played-{len(self.players)}.wav"
        soundfile.write(file, np.concatenate([samples, silence]), rate, subtype="FLOAT")
        # So much is buffered: a player that waited longer for a busy processor would leave silence in the middle.
        command = ["paplay", "--device=played", "--latency-msec=1000", str(file)]
        self.players.append(subprocess.Popen(command, env=self.environment))
        if wait:
            assert self.players[-1].wait() == 0, f"paplay could not play {source}"

    @contextmanager
    def recording(self, rate: int) -> Iterator[Path]:
        """A file that gets what PulseAudio's own program hears meanwhile, raw 32-bit floats at `rate` hertz."""
        file = self.folder / "recorded"
        command = ["parec", "--device=microphone", "--raw", "--format=float32le", "--channels=1", f"--rate={rate}"]
        with file.open("wb") as output:
            recorder = subprocess.Popen([*command, "--latency-msec=20"], env=self.environment, stdout=output)
        try:
            yield file
        finally:
            recorder.terminate()
            recorder.wait()

    def freeze(self) -> None:
        """The daemon hangs: it stays connected and says nothing more."""
        self.daemon.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """The daemon dies, and with it the source, as when a microphone is unplugged."""
        for process in [self.daemon, *self.players]:
            process.kill()
            process.wait()


@contextmanager
def virtual_microphone(folder: Path, rate: int = 48_000) -> Iterator[VirtualMicrophone]:
    """Start a daemon with a sink and a source at `rate` hertz, its files in `folder`; skips without its packages."""
    skip_where_missing()
    home = next(path for number in count() if not (path := folder / f"pulse-{number}").exists())
    home.mkdir(parents=True, mode=0o700)
    address = home / "socket"
    (home / ".asoundrc").write_text(ASOUNDRC)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "ALSA_", "SDL_"))}
    environment = inherited | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "ALSA_CONFIG_PATH": str(home / ".asoundrc"),
        "PULSE_SERVER": f"unix:{address}",
    }
    # The monitor of a sink is a source, but not the default one; a remapped source is. The protocol comes last, so that
    # all is ready when its socket is there.
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"]
    command += ["--log-target=stderr", "--resample-method=speex-float-10"]
    command += ["-L", f"module-null-sink sink_name=played rate={rate} channels=1 format=float32le"]
    command += ["-L", "module-remap-source source_name=microphone master=played.monitor"]
    command += ["-L", f"module-native-protocol-unix socket={address} auth-anonymous=1"]
    log = home / "log"
    with log.open("wb") as file:
        daemon = subprocess.Popen(command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    microphone = VirtualMicrophone(home, environment, daemon)
    try:
        wait_until_reachable(address, daemon, log)
        yield microphone
    finally:
        microphone.kill()


def wait_until_reachable(address: Path, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while daemon.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(address)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"the PulseAudio daemon does not start:\n{log.read_text()}")


def skip_where_missing() -> None:
    """A visible skip that names the packages; PulseAudio exists for Linux, and so does this."""
    missing = [program for program in ("pulseaudio", "paplay", "parec") if shutil.which(program) is None]
    if not any(Path("/usr").glob(f"lib*/{triplet}alsa-lib/libasound_module_pcm_pulse.so") for triplet in ("", "*/")):
        missing.append("ALSA's pulse plugin")
    if ctypes.util.find_library("portaudio") is None:
        missing.append("PortAudio")
    if missing:
        pytest.skip(f"no {', no '.join(missing)} for a virtual microphone: apt-get install {PACKAGES}")
