"""N-best rescoring by a recurrent language model (Mikolov et al. 2010)."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from asr.decode.base import Hypothesis, Rescorer
from asr.decode.beam import BeamDecoder, BeamState
from asr.decode.lexicon import plain
from asr.decode.word_times import shift
from asr.errors import LanguageModelError
from asr.lm.neural import NeuralModel
from asr.model.tokens import BLANK_ID, WORD_START

# The beam's hypotheses differ in their last seconds only, so long audio is rescored part by part. After so many seconds
# of blanks the words before them are final, however the beam goes on.
PAUSE_SECONDS = 0.6


@dataclass(frozen=True)
class RescoringWeights:
    lm_weight: float = 0.2  # factor of ln P(text) of the recurrent model
    word_bonus: float = 0.5  # nats added for each word


class LanguageModelRescorer:
    """Adds a recurrent language model's score. LanguageModelError if it has no tokens for the words' `letters`.

    Words may have other characters, too, which do not count where the model has no tokens for them.
    """

    def __init__(self, model: NeuralModel, weights: RescoringWeights, letters: Set[str]):
        self.model = model
        self.weights = weights
        self.letters = letters
        model.encode(" ".join(sorted(letters)))

    def rescore(self, hypotheses: Sequence[Hypothesis], encoded: np.ndarray | None = None) -> list[Hypothesis]:
        log_probs = self.model.score([self._encode(hypothesis.text) for hypothesis in hypotheses])
        rescored = []
        for hypothesis, log_prob in zip(hypotheses, log_probs.tolist(), strict=True):
            gain = self.weights.lm_weight * log_prob + self.weights.word_bonus * len(hypothesis.words)
            rescored.append(replace(hypothesis, score=hypothesis.score + gain, rescoring=gain))
        return sorted(rescored, key=attrgetter("score"), reverse=True)

    def _encode(self, text: str) -> list[int]:
        try:
            return self.model.encode(text)
        except LanguageModelError:
            return self.model.encode(
                "".join(char for char in plain(text) if char.lower() in self.letters or char == " ")
            )


@dataclass
class RescoringState:
    beam: BeamState  # of the current part
    done: list[list[Hypothesis]] = field(default_factory=list)  # of each part before it
    first: int = 0  # frames before the current part
    speech: bool = False  # whether the part has a frame that is not blank
    blanks: int = 0  # how many of the last frames are blank


class RescoringDecoder:
    """A beam whose hypotheses, as many as its `nbest`, are rescored when a part of the audio ends.

    A part ends after a pause, and the beam begins anew there, as with a sentence. Partial hypotheses are the beam's.
    `finish` gives up to `nbest`; they differ in the last part with words.
    """

    def __init__(self, beam: BeamDecoder, rescorer: Rescorer, nbest: int = 1):
        self.beam = beam
        self.rescorer = rescorer
        self.nbest = nbest
        self.pause_frames = round(PAUSE_SECONDS / beam.frame_seconds)

    def reset(self) -> RescoringState:
        return RescoringState(self.beam.reset())

    def advance(self, state: RescoringState, log_probs: np.ndarray) -> None:
        begin = 0
        for row, token in enumerate(log_probs.argmax(axis=1).tolist()):
            state.speech |= token != BLANK_ID
            state.blanks = state.blanks + 1 if token == BLANK_ID else 0
            if state.speech and state.blanks == self.pause_frames:
                self.beam.advance(state.beam, log_probs[begin : row + 1])
                begin = row + 1
                first = state.first + state.beam.frames
                state.done.append(self._rescored(state))
                state.beam, state.first, state.speech = self.beam.reset(), first, False
        self.beam.advance(state.beam, log_probs[begin:])

    def partial(self, state: RescoringState) -> Hypothesis:
        final = [hypotheses[0] for hypotheses in state.done]
        best = self.beam.partial(state.beam)
        stable = sum(len(hypothesis.words) for hypothesis in final) + best.stable
        return replace(self._join([*final, self._shift(best, state.first)]), stable=stable)

    def finish(self, state: RescoringState) -> list[Hypothesis]:
        parts = self.parts(state)
        best = [hypotheses[0] for hypotheses in parts]
        last = max((place for place, hypothesis in enumerate(best) if hypothesis.words), default=0)
        return [self._join([*best[:last], hypothesis, *best[last + 1 :]]) for hypothesis in parts[last]]

    def parts(self, state: RescoringState) -> list[list[Hypothesis]]:
        """For each part its hypotheses, best first; the state is used up. `finish` puts them together."""
        return [*state.done, self._rescored(state)]

    def _rescored(self, state: RescoringState) -> list[Hypothesis]:
        """Up to `nbest` hypotheses for the part, best first, times from the first frame of all."""
        hypotheses = [self._shift(hypothesis, state.first) for hypothesis in self.beam.finish(state.beam)]
        if state.speech:  # silence is no sentence
            hypotheses = self.rescorer.rescore(hypotheses)
        return hypotheses[: self.nbest]

    def _shift(self, hypothesis: Hypothesis, frames: int) -> Hypothesis:
        return replace(hypothesis, words=shift(hypothesis.words, frames * self.beam.frame_seconds))

    def _join(self, parts: Sequence[Hypothesis]) -> Hypothesis:
        """The hypotheses for consecutive parts as one."""
        tokens = self.beam.tokens
        joined: list[int] = []
        for part in parts:
            if joined and part.tokens and not tokens.starts_word(part.tokens[0]) and WORD_START in tokens.ids:
                joined.append(tokens.ids[WORD_START])
            joined += part.tokens
        return Hypothesis(
            tuple(joined),
            tuple(word for part in parts for word in part.words),
            sum(part.score for part in parts),
            sum(part.acoustic for part in parts),
            rescoring=sum(part.rescoring for part in parts),
        )
