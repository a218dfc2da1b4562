"""Decoding by attention alone: the letters of a stretch of speech, one after the other, by beam search.

For comparison with CTC, whose greedy decoder only says where a stretch begins and ends, and shows partial results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from asr.decode.base import Hypothesis
from asr.decode.word_times import AlignedToken, spell_words
from asr.model.second_pass import BOUNDARY, AttentionModel

BEAM_WIDTH = 8
# Attention loses its place: it may end early, or say a phrase again and again. As in Chorowski & Jaitly 2017, "Towards
# better decoding and language model integration in sequence to sequence models", section 3.3, a hypothesis gains for
# each frame that had more than COVERED attention in all, once.
COVERED = 0.5
COVERAGE_WEIGHT = 0.1  # nats for a covered frame
# The search ends when of ENDED lengths in a row no hypothesis that ended then is within END_GAP nats of the best one
# that ended (Watanabe et al. 2017, "Hybrid CTC/attention architecture for end-to-end speech recognition", equation 24).
ENDED, END_GAP = 3, 10.0


@dataclass(frozen=True)
class AttentionSearch:
    """A `Rescorer` that looks at the encoded frames only, and gives hypotheses of its own, up to `beam_width`.

    Words begin and end where their first and last tokens have most attention. Where there are no encoded frames the
    hypotheses are returned as they are.
    """

    model: AttentionModel
    frame_seconds: float
    beam_width: int = BEAM_WIDTH

    def rescore(
        self, hypotheses: Sequence[Hypothesis], encoded: np.ndarray | None = None, first: int = 0
    ) -> list[Hypothesis]:
        if encoded is None:
            return list(hypotheses)
        found: dict[str, Hypothesis] = {}
        for score, path in self._search(encoded):
            frames = first + np.maximum.accumulate([item.first for item in path], dtype=int)
            aligned = [item._replace(first=at, last=at) for item, at in zip(path, frames.tolist(), strict=True)]
            words = spell_words(aligned, self.model.tokens, self.frame_seconds)
            hypothesis = Hypothesis((), words, score, score)
            found.setdefault(hypothesis.text, hypothesis)  # other tokens may spell the same text
        return list(found.values())[: self.beam_width]

    def _search(self, encoded: np.ndarray) -> list[tuple[float, list[AlignedToken]]]:
        """Scores and tokens of the hypotheses that ended, best first; a token's frame has most of its attention."""
        model = self.model
        paths: list[list[AlignedToken]] = [[]]
        scores, attention, states = np.zeros(1), np.zeros((1, len(encoded))), model.start(1)
        ended: list[tuple[float, list[AlignedToken]]] = []
        best: list[float] = []  # score of those that ended at each length
        for _ in range(len(encoded)):  # no token is shorter than a frame
            last = np.array([[path[-1].token if path else BOUNDARY] for path in paths], dtype=np.int64)
            step = model.run(last, states, encoded)
            log_probs, weights = step.log_probs[:, -1].astype(np.float64), step.weights[:, -1, -1]
            gain = COVERAGE_WEIGHT * (attention > COVERED).sum(axis=1)
            ends = scores + log_probs[:, BOUNDARY] + gain
            ended += zip(ends.tolist(), paths, strict=True)
            best.append(float(ends.max()))
            if len(best) >= ENDED and max(best[-ENDED:]) < max(best) - END_GAP:
                break
            attention = attention + weights
            gain = COVERAGE_WEIGHT * (attention > COVERED).sum(axis=1)
            longer = (scores + gain)[:, None] + log_probs[:, BOUNDARY + 1 :]
            chosen = np.argsort(-longer, axis=None, kind="stable")[: self.beam_width]
            rows, tokens = np.unravel_index(chosen, longer.shape)
            tokens = tokens + BOUNDARY + 1
            gained, frames = log_probs[rows, tokens], weights[rows].argmax(axis=1)
            paths = [
                [*paths[row], AlignedToken(token, frame, frame, log_prob)]
                for row, token, frame, log_prob in zip(
                    *(column.tolist() for column in (rows, tokens, frames, gained)), strict=True
                )
            ]
            scores, attention, states = scores[rows] + gained, attention[rows], step.states[rows]
        return sorted(ended, key=itemgetter(0), reverse=True)
