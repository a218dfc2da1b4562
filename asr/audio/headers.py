"""What the headers of audio files say about their length, and whether the file keeps to it."""

import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterator
from itertools import count, islice, pairwise
from pathlib import Path
from statistics import median
from typing import IO

import soundfile

UNDECLARED_BYTES = 4096  # in an mp3 beyond what its header declares: more is another mp3, less a tag
PACKET = 188  # bytes of a packet of a transport stream, each of which begins with G
PAGE_BYTES = 65_307  # most of a page of ogg
PAGE_HEADER = 27  # bytes; lengths follow, and what is so long
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
PACK = b"\0\0\1\xba"  # begins a pack of a program stream
TAIL_BYTES = 2**17  # in which a pack, and many frames of audio, begin and end
# How another recording begins in a file whose first one alone decoders read, by the first or next bytes of the file.
INITIAL = re.escape(bytes(byte for byte in range(256) if byte & 8))  # of the flags of a block of WavPack
RESTARTS = {
    b"RIFF": rb"RIFF....WAVE",
    b"RF64": rb"RF64....WAVE",
    b"FORM": rb"FORM....AIF[FC]",
    b"caff": rb"caff\0\x01\0\0desc",
    b".snd": rb"\.snd\0\0\0",
    b"ftyp": rb"\0\0\0.ftyp[ -~]{4}\0",
    b"fLaC": rb"fLaC\0\0\0\x22",
    b"wvpk": rb"wvpk.{12}\0{4}(?!\0{4}).{5}[%s]" % INITIAL,
    b"TTA1": rb"TTA1[\x01\x02]\0",
    b"FLV\1": rb"FLV\x01[\x01\x04\x05]\0\0\0\t\0{4}",
    b"\x1aE\xdf\xa3": rb"\x1aE\xdf\xa3.{1,8}?B\x86\x81\x01",  # Matroska
    b"0&\xb2u": rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel",  # ASF
}
ANOTHER = b"|".join([*RESTARTS.values(), rb"ID3[\2-\4]\0", rb"OggS\0\x02"])
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # of the object with the length of the file
MOST_BLOCKS = 100_000  # that are looked at, or a hostile file would keep this busy


def length_is_known(sound: soundfile.SoundFile, path: Path) -> bool:
    """Whether libsndfile will read the file to its end: it stops at the length that it took from the header."""
    if sound.format == "OGG":  # of which libsndfile leaves out damaged pages, where ffmpeg keeps the time
        return sound.frames > 0 and _is_one_whole_ogg(path)
    if sound.format in ("WAV", "WAVEX", "RF64", "AU"):  # which ffmpeg reads to their end
        return sound.frames > 0 and not has_more_audio(path)
    if sound.format == "MP3":
        return _mp3_length_is_known(sound, path)
    return sound.frames > 0 and len(joints(path)) == 1


def find(path: Path, pattern: bytes) -> list[int]:
    """Where matches of a regular expression begin in a file that is not empty; if it is hostile, the first of them."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [match.start() for match in islice(re.finditer(pattern, content, re.S), MOST_BLOCKS)]


def joints(path: Path) -> list[int]:
    """Where the recordings begin that a file was put together from, if decoders read the first one only; else [0]."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"OggS":
        return _ogg_parts(path)
    pattern = RESTARTS.get(head[:4]) or RESTARTS.get(head[4:])
    declared = head[:4] in (b"RIFF", b"RF64", b"FORM", b"caff", b".snd") or head[4:] == b"ftyp"
    if pattern is None or (declared and not has_more_audio(path)):  # which takes less time
        return [0]
    return sorted({0, *find(path, pattern)})


def _is_one_whole_ogg(path: Path) -> bool:
    """Whether the pages of an ogg file are those of one stream, each with its number and checksum (RFC 3533, 6)."""
    with path.open("rb") as file:
        for number in count():
            header = file.read(PAGE_HEADER)
            if len(header) < PAGE_HEADER:
                return number > 0
            lengths = file.read(header[-1])
            content = file.read(sum(lengths))
            page = header[:22] + bytes(4) + header[26:] + lengths + content
            # zlib's polynomial and that of ogg are the same, but for the order of the bits.
            checksum = (zlib.crc32(page.translate(MIRRORED), 2**32 - 1) ^ (2**32 - 1)).to_bytes(4, "big")
            whole = len(content) < sum(lengths) or checksum.translate(MIRRORED) == header[22:26]  # or cut there
            if int.from_bytes(header[18:22], "little") != number or not whole:
                break
    return False


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
    """Whether a wav, aiff, au, CAF, mp4 or ogg goes on behind its audio with something that is no part of it."""
    size, begun = path.stat().st_size, False
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b".snd":
            return 0 < int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:], "big") < size
        if head[:4] == b"OggS":
            return _ogg_is_followed(file, size)
        for kind, position, length in chunks(file, size):
            other = kind in (b"RIFF", b"RF64", b"FORM", b"caff") or not re.fullmatch(rb"[ -~]{4}", kind)
            if begun and (other or kind == b"ftyp" or (head[:1] == b"R" and position + length > size)):
                return True
            begun = begun or kind in (b"data", b"SSND", b"ftyp")
    return False


