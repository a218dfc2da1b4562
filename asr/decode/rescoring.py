"""The second pass: the beam's n best of a stretch of speech are weighed again by models that read whole sentences.

A recurrent language model (Mikolov et al. 2010) gives P(text), an attention decoder P(text | recording), as in the two
passes of Sainath et al. 2019, "Two-pass end-to-end speech recognition". Words, times and confidences are the beam's.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from asr.decode.base import Hypothesis, Rescorer
from asr.decode.beam import BeamDecoder, BeamState
from asr.decode.greedy import GreedyDecoder, GreedyState
from asr.decode.word_times import shift
from asr.errors import LanguageModelError
from asr.lm.neural import NeuralModel
from asr.model.second_pass import AttentionModel
from asr.model.tokens import BLANK_ID, WORD_START
from asr.normalize import without_accents

# The beam's hypotheses differ in their last seconds only, so long audio is rescored part by part. After so many seconds
# of blanks the words before them are final, however the beam goes on.
PAUSE_SECONDS = 0.6
LONG_SECONDS = 15.0  # of a part, after which
SHORT_PAUSE_SECONDS = 0.2  # end it: the attention decoder has learned from utterances of up to 20 s,
LONGEST_SECONDS = 30.0  # and of a part longer than this it is not asked
SILENCE_SECONDS = 0.4  # of the silence before the first word that the attention decoder is given


@dataclass(frozen=True)
class RescoringWeights:
    lm_weight: float  # factor of ln P(text)
    word_bonus: float  # nats added for each word


@dataclass(frozen=True)
class LanguageModelScorer:
    """ln P of texts by a recurrent language model. LanguageModelError if it has no tokens for the words' `letters`.

    Words may have other characters, too, which do not count where the model has no tokens for them.
    """

    model: NeuralModel
    letters: Set[str]

    def __post_init__(self) -> None:
        self.model.encode(" ".join(sorted(self.letters)))

    def score(self, texts: Sequence[str], encoded: np.ndarray | None) -> np.ndarray:
        return self.model.score([self._encode(text) for text in texts])

    def _encode(self, text: str) -> list[int]:
        try:
            return self.model.encode(text)
        except LanguageModelError:
            return self.model.encode(
                "".join(char for char in without_accents(text) if char.lower() in self.letters or char == " ")
            )


@dataclass(frozen=True)
class AttentionScorer:
    """ln P of texts by an attention decoder; 0 for all where there are no encoded frames: their order then stays."""

    model: AttentionModel

    def score(self, texts: Sequence[str], encoded: np.ndarray | None) -> np.ndarray:
        if encoded is None:
            return np.zeros(len(texts))
        return self.model.score([without_accents(text) for text in texts], encoded)


Scorer = LanguageModelScorer | AttentionScorer  # gives ln P of each text as a whole sentence, (N,)


@dataclass(frozen=True)
class WeightedRescorer:
    """Adds the scores of one or several models, each by its own weight, and each model's bonus for every word."""

    scorers: Sequence[tuple[Scorer, RescoringWeights]]

    def rescore(
        self, hypotheses: Sequence[Hypothesis], encoded: np.ndarray | None = None, first: int = 0
    ) -> list[Hypothesis]:
        texts = [hypothesis.text for hypothesis in hypotheses]
        columns = [scorer.score(texts, encoded).tolist() for scorer, _ in self.scorers]
        rescored = []
        for hypothesis, *scores in zip(hypotheses, *columns, strict=True):
            gain = sum(
                weights.lm_weight * score + weights.word_bonus * len(hypothesis.words)
                for (_, weights), score in zip(self.scorers, scores, strict=True)
            )
            rescored.append(
                replace(hypothesis, score=hypothesis.score + gain, rescoring=gain, second_pass=tuple(scores))
            )
        return sorted(rescored, key=attrgetter("score"), reverse=True)


@dataclass
class RescoringState:
    first_pass: BeamState | GreedyState  # of the current part
    done: list[list[Hypothesis]] = field(default_factory=list)  # of each part before it
    first: int = 0  # frames before the current part
    onset: int | None = None  # frame of the part, the first that is not blank
    blanks: int = 0  # how many of the last frames are blank
    encoded: list[np.ndarray] = field(default_factory=list)  # of the part, from its frame `encoded_first` on
    encoded_first: int = 0


