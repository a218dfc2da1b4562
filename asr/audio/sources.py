"""An audio file, of any format, rate, length and number of channels, as blocks of 16 kHz mono samples.

libsndfile decodes what it knows (wav, flac, ogg, opus, mp3, …), the `ffmpeg` program the rest. Neither loads the file
whole. A damaged file gives every sample that can be decoded first and the AudioError after them.
"""

import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from asr.audio.ffmpeg import DECODE_VALUES, ffmpeg_frames
from asr.audio.resample import SAMPLE_RATE, Resampler
from asr.errors import AudioError, one_line

STANDARD_INPUT = "-"
AUDIO_SUFFIXES = (
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".m4a", ".m4b", ".aac",
    ".ac3", ".wma", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".amr", ".awb", ".ape", ".wv", ".tta", ".voc",
    ".sph", ".gsm", ".mka", ".weba",
    ".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".flv", ".wmv", ".mpg", ".mpeg", ".3gp", ".ogv",
)  # fmt: skip

UNKNOWN_FRAMES = 2**62  # libsndfile reports 2⁶³ − 1 frames when a stream was written without a length
STREAMED_BYTES = 0x7FFF0000  # sizes from here up to 2³² − 1 are of programs that cannot go back to the header
TRUNCATION = 0.25  # seconds that may be missing before a file counts as truncated; encoder padding is below that
UNDECLARED_BYTES = 65536  # in a file beyond what its header declares: more is audio of a writer that was killed
LIBSNDFILE_DAMAGE = re.compile(r"lacks an end-of-stream bit|Corrupted bitstream")


class _ForwardOnly(soundfile.SoundFile):
    """soundfile seeks to where it is after each read, which spoils the next 50 ms of an mp3; unless it cannot seek."""

    def seekable(self) -> bool:
        return False


def read_blocks(source: str | Path, block_seconds: float = 10.0) -> Iterator[np.ndarray]:
    """Yield the audio as float32 mono 16 kHz blocks, shape (samples,), −1…1, all `block_seconds` long but the last.

    source: a path, or "-" for standard input. What is not a plain file (a pipe) is first copied to the disk.
    Only one block is in memory; the concatenated blocks are the same for every `block_seconds`. No samples, no blocks.
    Raises AudioError, while iterating: at once when the file cannot be read at all, after the last good
    block when it is truncated or damaged.
    """
    size = max(1, round(block_seconds * SAMPLE_RATE))
    with _plain_file(source) as (path, name):
        try:
            sound = _ForwardOnly(str(path))
        except (RuntimeError, TypeError, ValueError, OSError) as error:  # TypeError: a name that ends in .raw
            reason = one_line(getattr(error, "error_string", "") or "no sample rate in the file")
        else:
            with sound:
                if _length_is_known(sound, path) or (sound.frames > 0 and shutil.which("ffmpeg") is None):
                    yield from _blocks(sound.samplerate, _libsndfile_frames(sound, name), size)
                    return
            reason = "its header does not say how long it is"
        with ffmpeg_frames(path, name, reason) as (rate, frames):
            yield from _blocks(rate, frames, size)


def read(source: str | Path) -> np.ndarray:
    """The whole audio, float32 mono 16 kHz, shape (samples,); AudioError also when it is only damaged or truncated."""
    return np.concatenate([np.zeros(0, dtype=np.float32), *read_blocks(source)])


def duration(source: str | Path) -> float | None:
    """Seconds of audio that the header promises; None when it does not say or only ffmpeg could. Never raises."""
    try:
        if str(source) == STANDARD_INPUT or not Path(source).is_file():  # opening a pipe would swallow its start
            return None
        with soundfile.SoundFile(str(source)) as sound:
            known = 0 < sound.frames < UNKNOWN_FRAMES and _length_is_known(sound, Path(source))
            return sound.frames / sound.samplerate if known else None
    except (RuntimeError, TypeError, ValueError, OSError, ZeroDivisionError):
        return None


def find_audio(folder: str | Path) -> list[Path]:
    """The audio and video files below `folder`, told by suffix, sorted; hidden files and folders are left out."""
    folder = Path(folder)
    if not folder.is_dir():
        raise AudioError(one_line(f"{folder}: no such folder; name an existing one"))
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


