"""Audio to text: `offline.Recognizer`, `streaming.StreamingRecognizer`, `batcher.Batcher`, `align.align`."""