def declaring_all(path: Path) -> dict[int, bytes]:
    """What to write where, in a copy of an aiff or CAF, so that its header declares all the audio in the file."""
    size, common, patches = path.stat().st_size, 0, {}
    with path.open("rb") as file:
        layout = ">Q" if file.read(4) == b"caff" else ">I"
        for kind, begin, _ in chunks(file, size):
            common = begin if kind == b"COMM" else common
            if kind in (b"SSND", b"data"):
                left = min(size - begin, 2**32 - 1)
                patches[begin - struct.calcsize(layout)] = struct.pack(layout, left)
                if kind == b"SSND" and common:  # 8 bytes come before the samples
                    file.seek(common)
                    channels, _, bits = struct.unpack(">HIH", file.read(8))  # not at the end of the file
                    width = max(1, channels * ((bits + 7) // 8))
                    patches[common + 2] = struct.pack(">I", max(0, left - 8) // width)
                break
    return patches


def _ogg_is_followed(file: IO[bytes], size: int) -> bool:
    file.seek(max(0, size - PAGE_BYTES))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    lengths = page[PAGE_HEADER : PAGE_HEADER + page[PAGE_HEADER - 1]] if len(page) >= PAGE_HEADER else b""
    behind = page[PAGE_HEADER + len(lengths) + sum(lengths) :]
    return len(behind) > UNDECLARED_BYTES and any(behind)


def another_begins(path: Path, position: int) -> bool:
    """Whether a recording of any format begins behind a position, or shortly before it: decoders read ahead."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return re.compile(ANOTHER, re.S).search(content, max(1, position - TAIL_BYTES)) is not None


def is_chained_ogg(path: Path) -> bool:
    """Whether streams begin behind others of an ogg file, so that its timestamps start anew (RFC 3533, 4)."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
    return find(path, b"OggS\0\2")[-1:] > find(path, b"OggS\0[^\2]")[:1]


def _ogg_parts(path: Path) -> list[int]:
    """Where the parts of a chained ogg file begin if they have several codecs, of which ffmpeg reads the first."""
    starts = find(path, rb"OggS\0\x02.{20}\x01.(?:OpusHead|\x01vorbis|Speex   |\x7fFLAC)")
    with path.open("rb") as file:
        codecs = {os.pread(file.fileno(), 5, start + PAGE_HEADER + 1) for start in starts}
    return sorted({0, *starts}) if len(codecs) > 1 and is_chained_ogg(path) else [0]


def chunks(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
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
        elif length < 0 or (length == 0 and kind == b"SSND") or (length <= 4 and head[:4] + kind == b"caffdata"):
            # To the end of the file; in CAF 4 bytes come before the samples.
            length = size - begin
        yield kind, begin, length
        position = begin + max(0, length) + (0 if mp4 or head[:4] == b"caff" else length % 2)


def is_cut_short(path: Path) -> bool:
    """Whether a file ends before its header or its structure says so, where no decoder says anything about it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        if head[:4] in (b"caff", b"RF64"):
            ends = ((kind, position + length) for kind, position, length in chunks(file, size))
            return any(end > size for kind, end in ends if head[:4] == b"caff" or kind == b"data")
        if head[:4] == b"wvpk" or head[8:12] == b"AVI ":
            return size < 8 + int.from_bytes(head[4:8], "little")
        if head[:4] == b"0&\xb2u":
            place = head.find(ASF_PROPERTIES)  # the length is 0 where it was not known
            return place > 0 and size < int.from_bytes(head[place + 40 : place + 48], "little")
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
        for packet, begin in ((PACKET, 0), (PACKET + 4, 4)):  # of m2ts, with times before them
            if head[begin : begin + 1] == head[begin + packet : begin + packet + 1] == b"G":
                return size % packet > 0
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
        if head[:4] == PACK:
            return _program_is_cut(tail)
        file.seek(_id3_bytes(head))
        return _frame_is_cut(file.read(64), tail)


def _id3_bytes(head: bytes) -> int:
    """How much of an mp3 its first tag takes: 7 bits of each byte count."""
    return 10 + sum(byte << 7 * place for place, byte in enumerate(head[9:5:-1])) if head[:3] == b"ID3" else 0


def _program_is_cut(tail: bytes) -> bool:
    """Of a program stream (mpg, vob): the last pack has a header, and packets of a type and a length each."""
    place = tail.rfind(PACK)
    if place < 0 or place + 14 > len(tail):
        return place >= 0
    place += 14 + tail[place + 13] % 8 if tail[place + 4] >> 6 == 1 else 12
    while re.match(rb"\0\0\x01[\xbb-\xff]..", tail[place : place + 6], re.S):
        place += 6 + int.from_bytes(tail[place + 4 : place + 6], "big")
    return place > len(tail)


def _frame_is_cut(first: bytes, tail: bytes) -> bool:
    """Of frames of equal length without a container (mp2, mp3, ac3, dts), of which `first` begins one."""
    if len(first) < 6:
        return False
    if first[:1] == b"\xff" and first[1] >= 0xE0 and first[1] & 6:  # MPEG audio; a bit says that a byte is added
        pattern = re.escape(first[:2]) + _either(first[2], 2)
    elif first[:2] == b"\x0bw":  # AC-3, with a checksum there
        pattern = b"\x0bw.." + _either(first[4], 1) + re.escape(first[5:6])
    elif first[:4] == b"\x7f\xfe\x80\1":  # DTS
        pattern = re.escape(first[:4])
    else:
        return False
    places = [match.start() for match in re.finditer(pattern, tail, re.S)]
    gaps = [after - before for before, after in pairwise(places)]
    if len(places) < 4 or (first[0] == 0xFF and len(places) < tail.count(first[:2]) / 2):  # the bit rate varies
        return False
    usual = median(gaps)
    ends = [after for after, gap in zip(places[1:], gaps, strict=True) if abs(gap - usual) <= 2]
    return len(ends) > 0.9 * len(gaps) and len(tail) - ends[-1] < usual - 2


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
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    file.seek(max(0, size - 4 - length))
    return int.from_bytes(file.read(4)[1:], "big") + 11 != length


def _either(byte: int, bit: int) -> bytes:
    """A regular expression for a byte with a bit set or not."""
    return b"[" + re.escape(bytes((byte, byte ^ bit))) + b"]"
