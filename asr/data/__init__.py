"""Training data: corpora and manifests, texts and tokens, shards, augmentation, batches, and worker processes.

`manifest` and `corpora` need no training packages. Others use `read_manifest`, `prepare`, `check`, `write_shards`,
`read_training`, `make_tokenizer`, `TextRule`, `Batch`, `SpeechDataset`, `BatchAugment` and `WorkerLoader`.
"""
