"""Greedy decoding: the most likely symbol of every frame, repeats collapsed, blanks dropped.

Best path decoding of Graves et al. 2006, "Connectionist temporal classification", section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from asr.decode.base import Hypothesis, check_log_probs
from asr.decode.calibration import UNCALIBRATED, Calibration
from asr.decode.lexicon import Pronunciations
from asr.decode.word_times import AlignedToken, spell_words
from asr.lm.ngram import NgramModel
from asr.model.tokens import BLANK_ID, Tokens
from asr.output.transcript import Word


@dataclass
class GreedyState:
    frames: int = 0  # so far
    symbol: int = BLANK_ID  # the last frame's best
    score: float = 0.0  # log-prob of the best path
    aligned: list[AlignedToken] = field(default_factory=list)
    complete: list[Word] = field(default_factory=list)  # the words but for the last one, which may get more tokens
    begun: int = 0  # where the last one begins in `aligned`


@dataclass(frozen=True)
class GreedyDecoder:
    """Best path decoder; `frame_seconds` is the time from one frame to the next.

    A token's run is the frames in which it is the most likely symbol. The score is that of the one best alignment,
    where beam search sums over alignments. Of the words that are pronounced alike the most usual one is written, by the
    unigrams of `model` if there is one.
    """

    tokens: Tokens
    frame_seconds: float
    calibration: Calibration = UNCALIBRATED
    pronunciations: Pronunciations | None = None
    model: NgramModel | None = None

    def reset(self) -> GreedyState:
        return GreedyState()

    def advance(self, state: GreedyState, log_probs: np.ndarray, encoded: np.ndarray | None = None) -> None:
        check_log_probs(log_probs, self.tokens)
        if not len(log_probs):
            return
        symbols = log_probs.argmax(axis=1)
        best = log_probs.max(axis=1).astype(np.float64)
        starts = np.flatnonzero(np.diff(symbols, prepend=-1))  # no symbol is -1: frame 0 starts a run
        lasts = np.append(starts[1:], len(symbols)) - 1
        peaks = np.maximum.reduceat(best, starts)

        runs = (symbols[starts], starts + state.frames, lasts + state.frames, peaks)
        for token, first, last, peak in zip(*(run.tolist() for run in runs), strict=True):
            if token == BLANK_ID:
                pass
            elif token == state.symbol:  # only the chunk's first run can continue the chunk before
                begun = state.aligned[-1]
                state.aligned[-1] = begun._replace(last=last, log_prob=max(begun.log_prob, peak))
            else:
                state.aligned.append(AlignedToken(token, first, last, peak))
            state.symbol = token
        state.frames += len(log_probs)
        # cumsum adds from left to right, sum() in pairs: only the first is the same for all ways to cut chunks.
        state.score = float(np.cumsum(np.append(state.score, best))[-1])

    def partial(self, state: GreedyState) -> Hypothesis:
        last = self._last_word(state)
        # No token is ever taken back, but the last word may get more of them.
        stable = max(0, len(state.complete) + len(last) - 1)
        if self.pronunciations is not None and last and not self.pronunciations.lexicon.words(last[0].text):
            last = ()
        return replace(self._hypothesis(state, last), stable=stable)

    def finish(self, state: GreedyState) -> list[Hypothesis]:
        return [self._hypothesis(state, self._last_word(state))]

    def _last_word(self, state: GreedyState) -> tuple[Word, ...]:
        """The word in progress, or none before the first; those before it are added to `complete`."""
        later = range(len(state.aligned) - 1, state.begun, -1)
        begin = next((place for place in later if self.tokens.starts_word(state.aligned[place].token)), state.begun)
        state.complete += self._written(self._spelled(state.aligned[state.begun : begin]))
        state.begun = begin
        return self._spelled(state.aligned[begin:])

    def _spelled(self, aligned: Sequence[AlignedToken]) -> tuple[Word, ...]:
        return spell_words(aligned, self.tokens, self.frame_seconds, self.calibration)

    def _written(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        if self.pronunciations is None:
            return words
        write = self.pronunciations.write
        return tuple(replace(word, text=write(word.text, self.model)) for word in words)

    def _hypothesis(self, state: GreedyState, last: tuple[Word, ...]) -> Hypothesis:
        words = (*state.complete, *self._written(last))
        return Hypothesis(tuple(item.token for item in state.aligned), words, state.score, acoustic=state.score)
