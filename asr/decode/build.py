"""From options and a bundle to a decoder: greedy or beam, with language model, hotwords and calibration."""

import logging
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import Literal, get_args
from weakref import WeakValueDictionary

import numpy as np

from asr.decode.attention import AttentionSearch
from asr.decode.base import Decoder
from asr.decode.beam import BEAM_WIDTH, BeamDecoder
from asr.decode.calibration import Calibration
from asr.decode.fusion import Fusion, FusionWeights
from asr.decode.greedy import GreedyDecoder
from asr.decode.hotwords import Hotwords, parse_hotwords
from asr.decode.lexicon import PronouncedModel, Pronunciations, spellable
from asr.decode.rescoring import (
    AttentionScorer,
    LanguageModelScorer,
    RescoringDecoder,
    RescoringWeights,
    Scorer,
    WeightedRescorer,
)
from asr.errors import ArgumentError
from asr.lm.binary import load_model
from asr.lm.g2p import Pronouncer
from asr.lm.lexicon import Lexicon
from asr.lm.neural import NeuralModel
from asr.lm.ngram import NgramModel
from asr.model.bundle import PRONOUNCER, Bundle, find_inside, find_language_model, find_lexicon
from asr.model.second_pass import GRAPH, TOKENS, AttentionModel

log = logging.getLogger(__name__)

DecoderName = Literal["greedy", "beam", "attention"]
DEFAULT_DECODER: DecoderName = "beam"
NO_LM = "NONE"
GUESSED = 1000  # words of a language model, the likeliest, that rules pronounce if no lexicon has them: some seconds
WIDEST = 1024  # hypotheses
SECOND_PASS_NBEST = 8  # hypotheses that an attention decoder weighs
OPENED = 4  # language models of each kind that stay open, for the next decoder


@dataclass(frozen=True)
class DecoderOptions:
    """How log-probs are decoded.

    name: "greedy" uses the log-probs only, and ignores the other options; "beam" is slower and more accurate;
        "attention" uses the attention decoder only, of a bundle that has one.
    beam_width: hypotheses that the beam keeps, not counting those that others of them grew from.
    lm: a packaged language model's name or a file; NONE for none. None for the one that the bundle was tuned with.
    hotwords: phrases to prefer: "Ivanhoe, knee jerk:8", a list of phrases, or phrases and boosts (nats), see
        `parse_hotwords`.
    nbest: alternatives that a transcript has.
    rescore: the folder of a recurrent language model that rescores the beam's hypotheses.
    second_pass: whether the attention decoder of a bundle that has one rescores the beam's hypotheses.
    lexicon: a file of words and their phones, which come before those of the model's own lexicon; for a model that
        spells phones, see `asr.lm.lexicon`.

    ArgumentError if one is of a wrong type or out of range; hotwords are checked when a decoder is made.
    """

    name: DecoderName = DEFAULT_DECODER
    beam_width: int = BEAM_WIDTH
    lm: str | Path | None = None
    hotwords: Hotwords = field(default_factory=dict)
    nbest: int = 1
    rescore: str | Path | None = None
    lexicon: str | Path | None = None
    second_pass: bool = True

    def __post_init__(self) -> None:
        if self.name not in (names := get_args(DecoderName)):
            raise ArgumentError(f"decoder: there is no {self.name!r:.80}; choose {' or '.join(names)}")
        for argument in ("beam_width", "nbest"):
            value = getattr(self, argument)
            if not isinstance(value, Integral) or not 1 <= int(value) <= WIDEST:
                raise ArgumentError(f"{argument}: {value!r:.40} is not a whole number from 1 to {WIDEST}")
        for argument in ("lm", "rescore", "lexicon"):
            if not isinstance(value := getattr(self, argument), str | Path | None):
                raise ArgumentError(f"{argument}: {value!r:.80} is not a name or a path")
        if not isinstance(self.second_pass, bool):
            raise ArgumentError(f"second_pass: {self.second_pass!r:.80}; give True or False")


