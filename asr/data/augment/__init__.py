"""Augmentation of whole batches on their device: use `BatchAugment`, `change_speed` and `check` from `batch`."""
