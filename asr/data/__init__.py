"""Training data: corpora and manifests, texts and tokens, shards, augmentation, batches.

`manifest` and `corpora` need no training packages. Others use `read_manifest`, `prepare`, `check`, `write_shards`,
`read_training`, `make_tokenizer`, `TextRule`, `Batch` and `BatchAugment`.
"""
