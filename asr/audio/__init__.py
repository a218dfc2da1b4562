"""Audio of any form to float32 mono samples at 16 kHz, the only form that the rest of the package knows.

For others: `sources.read_blocks`, `read` and `as_samples`, `files.find_audio`,
`resample.Resampler`, `microphone.Microphone`.
"""
