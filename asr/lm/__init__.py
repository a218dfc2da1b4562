"""Word n-gram language models: `estimate` makes one from text, `mapped` opens it, `ngram` answers queries.

All log-probabilities are natural logs. A context is an integer, the `state`; equal states have equal futures.
"""
