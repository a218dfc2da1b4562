"""Audio as it comes, decoded by the `ffmpeg` program: from a pipe, an address (http, hls, rtsp, …), raw samples."""

import io
import logging
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, NamedTuple, Self, cast

import numpy as np

from asr.audio.complaints import LOGGED, complaints, read_messages, tracks
from asr.audio.ffmpeg import CLOCK, JOINTS, TRUNCATION, list_tracks
from asr.audio.headers import chunks
from asr.audio.probe import FORMATS, LATEST_START
from asr.audio.resample import usable
from asr.errors import AudioError, one_line
from asr.files import temporary_file

ADDRESS = re.compile(r"(?:https?|rtsps?|rtmps?|rtp|udp|tcp|srt|mms[ht]?|ftp)://", re.IGNORECASE)
# Not "file": a playlist from the network must not read files.
PROTOCOLS = "http,https,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,srt,mmsh,mmst,ftp,crypto,httpproxy"
PCM = {8: "u8", 16: "s16le", 24: "s24le", 32: "s32le"}  # samples of a wav, by their bits, as ffmpeg calls them
SAMPLE_FORMATS = ("s16le", "s16be", "s8", "u8", "s24le", "s32le", "f32le", "mulaw", "alaw")
AT_ONCE = ("-probesize", "32768", "-analyzeduration", "0")  # do not wait for more to judge by
# ffmpeg takes the start of the audio alone for that of an mpegts or hls, unless the offset of its input is another.
OFFSET = ("-itsoffset", "0.000001")
TAGS_OF_WAVPACK = "Invalid block header."  # is said of those behind the audio, where ffmpeg cannot go back and forth
READ_BYTES = 1 << 16
LONGEST_CHUNK = 1 << 24  # bytes of what may stand behind the audio of a wav, such as a picture
WHOLE_ONLY = (b"ftyp", b"mdat", b"moov")  # bytes 4 to 8 of what ffmpeg cannot read from a pipe

log = logging.getLogger(__name__)


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
        self._stopped, self._parts = False, 0

    def __enter__(self) -> Self:
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioError(f"{self.name}: is decoded by the ffmpeg program; install it")
        piped = self._source == "-"
        head = sys.stdin.buffer.read(len(sys.stdin.buffer.peek())) if piped else b""  # type: ignore[union-attr]
        if piped and not head:
            raise AudioError(f"{self.name}: empty (0 bytes); give it audio")
        self._joint, self._failures = JOINTS.get(head[:3], (b"(?!)", 0))
        wav = None if self._raw else _read_wav(head)
        command = [program, *LOGGED, "-nostdin", *AT_ONCE, *OFFSET, *self._input(wav)]
        command += ["-map", f"0:a:{(self._track or 1) - 1}", "-af", CLOCK.format(longest=LATEST_START) + ":first_pts=0"]
        command += ["-c:a", "pcm_f32be", "-flush_packets", "1", "-f", "au", "-"]
        self._messages = temporary_file()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            bufsize=0,
        )
        self._pipe = io.BufferedReader(cast(io.FileIO, self._process.stdout))
        if self._process.stdin is not None:
            pieces = _pieces(sys.stdin.fileno(), head, wav)
            threading.Thread(target=self._copy, args=(pieces, self._process.stdin), daemon=True).start()
        header = self._pipe.read(24)
        if len(header) < 24:
            self.__exit__()
            raise self._unreadable()
        _, offset, _, _, self.rate, self.channels = struct.unpack(">4s5I", header)
        self._pipe.read(offset - 24)
        found, self._seconds = tracks(read_messages(self._messages))
        if self._track is None and len(found) > 1:
            log.warning("%s: track 1 is read; %s", self.name, list_tracks(found))
        return self

    def _input(self, wav: "Wav | None") -> list[str]:
        """Options for ffmpeg, to open the source."""
        if is_address(self._source):
            # By TCP no packet is lost, and firewalls let it in.
            place = ["-rtsp_flags", "prefer_tcp"] if self._source.lower().startswith("rtsp") else []
            address = re.sub("^mms:", "mmsh:", self._source, flags=re.IGNORECASE)  # ffmpeg's name for it
            return [*place, "-protocol_whitelist", PROTOCOLS, "-i", address]
        piped = self._source == "-"
        if self._raw is not None:
            form = _raw_form(self._raw[1], self._raw[0], 1)
        else:  # without playlists nothing else is opened
            form = wav.form if wav else ["-format_whitelist", ",".join(FORMATS)]
        place = ["-protocol_whitelist", "pipe" if piped else "file"]  # without "file" for a pipe, for the same reason
        return [*form, *place, "-i", "pipe:0" if piped else f"file:{self._source}"]

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from usable(self._frames(), self.name)

    def _frames(self) -> Iterator[np.ndarray]:
        rest, width, done = b"", 4 * self.channels, 0
        while data := self._pipe.read1(READ_BYTES):
            data = rest + data
            whole = len(data) - len(data) % width
            rest = data[whole:]
            if whole:
                done += whole // width
                yield np.frombuffer(data[:whole], dtype=">f4").astype(np.float32).reshape(-1, self.channels)
        status, said = self._process.wait(), self._complaints(done / self.rate)
        complete = self._seconds is not None and done / self.rate > self._seconds - TRUNCATION
        tagged = complete and TAGS_OF_WAVPACK in said
        damaged = self._raw is None and not tagged and len(said) > self._failures * max(0, self._parts - 1)
        if (status != 0 or done == 0 or damaged) and not self._stopped:
            how = "has no sound that can be played as it comes" if done == 0 else "broke off or is damaged"
            advice = "save it as a file first" if done == 0 else "start again"
            raise AudioError(f"{self.name}: {how} ({self._said()}); {advice}")

    def stop(self) -> None:
        """End the iteration with what was decoded; may be called from a signal handler."""
        self._stopped = True
        self._process.kill()

    def _copy(self, pieces: Iterator[bytes], target: IO[bytes]) -> None:
        with suppress(OSError, ValueError):  # ffmpeg ended
            for piece in pieces:
                self._parts += len(re.findall(self._joint, piece))
                rest = memoryview(piece)
                while rest:  # a signal may end a write early
                    rest = rest[target.write(rest) :]
        with suppress(OSError):
            target.close()

    def _complaints(self, seconds: float = math.inf) -> list[str]:
        return complaints(read_messages(self._messages), seconds)

    def _said(self) -> str:
        return one_line([*self._complaints(), "it is empty"][0])

    def _unreadable(self) -> AudioError:
        found, _ = tracks(read_messages(self._messages))
        if any("matches no streams" in said for said in self._complaints()):
            which = f" {self._track}" if self._track and found else ""
            rest = f"; {list_tracks(found)}" if found else ""
            return AudioError(f"{self.name}: has no audio track{which}{rest}")
        return AudioError(f"{self.name}: no audio that ffmpeg can read ({self._said()}); check the address or file")


