"""The `ffprobe` program: audio tracks of a container, with the times at which they start and their lengths."""

import functools
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import one_line

# Formats that hold their sound themselves. Others (hls, dash, concat, imf, sdp, image2, …) name files to be opened,
# which may be any that the user can read; a white list, since each version of ffmpeg knows more.
FORMATS = (
    *("3gp", "aa", "aac", "aax", "ac3", "ac4", "act", "adts", "adx", "aiff", "alac", "amr", "amrnb", "amrwb", "ape"),
    *("asf", "au", "avi", "caf", "codec2", "dsf", "dts", "dtshd", "dv", "eac3", "flac", "flv", "g722", "g726", "g729"),
    *("gsm", "iff", "ilbc", "ircam", "live_flv", "loas", "m4v", "matroska", "mlp", "mmf", "mov", "mp3", "mp4", "mpc"),
    *("mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "nsv", "nut", "ogg", "oma", "pvf", "qcp", "rm", "rso", "sbc"),
    *("sds", "shn", "sln", "smjpeg", "sox", "spdif", "swf", "tak", "truehd", "tta", "voc", "vqf", "w64", "wav", "webm"),
    *("wsd", "wtv", "wv", "xwma"),
)
# Options of both programs; subfile is a part of a file, for recordings that were put together.
SELF_CONTAINED = ("-protocol_whitelist", "file,subfile", "-format_whitelist", ",".join(FORMATS))
RAW = ("mp3", "aac", "ac3", "eac3", "dts")  # frames without timestamps, whose length ffprobe guesses from the bit rate
PROBE_SECONDS = 30  # a file that takes longer is left to the decoder
# Formats whose tracks are said to be as long as the whole file, or to last from its beginning.
WITHOUT_TRACK_LENGTHS = ("asf", "avi")
LATEST_START = 86_400.0  # seconds; a later start is a broken header


@dataclass(frozen=True)
class Track:
    """An audio track. `start`: seconds after the container's clock begins; `seconds`: its length, if it says so."""

    start: float
    seconds: float | None
    channels: int
    default: bool
    about: str  # for messages


@dataclass(frozen=True)
class Container:
    """A file's format by ffmpeg's name, its audio tracks in their order, and its length where that is known."""

    format: str
    tracks: tuple[Track, ...]
    seconds: float | None

    def choose(self) -> int:
        """The number, from 1, of the track that a player would play: the default one, else the first."""
        return next((number for number, track in enumerate(self.tracks, 1) if track.default), 1)


def probe(path: Path) -> Container | None:
    """What ffprobe finds in a file; None where it finds nothing or is missing."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return _probe(str(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _probe(path: str, _modified: int, _size: int) -> Container | None:
    program = shutil.which("ffprobe")
    if program is None:
        return None
    command = [program, "-v", "quiet", *SELF_CONTAINED, "-of", "json", "-show_format", "-show_streams"]
    try:
        done = subprocess.run(
            [*command, f"file:{path}"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    whole = found.get("format", {})
    begin = _seconds(whole.get("start_time")) or 0.0
    audio = [stream for stream in found.get("streams", ()) if stream.get("codec_type") == "audio"]
    if not whole:
        return None
    form = whole.get("format_name", "")
    tracks = tuple(_track(stream, begin, form not in WITHOUT_TRACK_LENGTHS) for stream in audio)
    return Container(form, tracks, _seconds(whole.get("duration")))


def _track(stream: dict[str, Any], begin: float, has_length: bool) -> Track:
    start = (_seconds(stream.get("start_time")) or begin) - begin
    tags = {key.lower(): value for key, value in stream.get("tags", {}).items()}
    channels = int(stream.get("channels", 0))
    layout = stream.get("channel_layout") or ("mono" if channels == 1 else f"{channels} channels")
    words = [tags.get("language", ""), tags.get("title", ""), stream.get("codec_name", ""), layout]
    return Track(
        start if 0 < start <= LATEST_START else 0.0,
        _seconds(stream.get("duration")) if has_length else None,
        channels,
        bool(stream.get("disposition", {}).get("default")),
        one_line(" ".join(filter(None, words))),
    )


def _seconds(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
