"""Audio of any form as blocks of 16 kHz mono samples: files, standard input, bytes, file objects, samples in memory.

libsndfile decodes what it knows (wav, flac, ogg, opus, mp3, …), the `ffmpeg` program the rest. Neither loads the file
whole. A damaged file gives every sample that can be decoded first and the AudioError after them.
"""

import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from asr.audio.ffmpeg import DECODE_VALUES, TRUNCATION, ffmpeg_frames
from asr.audio.files import AudioFile, as_path, plain_file, temporary_copy
from asr.audio.headers import (
    UNDECLARED_BYTES,
    another_begins,
    declaring_all,
    has_more_audio,
    is_cut_short,
    joints,
    length_is_known,
)
from asr.audio.libsndfile import SEEKABLE, UNKNOWN_FRAMES, SoundFile, libsndfile_frames
from asr.audio.probe import probe
from asr.audio.resample import LOUDEST, MAX_RATE, MIN_RATE, SAMPLE_RATE, Resampler, check_format, to_mono, usable
from asr.audio.stream import AudioStream, is_address
from asr.errors import ArgumentError, AudioError, one_line

Samples = np.ndarray | Sequence[float]

LEAD_SECONDS = 0.1  # of audio decoded before the start of a part, for the resampler

# Samples in memory beyond these are mistakes: shape (channels, samples), integers that nobody divided.
MAX_CHANNELS = 64
MAX_SECONDS = 1e9  # of a place in a recording: thirty years
MAX_FLOAT = 32.0  # full scale is 1
SHAPE_ADVICE = "give it the shape (samples,) or (samples, channels)"


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording, wherever a source may stand; times of its words are on the clock of the recording.

    source: any other source. channel: from 1; None mixes all. track: of the audio tracks of a video, from 1; None is
    the one that a player would play. start, end: seconds; None is to its end.
    """

    source: Any
    channel: int | None = None
    track: int | None = None
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        for argument, number in (("channel", self.channel), ("track", self.track)):
            if number is not None and not (isinstance(number, int) and number >= 1):
                raise ArgumentError(f"{argument}: {number!r:.40}; they are counted from 1")
        end = MAX_SECONDS if self.end is None else self.end
        times = isinstance(self.start, int | float) and isinstance(end, int | float)
        if not (times and 0 <= self.start < end <= MAX_SECONDS):
            raise ArgumentError(
                f"start: {self.start!r:.40} s is not before the end ({self.end!r:.40} s), or not a time from 0 to "
                f"{MAX_SECONDS:g} s"
            )

    def __str__(self) -> str:
        return str(self.source)


Source = AudioFile | Samples | Excerpt


def as_samples(samples: Samples, sample_rate: int | None, argument: str = "samples") -> np.ndarray:
    """Samples in memory as float32 of the same shape, full scale ±1, for `Resampler.push`.

    Args:
        samples: shape (n,) or (n, channels): int16, int32, floats (full scale ±1), or a list; a list of whole numbers
            holds int16 values. NaN, ±inf and what is beyond ±10⁶ pass: the resampler makes silence of them.
        sample_rate: hertz.
        argument: the name of the samples in messages.

    Raises ArgumentError for anything else, also for floats that look like int16 values.
    """
    try:
        array = np.asarray(samples)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{argument}: not an array ({one_line(error)}); {SHAPE_ADVICE}") from None
    if array.ndim == 0 and not isinstance(samples, np.ndarray):
        kind = type(samples).__name__
        advice = "np.frombuffer makes an array of raw bytes" if isinstance(samples, bytes | bytearray) else SHAPE_ADVICE
        raise ArgumentError(f"{argument}: of type {kind}, not an array; {advice}")
    if array.ndim not in (1, 2) or array.shape[1:] > (MAX_CHANNELS,) or array.shape[1:] == (0,):
        raise ArgumentError(f"{argument}: of shape {array.shape}; {SHAPE_ADVICE}")
    if sample_rate is None:
        raise ArgumentError(f"sample_rate: missing; give that of the samples in hertz, such as {SAMPLE_RATE}")
    number = isinstance(sample_rate, int | float | np.number)
    if not number or not MIN_RATE <= sample_rate <= MAX_RATE or sample_rate % 1:
        raise ArgumentError(
            f"sample_rate: {sample_rate!r} is impossible; give whole hertz from {MIN_RATE} to {MAX_RATE}"
        )
    if isinstance(samples, list | tuple) and array.dtype.kind == "i":
        short = array.astype(np.int16)
        array = short if (short == array).all() else array
    kind, bits = array.dtype.kind, 8 * array.dtype.itemsize
    if kind == "i" and bits in (16, 32):
        return array.astype(np.float32) / np.float32(2 ** (bits - 1))
    if kind != "f":
        raise ArgumentError(f"{argument}: of type {array.dtype}; give int16, int32 or floats from −1 to 1")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.abs(array).max(initial=0) <= 1:  # true for NaN, too
        plausible = array[np.abs(array) < LOUDEST]
        peak = np.abs(plausible).max(initial=0)
        if peak > MAX_FLOAT or (peak > 1 and (plausible == np.rint(plausible)).all()):
            raise ArgumentError(
                f"{argument}: floats up to {peak:.5g}, where full scale is 1; "
                "divide int16 values by 32768, or give them as int16"
            )
    return array


def read_blocks(source: Source, block_seconds: float = 10.0, sample_rate: int | None = None) -> Iterator[np.ndarray]:
    """Yield the audio as float32 mono 16 kHz blocks, shape (samples,), −1…1, all `block_seconds` long but the last.

    Only one block is in memory; the concatenated blocks are the same for every `block_seconds`. Channels are mixed, but
    where they cancel each other (one of them is inverted) the louder one is taken. Audio that begins later than its
    video has silence before it.

    Args:
        source: the path of an audio file, also as file:///…, an address that ffmpeg opens (http://…), "-" for
            standard input, the bytes of an audio file, a binary file object, or samples as `as_samples` takes them; or
            an `Excerpt` of one of these. What is not a plain file (a pipe) is first copied to the disk.
        sample_rate: of samples, in hertz; a file has its own.

    Raises, while iterating: ArgumentError. AudioError: at once when the file cannot be read at all or has no samples,
    after the last good block when it is truncated or damaged.
    """
    part = source if isinstance(source, Excerpt) else Excerpt(source)
    source, size = part.source, max(1, round(block_seconds * SAMPLE_RATE))
    if not isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) and not hasattr(source, "read"):
        samples = as_samples(cast(Samples, source), sample_rate, "source")
        assert sample_rate is not None
        log.debug("samples: %s, shape %s, %s Hz", np.asarray(source).dtype, samples.shape, sample_rate)
        pieces = (samples[start : start + DECODE_VALUES] for start in range(0, len(samples), DECODE_VALUES))
        blocks = _blocks("samples", int(sample_rate), usable(pieces, "samples"), size, part)
        yield from _not_empty(blocks, part, "samples") if part.start or part.end else blocks
        return
    if sample_rate is not None:
        raise ArgumentError("sample_rate: goes with samples only; an audio file says its own")
    if is_address(source):
        with AudioStream(cast(str, source), track=part.track) as stream:
            yield from _blocks(stream.name, stream.rate, stream, size, part)
        return
    with (
        plain_file(cast(AudioFile, source)) as (file, name),
        _declaring_all(file, name) as path,
        _decoded(path, name, part) as (rate, first, frames),
    ):
        yield from _not_empty(_blocks(name, rate, frames, size, part, first), part, name)


def _not_empty(blocks: Iterator[np.ndarray], part: Excerpt, name: str) -> Iterator[np.ndarray]:
    block = next(blocks, None)
    if block is None:
        where = f"between {part.start:g} s and {part.end:g} s" if part.end else f"after {part.start:g} s"
        where = where if part.start or part.end else "in it (0 samples)"
        raise AudioError(f"{name}: there is no sound {where}; check that it is the right file")
    yield block
    yield from blocks


@contextmanager
def _declaring_all(path: Path, name: str) -> Iterator[Path]:
    """The path, or that of a copy of an aiff or CAF whose header declares less audio than there is."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if file.read(4) in (b"FORM", b"caff") and len(joints(path)) == 1 and has_more_audio(path):
            file.seek(0)
            patches, path = declaring_all(path), temporary_copy(file, name, stack)
            with path.open("r+b") as copy:
                for place, content in patches.items():
                    copy.seek(place)
                    copy.write(content)
        yield path


