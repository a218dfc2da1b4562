"""Error rates by speaker, by length, by signal-to-noise ratio."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.evaluate.wer import bootstrap_interval
from asr.nn.frontend import HOP_LENGTH, WINDOW_LENGTH

LENGTHS = (0.0, 2.0, 5.0, 10.0, 15.0, np.inf)  # seconds
SNRS = (-np.inf, 5.0, 10.0, 15.0, 20.0, 30.0, np.inf)  # dB
NOISE_FLOOR_PERCENTILE = 10
SNR_LIMIT = 60.0  # dB; where the pauses are digital silence


@dataclass(frozen=True)
class Group:
    """Error rate of a group of utterances. wer and interval are fractions, NaN without reference words."""

    name: str
    utterances: int
    words: int
    errors: int
    wer: float
    interval: tuple[float, float]


def group(names: Sequence[Hashable], errors: np.ndarray, words: np.ndarray) -> list[Group]:
    """Error rates of the utterances of each name, in the order in which the names first appear.

    names, errors, words: of each utterance; word errors and reference words, both of shape (utterances,).
    """
    groups = []
    for name in dict.fromkeys(names):
        chosen = np.array([other == name for other in names])
        count, total = int(errors[chosen].sum()), int(words[chosen].sum())
        wer = count / total if total else np.nan
        interval = bootstrap_interval(errors[chosen], words[chosen]) if total else (np.nan, np.nan)
        groups.append(Group(str(name), int(chosen.sum()), total, count, wer, interval))
    return groups


def group_by_value(
    values: np.ndarray, edges: Sequence[float], unit: str, errors: np.ndarray, words: np.ndarray
) -> list[Group]:
    """Error rates of the utterances between each two edges, ascending; those without a value (NaN) last.

    values: of each utterance, in `unit`, shape (utterances,).
    """
    names = [f"{low:g} – {high:g} {unit}" for low, high in pairwise(edges)]
    names[0], names[-1] = f"below {edges[1]:g} {unit}", f"{edges[-2]:g} {unit} and more"
    bins = np.where(np.isnan(values), len(names), np.searchsorted(edges, values, side="right") - 1)
    order = np.argsort(bins, kind="stable")
    return group([[*names, "unknown"][index] for index in bins[order]], errors[order], words[order])


def estimate_snr(samples: np.ndarray) -> float:
    """Signal-to-noise ratio in dB of float32 (samples,) at 16 kHz with speech and pauses; NaN if it is too short.

    The power of the noise is the 10th percentile of the power of frames of 25 ms, that of the signal the mean over all
    frames less the noise, as in energy-percentile estimators (NIST's stnr). Noise that is not steady counts as signal;
    an utterance without a pause reads too low, one whose pauses were silenced by a codec too high.
    """
    if len(samples) < WINDOW_LENGTH:
        return np.nan
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_LENGTH)[::HOP_LENGTH]
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    noise = np.percentile(power, NOISE_FLOOR_PERCENTILE)
    signal = power.mean() - noise
    if signal <= 0:
        return np.nan  # nothing but steady noise, or silence
    return float(min(SNR_LIMIT, 10 * np.log10(signal / noise))) if noise > 0 else SNR_LIMIT
