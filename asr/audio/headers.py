"""What the headers of audio files say about their length, and whether the file keeps to it."""

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import soundfile

NEXT_STREAM = {"OGG": b"OggS\0\2", "FLAC": b"fLaC\0\0\0\x22"}  # how another recording begins in a file
UNDECLARED_BYTES = 4096  # in an mp3 beyond what its header declares: more is another mp3, less a tag
PACKET = 188  # bytes of a packet of a transport stream, each of which begins with G
PAGE_BYTES = 65_307  # most of a page of ogg
MOST_BLOCKS = 100_000  # that are looked at, or a hostile file would keep this busy


def length_is_known(sound: soundfile.SoundFile, path: Path) -> bool:
    """Whether libsndfile will read the file to its end: it stops at the length that it took from the header."""
    if sound.format in NEXT_STREAM:
        return sound.frames > 0 and count(path, NEXT_STREAM[sound.format]) < 2  # not several files put together
    if sound.format in ("WAV", "WAVEX", "RF64", "AU"):  # which ffmpeg reads to their end
        return sound.frames > 0 and not has_more_audio(path)
    return sound.frames > 0 if sound.format != "MP3" else _mp3_length_is_known(sound, path)


def count(path: Path, pattern: bytes) -> int:
    """How often a regular expression is found in a file that is not empty."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return sum(1 for _ in re.finditer(pattern, content))


def _mp3_length_is_known(sound: soundfile.SoundFile, path: Path) -> bool:
    # Without a Xing, Info or VBRI tag in its first frame, an mp3 of variable bit rate is as long as a guess; and the
    # tag of the first of several mp3 files put together tells the length of that one only.
    id3 = sum(int(length) for length in re.findall(r"ID3v2\S* header length\s*:\s*(\d+)", sound.extra_info))
    with path.open("rb") as file:
        file.seek(id3)
        frame = file.read(4096)
    tag = re.search(rb"(?:Xing|Info)\0\0\0(.)", frame, re.S)
    if tag is None or not tag[1][0] & 2:
        return tag is not None or b"VBRI" in frame
    start = tag.end() + (4 if tag[1][0] & 1 else 0)  # the number of frames comes before the number of bytes
    return path.stat().st_size - id3 - int.from_bytes(frame[start : start + 4], "big") <= UNDECLARED_BYTES


def has_more_audio(path: Path) -> bool:
    """Whether a wav, aiff, au, CAF or mp4 goes on behind its audio with something that is no further chunk of it."""
    size, begun = path.stat().st_size, False
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b".snd":
            return 0 < int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:], "big") < size
        for kind, position, length in _chunks(file, size):
            other = kind in (b"RIFF", b"RF64", b"FORM", b"caff") or not re.fullmatch(rb"[ -~]{4}", kind)
            if begun and (other or kind == b"ftyp" or (head[:1] == b"R" and position + length > size)):
                return True
            begun = begun or kind in (b"data", b"SSND", b"ftyp")
    return False


def _chunks(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk of a wav, aiff, CAF or mp4, where its content begins and how long it is said to be."""
    file.seek(0)
    head = file.read(36)
    layouts = {b"RIFF": ("<4sI", 12), b"RF64": ("<4sI", 12), b"FORM": (">4sI", 12), b"caff": (">4sq", 8)}
    mp4 = head[4:8] == b"ftyp"
    layout, position = (">I4s", 0) if mp4 else layouts.get(head[:4], ("<4sI", size))
    for _ in range(MOST_BLOCKS):
        if position > size:  # a seek to a number of 64 bits may fail
            return
        file.seek(position)
        if len(header := file.read(struct.calcsize(layout))) < struct.calcsize(layout):
            return
        kind, length = struct.unpack(layout, header)[:: -1 if mp4 else 1]
        begin = position + len(header)
        if mp4:
            length = (int.from_bytes(file.read(8), "big") if length == 1 else length or size - position) - len(header)
        elif head[:4] == b"RF64" and kind == b"data" and length == 2**32 - 1:
            length = int.from_bytes(head[28:], "little")  # from the chunk before all others, ds64
        elif length < 0 or (length == 0 and kind == b"SSND"):  # to the end of the file
            length = size - begin
        yield kind, begin, length
        position = begin + max(0, length) + (0 if mp4 or head[:4] == b"caff" else length % 2)


def is_cut_short(path: Path) -> bool:
    """Whether a file ends before its header or its structure says so, where no decoder says anything about it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        if head[:4] in (b"caff", b"RF64"):
            ends = ((kind, position + length) for kind, position, length in _chunks(file, size))
            return any(end > size for kind, end in ends if head[:4] == b"caff" or kind == b"data")
        if head[:4] == b"wvpk" or head[8:12] == b"AVI ":
            return size < 8 + int.from_bytes(head[4:8], "little")
        if head[:8] == b"NIST_1A\n":
            return _sphere_bytes(head) > size
        if head[:19] == b"Creative Voice File":
            return _voice_is_cut(file, size, int.from_bytes(head[20:22], "little"))
        if head[:3] == b"FLV":
            return _flash_is_cut(file, size)
        if head[:4] == b"OggS":
            file.seek(max(0, size - PAGE_BYTES))
            tail = file.read()
            last = tail.rfind(b"OggS")
            return not 0 <= last < len(tail) - 5 or not tail[last + 5] & 4  # the bit of the last page of a stream
        if head[:1] == head[PACKET : PACKET + 1] == b"G":
            return size % PACKET > 0
    return False


def _sphere_bytes(head: bytes) -> int:
    """How long a NIST SPHERE file of plain samples has to be; 0 of another."""
    fields = dict(re.findall(rb"(\w+) -\w+ (\S+)", head))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    if fields.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw") or not fields.keys() >= {*names}:
        return 0
    numbers = [fields[name] for name in names]
    if not all(number.isdigit() for number in numbers) or not head[8:16].strip().isdigit():
        return 0
    samples, channels, width = map(int, numbers)
    return int(head[8:16]) + samples * channels * width


def _voice_is_cut(file: IO[bytes], size: int, position: int) -> bool:
    """Of a Creative Voice file: blocks of a type and a length of 3 bytes each, the last one of type 0."""
    for _ in range(MOST_BLOCKS):
        file.seek(position)
        block = file.read(4)
        if not block or block[0] == 0:
            break
        position += 4 + int.from_bytes(block[1:], "little")
    return position > size


def _flash_is_cut(file: IO[bytes], size: int) -> bool:
    """Of an FLV file: each tag is followed by its length, which its header has as well."""
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    file.seek(max(0, size - 4 - length))
    return int.from_bytes(file.read(4)[1:], "big") + 11 != length
