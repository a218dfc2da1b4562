"""From options and a bundle to a decoder: greedy or beam, with language model, hotwords and calibration."""

from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import Literal, get_args
from weakref import WeakValueDictionary

import numpy as np

from asr.decode.base import Decoder
from asr.decode.beam import BEAM_WIDTH, BeamDecoder
from asr.decode.calibration import Calibration
from asr.decode.fusion import Fusion, FusionWeights
from asr.decode.greedy import GreedyDecoder
from asr.decode.hotwords import Hotwords, parse_hotwords
from asr.decode.lexicon import spellable
from asr.decode.rescoring import LanguageModelRescorer, RescoringDecoder, RescoringWeights
from asr.errors import ArgumentError
from asr.lm.binary import load_model
from asr.lm.neural import NeuralModel
from asr.lm.ngram import NgramModel
from asr.model.bundle import Bundle, find_language_model

DecoderName = Literal["greedy", "beam"]
DEFAULT_DECODER: DecoderName = "beam"
NO_LM = "NONE"
OPENED = 4  # language models of each kind that stay open, for the next decoder


@dataclass(frozen=True)
class DecoderOptions:
    """How log-probs are decoded.

    name: "greedy" uses the log-probs only, and ignores the other options; "beam" is slower and more accurate.
    beam_width: hypotheses that the beam keeps, not counting those that others of them grew from.
    lm: a packaged language model's name or a file; NONE for none. None for the one that the bundle was tuned with.
    hotwords: phrases to prefer: "Ivanhoe, knee jerk:8", a list of phrases, or phrases and boosts (nats), see
        `parse_hotwords`.
    nbest: alternatives that a transcript has.
    rescore: the folder of a recurrent language model that rescores the beam's hypotheses.

    ArgumentError if one is of a wrong type or out of range; hotwords are checked when a decoder is made.
    """

    name: DecoderName = DEFAULT_DECODER
    beam_width: int = BEAM_WIDTH
    lm: str | Path | None = None
    hotwords: Hotwords = field(default_factory=dict)
    nbest: int = 1
    rescore: str | Path | None = None

    def __post_init__(self) -> None:
        if self.name not in (names := get_args(DecoderName)):
            raise ArgumentError(f"decoder: there is no {self.name!r}; choose {' or '.join(names)}")
        for argument in ("beam_width", "nbest"):
            value = getattr(self, argument)
            if not isinstance(value, Integral) or value < 1:
                raise ArgumentError(f"{argument}: {value!r} is not a whole number of at least 1")
        for argument in ("lm", "rescore"):
            if not isinstance(value := getattr(self, argument), str | Path | None):
                raise ArgumentError(f"{argument}: {value!r:.80} is not a name or a path")


def make_decoder(options: DecoderOptions | DecoderName, bundle: Bundle) -> Decoder:
    """The decoder for a bundle, for any number of threads and streams.

    Language models stay open and are shared, so that a decoder with other hotwords takes milliseconds. ArgumentError
    for wrong hotwords, LanguageModelError for a language model that is missing, damaged, or of other letters.
    """
    if not isinstance(options, DecoderOptions):
        options = DecoderOptions(options)
    tokens, frame_seconds, config = bundle.tokens, bundle.config.frame_seconds, bundle.config.decoder
    if options.name == "greedy":
        if options.hotwords:
            raise ArgumentError("hotwords: the greedy decoder ignores them; choose the beam decoder")
        return GreedyDecoder(tokens, frame_seconds, Calibration(*config.greedy_confidence))
    nbest, confidence = options.nbest, config.beam_confidence
    if options.rescore is not None:
        nbest, confidence = options.beam_width, config.rescored_confidence
    fusion, calibration = _shared_fusion(options, bundle), Calibration(*confidence)
    log_priors = None
    if config.prior_scale and (fusion.model is not None or options.rescore is not None):
        log_priors = np.array(bundle.config.log_priors, np.float32) * np.float32(config.prior_scale)
    beam = BeamDecoder(
        tokens,
        frame_seconds,
        options.beam_width,
        nbest=nbest,
        fusion=fusion,
        calibration=calibration,
        log_priors=log_priors,
    )
    if options.rescore is None:
        return beam
    weights = RescoringWeights(config.rescoring_weight, config.rescoring_bonus)
    folder = Path(options.rescore)
    with _lock:
        model = _neural_model(folder.resolve(), _version(folder / "config.json", folder / "model.onnx"))
    return RescoringDecoder(beam, LanguageModelRescorer(model, weights, tokens), options.nbest)


_lock = Lock()  # two threads that need the same model open it once
_fusions: WeakValueDictionary[tuple, Fusion] = WeakValueDictionary()


def _shared_fusion(options: DecoderOptions, bundle: Bundle) -> Fusion:
    """Decoders in use at the same time share what they compute, if they have language model and hotwords in common."""
    tokens, config = bundle.tokens, bundle.config.decoder
    weights = FusionWeights(config.lm_weight, config.word_bonus, config.unknown_score)
    hotwords = parse_hotwords(options.hotwords, tokens)
    lm = options.lm if options.lm is not None else config.lm or NO_LM
    path = find_language_model(lm, bundle if options.lm is None else None) if lm != NO_LM else None
    with _lock:
        model = _ngram_model(path.resolve(), _version(path), frozenset(tokens.letters)) if path else None
        key = model, tokens.symbols, weights, frozenset(hotwords.items())
        fusion = _fusions.get(key)
        if fusion is None:
            fusion = _fusions[key] = Fusion(tokens, model, weights, hotwords)
        return fusion


@lru_cache(OPENED)
def _ngram_model(path: Path, version: object, letters: frozenset[str]) -> NgramModel:
    return spellable(load_model(path), letters, str(path))


@lru_cache(OPENED)
def _neural_model(folder: Path, version: object) -> NeuralModel:
    return NeuralModel.load(folder)


def _version(*files: Path) -> object:
    """Sizes and times of files: others when one was replaced."""
    try:
        return tuple((status.st_size, status.st_mtime_ns) for status in map(Path.stat, files))
    except OSError:
        return None  # opening it says what is wrong
