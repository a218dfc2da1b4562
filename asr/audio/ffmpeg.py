"""The `ffmpeg` program as a decoder of formats that libsndfile cannot read: m4a, webm, video files and many more."""

import logging
import math
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import IO

import numpy as np

from asr.audio.complaints import LOGGED, complaints, read_messages
from asr.audio.headers import find, is_chained_ogg, is_cut_short, joints
from asr.audio.probe import LATEST_START, RAW, SELF_CONTAINED, probe
from asr.audio.resample import SAMPLE_RATE, check_format
from asr.errors import AudioError, one_line
from asr.files import stand_in, temporary_file

TRUNCATION = 0.25  # seconds that may be missing before a file counts as truncated; encoder padding is below that
MAX_ALLOCATION = 1 << 28  # bytes that ffmpeg may ask for at once; it would otherwise grant 2 GB to any header
DECODE_VALUES = 65536  # samples × channels decoded at a time, so that no header can ask for much memory
# Gaps between timestamps are filled with silence, so that the container's clock is kept. Timestamps that go back are of
# joined recordings, and gaps longer than the whole are damage: what is behind them follows what was before.
CLOCK = (
    "asetpts='st(0,ld(0)+if(lte(PTS+ld(0),PREV_OUTPTS)+gt(PTS+ld(0),ld(1)+{longest}/TB),ld(1)-PTS-ld(0),0));"
    "st(1,PTS+ld(0)+NB_SAMPLES/SR/TB);PTS+ld(0)',aresample=async=1"
)
MOST_PARTS = 200  # files put together
MP4_BEGINNINGS = (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip")
# By the first bytes: what each of several files put together has, and how often ffmpeg complains of that.
JOINTS = {b"ID3": (rb"ID3[\2-\4]\0", 2), b"Ogg": (b"OggS\0\2", 4)}

log = logging.getLogger(__name__)


@contextmanager
def ffmpeg_frames(
    path: Path, name: str, reason: str, track: int | None = None
) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """The sample rate and the frames (n, channels) that ffmpeg decodes, on the container's clock.

    reason: why libsndfile could not. track: of the audio tracks, from 1; else the one that a player would play.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(f"{name}: not readable by libsndfile ({reason}); if it is audio, install ffmpeg to read it")
    found = probe(path)
    if found is not None:
        listed = list_tracks(item.about for item in found.tracks)
        if track is None and len(found.tracks) > 1:
            log.warning("%s: track %d is read; %s", name, found.choose(), listed)
        track = track or found.choose()
        if not found.tracks:
            raise AudioError(f"{name}: has no audio track")
        if track > len(found.tracks):
            raise AudioError(f"{name}: has no audio track {track}; {listed}")
    chosen = found.tracks[track - 1] if found is not None and track else None
    starts = joints(path)
    if len(starts) > MOST_PARTS:
        raise AudioError(f"{name}: more than {MOST_PARTS} recordings put together; split the file")
    raw = found is not None and found.format in RAW
    longest = None if raw else (found and found.seconds) or LATEST_START
    command = [program, *_options(path, starts, (track or 1) - 1, chosen.channels if chosen else 1, longest)]
    with temporary_file() as messages:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages)
        assert process.stdout is not None
        try:
            header = process.stdout.read(24)
            if len(header) < 24:
                if process.wait() != 0:
                    said = one_line("; ".join(_complaints(messages, path)[-2:]) or "no message")
                    if "not on whitelist" in said:
                        raise AudioError(f"{name}: not an audio file but a playlist, a picture or a text")
                    raise _unreadable(path, name, reason, said)
                yield SAMPLE_RATE, iter(())
                return
            _, offset, _, _, rate, channels = struct.unpack(">4s5I", header)
            process.stdout.read(offset - len(header))
            check_format(rate, channels, name)
            one = len(starts) == 1 and not raw and not is_chained_ogg(path)
            seconds = chosen.seconds if chosen and one else None
            frames = _frames(process, messages, rate, channels, path, name, seconds)
            yield rate, chain(_silence(chosen.start if chosen else 0.0, rate, channels), frames)
        finally:  # also when the consumer stops early
            process.kill()
            process.stdout.close()
            process.wait()


def _unreadable(path: Path, name: str, reason: str, said: str) -> AudioError:
    """The error for a file of which ffmpeg decoded nothing; `said` is its message, `reason` that of libsndfile."""
    with path.open("rb") as file:
        head = file.read(4096)
    if problem := stand_in(head):
        return AudioError(f"{name}: holds {problem}")
    if is_cut_short(path) or (head[:4] in (b"OggS", b"fLaC") and "End of file" in said):
        return AudioError(f"{name}: truncated: nothing of it can be read; copy or record it again")
    if head[4:8] in MP4_BEGINNINGS and "moov atom not found" in said:
        return AudioError(
            f"{name}: unfinished: the index that is written at the end (moov atom) is missing, and nothing can be read"
            " without it; copy or record it again"
        )
    return AudioError(
        f"{name}: not an audio file that libsndfile or ffmpeg can read (libsndfile: {reason}; ffmpeg: {said});"
        " check that it is audio"
    )


def list_tracks(tracks: Iterable[str]) -> str:
    """For a message: "its audio tracks: 1 eng aac stereo, 2 deu aac stereo"."""
    return "its audio tracks: " + ", ".join(f"{number} {track}" for number, track in enumerate(tracks, 1))


def _is_joined(path: Path, failures: int) -> bool:
    """Whether all that ffmpeg could not decode are tags and headers inside of mp3 or ogg files put together."""
    with path.open("rb") as file:
        tags = JOINTS.get(file.read(3))
    return tags is not None and tags[1] * (len(find(path, tags[0])) - 1) >= failures


def _options(path: Path, starts: Sequence[int], track: int, channels: int, longest: float | None) -> list[str]:
    """For ffmpeg, to write an au stream: a 24-byte header with rate and channels, then big-endian float32.

    starts: of the recordings that the file was put together from. track: of the audio tracks, from 0. channels: to
    which several parts are brought. longest: seconds that a gap may have; None without timestamps.
    """
    with path.open("rb") as file:
        head = file.read(12)
    # A wav is read to its end whatever length its header says: libsndfile has refused those with a right one.
    form = ["-f", "wav", "-ignore_length", "1"] if re.match(rb"(RIFF|RF64)....WAVE", head, re.S) else []
    # Not of raw frames: no player looks at the checksums of mp3, so that a wrong one is no sign of damage.
    form += ["-err_detect", "crccheck"] if longest is not None else []
    ranges = pairwise([*starts, path.stat().st_size])
    urls = [f"subfile,,start,{start},end,{end},,:file:{path}" for start, end in ranges]
    options = ["-nostdin", *LOGGED, "-max_alloc", str(MAX_ALLOCATION)]
    for url in urls if len(urls) > 1 else [f"file:{path}"]:
        # "file:" and the white lists keep an odd name or a playlist from reaching the network or other files.
        options += [*form, *SELF_CONTAINED, "-i", url]
    clock = "anull" if is_chained_ogg(path) or longest is None else CLOCK.format(longest=longest)
    layout = f"aformat=channel_layouts={channels}c"
    parts = [f"[{number}:a:{track}]{clock},{layout}[part{number}];" for number in range(len(urls))]
    joined = "".join([*parts, *(f"[part{number}]" for number in range(len(parts))), f"concat=n={len(parts)}:v=0:a=1"])
    options += ["-filter_complex", joined] if len(parts) > 1 else ["-af", clock, "-map", f"0:a:{track}"]
    return [*options, "-c:a", "pcm_f32be", "-f", "au", "-"]


def _silence(seconds: float, rate: int, channels: int) -> Iterator[np.ndarray]:
    left = round(seconds * rate)
    while left > 0:
        yield np.zeros((min(left, DECODE_VALUES // channels), channels), dtype=np.float32)
        left -= DECODE_VALUES // channels


def _frames(
    process: subprocess.Popen[bytes],
    messages: IO[bytes],
    rate: int,
    channels: int,
    path: Path,
    name: str,
    promised: float | None,
) -> Iterator[np.ndarray]:
    """Frames (n, channels) from a running ffmpeg; at the end AudioError when it complained of damage."""
    assert process.stdout is not None
    done = 0
    while data := process.stdout.read(max(1, min(DECODE_VALUES // channels, rate)) * channels * 4):
        values = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], dtype=">f4")
        done += len(values) // channels
        yield values.reshape(-1, channels)
    status, said = process.wait(), _complaints(messages, path, done / rate)
    missing = (promised or 0.0) - done / rate > TRUNCATION
    if status != 0 or missing or (said and not _is_joined(path, len(said))):
        header = f"the header says {promised:.2f} s, only " if missing else ""
        raise AudioError(
            f"{name}: truncated or damaged: {header}{done / rate:.2f} s could be read"
            f" (ffmpeg: {one_line([*said, 'no message'][0])}); copy or record it again"
        )


def _complaints(messages: IO[bytes], path: Path, seconds: float = math.inf) -> list[str]:
    return [said.replace(f"file:{path}: ", "") for said in complaints(read_messages(messages), seconds)]