class RescoringDecoder:
    """A first pass, mostly a beam, whose hypotheses, up to its `nbest`, are rescored when a part of the audio ends.

    A part ends after a pause, and the first pass begins anew there, as with a sentence. Partial hypotheses are those of
    the first pass, of which the parts that ended are stable. `finish` gives up to `nbest`; they differ in the last part
    with words. Neither parts nor hypotheses depend on how the frames are cut into chunks.
    """

    def __init__(self, first_pass: BeamDecoder | GreedyDecoder, rescorer: Rescorer, nbest: int = 1):
        self.first_pass = first_pass
        self.rescorer = rescorer
        self.nbest = nbest
        seconds = PAUSE_SECONDS, SHORT_PAUSE_SECONDS, LONG_SECONDS, LONGEST_SECONDS, SILENCE_SECONDS
        frames = [round(each / first_pass.frame_seconds) for each in seconds]
        self.pause_frames, self.short_pause_frames, self.long_frames, self.longest_frames, self.silence_frames = frames

    def reset(self) -> RescoringState:
        return RescoringState(self.first_pass.reset())

    def advance(self, state: RescoringState, log_probs: np.ndarray, encoded: np.ndarray | None = None) -> None:
        begin, frames = 0, state.first_pass.frames
        for row, token in enumerate(log_probs.argmax(axis=1).tolist()):
            if token != BLANK_ID and state.onset is None:
                state.onset = frames + row - begin
            state.blanks = state.blanks + 1 if token == BLANK_ID else 0
            pause = self.pause_frames if frames + row - begin < self.long_frames else self.short_pause_frames
            if state.onset is not None and state.blanks >= pause:
                self._advance(state, log_probs, encoded, slice(begin, row + 1))
                begin, frames = row + 1, 0
                first = state.first + state.first_pass.frames
                done = [*state.done, self._rescored(state)]
                fresh = RescoringState(self.first_pass.reset(), done, first, blanks=state.blanks)
                vars(state).update(vars(fresh))
        self._advance(state, log_probs, encoded, slice(begin, None))

    def _advance(self, state: RescoringState, log_probs: np.ndarray, encoded: np.ndarray | None, rows: slice) -> None:
        self.first_pass.advance(state.first_pass, log_probs[rows])  # type: ignore[arg-type]
        too_long = state.onset is not None and state.first_pass.frames > state.onset + self.longest_frames
        if encoded is None or too_long:
            state.encoded.clear()
            return
        state.encoded.append(encoded[rows])
        if state.onset is None:  # of silence only its end is kept
            state.encoded = [np.concatenate(state.encoded)[-self.silence_frames :].copy()]
            state.encoded_first = state.first_pass.frames - len(state.encoded[0])

    def partial(self, state: RescoringState) -> Hypothesis:
        final = [hypotheses[0] for hypotheses in state.done]
        best = self.first_pass.partial(state.first_pass)  # type: ignore[arg-type]
        stable = sum(len(hypothesis.words) for hypothesis in final)
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
        hypotheses = self.first_pass.finish(state.first_pass)  # type: ignore[arg-type]
        if state.onset is not None:  # silence is no sentence
            encoded, begin = None, max(0, state.onset - self.silence_frames)
            if state.encoded:
                encoded = np.concatenate(state.encoded)[begin - state.encoded_first :]
            hypotheses = self.rescorer.rescore(hypotheses, encoded, begin)
        return [self._shift(hypothesis, state.first) for hypothesis in hypotheses[: self.nbest]]

    def _shift(self, hypothesis: Hypothesis, frames: int) -> Hypothesis:
        return replace(hypothesis, words=shift(hypothesis.words, frames * self.first_pass.frame_seconds))

    def _join(self, parts: Sequence[Hypothesis]) -> Hypothesis:
        """The hypotheses for consecutive parts as one."""
        tokens = self.first_pass.tokens
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