@contextmanager
def _decoded(path: Path, name: str, part: Excerpt) -> Iterator[tuple[int, int, Iterator[np.ndarray]]]:
    """The rate, the number of the first frame that is decoded, and frames (n, channels)."""
    try:
        sound = SoundFile(str(path))
    except (RuntimeError, TypeError, ValueError, OSError) as error:  # TypeError: a name that ends in .raw
        reason = one_line(getattr(error, "error_string", "") or "no sample rate in the file")
        reason = "format not recognized" if "possibly a pipe" in reason else reason  # of a short text, it is a file
    else:
        with sound:
            check_format(sound.samplerate, sound.channels, name)
            known = length_is_known(sound, path) or (sound.frames > 0 and shutil.which("ffmpeg") is None)
            if known and (part.track or 1) == 1:
                log.debug("%s: %s, %d Hz, channels: %d", name, sound.format, sound.samplerate, sound.channels)
                first = max(0, math.floor(part.start - LEAD_SECONDS)) * sound.samplerate  # as many samples at 16 kHz
                first = min(first, sound.frames) if sound.format in SEEKABLE else 0
                mended = sound.format in ("FLAC", "MP3") and shutil.which("ffmpeg") is not None
                frames = _mended(sound, path, name, first) if mended else libsndfile_frames(sound, name, first)
                yield sound.samplerate, first, _whole(frames, path, name)
                return
        reason = "its header does not say how long it is"
    with ffmpeg_frames(path, name, reason, part.track) as (rate, frames):
        log.debug("%s: %d Hz, read by ffmpeg (libsndfile: %s)", name, rate, reason)
        yield rate, 0, _whole(frames, path, name)


