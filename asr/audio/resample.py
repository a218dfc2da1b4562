"""Resampling of any rate and number of channels to 16 kHz mono, chunk by chunk."""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from asr.errors import AudioError

log = logging.getLogger(__name__)

SAMPLE_RATE = 16000  # hertz, of all audio outside this package

# Of a file's header or of samples in memory. What lies beyond is a mistake or damage: kilohertz, a rate of 1 Hz that
# makes a day of a minute.
MIN_RATE, MAX_RATE = 1_000, 1_000_000  # hertz
MAX_CHANNELS = 1024
LOUDEST = 1e6  # full scale is 1; a value beyond this is damage, and its square would overflow in the features
UNUSABLE = 0.1  # of the samples beyond it or no numbers: more are of another format than the one that was read

CANCELLED = 0.1  # of the energy that channels without any relation keep when they are mixed: less is of inverted ones
RELATED = 0.5  # of it: where as much is left, a stream whose channels cancelled each other is mixed again
HUNDREDTHS = 50  # of a second, by which a stream is judged


def to_mono(frames: np.ndarray, channel: int | None = None, name: str = "the stream") -> np.ndarray:
    """(n,) from frames (n, channels): one channel, from 1, or the mean of all, unless they would cancel each other.

    Then one of them is inverted, and the first loud one is taken. AudioError, which begins with `name`, if there is no
    such channel.
    """
    channels = frames.shape[1] if frames.ndim == 2 else 1
    if channel is not None:
        if channel > channels:
            raise AudioError(f"{name}: has no channel {channel}, only {channels}; name another one")
        return frames if frames.ndim == 1 else frames[:, channel - 1]
    if channels == 1:
        return frames.reshape(-1)
    loud = _loud_channel(_energies(_without_damage(frames)))
    return _mean(frames) if loud is None else frames[:, loud - 1]


class Mixer:
    """The channels of a stream to one, as `to_mono` does it, however the stream is cut.

    The choice for a hundredth of a second depends on the half second before it, of which the loudest sound counts most;
    in digital silence it stays. A stream begins with all channels. One choice follows the other between two samples,
    without a transition: what was mixed before has cancelled.
    """

    def __init__(self) -> None:
        self._recent = np.zeros((HUNDREDTHS, 0))  # energies of the channels and of their mix
        self._hundredths = 0
        self._begun = np.zeros((0, 0), dtype=np.float32)  # frames of the present hundredth
        self._channel: int | None = None  # from 1, the one that is taken

    def push(self, frames: np.ndarray, rate: int) -> np.ndarray:
        """Float frames (n,) or (n, channels) at `rate` hertz → (n,)."""
        if frames.ndim == 1 or frames.shape[1] == 1:
            return frames.reshape(-1)
        frames = _without_damage(frames)
        if self._begun.shape[1] != frames.shape[1]:
            self._begun, self._channel = frames[:0], None
            self._recent = np.zeros((HUNDREDTHS, frames.shape[1] + 1))
        parts, size = [frames[:0, 0]], rate // 100
        while len(frames):
            piece, frames = np.split(frames, [size - len(self._begun)])
            parts.append(_mean(piece) if self._channel is None else piece[:, self._channel - 1])
            self._begun = np.concatenate([self._begun, piece])
            if len(self._begun) == size:
                self._recent[self._hundredths % HUNDREDTHS] = _energies(self._begun)
                self._begun, self._hundredths = self._begun[:0], self._hundredths + 1
                self._choose()
        return np.concatenate(parts)

    def _choose(self) -> None:
        energies = self._recent.sum(axis=0)
        if energies[:-1].any():
            self._channel = _loud_channel(energies, CANCELLED if self._channel is None else RELATED)


def _loud_channel(energies: np.ndarray, least: float = CANCELLED) -> int | None:
    """The first loud channel, from 1, where the sum of all has so little energy that they cancel each other."""
    channels, mixed = energies[:-1], energies[-1]
    if mixed >= least * channels.sum():
        return None
    return int((channels >= channels.max() / 2).argmax()) + 1  # of several, the same one in all pieces of a stream


def _without_damage(frames: np.ndarray) -> np.ndarray:
    """Float samples as float32, with silence for those that cannot be audio (NaN, ±inf, beyond ±10⁶)."""
    frames = np.asarray(frames, dtype=np.float32)
    return np.where(np.abs(frames) < LOUDEST, frames, np.float32(0))


def _mean(frames: np.ndarray) -> np.ndarray:
    """(n, channels) → (n,); in float64, where a sum of huge samples cannot become infinite."""
    return frames.mean(axis=1, dtype=np.float64).astype(np.float32)


def _energies(frames: np.ndarray) -> np.ndarray:
    """(channels + 1,): of each channel of frames (n, channels), and of the channels' sum."""
    mixed = frames.sum(axis=1, dtype=np.float64)
    return np.append(np.einsum("nc,nc->c", frames, frames, dtype=np.float64), mixed @ mixed)


def usable(frames: Iterable[np.ndarray], name: str) -> Iterator[np.ndarray]:
    """Blocks of samples, with silence for those that cannot be audio (NaN, ±inf, beyond ±10⁶).

    At the end a warning, which begins with `name`, if those are more than 10 %.
    """
    total = wrong = 0
    for block in frames:
        right = np.abs(block) < LOUDEST
        total, wrong = total + block.size, wrong + block.size - int(np.count_nonzero(right))
        yield block if right.all() else np.where(right, block, np.float32(0))
    if wrong > UNUSABLE * total:
        share = 100 * wrong / total
        log.warning("%s: %.0f%% of its samples are no numbers or too large; check their format", name, share)


def check_format(rate: float, channels: int = 1, name: str = "a stream") -> None:
    """AudioError, which begins with `name`, for a sample rate or a number of channels that cannot be."""
    if not MIN_RATE <= rate <= MAX_RATE or rate % 1:
        raise AudioError(
            f"{name}: a sample rate of {rate} Hz is impossible; give whole hertz from {MIN_RATE} to {MAX_RATE}"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"{name}: {channels} channels; audio has 1 to {MAX_CHANNELS}")


class Resampler:
    """A mono stream at `rate` hertz in, 16 kHz out; however the stream is cut, the samples out are the same.

    The filter is soxr's "HQ" (libsoxr, linear phase, 20 bits); it holds back a few milliseconds until `flush`.
    Samples that cannot be audio (NaN, ±inf, beyond ±10⁶) count as silence, because one of them would smear over the
    whole filter. Others beyond ±1 stay as they are. Raises AudioError for a rate outside 1 kHz to 1 MHz.
    """

    def __init__(self, rate: int) -> None:
        check_format(rate)
        self.rate = rate
        same = rate == SAMPLE_RATE
        self._stream = None if same else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float (n,); return float32 (m,).

        m varies from call to call and may be 0, because the filter looks ahead.
        """
        samples = _without_damage(samples)
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def flush(self) -> np.ndarray:
        """End the stream: return its tail, float32 (m,)."""
        nothing = np.zeros(0, dtype=np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)
