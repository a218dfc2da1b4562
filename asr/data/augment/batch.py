"""Augmentation of a whole batch at a time, as torch operations on its device: waveforms, then features."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.data.augment.codec import encode_decode
from asr.data.augment.filters import changed_length, colored, convolve, inside, move, on_device, telephone
from asr.data.config import AugmentConfig
from asr.errors import RecipeError
from asr.nn.frontend import HOP_LENGTH, SAMPLE_RATE

SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # the amplitude of noise falls with the frequency to this power
VOICES = 3, 7  # of a babble, from … to, as in Kaldi's augmentation (Snyder et al. 2018)
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH


@dataclass
class Noise:
    """Noise that is added to one utterance, or takes its place: colored, or the sum of parts of recordings."""

    source: str
    alone: bool
    snr_db: float
    spans: list[Tensor]  # (n,) each, at most as long as the utterance, to be repeated; none for colored noise


class BatchAugment:
    """waveforms (B, N) → (B, N): a room, noise, a codec, each for its share of utterances, then the volume.

    Noise takes the place of the speech where `is_noise_alone` says so.

    What is drawn for an utterance depends on its name, which has seed and pass in it. Only the samples of colored noise
    come from a generator on the device, which is seeded by the names of the batch.
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
            RecipeError: a change that has no recordings or rooms.
        """
        self.recordings: dict[str, Sequence[Tensor]] = {**noises, "babble": voices}
        for source in config.noises:
            if source not in SLOPES and not len(self.recordings.get(source, ())):
                raise RecipeError(f"augment.noises: there are no recordings for '{source}'; take it out")
        if config.rooms and (rooms is None or not len(rooms)):
            raise RecipeError("augment.rooms: there are no impulse responses; take the rooms out")
        self.config = config
        self.rooms = rooms
        self.generator = torch.Generator(device)

    def __call__(self, waveforms: Tensor, lengths: Sequence[int], names: Sequence[str]) -> Tensor:
        """Change the rows of a batch, each by what is drawn for its name.

        Args:
            waveforms: (B, N) float32, zero after lengths[b].
            lengths: samples of each row.
            names: of the utterances, with seed and pass.

        Returns:
            (B, N) float32, zero after lengths[b]. Rows of zeros stay as they are.
        """
        self.generator.manual_seed(random.Random(" ".join(names)).getrandbits(63))
        changed = waveforms.clone()
        for kind, change in (("room", self._reverberate), ("noise", self._add_noise), ("codec", self._code)):
            draws = {row: happens(kind, self.config, name) for row, name in enumerate(names) if lengths[row]}
            if chosen := {row: draw for row, draw in draws.items() if draw}:
                change(changed, lengths, chosen)
        gains = [draw_gain(self.config.gain_db, name) for name in names]
        return changed.mul_(on_device(gains, waveforms.device).unsqueeze(1))

    def _reverberate(self, waveforms: Tensor, lengths: Sequence[int], draws: dict[int, random.Random]) -> None:
        """Convolution with a room of the bank, as loud as before."""
        assert self.rooms is not None
        rows = Rows(waveforms, lengths, list(draws))
        numbers = on_device([draw.randrange(len(self.rooms)) for draw in draws.values()], rows.device, torch.long)
        wet = convolve(rows.samples, self.rooms[numbers]).mul_(rows.inside)
        loudness, wet_loudness = _norm(rows.samples), _norm(wet)
        rows.replace(torch.where(wet_loudness > 0, wet.mul_(loudness / wet_loudness), rows.samples))

    def _add_noise(self, waveforms: Tensor, lengths: Sequence[int], draws: dict[int, random.Random]) -> None:
        """Noise, in groups of rows whose noise is made in the same way: colored, babble, recorded."""
        groups: dict[str, dict[int, Noise]] = {}
        for row, draw in draws.items():
            noise = self._draw_noise(lengths[row], draw)
            group = "colored" if noise.source in SLOPES else "babble" if noise.source == "babble" else "recorded"
            groups.setdefault(group, {})[row] = noise
        for group, noises in groups.items():
            rows = Rows(waveforms, lengths, list(noises))
            if group == "colored":
                slopes = [SLOPES[noise.source] for noise in noises.values()]
                added = colored(rows.lengths, slopes, rows.samples.shape[1], self.generator).mul_(rows.inside)
            else:
                added = _sum_spans([noise.spans for noise in noises.values()], rows.samples.shape[1], rows.device)
            ratios = on_device([10 ** (-noise.snr_db / 20) for noise in noises.values()], rows.device).unsqueeze(1)
            loudness, noise_loudness = _norm(rows.samples), _norm(added)
            scale = torch.where(noise_loudness > 0, loudness / noise_loudness * ratios, 0.0)
            speech = on_device([float(not noise.alone) for noise in noises.values()], rows.device).unsqueeze(1)
            rows.replace(rows.samples.mul_(speech).addcmul_(added, scale))

    def _draw_noise(self, length: int, draw: random.Random) -> Noise:
        """Source, ratio and parts of recordings for `length` samples."""
        source, alone = _draw_source(self.config, draw)
        noise = Noise(source, alone, 0.0 if alone else draw.uniform(*self.config.snr_db), [])
        if source not in SLOPES:
            for _ in range(draw.randint(*VOICES) if source == "babble" else 1):
                recording = draw.choice(self.recordings[source])
                if len(recording):
                    start = draw.randrange(max(1, len(recording) - length + 1))
                    noise.spans.append(_repeated(recording[start : start + length], length))
        return noise

    def _code(self, waveforms: Tensor, lengths: Sequence[int], draws: dict[int, random.Random]) -> None:
        groups: dict[str, list[int]] = {}
        for row, draw in draws.items():
            groups.setdefault(draw.choice(self.config.codecs), []).append(row)
        for codec, chosen in groups.items():
            rows = Rows(waveforms, lengths, chosen)
            if codec.startswith("telephone"):
                coded = telephone(rows.samples, codec)
            else:
                coded = encode_decode(rows.samples, rows.lengths, codec)
            rows.replace(coded.mul_(rows.inside))


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


def happens(kind: str, config: AugmentConfig, name: str) -> random.Random | None:
    """The generator for a change to this utterance, None if it is not of the share. Each change draws for itself.

    kind: `room`, `noise` or `codec`.
    """
    share = getattr(config, f"{kind}_share") if getattr(config, f"{kind}s") else 0.0
    draw = random.Random(f"{kind} {name}")
    return draw if draw.random() < share else None


def is_noise_alone(config: AugmentConfig, name: str) -> bool:
    """Whether noise takes the place of the speech of this utterance, which then has no text."""
    draw = happens("noise", config, name)
    return draw is not None and _draw_source(config, draw)[1]


def _draw_source(config: AugmentConfig, draw: random.Random) -> tuple[str, bool]:
    """Of the noise, and whether it is alone."""
    source = draw.choice(config.noises)
    return source, source != "babble" and config.noise_alone > 0 and draw.random() < config.noise_alone


def draw_gain(gain_db: Sequence[float], name: str) -> float:
    """The factor of the volume; gain_db: from … to."""
    return 10 ** (random.Random(name).uniform(*gain_db) / 20)


def change_rate(
    waveforms: Tensor,
    lengths: Sequence[int],
    factors: Sequence[float],
    change: Callable[[Tensor, float, int], Tensor],
) -> tuple[Tensor, list[int]]:
    """Play each row of a batch factors[b] times as fast.

    Args:
        waveforms: (B, N) float32, 16 kHz, zero after lengths[b].
        lengths: samples of each row.
        factors: of two decimals.
        change: `resample`, which changes the pitch too, or `stretch`, which does not.

    Returns:
        (B, N') float32, zero after each row's new length, and the new lengths: those of soxr, which differ from
        `round(n / factor)` only in that a half is rounded up.
    """
    changed_lengths = [changed_length(length, factor) for length, factor in zip(lengths, factors, strict=True)]
    changed = waveforms.new_zeros(len(lengths), max(changed_lengths, default=0))
    groups: dict[float, list[int]] = {}
    for row, (factor, length) in enumerate(zip(factors, changed_lengths, strict=True)):
        if length:
            groups.setdefault(factor, []).append(row)
    for factor, chosen in groups.items():
        rows = Rows(waveforms, lengths, chosen)
        counts = [changed_lengths[row] for row in chosen]
        samples = rows.samples
        if factor != 1.0:
            samples = change(samples, factor, max(counts)).mul_(inside(counts, max(counts), rows.device))
        changed[:, : max(counts)].index_copy_(0, rows.index, samples)
    return changed, changed_lengths


class SpecAugment:
    """SpecAugment (Park et al. 2019) without time warping: bands and stretches of time set to their mean, which is 0.

    Masks features (B, frames, n_mels), drawn anew for every utterance.
    """

    def __init__(self, config: AugmentConfig):
        self.config = config

    def __call__(self, features: Tensor) -> Tensor:
        frames, n_mels = features.shape[1:]
        config = self.config
        time_masks = round(config.time_masks_per_second * frames / FRAMES_PER_SECOND)
        masked = _masks(features, config.frequency_masks, config.frequency_width, n_mels).unsqueeze(1)
        masked = masked | _masks(features, time_masks, config.time_width, frames).unsqueeze(2)
        return features.masked_fill(masked, 0.0)


def _masks(features: Tensor, count: int, width: int, length: int) -> Tensor:
    """(B, length) bool: the union of `count` spans of 0…width positions per utterance."""
    shape = (len(features), count, 1)
    spans = (torch.rand(shape, device=features.device) * (min(width, length) + 1)).floor()
    starts = (torch.rand(shape, device=features.device) * (length - spans + 1)).floor()
    position = torch.arange(length, device=features.device)
    return ((position >= starts) & (position < starts + spans)).any(1)


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
    where = next((span.device for row in spans for span in row), device)
    silence = torch.zeros(samples, dtype=torch.int16, device=where)
    pieces: list[Tensor] = []
    for row in spans:
        for span in row:
            pieces += [span, silence[len(span) :]]
        pieces += [silence] * (most - len(row))
    joined = move(torch.cat(pieces), device).view(len(spans), most, samples).float()
    loudness = torch.linalg.vector_norm(joined, dim=2, keepdim=True)
    return joined.mul_(torch.where(loudness > 0, 1 / loudness, 0.0)).sum(1)
