"""Decoders: log-probabilities in, hypotheses out; greedy and beam share one protocol.

    state = decoder.reset()
    decoder.advance(state, log_probs)      # as often as there are chunks, any sizes
    decoder.partial(state)                 # best hypothesis so far, the state is left alone
    decoder.finish(state)                  # n-best, best first; the state is used up

Offline decoding is one `advance` and `finish`. However the frames are cut into chunks, the result is the same.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from asr.output.transcript import Word


@dataclass(frozen=True)
class Hypothesis:
    """One reading of the audio.

    tokens: ids without blanks and repeats.
    words: with start and end in seconds from the first frame the decoder was given, confidence 0…1.
    score: natural log of the probability that the decoder gives this reading, higher is better; with a language model
        or hotwords, what they add is in it, and it is no probability.
    acoustic: the part of it that the log-probs give alone.
    stable: how many of its first words no further frame can change; of a finished one, 0.
    rescoring: the part of the score that a recurrent language model added at the end.
    """

    tokens: tuple[int, ...]
    words: tuple[Word, ...]
    score: float
    acoustic: float
    stable: int = 0
    rescoring: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


class Decoder(Protocol):
    """What every decoder does. `log_probs` is float32, shape (frames, tokens), natural log."""

    def reset(self) -> Any: ...

    def advance(self, state: Any, log_probs: np.ndarray) -> None: ...

    def partial(self, state: Any) -> Hypothesis: ...

    def finish(self, state: Any) -> list[Hypothesis]: ...
