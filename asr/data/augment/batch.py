"""Augmentation of a whole batch of waveforms at a time, as torch operations on the device where the batch is."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.data.augment.filters import (
    LARGEST_DENOMINATOR,
    SLOPES,
    changed_length,
    coloured,
    convolve,
    inside,
    move,
    on_device,
    resample,
    speed_ratio,
    telephone,
)
from asr.data.config import AugmentConfig
from asr.errors import RecipeError

VOICES = 3, 7  # of a babble, from … to, as in Kaldi's augmentation (Snyder et al. 2018)
CODECS = ("telephone", "telephone-mu-law")  # those that are computed here


@dataclass
class Mix:
    """Noise that is added to one utterance."""

    source: str
    snr_db: float
    spans: list[Tensor]  # of recordings, each as long as the utterance, int16; none for coloured noise


class BatchAugment:
    """waveforms (B, N) → (B, N): a room, noise, a codec, each for its share of utterances, then the volume.

    The counterpart of `asr.data.augment.waveform.WaveformAugment` for a batch. The choices for an utterance follow
    from its name by the same random generators and are the same: which changes, volume, source and ratio of the
    noise, voices and their spans, codec. Only rooms are drawn from a bank, and the samples of coloured noise come from
    a generator on the device, which is seeded by the names of the batch.
    """

    def __init__(
        self,
        config: AugmentConfig,
        voices: Sequence[Tensor],
        noises: Mapping[str, Sequence[Tensor]],
        rooms: Tensor | None,
        device: torch.device | str = "cpu",
    ):
        """Prepare the changes of `config`.

        Args:
            config: what may happen and to which share of the utterances.
            voices: int16 (n,), to make babble of, in the order of the training utterances.
            noises: recordings, int16 (n,), by the name of their manifest in `config.noises`.
            rooms: impulse responses (R, taps), float32, on the batch's device; the direct sound is the first sample.
            device: of the batches.

        Raises:
            RecipeError: a change that is not possible here, or has no recordings or rooms.
        """
        check(config)
        for source in config.noises:
            if source not in SLOPES and not len(voices if source == "babble" else noises.get(source, ())):
                raise RecipeError(f"augment.noises: there are no recordings for '{source}'; take it out")
        if config.rooms and (rooms is None or not len(rooms)):
            raise RecipeError("augment.rooms: there are no impulse responses; take the rooms out")
        self.config = config
        self.recordings: dict[str, Sequence[Tensor]] = {**noises, "babble": voices}
        self.rooms = rooms
        self.generator = torch.Generator(device)

    def __call__(self, waveforms: Tensor, lengths: Sequence[int], names: Sequence[str]) -> Tensor:
        """Change the rows of a batch, each by what is drawn for its name.

        Args:
            waveforms: (B, N) float32, zero after lengths[b].
            lengths: samples of each row.
            names: the utterances' ids with seed and epoch, as `asr.data.dataset.perturb` makes them.

        Returns:
            (B, N) float32, zero after lengths[b]. Rows of zeros stay as they are.
        """
        self.generator.manual_seed(random.Random(" ".join(names)).getrandbits(63))
        changed = waveforms.clone()
        if self.config.rooms:
            self._reverberate(changed, lengths, names)
        if self.config.noises:
            self._add_noise(changed, lengths, names)
        if self.config.codecs:
            self._code(changed, lengths, names)
        low, high = gain_range(self.config.gain_db)
        gains = [10 ** (random.Random(name).uniform(low, high) / 20) for name in names]
        return changed.mul_(on_device(gains, waveforms.device).unsqueeze(1))

    def _reverberate(self, waveforms: Tensor, lengths: Sequence[int], names: Sequence[str]) -> None:
        """Convolution with a room of the bank, as loud as before."""
        assert self.rooms is not None
        draws = _draws("room", self.config.room_share, lengths, names)
        if not draws:
            return
        rows = Rows(waveforms, lengths, list(draws))
        numbers = on_device([draw.randrange(len(self.rooms)) for draw in draws.values()], rows.device, torch.long)
        wet = convolve(rows.samples, self.rooms[numbers]).mul_(rows.inside)
        loudness, wet_loudness = _norm(rows.samples), _norm(wet)
        rows.replace(torch.where(wet_loudness > 0, wet.mul_(loudness / wet_loudness), rows.samples))

    def _add_noise(self, waveforms: Tensor, lengths: Sequence[int], names: Sequence[str]) -> None:
        """Noise, in groups of rows whose noise is made in the same way: coloured, babble, recorded."""
        groups: dict[str, dict[int, Mix]] = {}
        for row, draw in _draws("noise", self.config.noise_share, lengths, names).items():
            mix = self._draw_mix(lengths[row], draw)
            group = "coloured" if mix.source in SLOPES else "babble" if mix.source == "babble" else "recorded"
            groups.setdefault(group, {})[row] = mix
        for group, mixes in groups.items():
            rows = Rows(waveforms, lengths, list(mixes))
            if group == "coloured":
                slopes = [SLOPES[mix.source] for mix in mixes.values()]
                noise = coloured(rows.lengths, slopes, rows.samples.shape[1], self.generator).mul_(rows.inside)
            else:
                noise = _sum_spans([mix.spans for mix in mixes.values()], rows.samples.shape[1], rows.device)
            ratios = on_device([10 ** (-mix.snr_db / 20) for mix in mixes.values()], rows.device).unsqueeze(1)
            loudness, noise_loudness = _norm(rows.samples), _norm(noise)
            scale = torch.where(noise_loudness > 0, loudness / noise_loudness * ratios, 0.0)
            rows.replace(rows.samples.addcmul_(noise, scale))

    def _draw_mix(self, length: int, draw: random.Random) -> Mix:
        """In the order in which `asr.data.augment.noise.Noises` draws."""
        source = draw.choice(self.config.noises)
        mix = Mix(source, draw.uniform(*self.config.snr_db), [])
        if source not in SLOPES:
            for _ in range(draw.randint(*VOICES) if source == "babble" else 1):
                recording = draw.choice(self.recordings[source])
                if len(recording):
                    start = draw.randrange(max(1, len(recording) - length + 1))
                    mix.spans.append(_repeated(recording[start : start + length], length))
        return mix

    def _code(self, waveforms: Tensor, lengths: Sequence[int], names: Sequence[str]) -> None:
        groups: dict[str, list[int]] = {}
        for row, draw in _draws("codec", self.config.codec_share, lengths, names).items():
            groups.setdefault(draw.choice(self.config.codecs), []).append(row)
        for codec, chosen in groups.items():
            rows = Rows(waveforms, lengths, chosen)
            rows.replace(telephone(rows.samples, mu_law=codec == "telephone-mu-law").mul_(rows.inside))


class Rows:
    """Some rows of a batch (B, N), cut to the longest of them: `samples` (rows, n) is a copy."""

    def __init__(self, waveforms: Tensor, lengths: Sequence[int], rows: Sequence[int]):
        """lengths: of all rows of the batch; rows: which of them, at least one."""
        self.device = waveforms.device
        self.lengths = [lengths[row] for row in rows]
        self.index = on_device(rows, self.device, torch.long)
        self._waveforms = waveforms[:, : max(self.lengths)]
        self.samples = self._waveforms.index_select(0, self.index)
        self.inside = inside(self.lengths, self.samples.shape[1], self.device)

    def replace(self, samples: Tensor) -> None:
        """Write (rows, n) back into the batch."""
        self._waveforms.index_copy_(0, self.index, samples)


def change_speed(waveforms: Tensor, lengths: Sequence[int], speeds: Sequence[float]) -> tuple[Tensor, list[int]]:
    """Play each row of a batch speeds[b] times as fast, which changes its pitch too.

    Args:
        waveforms: (B, N) float32, 16 kHz, zero after lengths[b].
        lengths: samples of each row.
        speeds: fractions with a denominator of at most 100.

    Returns:
        (B, N') float32, zero after each row's new length, and the new lengths: those of soxr, which differ from
        `round(n / speed)` only in that a half is rounded up.
    """
    changed_lengths = [changed_length(length, speed) for length, speed in zip(lengths, speeds, strict=True)]
    changed = waveforms.new_zeros(len(lengths), max(changed_lengths, default=0))
    groups: dict[float, list[int]] = {}
    for row, (speed, length) in enumerate(zip(speeds, changed_lengths, strict=True)):
        if length:
            groups.setdefault(speed, []).append(row)
    for speed, chosen in groups.items():
        rows = Rows(waveforms, lengths, chosen)
        counts = [changed_lengths[row] for row in chosen]
        samples = rows.samples
        if speed != 1.0:
            samples = resample(samples, speed, max(counts)).mul_(inside(counts, max(counts), rows.device))
        changed[:, : max(counts)].index_copy_(0, rows.index, samples)
    return changed, changed_lengths


def gain_range(gain_db: float | Sequence[float]) -> tuple[float, float]:
    """From … to, dB; one number g means −g … g."""
    if isinstance(gain_db, int | float):
        return -gain_db, gain_db
    low, high = gain_db
    return low, high


def check(config: AugmentConfig) -> None:
    """RecipeError, one line, for a change that cannot be made for a whole batch."""
    if any(tempo != 1.0 for tempo in config.tempos):
        raise RecipeError("augment.tempos: data.in_memory cannot change the tempo; make it [1.0] or use augment.speeds")
    if config.join_share:
        raise RecipeError("augment.join_share: data.in_memory cannot join utterances; set it to 0")
    if impossible := [codec for codec in config.codecs if codec not in CODECS]:
        names = ", ".join(impossible)
        raise RecipeError(f"augment.codecs: data.in_memory cannot apply {names}; take it out of augment.codecs")
    for speed in config.speeds:
        if abs(float(speed_ratio(speed)) - speed) > 1e-9:
            raise RecipeError(
                f"augment.speeds: data.in_memory cannot play {speed} times as fast; "
                f"take a fraction with a denominator of at most {LARGEST_DENOMINATOR}, such as 0.95"
            )


def _draws(kind: str, share: float, lengths: Sequence[int], names: Sequence[str]) -> dict[int, random.Random]:
    """By row, the generator of each utterance to which a change happens."""
    draws = {row: random.Random(f"{kind} {name}") for row, name in enumerate(names) if lengths[row]}
    return {row: draw for row, draw in draws.items() if draw.random() < share}


def _norm(samples: Tensor) -> Tensor:
    """(rows, n) → (rows, 1)."""
    return torch.linalg.vector_norm(samples, dim=1, keepdim=True)


def _repeated(span: Tensor, length: int) -> Tensor:
    """(length,) of a shorter or equal span, at least one sample."""
    return span if len(span) == length else span.repeat(-(-length // len(span)))[:length]


def _sum_spans(spans: Sequence[Sequence[Tensor]], samples: int, device: torch.device) -> Tensor:
    """(rows, samples): for each row the sum of its spans, all equally loud; zero where there are none.

    The spans are joined by one call into (rows, the most spans of a row, samples).
    """
    most = max(1, *(len(row) for row in spans))
    silence = torch.zeros(
        samples, dtype=torch.int16, device=next((span.device for row in spans for span in row), device)
    )
    pieces: list[Tensor] = []
    for row in spans:
        for span in row:
            pieces += [span, silence[len(span) :]]
        pieces += [silence] * (most - len(row))
    joined = move(torch.cat(pieces), device).view(len(spans), most, samples).float()
    loudness = torch.linalg.vector_norm(joined, dim=2, keepdim=True)
    return joined.mul_(torch.where(loudness > 0, 1 / loudness, 0.0)).sum(1)