def _raw_form(format: str, rate: int, channels: int) -> list[str]:
    """Options for ffmpeg to read samples without a header, as soon as there are any."""
    return ["-f", format, "-ar", str(rate), "-ac", str(channels), "-probesize", "32"]


class Wav(NamedTuple):
    """How ffmpeg reads a wav to its end, whatever its header says about that."""

    form: list[str]  # options
    begin: int  # bytes that ffmpeg is not given
    end: int  # of the audio by the header


def _read_wav(head: bytes) -> Wav | None:
    """None of anything but a wav."""
    if not re.match(rb"(RIFF|RF64)....WAVE", head, re.S):
        return None
    found: dict[bytes, tuple[int, int]] = {}
    for kind, begin, length in chunks(io.BytesIO(head), len(head)):
        found.setdefault(kind, (begin, length))
    if b"data" not in found:
        return None
    (begin, length), (about, size) = found[b"data"], found.get(b"fmt ", (0, 0))
    end = begin + length + length % 2
    if size >= 16 and about + 16 <= len(head):
        tag, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", head, about)
        # ffmpeg would wait for 64 KiB of them, to see whether they are S/PDIF.
        if tag == 1 and bits in PCM and channels and rate and width == channels * bits // 8:
            return Wav(_raw_form(PCM[bits], rate, channels), begin, end)
    return Wav(["-f", "wav", "-ignore_length", "1"], 0, end)


def _pieces(source: int, head: bytes, wav: Wav | None) -> Iterator[bytes]:
    """What comes from a pipe, without chunks that follow the audio of a wav; audio that does is part of it."""
    # Not from `sys.stdin`, which a thread that waits there would lock while the interpreter ends.
    place, end = (wav.begin, wav.end) if wav else (0, None)
    data = head[place:] or os.read(source, READ_BYTES)
    while data:
        if end is not None and place + len(data) > end:
            audio = end - place
            while len(data) < audio + 8 and (more := os.read(source, READ_BYTES)):
                data += more
            name, length = data[audio : audio + 4], int.from_bytes(data[audio + 4 : audio + 8], "little")
            chunk = re.fullmatch(rb"(?!RIFF|RF64)[ -~]{4}", name) and length <= LONGEST_CHUNK
            if chunk or len(data) < audio + 8:
                yield data[:audio]
                while os.read(source, READ_BYTES):  # or its writer fails
                    pass
                return
            end = None
        yield data
        place += len(data)
        data = os.read(source, READ_BYTES)
