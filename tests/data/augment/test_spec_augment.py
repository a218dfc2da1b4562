"""SpecAugment: masks of 0, within their limits, drawn for every utterance."""

import pytest
import torch
from torch import Tensor

from asr.data.augment.batch import SpecAugment
from asr.data.config import AugmentConfig

FRAMES, BANDS = 400, 80
OFF = AugmentConfig(frequency_masks=0, time_masks_per_second=0.0)


def augmented(config: AugmentConfig, batch: int = 64, frames: int = FRAMES, seed: int = 1) -> Tensor:
    """Features of ones after SpecAugment: a mask is where they are 0."""
    torch.manual_seed(seed)
    return SpecAugment(config)(torch.ones(batch, frames, BANDS))


def spans(flags: Tensor) -> list[int]:
    """Lengths of the runs of True."""
    text = "".join("x" if flag else " " for flag in flags.tolist())
    return [len(run) for run in text.split()]


def test_without_masks_nothing_changes():
    features = torch.randn(2, 50, BANDS)
    assert torch.equal(SpecAugment(OFF)(features), features)


def test_what_is_masked_is_0_and_the_rest_is_untouched():
    torch.manual_seed(1)
    features = torch.randn(8, FRAMES, BANDS) + 10
    before = features.clone()
    result = SpecAugment(AugmentConfig())(features)
    assert torch.equal(features, before)  # the input itself stays as it was
    assert result.shape == features.shape
    assert result.dtype == features.dtype
    assert 0 < (result == 0).float().mean() < 1
    assert torch.equal(result[result != 0], features[result != 0])


@pytest.mark.parametrize(("masks", "width"), [(1, 20), (2, 7), (3, 1)])
def test_bands_are_masked_over_all_frames_at_most_so_many_and_so_wide(masks: int, width: int):
    result = augmented(AugmentConfig(frequency_masks=masks, frequency_width=width, time_masks_per_second=0.0))
    assert torch.equal(result, result[:, :1].expand_as(result))
    masked = result[:, 0] == 0
    for row in masked:
        assert sum(spans(row)) <= masks * width
        assert len(spans(row)) <= masks
    widest = max(max(spans(row), default=0) for row in masked)
    assert widest >= width if masks == 1 else widest > 0  # the limit itself is reached


@pytest.mark.parametrize(("per_second", "width"), [(0.25, 25), (1.0, 10), (2.0, 3)])
def test_frames_are_masked_over_all_bands_in_proportion_to_the_length(per_second: float, width: int):
    result = augmented(AugmentConfig(frequency_masks=0, time_masks_per_second=per_second, time_width=width))
    assert torch.equal(result, result[:, :, :1].expand_as(result))
    masks = round(per_second * FRAMES / 100)
    masked = result[:, :, 0] == 0
    for row in masked:
        assert sum(spans(row)) <= masks * width
        assert len(spans(row)) <= masks
    assert masked.any()


def test_masks_reach_every_band_and_frame():
    result = augmented(AugmentConfig(), batch=512)
    assert (result == 0).any(0).all()


def test_masks_are_drawn_per_utterance_and_per_call():
    first, second = augmented(AugmentConfig(), seed=1), augmented(AugmentConfig(), seed=2)
    assert len({tuple((row == 0).flatten().tolist()) for row in first[:8]}) == 8
    assert not torch.equal(first, second)
    assert torch.equal(first, augmented(AugmentConfig(), seed=1))


@pytest.mark.parametrize("frames", [1, 3, 30])
def test_features_shorter_than_a_mask_keep_their_shape(frames: int):
    config = AugmentConfig(frequency_width=200, time_masks_per_second=100.0, time_width=1_000)
    assert augmented(config, frames=frames).shape == (64, frames, BANDS)
