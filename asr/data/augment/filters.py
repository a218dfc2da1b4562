"""Filters for a batch of waveforms (B, N), float32, 16 kHz, computed in the frequency domain on the batch's device.

No function waits for the device: shapes follow from numbers that the host knows. Results of rows are cut and set to
zero beyond their lengths by the caller.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.data.augment.codec import encode_decode
from asr.nn.frontend import SAMPLE_RATE

# Lengths of transforms, four an octave: few, since a GPU plans each new shape for milliseconds, and with small factors.
FAST_LENGTHS = sorted(factor << power for factor in (4, 5, 6, 7) for power in range(29))
# Resampling keeps this share of the lower of the two bandwidths, as soxr's "HQ" does, and removes the rest by a smooth
# slope that ends at the Nyquist frequency.
PASSBAND = 0.913
RINGING = SAMPLE_RATE // 10  # samples until the response of a filter here has faded; transforms are circular
TEMPO_WINDOW = 512  # samples, 32 ms: a few periods of a voice, and no longer than a sound lasts
TEMPO_HOP = TEMPO_WINDOW // 4
TELEPHONE_RATE = 8000  # hertz
TELEPHONE_BAND = 300.0, 3400.0  # hertz
TELEPHONE_ORDER = 6  # of the Butterworth prototype


def fast_length(samples: int, multiple: int = 1) -> int:
    """The next length of a fast transform, from `samples`, that is a multiple of `multiple`."""
    return multiple * FAST_LENGTHS[bisect_left(FAST_LENGTHS, -(-samples // multiple))]


def on_device(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of the host as a tensor (n,), copied without waiting for the device."""
    return move(torch.tensor(values, dtype=dtype), device)


def move(values: Tensor, device: torch.device) -> Tensor:
    """The same on the device; from the host through pinned memory, so that the host does not wait."""
    if device.type == "cuda" and not values.is_cuda:
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def inside(lengths: Sequence[int], samples: int, device: torch.device) -> Tensor:
    """(B, samples) bool: the positions within each row's length."""
    return torch.arange(samples, device=device) < on_device(lengths, device, torch.long).unsqueeze(1)


@cache
def ratio(factor: float) -> Fraction:
    """A speed or tempo of two decimals, such as 0.9, as the fraction 9/10."""
    return Fraction(factor).limit_denominator(100)


def changed_length(samples: int, factor: float) -> int:
    """Samples after a change of speed or tempo: samples / factor, halves rounded up as soxr does."""
    fraction = ratio(factor)
    return (2 * samples * fraction.denominator + fraction.numerator) // (2 * fraction.numerator)


def spectrum(waveforms: Tensor, size: int) -> Tensor:
    """(B, n), n ≤ size → (B', size // 2 + 1): Fourier transform of the rows and of some of zeros, as `FAST_LENGTHS`."""
    rows, samples = waveforms.shape
    return torch.fft.rfft(F.pad(waveforms, (0, size - samples, 0, fast_length(rows) - rows)))


def waveform(spectra: Tensor, size: int, rows: int, samples: int) -> Tensor:
    """The inverse of `spectrum`, (rows, samples) of it."""
    missing = fast_length(rows) - len(spectra)
    return torch.fft.irfft(F.pad(spectra, (0, 0, 0, missing)) if missing else spectra, size)[:rows, :samples]


