"""Augmentation. `waveform` changes one utterance, in numpy; `batch` a whole batch, in torch, and masks features.

Both do what `draws` draws for the name of an utterance; `room` simulates rooms, `filters` are those of a batch.
"""
