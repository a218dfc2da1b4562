"""Which decoder a recogniser uses, and what that knows beside the log-probabilities."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr.decode.base import Decoder, Hypothesis
from asr.decode.beam import BEAM_WIDTH, BeamDecoder
from asr.decode.fusion import Fusion, FusionWeights
from asr.decode.greedy import GreedyDecoder
from asr.decode.hotwords import parse_hotwords
from asr.decode.rescoring import RescoringDecoder, RescoringWeights
from asr.errors import ArgumentError
from asr.lm.binary import load_model
from asr.lm.neural import NeuralModel
from asr.model.bundle import Bundle, find_language_model

DecoderName = Literal["greedy", "beam"]
DEFAULT_DECODER: DecoderName = "beam"
NO_LM = "NONE"
Hotwords = str | Sequence[str] | Mapping[str, float]


@dataclass(frozen=True)
class DecoderOptions:
    """name: greedy knows the log-probabilities only, and ignores the rest; beam is slower and makes fewer errors.

    beam_width: hypotheses that the beam keeps, not counting those that others of them grew from.
    lm: a packaged language model's name or a file; NONE for none. Without, the one that the bundle was tuned with.
    hotwords: phrases to prefer with their boosts (nats); or phrases, or one text, see `parse_hotwords`.
    nbest: alternatives that a transcript holds.
    rescore: the folder of a recurrent language model that weighs the beam's hypotheses again.
    """

    name: DecoderName = DEFAULT_DECODER
    beam_width: int = BEAM_WIDTH
    lm: str | Path | None = None
    hotwords: Hotwords = field(default_factory=dict)
    nbest: int = 1
    rescore: str | Path | None = None


def make_decoder(options: DecoderOptions | DecoderName, bundle: Bundle) -> Decoder:
    """The decoder for a bundle. LanguageModelError if there is no such language model, AsrError for bad hotwords."""
    if not isinstance(options, DecoderOptions):
        options = DecoderOptions(options)
    tokens, seconds, config = bundle.tokens, bundle.config.frame_seconds, bundle.config.decoder
    if options.name == "greedy":
        return calibrated(GreedyDecoder(tokens, seconds), config.greedy_confidence)
    if options.name != "beam":
        raise ArgumentError(f"decoder: there is no {options.name!r}; choose greedy or beam")
    lm = options.lm if options.lm is not None else config.lm or NO_LM
    model = load_model(find_language_model(lm, bundle)) if lm != NO_LM else None
    hotwords = options.hotwords
    if not isinstance(hotwords, Mapping):
        try:
            hotwords = parse_hotwords(hotwords if isinstance(hotwords, str) else "\n".join(hotwords), tokens)
        except TypeError:
            raise ArgumentError(f"hotwords: {hotwords!r:.80}; give a list of phrases") from None
    weights = FusionWeights(config.lm_weight, config.word_bonus, config.unknown_score)
    fusion = Fusion(tokens, model, weights, hotwords)
    if options.rescore is None:
        beam = BeamDecoder(tokens, seconds, options.beam_width, nbest=options.nbest, fusion=fusion)
        return calibrated(beam, config.beam_confidence)
    beam = BeamDecoder(tokens, seconds, options.beam_width, nbest=options.beam_width, fusion=fusion)
    rescoring = RescoringWeights(config.rescoring_weight, config.rescoring_bonus)
    rescored = RescoringDecoder(beam, NeuralModel.load(options.rescore), rescoring, options.nbest)
    return calibrated(rescored, config.rescored_confidence)


def calibrated(decoder: Decoder, line: tuple[float, float]) -> Decoder:
    return decoder if line == (1.0, 0.0) else CalibratedDecoder(decoder, *line)


class CalibratedDecoder:
    """A decoder whose words' confidences are turned into how often such words are right.

    The log-odds go through a straight line of `slope` and `offset` (Platt 1999), fitted on dev data by
    `asr tune`.
    """

    def __init__(self, decoder: Decoder, slope: float, offset: float):
        self.decoder = decoder
        self.slope = slope
        self.offset = offset

    def reset(self) -> Any:
        return self.decoder.reset()

    def advance(self, state: Any, log_probs: np.ndarray) -> None:
        self.decoder.advance(state, log_probs)

    def partial(self, state: Any) -> Hypothesis:
        return self._calibrated(self.decoder.partial(state))

    def finish(self, state: Any) -> list[Hypothesis]:
        return [self._calibrated(hypothesis) for hypothesis in self.decoder.finish(state)]

    def _calibrated(self, hypothesis: Hypothesis) -> Hypothesis:
        words = tuple(replace(word, confidence=self._probability(word.confidence)) for word in hypothesis.words)
        return replace(hypothesis, words=words)

    def _probability(self, confidence: float) -> float:
        return 1 / (1 + math.exp(-self.slope * log_odds(confidence) - self.offset))


def log_odds(confidence: float) -> float:
    """ln(p / (1 − p)), between ±14 so that certainty stays a number."""
    confidence = min(max(confidence, 1e-6), 1 - 1e-6)
    return math.log(confidence / (1 - confidence))