def _whole(frames: Iterator[np.ndarray], path: Path, name: str) -> Iterator[np.ndarray]:
    """The frames; AudioError at the end of a file that was cut, or has more audio than decoders read."""
    yield from usable(frames, name)
    with path.open("rb") as file:
        head = file.read(8)
    chunks = head[:4] in (b"FORM", b"caff") or head[4:] == b"ftyp"
    if chunks or head[:4] == b"OggS":
        joined = len(joints(path)) > 1
        if not joined and has_more_audio(path):
            raise _more_audio(name)
        if chunks and joined:
            return
    if is_cut_short(path):
        raise AudioError(f"{name}: truncated: it is shorter than its header says; copy or record it again")


def _more_audio(name: str) -> AudioError:
    return AudioError(f"{name}: has more audio than its header says, which cannot be read; convert or split the file")


def _mended(sound: SoundFile, path: Path, name: str, first: int) -> Iterator[np.ndarray]:
    """What libsndfile decodes of a flac or mp3, and what ffmpeg does of the rest, behind damage or a header that says
    too little; after damage AudioError.
    """
    done, damage, rate = first, None, sound.samplerate
    with path.open("rb", buffering=0) as file:
        with suppress(RuntimeError):  # libsndfile knows some mp3 by their name only
            sound = SoundFile(file.fileno(), closefd=False)  # which shows how far it was read
        try:
            for frames in libsndfile_frames(sound, name, first):
                done += len(frames)
                yield frames
        except AudioError as error:
            damage = error
        reached = file.tell()
        unread = path.stat().st_size - reached
    followed = damage is None and sound.format == "FLAC" and another_begins(path, reached)
    if damage is None and unread <= UNDECLARED_BYTES and not followed:
        return
    stopped, position, fresh = done, 0, []
    try:
        with ffmpeg_frames(path, name, "damaged") as (_, rest):
            for frames in rest:
                position += len(frames)
                fresh.append(frames[max(0, len(frames) - (position - done)) :] if position > done else frames[:0])
                if position > stopped + TRUNCATION * rate:
                    yield np.concatenate(fresh)
                    done, fresh = position, []
    except AudioError as error:
        damage = damage or (error if done > stopped else None)
    if damage is not None and done > stopped:
        raise AudioError(
            f"{name}: truncated or damaged after {stopped / rate:.2f} s, {done / rate:.2f} s could be read;"
            " copy or record it again"
        ) from damage
    if damage is not None:
        raise damage
    if followed and done == stopped:
        raise _more_audio(name)