def resample(waveforms: Tensor, speed: float, samples: int) -> Tensor:
    """(B, N) → (B, samples): played `speed` times as fast, which raises the pitch by the same factor.

    The spectrum is cut or extended with zeros, which is band-limited interpolation. It equals soxr's "HQ" from
    16 kHz · speed to 16 kHz, up to 4 kHz to 80 dB below the signal or more.
    """
    fraction = ratio(speed)
    block = fast_length(-(-(waveforms.shape[1] + RINGING) // fraction.numerator))
    before, after = fraction.numerator * block, fraction.denominator * block
    narrower = min(before, after)
    bins = narrower // 2 + 1
    share = torch.arange(bins, device=waveforms.device) * (2 / narrower)  # of the lower Nyquist frequency
    slope = ((share - PASSBAND) / (1 - PASSBAND)).clamp(0, 1)
    gain = (1 + torch.cos(math.pi * slope)) * (after / before / 2)
    return waveform(spectrum(waveforms, before)[:, :bins] * gain, after, len(waveforms), samples)


def stretch(waveforms: Tensor, tempo: float, samples: int) -> Tensor:
    """(B, N) → (B, samples): `tempo` times as fast at the same pitch (phase vocoder, Flanagan & Golden 1966)."""
    from torchaudio.functional import phase_vocoder  # its import makes a tensor: torch has read its environment then

    window = torch.hann_window(TEMPO_WINDOW, device=waveforms.device)
    # Zeros at the end, so that no row depends on how long the others are; padding by reflection needs samples.
    padded = F.pad(waveforms, (0, 2 * TEMPO_WINDOW))
    spectra = torch.stft(padded, TEMPO_WINDOW, TEMPO_HOP, window=window, pad_mode="constant", return_complex=True)
    bins = torch.arange(TEMPO_WINDOW // 2 + 1, device=waveforms.device).unsqueeze(1)
    advance = bins * (2 * math.pi * TEMPO_HOP / TEMPO_WINDOW)  # of the phases, per hop
    return torch.istft(phase_vocoder(spectra, tempo, advance), TEMPO_WINDOW, TEMPO_HOP, window=window, length=samples)


def convolve(waveforms: Tensor, responses: Tensor) -> Tensor:
    """(B, N) with each row's impulse response (B, taps): the first N samples of the convolution."""
    rows, samples = waveforms.shape
    size = fast_length(samples + responses.shape[1] - 1)
    return waveform(spectrum(waveforms, size).mul_(spectrum(responses, size)), size, rows, samples)


def colored(lengths: Sequence[int], slopes: Sequence[float], samples: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise (B, samples), amplitude ~ frequency^-slope; nothing below the first frequency of each length.

    The samples are on the generator's device; their level is arbitrary.
    """
    device = generator.device
    size = fast_length(samples)
    frequency = torch.arange(size // 2 + 1, device=device)  # in periods of `size` samples
    lowest = on_device([max(1.0, size / max(1, length)) for length in lengths], device).unsqueeze(1)
    slope = on_device(slopes, device).unsqueeze(1)
    gain = torch.where(frequency < lowest, 0.0, frequency.clamp(min=1) ** -slope)
    spectra = torch.randn(gain.shape, dtype=torch.complex64, device=device, generator=generator).mul_(gain)
    return waveform(spectra, size, len(lengths), samples)


def telephone(waveforms: Tensor, codec: str = "telephone") -> Tensor:
    """(B, N) through a line of 8 kHz and 300–3400 Hz without delay.

    codec: `telephone-mu-law` (G.711, 8 bits a sample) or `telephone-gsm` (06.10) codes what is on the line.
    """
    rows, samples = waveforms.shape
    size = fast_length(samples + RINGING, multiple=4)
    bins = size // 4 + 1  # to the Nyquist frequency of the line
    spectra = spectrum(waveforms, size)[:, :bins] * _telephone_gain(bins, waveforms.device)
    if codec != "telephone":
        line = waveform(spectra, size // 2, rows, size // 2) / 2
        gsm = codec == "telephone-gsm"
        line = encode_decode(line, [size // 2] * rows, codec, TELEPHONE_RATE) if gsm else _mu_law(line)
        spectra = spectrum(line, size // 2) * 2
    return waveform(spectra, size, rows, samples)


def _telephone_gain(bins: int, device: torch.device) -> Tensor:
    """(bins,) from 0 Hz to 4 kHz: a digital Butterworth band-pass, applied forward and backward."""
    low, high = (math.tan(math.pi * edge / TELEPHONE_RATE) for edge in TELEPHONE_BAND)
    # 90° is the Nyquist frequency of the line. The bilinear transform maps an angle to its tangent.
    warped = torch.tan(torch.linspace(0, math.pi / 2, bins, dtype=torch.float64, device=device))
    distance = (warped.square() - low * high) / (warped * (high - low))  # of the low-pass prototype, −∞ at 0 Hz
    return (1 / (1 + distance.pow(2 * TELEPHONE_ORDER))).float()


def _mu_law(line: Tensor) -> Tensor:
    """(B, n) after coding and decoding by G.711 µ-law as libsndfile does it; rows beyond ±1 are scaled to their peak.

    14 bits of magnitude with a bias of 33 (132 in 16 bits), of which a code keeps the exponent and 5 binary digits.
    """
    peak = line.abs().amax(1, keepdim=True).clamp(min=1)
    magnitude = (torch.round(line.abs() / peak * (0x7FFF / 4)) * 4 + 132).clamp(max=32767)
    mantissa, exponent = torch.frexp(magnitude)  # mantissa in [0.5, 1)
    decoded = torch.ldexp((torch.floor(mantissa * 32) + 0.5) / 32, exponent) - 132
    return torch.copysign(decoded / 0x8000, line) * peak
