"""The model bundle: a folder that holds all that recognition needs.

config.json           what the model is (`BundleConfig`)
tokens.txt            its output alphabet
model.onnx            the graph: waveform in, log-probabilities out; or chunk and state in, the same and state out
weights.safetensors   the same weights in half precision
MODEL_CARD.md         data, license, error rates
tokenizer.model       sentencepiece's model, for BPE
lexicon.lex, g2p.lm   pronunciations, and rules for other words, where tokens spell phones and no packaged ones serve
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from asr.errors import BundleError, LanguageModelError, one_line
from asr.model.tokens import Tokens

FORMAT = 1  # of a config.json; raised when an old `asr` could not run a new model
PACKAGED = Path(__file__).parents[1] / "pretrained"
OLD_NAMES = {  # of fields, in version 0.1
    "bands": "n_mels",
    "directions": "bidirectional",
    "lanes": "batch_size",
    "licence": "license",
    "size": "hidden_size",
    "span": "bptt_length",
    "variational": "variational_dropout",
}
LANGUAGE_MODEL = "ngrams.lm"  # a packaged language model is a folder with this file and its MODEL_CARD.md
LEXICON = "lexicon.lex"  # and a packaged lexicon one with this file
PRONOUNCER = "g2p.lm"  # and this one, beside a lexicon: how words are pronounced that it does not have


@dataclass(frozen=True)
class DecoderConfig:
    """How the bundle is decoded best, as `asr tune` found on dev data."""

    lm: str = ""  # a packaged language model's name, or a file in the bundle's folder; nothing for none
    lm_weight: float = 0.5  # these three: asr.decode.fusion.FusionWeights
    word_bonus: float = 1.5
    unknown_score: float = -13.0
    prior_scale: float = 0.0  # power of the priors that posteriors are divided by, see asr.decode.priors; 0 for none
    greedy_confidence: tuple[float, float] = (1.0, 0.0)  # slope and offset, see asr.decode.calibration
    beam_confidence: tuple[float, float] = (1.0, 0.0)
    rescoring_weight: float = 0.2  # these two: asr.decode.rescoring.RescoringWeights
    rescoring_bonus: float = 0.5
    rescored_confidence: tuple[float, float] = (1.0, 0.0)


@dataclass(frozen=True)
class BundleConfig:
    """config.json. Durations in seconds, frequencies in Hz."""

    name: str
    language: str
    description: str
    license: str
    sample_rate: int
    frame_seconds: float  # one row of log-probabilities
    streaming: bool  # one direction: can run chunk by chunk
    model: dict[str, Any]  # asr.nn.ctc_model.AcousticConfig
    tokenizer: dict[str, Any]  # asr.train.config.TokenizerConfig
    metrics: dict[str, float] = field(default_factory=dict)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lookahead: int = 0  # frames of log-probabilities that a live model is behind its audio
    spelling: Literal["letters", "phones"] = "letters"  # what tokens are made of
    lexicon: str = ""  # for phones: a packaged lexicon's name, or a file in the bundle's folder
    log_priors: tuple[float, ...] = ()  # ln of each token's average probability on training data, if it was measured
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not self.frame_seconds * self.sample_rate >= 1:
            raise ValueError(f"frame_seconds {self.frame_seconds}, sample_rate {self.sample_rate}")
        if self.spelling not in ("letters", "phones") or (self.spelling == "phones") != bool(self.lexicon):
            raise ValueError(f"spelling {self.spelling!r}, lexicon {self.lexicon!r}")
        if not isinstance(self.decoder, DecoderConfig):  # as it was read
            object.__setattr__(self, "decoder", _decoder_config(self.decoder))
        priors = tuple(map(float, self.log_priors))
        if not all(map(math.isfinite, priors)):
            raise ValueError("log_priors are not all finite")
        object.__setattr__(self, "log_priors", priors)

    @property
    def delay_seconds(self) -> float:
        """From the first sample of a frame to its log-probabilities, in a live model: the frame and the look-ahead."""
        return self.frame_seconds * (1 + self.lookahead)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    config: BundleConfig
    tokens: Tokens

    @property
    def graph(self) -> Path:
        """The ONNX graph of the acoustic model."""
        return self.path / "model.onnx"


def packaged_models() -> list[str]:
    return sorted(folder.parent.name for folder in PACKAGED.glob("*/config.json"))


def _find_bundle(name: str | Path) -> Path:
    packaged = [PACKAGED / name] if str(name) in packaged_models() else []  # a folder of that name is ./NAME
    for folder in (*packaged, Path(name)):
        if (folder / "config.json").is_file():
            return folder
    if Path(name).exists():
        raise BundleError(f"{name}: not a model bundle, it has no config.json")
    raise BundleError(f"no model '{name}': neither a folder nor one of {', '.join(packaged_models()) or '(none)'}")


def packaged_language_models() -> list[str]:
    return sorted(file.parent.name for file in PACKAGED.glob(f"*/{LANGUAGE_MODEL}"))


def find_language_model(name: str | Path, bundle: "Bundle | None" = None) -> Path:
    """The file of a packaged language model's name, or of a path. LanguageModelError if there is none.

    With a `bundle`, the name is one in its config: of a file inside the bundle or a packaged model, never of another.
    """
    if bundle is not None and (inside := _inside(bundle, name)):
        return inside
    packaged = packaged_language_models()
    if str(name) in packaged:
        return PACKAGED / name / LANGUAGE_MODEL
    if bundle is None and Path(name).is_file():
        return Path(name)
    where, file = ("", "a file") if bundle is None else (f"{bundle.path}/config.json: ", "a file in the bundle")
    raise LanguageModelError(f"{where}no language model '{name}': neither {file} nor one of {', '.join(packaged)}")


def _inside(bundle: "Bundle", name: str | Path) -> Path | None:
    """The file that a bundle's config names, if it is one inside the bundle."""
    path = Path(name)
    outside = path.is_absolute() or ".." in path.parts
    return bundle.path / path if not outside and (bundle.path / path).is_file() else None


