"""The libsndfile library as a decoder, with the signs by which it shows that a file is damaged."""

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from asr.audio.ffmpeg import DECODE_VALUES, TRUNCATION
from asr.errors import AudioError, one_line

UNKNOWN_FRAMES = 2**62  # libsndfile reports 2⁶³ − 1 frames when a stream was written without a length
STREAMED_BYTES = 2_000_000_000  # sizes from here up to 2³² − 1 are of programs that cannot go back to the header
UNDECLARED_BYTES = 4096  # in an mp3 beyond what its header declares: more is another mp3, less a tag
NEXT_STREAM = {"OGG": b"OggS\0\2", "FLAC": b"fLaC\0\0\0\x22"}  # how another recording begins in a file
SEEKABLE = ("WAV", "WAVEX", "FLAC", "AIFF", "AU", "CAF", "W64", "RF64", "NIST")  # to a frame, and fast
LIBSNDFILE_DAMAGE = re.compile(r"lacks an end-of-stream bit|Corrupted bitstream")


class SoundFile(soundfile.SoundFile):
    """soundfile seeks to where it is after each read, which spoils the next 50 ms of an mp3; unless it cannot seek."""

    def seekable(self) -> bool:
        return False


def libsndfile_frames(sound: soundfile.SoundFile, name: str, first: int = 0) -> Iterator[np.ndarray]:
    """Frames (n, channels) at the file's rate, from number `first` on, which is 0 but in a format of `SEEKABLE`.

    At the end AudioError when promised frames are missing.
    """
    rate, promised = sound.samplerate, sound.frames
    buffer = np.empty((max(1, min(DECODE_VALUES // sound.channels, rate)), sound.channels), dtype=np.float32)
    done, failure = first, None
    if first:
        sound.seek(first)
    while failure is None:
        buffer.fill(np.nan)
        try:
            count = sound.buffer_read_into(buffer, "float32")
        except RuntimeError as error:
            # libsndfile leaves what it decoded before the failure in the buffer; the rest of it is still NaN.
            count = len(buffer) - int(np.argmax(~np.isnan(buffer[::-1]).all(axis=1)))
            count = 0 if np.isnan(buffer).all() else count
            failure = one_line(getattr(error, "error_string", "") or str(error))
        if count == 0:
            break
        done += count
        yield buffer[:count].copy()
    log, because = sound.extra_info, f" ({failure})" if failure else ""
    seconds = _promised_seconds(log, promised / rate) if promised < UNKNOWN_FRAMES else 0.0
    missing = seconds - done / rate > TRUNCATION or (failure and done < promised)
    if missing or LIBSNDFILE_DAMAGE.search(log):  # an ogg header has no length to compare with
        header = f"the header says {seconds:.2f} s, only " if missing and seconds else ""
        raise AudioError(
            f"{name}: truncated or damaged: {header}{done / rate:.2f} s could be read{because}; copy or record it again"
        )


def length_is_known(sound: soundfile.SoundFile, path: Path) -> bool:
    """Whether libsndfile will read the file to its end: it stops at the length that it took from the header."""
    if sound.format in NEXT_STREAM:  # several files put together
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            begin = NEXT_STREAM[sound.format]
            return sound.frames > 0 and content.find(begin, content.find(begin) + 1) < 0
    if sound.format in ("WAV", "WAVEX"):
        return sound.frames > 0 and not _has_more_audio(path)
    return sound.frames > 0 if sound.format != "MP3" else _mp3_length_is_known(sound, path)


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


def _has_more_audio(path: Path) -> bool:
    """Whether a wav goes on behind its chunk of data with something that is no other chunk of a wav."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position, after_data = 12, False
        while position + 8 < size:
            file.seek(position)
            kind, length = struct.unpack("<4sI", file.read(8))
            if after_data and (kind == b"RIFF" or not kind.isascii() or position + 8 + length > size):
                return True
            after_data = after_data or kind == b"data"
            position += 8 + length + length % 2
        return False


def _promised_seconds(log: str, seconds: float) -> float:
    """How long the file was meant to be: libsndfile shortens a wav, w64, aiff or au by itself and only logs it."""
    for size, rest in re.findall(r"^\s*(?:data|riff|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", log, re.M):
        if 0 < int(rest) < int(size) < STREAMED_BYTES:
            return seconds * int(size) / int(rest)
    return seconds
