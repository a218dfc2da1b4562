"""Interfaces of decoding: log-probabilities in, hypotheses out.

    state = decoder.reset()
    decoder.advance(state, log_probs)      # any number of times, any number of frames
    decoder.partial(state)                 # best hypothesis so far; the state does not change
    decoder.finish(state)                  # n-best, best first; the state is used up

Offline decoding is one `advance` and `finish`; however the frames are cut into chunks, the result is the same. All that
belongs to one stream is in its state, so any number of threads and streams may share a decoder, each state in one
thread at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from asr.errors import ArgumentError
from asr.model.tokens import Tokens
from asr.output.transcript import Word


@dataclass(frozen=True)
class Hypothesis:
    """One possible transcript."""

    tokens: tuple[int, ...]  # ids without blanks and repeats
    words: tuple[Word, ...]  # times in seconds from the first frame that the decoder was given, confidences 0…1
    score: float  # natural log of its probability, and what language model and hotwords add
    acoustic: float  # the part of the score that comes from the log-probs
    stable: int = 0  # number of words at the start that no further frame can change; 0 when finished
    rescoring: float = 0.0  # the part of the score that a second pass added
    second_pass: tuple[float, ...] = ()  # ln P by each of its models, which the weights made that part of

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


class Decoder(Protocol):
    """Turns log-probs into hypotheses.

    `log_probs`: float, shape (frames, vocabulary), natural logs; id 0 is the CTC blank (Graves et al. 2006), the others
    are those of `Tokens`. Each row sums to 1 as probabilities; −inf is allowed, NaN is not. ArgumentError otherwise.
    `encoded`: float32 (frames, size), the encoded frames that an attention decoder needs, of a model that gives them.
    """

    def reset(self) -> Any: ...

    def advance(self, state: Any, log_probs: np.ndarray, encoded: np.ndarray | None = None) -> None: ...

    def partial(self, state: Any) -> Hypothesis: ...

    def finish(self, state: Any) -> list[Hypothesis]: ...


class Rescorer(Protocol):
    """A second pass over the n-best of a stretch of speech, such as a recurrent language model.

    `encoded`: the acoustic model's encoded frames of the stretch, float32 (frames, hidden size), from its frame `first`
    on, where the caller has them. Returns hypotheses, best first, with new scores; `rescoring` holds the difference.
    """

    def rescore(
        self, hypotheses: Sequence[Hypothesis], encoded: np.ndarray | None = None, first: int = 0
    ) -> list[Hypothesis]: ...


def check_log_probs(log_probs: np.ndarray, tokens: Tokens) -> None:
    """ArgumentError unless `log_probs` has the shape (frames, vocabulary) and no NaN; no frames is fine."""
    if log_probs.ndim != 2 or log_probs.shape[1] != len(tokens):
        raise ArgumentError(f"log_probs must have shape (frames, {len(tokens)}), found {log_probs.shape}")
    if np.isnan(log_probs).any():
        raise ArgumentError("log_probs hold NaN; the model or its input is broken")