@contextmanager
def _plain_file(source: str | Path) -> Iterator[tuple[Path, str]]:
    """The path of a non-empty regular file with the content of `source`, and the name of `source` for messages."""
    path, name = Path(source), one_line(str(source), 4096)
    if str(source) == STANDARD_INPUT:
        if sys.stdin is None:
            raise AudioError("standard input is closed; name a file, or give it audio")
        with _copy_to_disk(sys.stdin.buffer, "standard input") as copy:
            yield copy, "standard input"
        return
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{name}: a folder, not a file; name the files in it")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
            raise AudioError(f"{name}: a device, not an audio file; name a file")
        pipe = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        raise AudioError(f"{name}: no such file") from None
    except PermissionError:
        raise AudioError(f"{name}: permission denied; make the file readable") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be opened: {error.strerror}") from None
    with pipe:
        if stat.S_ISREG(status.st_mode):
            if status.st_size == 0:
                raise AudioError(f"{name}: empty file (0 bytes); record or copy it again")
            yield path, name
        else:
            with _copy_to_disk(pipe, name) as copy:
                yield copy, name


@contextmanager
def _copy_to_disk(stream: IO[bytes], name: str) -> Iterator[Path]:
    """A temporary file with all that `stream` holds: decoders need to go back and forth, which a pipe cannot."""
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        copy = Path(folder) / "audio"
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise AudioError(f"{name}: cannot be copied to {folder}: {error.strerror}; set TMPDIR") from None
        if copy.stat().st_size == 0:
            raise AudioError(f"{name}: empty (0 bytes); give it audio")
        yield copy


def _blocks(rate: int, frames: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Frames (n, channels) at `rate` to 16 kHz mono blocks of `size`; an error of `frames` comes after the last one."""
    resampler = Resampler(rate)
    pending: list[np.ndarray] = []  # 16 kHz samples not yet yielded
    damage: AudioError | None = None
    ended = False
    while not ended:
        try:
            pending.append(resampler.push(next(frames)))
        except StopIteration:
            ended = True
        except AudioError as error:
            damage, ended = error, True
        if ended:
            pending.append(resampler.flush())
        if ended or sum(map(len, pending)) >= size:
            samples = np.concatenate(pending)
            whole = len(samples) // size * size
            for start in range(0, whole, size):
                yield samples[start : start + size]
            pending = [samples[whole:]]
    if len(pending[0]):
        yield pending[0]
    if damage is not None:
        raise damage


def _libsndfile_frames(sound: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    """Frames (n, channels) at the file's rate; at the end AudioError when promised frames are missing."""
    rate, promised = sound.samplerate, sound.frames
    buffer = np.empty((max(1, min(DECODE_VALUES // sound.channels, rate)), sound.channels), dtype=np.float32)
    done, failure = 0, None
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
    could_read = f"{done / rate:.2f} s could be read{because}; copy or record it again"
    if failure and promised >= UNKNOWN_FRAMES:
        raise AudioError(f"{name}: truncated or damaged: only {could_read}")
    seconds = _promised_seconds(log, promised / rate) if promised < UNKNOWN_FRAMES else 0.0
    if seconds - done / rate > TRUNCATION or (failure and done < promised):
        raise AudioError(f"{name}: truncated or damaged: the header says {seconds:.2f} s, only {could_read}")
    if LIBSNDFILE_DAMAGE.search(log):  # an ogg header has no length to compare with
        raise AudioError(f"{name}: truncated or damaged: the stream is broken, {could_read}")


def _length_is_known(sound: soundfile.SoundFile, path: Path) -> bool:
    """Whether libsndfile will read the file to its end: it stops at the length that it took from the header."""
    size = path.stat().st_size
    if sound.format != "MP3":
        return sound.frames > 0 or size <= UNDECLARED_BYTES
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
    return size - id3 - int.from_bytes(frame[start : start + 4], "big") <= UNDECLARED_BYTES


def _promised_seconds(log: str, seconds: float) -> float:
    """How long the file was meant to be: libsndfile shortens a wav, w64, aiff or au by itself and only logs it."""
    for size, rest in re.findall(r"^\s*(?:data|riff|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", log, re.M):
        if 0 < int(rest) < int(size) < STREAMED_BYTES:
            return seconds * int(size) / int(rest)
    return seconds
