"""The acoustic model: waveform → log-mel → convolutional subsampling → recurrent stack → CTC log-probabilities.

A unidirectional model can run chunk by chunk (`step`): the convolutions look back only, the hidden state is carried,
and a look-ahead of a few frames above the recurrent stack is paid for with as much delay.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.model.tokens import BLANK_ID
from asr.nn.attention import AttentionDecoder
from asr.nn.config import AcousticConfig, AttentionConfig
from asr.nn.frontend import HOP_LENGTH, WINDOW_LENGTH, LogMel
from asr.nn.recurrent import STATES, Lookahead, RecurrentStack, reversed_frames

SUBSAMPLING = 4  # feature frames (10 ms) per output frame
CONTEXT_FRAMES = 7  # receptive field of an output frame, in feature frames
CHANNELS = 32  # of the convolutions
SAMPLES_PER_FRAME = HOP_LENGTH * SUBSAMPLING  # 640 samples, 40 ms
# The 720 samples beyond its own 40 ms that the convolutions see for a frame: half before and half after it, or all
# before it in a model that streams.
CONTEXT_SAMPLES = (CONTEXT_FRAMES - 1) * HOP_LENGTH + WINDOW_LENGTH - SAMPLES_PER_FRAME

Augment = Callable[[Tensor], Tensor]


def output_lengths(lengths: Tensor) -> Tensor:
    """Frames of log-probabilities for `lengths` samples: one for every 40 ms begun."""
    return (lengths + SAMPLES_PER_FRAME - 1) // SAMPLES_PER_FRAME


class StreamState(NamedTuple):
    """State of a stream between two calls of `AcousticModel.step`; batch first, zeros at the start of a stream."""

    samples: Tensor  # (B, 720): the last ones
    hidden: Tensor  # (B, layers · states, size): h of each layer, for LSTMs h and c of each
    ahead: Tensor  # (B, lookahead, size): outputs of the recurrent stack that wait for the frames after them


class ConvSubsampling(nn.Module):
    """features (B, 4 T + 3, n_mels) → (B, T, size): two 3 × 3 convolutions of stride 2 and a projection.

    Time is not padded here (`AcousticModel` pads the waveform): output frame t depends on feature frames
    [4 t, 4 t + 7) only, whatever the length of the batch.
    """

    def __init__(self, n_mels: int, size: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3, stride=2, padding=(0, 1)),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=(0, 1)),
            nn.ReLU(),
        )
        remaining = -(-n_mels // SUBSAMPLING)
        self.projection = nn.Linear(CHANNELS * remaining, size)

    def forward(self, features: Tensor) -> Tensor:
        # (B, 1, T, n_mels) with channels last in memory, which is faster on CPUs.
        x = self.layers(features.unsqueeze(3).permute(0, 3, 1, 2))  # (B, channels, T, n_mels / 4)
        return self.projection(x.transpose(1, 2).flatten(2))


class AcousticModel(nn.Module):
    """Acoustic model with a CTC output; blank is id 0.

    A waveform (B, N) is padded with silence to T = ⌈N / 640⌉ frames. Row b is valid up to ⌈lengths[b] / 640⌉, and
    samples after lengths[b] never change a result. Log-probabilities are float32 under autocast too.
    """

    def __init__(
        self, config: AcousticConfig, vocabulary: int, phones: int = 0, attention: AttentionConfig | None = None
    ):
        """phones: size of a second output layer, beside the first, that only training uses; 0 for none.

        attention: of a decoder on the encoded frames; none if its weight is 0.
        """
        super().__init__()
        self.config = config
        self.features = LogMel(config.n_mels, config.energy_floor)
        self.subsampling = ConvSubsampling(config.n_mels, config.hidden_size)
        self.recurrent = RecurrentStack(
            *(config.cell, config.hidden_size, config.layers, config.bidirectional),
            dropout=config.dropout,
            variational_dropout=config.variational_dropout,
            weight_dropout=config.weight_dropout,
        )
        self.lookahead = Lookahead(config.hidden_size, config.lookahead) if config.lookahead else nn.Identity()
        self.head = nn.Linear(config.hidden_size, vocabulary)
        self.phones_head = nn.Linear(config.hidden_size, phones) if phones else None
        self.attention: AttentionDecoder | None = None
        if attention is not None and attention.weight:
            self.attention = AttentionDecoder(attention, config.hidden_size)
        self.graphs: Callable[[Tensor, Tensor], list[Tensor] | None] | None = None  # `asr.nn.graphs`, in training
        self.left_padding = CONTEXT_SAMPLES // 2 if config.bidirectional else CONTEXT_SAMPLES

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """waveform (B, N), lengths (B,) → log_probs (B, T, vocabulary), encoded (B, T, size), lengths (B,) in frames.

        The encoded frames are the input of the output layer.
        """
        (encoded,), lengths = self.encode(waveform, lengths)
        return self.log_probs(encoded), encoded, lengths

    def encode(
        self,
        waveform: Tensor,
        lengths: Tensor,
        augment: Augment | None = None,
        views: int = 1,
        layer: int | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Encoded frames [(B, T, size)] and their lengths (B,), for training; `lengths` is best on the CPU.

        Args:
            augment: applied to the features (B, frames, n_mels), as SpecAugment is.
            views: copies of the batch, one below the other, that differ by `augment` and dropout: B · views rows.
            layer: if given, the result begins with the encoded frames of a model that ends after this recurrent layer,
                counted from 1. Both use the same norm and output layer, as in Lee & Watanabe 2021 ("Intermediate loss
                regularization for CTC"): no weight is for training alone.
        """
        samples = waveform.shape[1]
        here = lengths.to(waveform.device, non_blocking=True)
        waveform = waveform.masked_fill(torch.arange(samples, device=waveform.device) >= here.unsqueeze(1), 0.0)
        # The future that the last frames look ahead to is silence.
        frames = (samples + SAMPLES_PER_FRAME - 1) // SAMPLES_PER_FRAME + self.config.lookahead
        right_padding = frames * SAMPLES_PER_FRAME - samples + CONTEXT_SAMPLES - self.left_padding
        features = self.features(F.pad(waveform, (self.left_padding, right_padding)))
        if self.config.mean_normalization:
            features = features - self._means(features, here, frames)
        lengths, here = output_lengths(lengths), output_lengths(here)
        if views > 1:
            features, lengths, here = features.repeat(views, 1, 1), lengths.repeat(views), here.repeat(views)
        if augment is not None:
            features = augment(features)
        # From the waveform's own shape: a shape further on would be written into an exported graph as a constant.
        mirror = reversed_frames(here, frames)
        x = self.subsampling(features)
        outputs = self.graphs(x, here) if self.graphs and self.training else None
        if outputs is None:
            outputs = self.recurrent.outputs(x, mirror, layer)
        return [self.lookahead(self.recurrent.norm(output)) for output in outputs], lengths

    def _means(self, features: Tensor, lengths: Tensor, frames: int) -> Tensor:
        """(B, 1, n_mels): of each band, over the feature frames whose middle is one of the row's `lengths` samples."""
        # Counted from `frames`: the features' shape would be written into an exported graph as a constant.
        number = torch.arange(SUBSAMPLING * frames + CONTEXT_FRAMES - SUBSAMPLING, device=features.device)
        middle = HOP_LENGTH * number + WINDOW_LENGTH // 2 - self.left_padding
        inside = ((middle >= 0) & (middle < lengths.unsqueeze(1))).unsqueeze(2)
        return (features * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp(min=1)

    def start(self, batch: int) -> StreamState:
        """The state before the first sample. ValueError if the model is bidirectional: it cannot stream."""
        if self.config.bidirectional:
            raise ValueError("a bidirectional model cannot run chunk by chunk; set model.bidirectional=false")
        config, like = self.config, self.head.weight
        return StreamState(
            like.new_zeros(batch, CONTEXT_SAMPLES),
            like.new_zeros(batch, config.layers * STATES[config.cell], config.hidden_size),
            like.new_zeros(batch, config.lookahead, config.hidden_size),
        )

    def step(self, chunk: Tensor, state: StreamState) -> tuple[Tensor, Tensor, StreamState]:
        """Next chunk (B, 640 k), k ≥ 1, and state → log_probs (B, k, vocabulary), encoded (B, k, size), next state.

        They are those of `forward`, `lookahead` frames late: a stream's first `lookahead` frames precede its start and
        are to be dropped, and as many frames of silence after its end give its last ones.
        """
        waveform = torch.cat([state.samples, chunk], dim=1)
        x, hidden = self.recurrent.step(self.subsampling(self.features(waveform)), state.hidden)
        x = torch.cat([state.ahead, x], dim=1)
        ahead = x[:, -self.config.lookahead :] if self.config.lookahead else state.ahead
        encoded = self.lookahead(x)
        return self.log_probs(encoded), encoded, StreamState(waveform[:, -CONTEXT_SAMPLES:], hidden, ahead)

    def log_probs(self, encoded: Tensor, head: nn.Module | None = None) -> Tensor:
        """(B, T, size) → (B, T, vocabulary), float32; head: another output layer than the first."""
        return (head or self.head)(encoded).float().log_softmax(dim=2)


def frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Shortest output that can spell each target: one frame a token, and a blank between equal neighbours.

    targets (B, S) padded, target_lengths (B,) → (B,).
    """
    inside = torch.arange(targets.shape[1], device=targets.device)[1:] < target_lengths.unsqueeze(1)
    repeats = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)
    return target_lengths + repeats


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """CTC loss of each utterance (Graves et al. 2006), float32, and which utterances could be used.

    log_probs (B, T, V), lengths (B,), targets (B, S), target_lengths (B,) → loss (B,), usable (B,) bool. All but the
    log_probs are best on the CPU.
    An utterance too short for its target has infinite loss: it is not usable, its loss and gradient here are 0.
    """
    usable = (frames_needed(targets, target_lengths) <= lengths).to(log_probs.device, non_blocking=True)
    # Lengths that lie on a GPU would make the loss wait for it.
    loss = F.ctc_loss(
        log_probs.float().transpose(0, 1),
        targets.to(log_probs.device, non_blocking=True),
        lengths.cpu(),
        target_lengths.cpu(),
        blank=BLANK_ID,
        reduction="none",
        zero_infinity=True,
    )
    return torch.where(usable, loss, 0.0), usable