def read(source: Source, sample_rate: int | None = None) -> np.ndarray:
    """The audio, float32 mono 16 kHz, shape (samples,); AudioError also when it is only damaged or truncated."""
    return np.concatenate([np.zeros(0, dtype=np.float32), *read_blocks(source, sample_rate=sample_rate)])


def count_channels(path: str | Path, track: int | None = None) -> int:
    """The channels of a recording; 1 of one that cannot be read, or that is no file."""
    return _described(path, track)[0]


def duration(source: str | Path) -> float | None:
    """Seconds of audio that the header promises, also of what ffmpeg reads; None if it does not say. Never raises."""
    return _described(source)[1]


def _described(source: str | Path, track: int | None = None) -> tuple[int, float | None]:
    path = as_path(source)
    if not os.path.isfile(path):  # opening a pipe would swallow its start
        return 1, None
    with suppress(RuntimeError, TypeError, ValueError, OSError), SoundFile(str(path)) as sound:
        known = 0 < sound.frames < UNKNOWN_FRAMES and length_is_known(sound, path)
        return sound.channels, sound.frames / sound.samplerate if known else None
    if (container := probe(path)) is None:
        return 1, None
    number = track or container.choose()
    channels = container.tracks[number - 1].channels if number <= len(container.tracks) else 1
    return max(1, channels), container.seconds


def _blocks(
    name: str, rate: int, frames: Iterable[np.ndarray], size: int, part: Excerpt, first: int = 0
) -> Iterator[np.ndarray]:
    """Frames (n,) or (n, channels) at `rate` to 16 kHz mono blocks of `size`; an error of theirs comes after the last.

    first: the number of the first frame in the recording.
    """
    if rate != SAMPLE_RATE:
        log.debug("resampled from %d to %d Hz", rate, SAMPLE_RATE)
    resampler, decoded = Resampler(rate), iter(frames)
    skipped = round(part.start * SAMPLE_RATE) - round(first * SAMPLE_RATE / rate)  # samples before the part
    left = math.inf if part.end is None else round(part.end * SAMPLE_RATE) - round(part.start * SAMPLE_RATE)
    pending = np.zeros(0, dtype=np.float32)
    damage: AudioError | None = None
    samples: np.ndarray | None = pending
    while samples is not None and left > 0:
        try:
            samples = next(decoded, None)
            fresh = resampler.flush() if samples is None else resampler.push(to_mono(samples, part.channel, name))
        except AudioError as error:
            samples, damage, fresh = None, error, resampler.flush()
        kept = fresh[skipped:] if left == math.inf else fresh[skipped : skipped + int(left)]
        skipped, left = max(0, skipped - len(fresh)), left - len(kept)
        pending = np.concatenate([pending, kept])
        while len(pending) >= size:
            yield pending[:size]
            pending = pending[size:]
    if len(pending):
        yield pending
    if damage is not None:
        raise damage
