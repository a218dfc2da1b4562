"""Word n-gram language models: `estimate` makes one from text, `ngram` opens and queries it.

All log-probabilities are natural logs. A context is an integer, the `state`; equal states have equal futures.
"""
