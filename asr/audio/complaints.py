"""What the `ffmpeg` program says on standard error with -v level+info: its complaints, and the tracks of its input."""

import math
import os
import re
from typing import IO

from asr.errors import one_line

MOST_BYTES = 1 << 24  # of messages that are looked at
LOGGED = ("-hide_banner", "-nostats", "-v", "level+info")
LINE = re.compile(r"^(?:\[([^]@]+) @ \w+\] )*\[(?:error|fatal|panic)\] (.+)$", re.M)
# Of other formats, too, but also where a part of a file of several recordings ends. Times in 1 / 90,000 s.
CORRUPT = re.compile(r"^\[mpegts @ \w+\] \[warning\] (Packet corrupt \(stream = (\d+), dts = (\w+)\).*)$", re.M)
START = re.compile(r"^\[info\]   Duration: .*?, start: ([\d.]+)", re.M)
LAST_PACKET = 0.5  # seconds of audio; packets have up to a third
READ = re.compile(r"^\[info\]   Stream #\d+:(\d+) (?:->|\()", re.M)  # after "Stream mapping:"
OTHER_STREAM = re.compile(r"^\[info\]   Stream #.*?: (?:Video|Subtitle|Data|Attachment): (\w+)", re.M)
AUDIO_STREAM = re.compile(
    r"^\[info\]   Stream #\d+:\d+(?:\[\w+\])?(?:\((\w+)\))?: Audio: (\w+).*?, \d+ Hz, ([^,\n]+)"
    r"(?:.*\n\[info\]    .*)*",
    re.M,
)
# Of whole recordings: tags, pictures, chapters and edit lists that cannot be read, another way to reach a server.
HARMLESS = re.compile(
    "non monotonically|BOM value|Error reading .*, skipped|attached picture|[Cc]omment|[Cc]hapter|key ?frame"
    "|index entry|Unsupported transport"
)


def read_messages(messages: IO[bytes]) -> str:
    # No seek: the file offset is shared with the program, which may still write, and would write over its messages.
    return os.pread(messages.fileno(), MOST_BYTES, 0).decode(errors="replace")


def complaints(said: str, seconds: float = math.inf) -> list[str]:
    """The errors among ffmpeg's messages, but for harmless ones, and those of pictures and of encryption (tls).

    Then the packets of the track that is read that did not come whole, of which it only warns; but not the last one, as
    a recording of a broadcast may end in the middle of it. seconds: of audio that were decoded.
    """
    others = ("tls", *OTHER_STREAM.findall(said))
    errors = [text for where, text in LINE.findall(said) if not where.startswith(others) and not HARMLESS.search(text)]
    read = {*READ.findall(said.partition("\n[info] Stream mapping:")[2])}
    start = float(found[1]) if (found := START.search(said)) else 0.0
    for text, stream, time in CORRUPT.findall(said):
        is_last = time.isdecimal() and int(time) / 90_000 - start > seconds - LAST_PACKET
        if stream in read and not is_last:
            errors.append(text)
    return errors


def tracks(said: str) -> tuple[list[str], float | None]:
    """Of the input that ffmpeg describes before it begins: its audio tracks, for messages, and its length (s)."""
    described = said.partition("\n[info] Stream mapping:")[0]
    length = re.search(r"^\[info\]   Duration: (\d+):(\d\d):([\d.]+)", described, re.M)
    seconds = 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3]) if length else None
    return [_described(match) for match in AUDIO_STREAM.finditer(described)], seconds


def _described(match: re.Match[str]) -> str:
    title = re.search(r"^\[info\]       title +: (.+)$", match[0], re.M)
    words = [match[1] if match[1] != "und" else "", title and title[1], match[2], match[3]]
    return one_line(" ".join(filter(None, words)))
