"""SpecAugment on features (Park et al. 2019): bands and stretches of time set to their mean, which is 0."""

import torch
from torch import Tensor

from asr.data.config import AugmentConfig
from asr.nn.frontend import HOP_LENGTH, SAMPLE_RATE

FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH


class SpecAugment:
    """features (B, frames, n_mels) → the same with masks drawn anew for every utterance; no time warping."""

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
