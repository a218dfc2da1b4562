"""Augmentation. `waveform` changes one utterance, in numpy; `batch` a whole batch, in torch, and masks features.

Both make the choices of `draws` for the name of an utterance; `room` simulates rooms, `filters` works on batches.
"""
