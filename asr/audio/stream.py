"""Audio as it comes, decoded by the `ffmpeg` program: from a pipe, an address (http, hls, rtsp, …), raw samples."""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Self

import numpy as np

from asr.audio.probe import FORMATS
from asr.errors import AudioError, one_line
from asr.files import temporary_file

ADDRESS = re.compile(r"(?:https?|rtsps?|rtmps?|rtp|udp|tcp|srt|mmsh?)://", re.IGNORECASE)
# Not "file": a playlist from the network must not read files.
PROTOCOLS = "http,https,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,srt,mmsh,crypto,httpproxy"
SAMPLE_FORMATS = ("s16le", "s16be", "s8", "u8", "s24le", "s32le", "f32le", "mulaw", "alaw")
AT_ONCE = ("-probesize", "32768", "-analyzeduration", "0")  # do not wait for more to judge by
WHOLE_ONLY = (b"ftyp", b"mdat", b"moov")  # bytes 4 to 8 of what ffmpeg cannot read from a pipe


def is_address(source: object) -> bool:
    return isinstance(source, str) and ADDRESS.match(source) is not None


def can_stream() -> bool:
    """Whether standard input is a pipe with audio that can be decoded as it comes; waits for its first bytes."""
    if shutil.which("ffmpeg") is None or not hasattr(sys.stdin, "fileno"):
        return False
    piped = sys.stdin.buffer
    return not piped.seekable() and isinstance(piped, io.BufferedReader) and piped.peek(8)[4:8] not in WHOLE_ONLY


class AudioStream:
    """Blocks of an address, of standard input ("-") or of a raw file: float32 (n, channels) at `rate` hertz.

    raw: sample rate in hertz and format, one of `SAMPLE_FORMATS`, of one channel without a header. track: of the audio
    tracks, from 1. `with` raises AudioError when there is no audio, the iteration after the last block when it broke
    off. `stop` ends it.
    """

    def __init__(self, source: str, raw: tuple[int, str] | None = None, track: int | None = None):
        self.name = "standard input" if source == "-" else source
        self._source, self._raw, self._track = source, raw, track
        self._stopped = False

    def __enter__(self) -> Self:
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioError(f"{self.name}: is decoded by the ffmpeg program; install it")
        piped = self._source == "-"
        if is_address(self._source):
            # By TCP no packet is lost, and firewalls let it in.
            place = ["-rtsp_flags", "prefer_tcp"] if self._source.lower().startswith("rtsp") else []
            place += ["-protocol_whitelist", PROTOCOLS, "-i", self._source]
        else:
            # Without "file" for a pipe, and without playlists, nothing else is opened.
            place = ["-protocol_whitelist", "pipe" if piped else "file"]
            place += [] if self._raw else ["-format_whitelist", ",".join(FORMATS)]
            place += ["-i", "pipe:0" if piped else f"file:{self._source}"]
        raw = [] if self._raw is None else ["-f", self._raw[1], "-ar", str(self._raw[0]), "-ac", "1"]
        command = [program, "-v", "error", "-nostdin", *AT_ONCE, *raw, *place, "-map", f"0:a:{(self._track or 1) - 1}"]
        command += ["-c:a", "pcm_f32be", "-flush_packets", "1", "-f", "au", "-"]
        self._messages = temporary_file()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._pipe: IO[bytes] = self._process.stdout
        if self._process.stdin is not None:
            head = sys.stdin.buffer.read(len(sys.stdin.buffer.peek()))  # type: ignore[union-attr]
            copying = (sys.stdin.fileno(), head, self._process.stdin)
            threading.Thread(target=_copy, args=copying, daemon=True).start()
        header = self._read(24)
        if len(header) < 24:
            self.__exit__()
            raise AudioError(f"{self.name}: no audio that ffmpeg can read ({self._said()}); check the address or file")
        _, offset, _, _, self.rate, self.channels = struct.unpack(">4s5I", header)
        self._read(offset - 24)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def __iter__(self) -> Iterator[np.ndarray]:
        rest, width, empty = b"", 4 * self.channels, True
        while data := self._pipe.read(1 << 16):
            data = rest + data
            whole = len(data) - len(data) % width
            rest = data[whole:]
            if whole:
                empty = False
                yield np.frombuffer(data[:whole], dtype=">f4").astype(np.float32).reshape(-1, self.channels)
        if (self._process.wait() != 0 or empty) and not self._stopped:
            how = "has no sound that can be played as it comes" if empty else "broke off"
            raise AudioError(f"{self.name}: {how} ({self._said()}); {'download it first' if empty else 'start again'}")

    def stop(self) -> None:
        """End the iteration with what was decoded; may be called from a signal handler."""
        self._stopped = True
        self._process.kill()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self._pipe.read(count - len(data))):
            data += more
        return data

    def _said(self) -> str:
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").splitlines()
        return one_line(lines[-1] if lines else "it is empty")


def _copy(source: int, head: bytes, target: IO[bytes]) -> None:
    # Not from `sys.stdin`, which a thread that waits there would lock while the interpreter ends.
    with suppress(OSError, ValueError):  # ffmpeg ended
        while head:
            target.write(head)
            head = os.read(source, 1 << 16)
    with suppress(OSError):
        target.close()
