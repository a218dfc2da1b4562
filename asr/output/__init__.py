"""Results and their formats: `transcript` (Word, Segment, Transcript), `writers.render` and the writer classes."""
