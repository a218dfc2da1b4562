"""Augmentation. `batch` changes a batch of waveforms by what is drawn for each utterance, and masks features.

`filters` and `codec` are its operations; `room` simulates rooms.
"""
