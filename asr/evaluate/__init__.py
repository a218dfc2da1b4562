"""How well a model does: `wer` (error rates, alignments), `live` (streaming), `tune` (best weights for decoding)."""