def make_decoder(options: DecoderOptions | DecoderName, bundle: Bundle) -> Decoder:
    """The decoder for a bundle, for any number of threads and streams.

    Language models and lexicons stay open and are shared, so that a decoder with other hotwords takes milliseconds.
    ArgumentError for wrong hotwords or a lexicon that the model cannot use, LanguageModelError for a language model or
    lexicon that is missing, damaged, or of other letters.
    """
    if not isinstance(options, DecoderOptions):
        options = DecoderOptions(options)
    tokens, frame_seconds, config = bundle.tokens, bundle.config.frame_seconds, bundle.config.decoder
    pronunciations = open_pronunciations(bundle, options.lexicon)
    letters = frozenset(tokens.letters if pronunciations is None else pronunciations.letters)
    if options.name != "beam":
        if options.hotwords:
            raise ArgumentError(f"hotwords: the {options.name} decoder ignores them; choose the beam decoder")
        usual = _open_model(options, bundle, letters) if pronunciations is not None else None
        greedy = GreedyDecoder(tokens, frame_seconds, Calibration(*config.greedy_confidence), pronunciations, usual)
        if options.name == "greedy":
            return greedy
        if (attention := open_attention(bundle)) is None:
            raise ArgumentError(f"decoder: {bundle.config.name} has no attention decoder; choose beam or greedy")
        return RescoringDecoder(greedy, AttentionSearch(attention, frame_seconds), options.nbest)
    scorers = _open_scorers(options, bundle, letters, pronunciations is not None)
    nbest, confidence = options.nbest, config.beam_confidence
    if options.rescore is not None:
        nbest, confidence = options.beam_width, config.rescored_confidence
    elif scorers:
        nbest, confidence = max(nbest, min(SECOND_PASS_NBEST, options.beam_width)), config.attention_confidence
    fusion = _shared_fusion(options, bundle, letters, pronunciations)
    log_priors = None
    if config.prior_scale and (fusion.model is not None or options.rescore is not None):
        log_priors = np.array(bundle.config.log_priors, np.float32) * np.float32(config.prior_scale)
    beam = BeamDecoder(
        tokens,
        frame_seconds,
        options.beam_width,
        nbest=nbest,
        fusion=fusion,
        calibration=Calibration(*confidence),
        log_priors=log_priors,
    )
    return RescoringDecoder(beam, WeightedRescorer(scorers), options.nbest) if scorers else beam


def _open_scorers(
    options: DecoderOptions, bundle: Bundle, letters: frozenset[str], spoken: bool
) -> list[tuple[Scorer, RescoringWeights]]:
    """The models of the second pass; spoken: whether tokens spell pronunciations."""
    config = bundle.config.decoder
    scorers: list[tuple[Scorer, RescoringWeights]] = []
    if options.second_pass and (attention := open_attention(bundle)) is not None:
        weights = RescoringWeights(config.attention_weight, config.attention_bonus)
        scorers.append((AttentionScorer(attention), weights))
    if options.rescore is not None:
        if spoken:  # single words of a lexicon may have further characters
            letters = frozenset(char for char in letters if char.isascii() and char.isalpha())
        folder = Path(options.rescore)
        with _lock:
            model = _neural_model(folder.resolve(), _version(folder / "config.json", folder / "model.onnx"))
        weights = RescoringWeights(config.rescoring_weight, config.rescoring_bonus)
        scorers.append((LanguageModelScorer(model, letters), weights))
    return scorers


def open_attention(bundle: Bundle) -> AttentionModel | None:
    """The attention decoder of a bundle that has one, shared by all who use it. BundleError."""
    path = find_inside(bundle.path, GRAPH)
    if path is None:
        return None
    with _lock:
        return _attention_model(path.resolve(), _version(path, path.with_name(TOKENS)), bundle.path, bundle.case)


_lock = Lock()  # two threads that need the same model open it once
_fusions: WeakValueDictionary[tuple, Fusion] = WeakValueDictionary()


