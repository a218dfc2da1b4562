"""What a model learns from, prepared for training: for now the augmentation of whole batches on a device.

The rest still stands in `asr.train`: corpora, manifests, tokenizers, the dataset and the augmentation of one utterance.
"""
