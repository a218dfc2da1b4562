"""The libsndfile library as a decoder, with the signs by which it shows that a file is damaged."""

import re
from collections.abc import Iterator

import numpy as np
import soundfile

from asr.audio.ffmpeg import DECODE_VALUES, TRUNCATION
from asr.errors import AudioError, one_line

UNKNOWN_FRAMES = 2**62  # libsndfile reports 2⁶³ − 1 frames when a stream was written without a length
STREAMED_BYTES = 2_000_000_000  # sizes from here up to 2³² − 1 are of programs that cannot go back to the header
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


def _promised_seconds(log: str, seconds: float) -> float:
    """How long the file was meant to be: libsndfile shortens a wav, w64, aiff or au by itself and only logs it."""
    for size, rest in re.findall(r"^\s*(?:data|riff|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", log, re.M):
        if 0 < int(rest) < int(size) < STREAMED_BYTES:
            return seconds * int(size) / int(rest)
    return seconds
