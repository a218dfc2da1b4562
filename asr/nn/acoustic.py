"""The acoustic model: waveform → log-mel → convolutional subsampling → recurrent stack → CTC log-probabilities."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.nn.features import HOP_LENGTH, WINDOW_LENGTH, LogMel
from asr.nn.recurrent import RecurrentStack, reversed_frames
from asr.nn.subsampling import CONTEXT_FRAMES, SUBSAMPLING, ConvSubsampling
from asr.tokens import BLANK_ID

SAMPLES_PER_FRAME = HOP_LENGTH * SUBSAMPLING  # 640 samples, 40 ms
# An output frame sees 1,360 samples; the 720 beyond its own 40 ms are half before it and half after it.
SAMPLES_SEEN = (CONTEXT_FRAMES - 1) * HOP_LENGTH + WINDOW_LENGTH
LEFT_PADDING = (SAMPLES_SEEN - SAMPLES_PER_FRAME) // 2

Augment = Callable[[Tensor], Tensor]


@dataclass
class AcousticConfig:
    """Size and shape of the acoustic model."""

    cell: str = "lstm"  # rnn, lstm or gru
    directions: int = 2  # 2 reads the whole utterance, 1 can stream
    layers: int = 4
    size: int = 320  # width of every layer, per direction
    dropout: float = 0.1  # on the output of each recurrent layer
    bands: int = 80  # mel bands


def output_lengths(lengths: Tensor) -> Tensor:
    """Frames of log-probabilities for `lengths` samples: one for every 40 ms begun."""
    return (lengths + SAMPLES_PER_FRAME - 1) // SAMPLES_PER_FRAME


class AcousticModel(nn.Module):
    """forward(waveform (B, N), lengths (B,)) → log_probs (B, T, vocabulary), lengths (B,).

    The waveform is padded with silence so that T = ⌈N / 640⌉; row b is valid up to ⌈lengths[b] / 640⌉. What stands in
    the waveform after lengths[b] never matters. Log-probabilities are float32 under autocast too. Blank is id 0.
    """

    def __init__(self, config: AcousticConfig, vocabulary: int):
        super().__init__()
        self.config = config
        self.features = LogMel(config.bands)
        self.subsampling = ConvSubsampling(config.bands, config.size)
        self.recurrent = RecurrentStack(config.cell, config.size, config.layers, config.directions, config.dropout)
        self.head = nn.Linear(config.size, vocabulary)

    def forward(self, waveform: Tensor, lengths: Tensor, augment: Augment | None = None) -> tuple[Tensor, Tensor]:
        """`augment`, if any, is applied to the features (B, frames, bands): SpecAugment in training."""
        samples = waveform.shape[1]
        waveform = waveform.masked_fill(torch.arange(samples, device=waveform.device) >= lengths.unsqueeze(1), 0.0)
        frames = (samples + SAMPLES_PER_FRAME - 1) // SAMPLES_PER_FRAME
        right_padding = frames * SAMPLES_PER_FRAME - samples + SAMPLES_SEEN - SAMPLES_PER_FRAME - LEFT_PADDING
        features = self.features(F.pad(waveform, (LEFT_PADDING, right_padding)))
        if augment is not None:
            features = augment(features)
        lengths = output_lengths(lengths)
        # From the waveform's own shape: a shape further on would be written into an exported graph as a constant.
        mirror = reversed_frames(lengths, frames)
        x = self.recurrent(self.subsampling(features), mirror)
        return self.head(x).float().log_softmax(dim=2), lengths


def frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Shortest output that can spell each target: one frame a token, and a blank between equal neighbours.

    targets (B, S) padded, target_lengths (B,) → (B,).
    """
    inside = torch.arange(targets.shape[1], device=targets.device)[1:] < target_lengths.unsqueeze(1)
    repeats = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)
    return target_lengths + repeats


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """CTC loss of each utterance (Graves et al. 2006), float32, and which utterances could be used.

    log_probs (B, T, V), lengths (B,), targets (B, S), target_lengths (B,) → loss (B,), usable (B,) bool.
    An utterance too short for its target has infinite loss: it is not usable, its loss and gradient here are 0.
    """
    usable = frames_needed(targets, target_lengths) <= lengths
    loss = F.ctc_loss(
        log_probs.float().transpose(0, 1),
        targets,
        lengths,
        target_lengths,
        blank=BLANK_ID,
        reduction="none",
        zero_infinity=True,
    )
    return torch.where(usable, loss, 0.0), usable
