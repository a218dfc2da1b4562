"""Word n-gram language models: `estimate` makes one from text, `ngram` opens and queries it.

All log-probabilities are natural logs. A context is an integer, the `state`; equal states have equal futures.
"""

from asr.errors import AsrError


class LanguageModelError(AsrError):
    """A language model, or a text to make one from, that is missing, damaged or cannot be used."""