def _shared_fusion(
    options: DecoderOptions, bundle: Bundle, letters: frozenset[str], pronunciations: Pronunciations | None
) -> Fusion:
    """Decoders in use at the same time share what they compute, if they have language model and hotwords in common."""
    tokens, config = bundle.tokens, bundle.config.decoder
    weights = FusionWeights(config.lm_weight, config.word_bonus, config.unknown_score)
    hotwords = parse_hotwords(options.hotwords, tokens, pronunciations)
    model = _open_model(options, bundle, letters)
    with _lock:
        if model is not None and pronunciations is not None:
            model = _pronounced_model(model, pronunciations)
        key = model, tokens.symbols, weights, frozenset(hotwords.items()), pronunciations
        fusion = _fusions.get(key)
        if fusion is None:
            fusion = _fusions[key] = Fusion(tokens, model, weights, hotwords, pronunciations)
        return fusion


def _open_model(options: DecoderOptions, bundle: Bundle, letters: frozenset[str]) -> NgramModel | None:
    """The n-gram model of options and bundle, its words in the model's letters."""
    lm = options.lm if options.lm is not None else bundle.config.decoder.lm or NO_LM
    if lm == NO_LM:
        return None
    path = find_language_model(lm, bundle if options.lm is None else None)
    with _lock:
        return _ngram_model(path.resolve(), _version(path), letters)


def open_pronunciations(bundle: Bundle, lexicon: str | Path | None = None) -> Pronunciations | None:
    """How words are pronounced for a model that spells phones, with the user's own `lexicon`; None for others.

    ArgumentError for a lexicon that is given to a model that spells letters. BundleError, LanguageModelError.
    """
    if bundle.config.spelling == "letters":
        if lexicon is None:
            return None
        raise ArgumentError(
            f"lexicon: {bundle.config.name} spells words with letters; a lexicon goes with a model that spells phones"
        )
    path, own = find_lexicon(bundle), Path(lexicon) if lexicon is not None else None
    with _lock:
        return _pronunciations(path.resolve(), _version(path), own, _version(own) if own is not None else None)


@lru_cache(OPENED)
def _pronunciations(path: Path, version: object, own: Path | None, own_version: object) -> Pronunciations:
    lexicon, words = Lexicon.load(path), frozenset[str]()
    if own is not None:
        added = Lexicon.load(own)
        words = frozenset(word for word, _ in added)
        lexicon = Lexicon.of(chain(added, (entry for entry in lexicon if entry[0] not in words)))
    return Pronunciations(lexicon, partial(_pronouncer, path.with_name(PRONOUNCER)), words)


def _pronouncer(path: Path) -> Pronouncer | None:
    return Pronouncer.load(path) if path.is_file() else None


@lru_cache(OPENED)
def _ngram_model(path: Path, version: object, letters: frozenset[str]) -> NgramModel:
    return spellable(load_model(path), letters, str(path))


@lru_cache(OPENED)
def _pronounced_model(model: NgramModel, pronunciations: Pronunciations) -> PronouncedModel:
    pronounced = PronouncedModel(model, pronunciations.lexicon)
    missing = pronounced.unreachable()
    guessed = [(word, spoken[0]) for word in missing[:GUESSED] if (spoken := pronunciations.of(word))]
    if len(guessed) < len(missing):
        log.warning("%d words of the language model have no pronunciation", len(missing) - len(guessed))
    return PronouncedModel(model, Lexicon.of([*pronunciations.lexicon, *guessed])) if guessed else pronounced


@lru_cache(OPENED)
def _attention_model(path: Path, version: object, folder: Path, case: str) -> AttentionModel:
    return AttentionModel(folder, case)


@lru_cache(OPENED)
def _neural_model(folder: Path, version: object) -> NeuralModel:
    return NeuralModel.load(folder)


def _version(*files: Path) -> object:
    """Sizes and times of files: others when one was replaced."""
    try:
        return tuple((status.st_size, status.st_mtime_ns) for status in map(Path.stat, files))
    except OSError:
        return None  # opening it says what is wrong
