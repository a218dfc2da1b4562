"""Thousands of recordings: parts of a result that are there whole or not at all, and the processes that make them.

`asr.bulk.run.transcribe_all` is all that others use.
"""
