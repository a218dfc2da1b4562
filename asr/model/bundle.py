"""The model bundle: a folder that holds all that recognition needs.

config.json           what the model is (`BundleConfig`)
tokens.txt            its output alphabet
model.onnx            the graph: waveform in, log-probabilities out; or chunk and state in, the same and state out
weights.safetensors   the same weights in half precision
MODEL_CARD.md         data, license, error rates
tokenizer.model       sentencepiece's model, for BPE
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import BundleError, LanguageModelError
from asr.model.tokens import Tokens

FORMAT = 1  # raised when an old `asr` could not run a new bundle
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


@dataclass(frozen=True)
class DecoderConfig:
    """How the bundle is decoded best, as `asr tune` found on dev data."""

    lm: str = ""  # a packaged language model's name, or a file in the bundle's folder; nothing for none
    lm_weight: float = 0.5  # these three: asr.decode.fusion.FusionWeights
    word_bonus: float = 1.5
    unknown_score: float = -13.0
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
    format: int = FORMAT

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
    """Names of the models that come with the package."""
    return sorted(folder.parent.name for folder in PACKAGED.glob("*/config.json"))


def find_bundle(name: str | Path) -> Path:
    """The folder of a packaged model's name, or of a path. BundleError says which names there are."""
    packaged = [PACKAGED / name] if str(name) in packaged_models() else []  # a folder of that name is ./NAME
    for folder in (*packaged, Path(name)):
        if (folder / "config.json").is_file():
            return folder
    if Path(name).exists():
        raise BundleError(f"{name}: not a model bundle, it has no config.json")
    raise BundleError(f"no model '{name}': neither a folder nor one of {', '.join(packaged_models()) or '(none)'}")


def packaged_language_models() -> list[str]:
    """Names of the language models that come with the package."""
    return sorted(file.parent.name for file in PACKAGED.glob(f"*/{LANGUAGE_MODEL}"))


def find_language_model(name: str | Path, bundle: "Bundle | None" = None) -> Path:
    """The file of a packaged language model's name, or of a path. LanguageModelError if there is none.

    With a `bundle`, the name is one in its config: of a file inside the bundle or a packaged model, never of another.
    """
    inside = bundle is not None and not Path(name).is_absolute() and ".." not in Path(name).parts
    if bundle is not None and inside and (bundle.path / name).is_file():
        return bundle.path / name
    packaged = packaged_language_models()
    if str(name) in packaged:
        return PACKAGED / name / LANGUAGE_MODEL
    if bundle is None and Path(name).is_file():
        return Path(name)
    where, file = ("", "a file") if bundle is None else (f"{bundle.path}/config.json: ", "a file in the bundle")
    raise LanguageModelError(f"{where}no language model '{name}': neither {file} nor one of {', '.join(packaged)}")


def load_bundle(name: str | Path) -> Bundle:
    """Open a bundle by packaged name or path; nothing heavy is loaded. BundleError if it is incomplete."""
    folder = find_bundle(name)
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise BundleError(f"{folder}: made by a newer asr (bundle format {values['format']}); update asr")
        values = current_names(values)
        known = {item.name for item in dataclasses.fields(BundleConfig)}
        decoder = _decoder_config(values.pop("decoder", {}))
        config = BundleConfig(**{key: value for key, value in values.items() if key in known}, decoder=decoder)
        if not config.frame_seconds * config.sample_rate >= 1:
            raise ValueError(f"frame_seconds {config.frame_seconds}, sample_rate {config.sample_rate}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}/config.json: not the config of a bundle ({error})") from error
    bundle = Bundle(folder, config, Tokens.load(folder / "tokens.txt"))
    if not bundle.graph.is_file():
        raise BundleError(f"{folder}: incomplete, model.onnx is missing; copy the bundle again or export it again")
    return bundle


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
    config = DecoderConfig(**values)
    converted: dict[str, Any] = {"lm": str(config.lm)}
    for name in ("greedy_confidence", "beam_confidence", "rescored_confidence"):
        slope, offset = getattr(config, name)
        converted[name] = float(slope), float(offset)
    for name in ("lm_weight", "word_bonus", "unknown_score", "rescoring_weight", "rescoring_bonus"):
        converted[name] = float(getattr(config, name))
    return DecoderConfig(**converted)


def write_config(folder: Path, config: BundleConfig) -> None:
    text = json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
