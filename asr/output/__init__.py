"""Results and their formats: `transcript` (Word, Segment, Transcript), `events`, `writers` (`render`, `FORMATS`)."""
