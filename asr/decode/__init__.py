"""From log-probabilities to text: greedy and beam search, with a language model, hotwords and n-best.

Others use `build` (`DecoderOptions`, `make_decoder`), the interfaces in `base`, and `word_times` for forced alignment.
"""
