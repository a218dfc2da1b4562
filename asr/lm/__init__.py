"""Word language models: n-grams (`binary` opens and saves them, `ngram` answers queries, `estimate` makes them from
text that `source` reads, `mix` makes one from several, `prune` smaller ones) and recurrent ones (`neural`). All
log-probabilities are natural logs.
"""