def find_lexicon(bundle: "Bundle") -> Path:
    """The file of the lexicon that the bundle's config names. BundleError if there is none."""
    name = bundle.config.lexicon
    if inside := _inside(bundle, name):
        return inside
    packaged = sorted(file.parent.name for file in PACKAGED.glob(f"*/{LEXICON}"))
    if name in packaged:
        return PACKAGED / name / LEXICON
    raise BundleError(
        f"{bundle.path}/config.json: no lexicon '{name}': neither a file in the bundle nor one of {', '.join(packaged)}"
    )


def load_bundle(name: str | Path) -> Bundle:
    """Open a bundle by packaged name or path; nothing heavy is loaded. BundleError if it is incomplete."""
    folder = _find_bundle(name)
    bundle = Bundle(folder, read_config(folder, BundleConfig, "bundle"), Tokens.load(folder / "tokens.txt"))
    priors, tokens = len(bundle.config.log_priors), len(bundle.tokens)
    if priors != tokens and (priors or bundle.config.decoder.prior_scale):
        raise BundleError(
            f"{folder}/config.json: {priors} log_priors for {tokens} tokens; copy the bundle again or export it again"
        )
    if not bundle.graph.is_file():
        raise BundleError(f"{folder}: incomplete, model.onnx is missing; copy the bundle again or export it again")
    return bundle


Config = TypeVar("Config")


def read_config(folder: Path, config: type[Config], kind: str) -> Config:
    """The config.json of a model's folder; fields of later versions are left out. `kind` is what an error calls it."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise BundleError(f"{folder}: made by a newer asr ({kind} format {values['format']}); update asr")
        known = {item.name for item in dataclasses.fields(config)}  # type: ignore[arg-type]
        return config(**{key: value for key, value in current_names(values).items() if key in known})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not the config of a {kind} ({one_line(error)})") from error


def current_names(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config.json, with their present names."""
    return dict(
        current_field(name, current_names(value) if isinstance(value, dict) else value)
        for name, value in values.items()
    )


def current_field(key: str, value: Any) -> tuple[str, Any]:
    """The present name and value of a field of a bundle or a recipe; `key` may name its section: model.size."""
    section, dot, name = key.rpartition(".")
    if name == "directions":
        value = value == 2 if value in (1, 2) else value
    return f"{section}{dot}{OLD_NAMES.get(name, name)}", value


def _decoder_config(values: dict[str, Any]) -> DecoderConfig:
    """ValueError or TypeError if they are not of the types that `DecoderConfig` has."""
    converted: dict[str, Any] = {}
    for name, value in vars(DecoderConfig(**values)).items():
        if name.endswith("confidence"):
            slope, offset = value
            converted[name] = float(slope), float(offset)
        else:
            converted[name] = str(value) if name == "lm" else float(value)
    return DecoderConfig(**converted)


def write_config(folder: Path, config: Any) -> None:
    text = json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
