"""The model bundle: a folder that holds all that recognition needs.

config.json           what the model is (`BundleConfig`)
tokens.txt            its output alphabet
model.onnx            the graph: waveform in, log-probabilities out; or chunk and state in, the same and state out
weights.safetensors   the same weights in half precision
MODEL_CARD.md         data, license, error rates
tokenizer.model       sentencepiece's model, for BPE
SHA256SUMS            checksums of the others, for `asr models --verify`
second_pass.onnx      an attention decoder, with its alphabet second_pass.txt, see `asr.model.second_pass`
lexicon.lex, g2p.lm   pronunciations, and rules for other words, where tokens spell phones and no packaged ones serve
"""

import dataclasses
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from asr.errors import ArgumentError, BundleError, LanguageModelError, one_line, printable
from asr.files import open_input, read_text, stand_in
from asr.model.tokens import Tokens
from asr.normalize import primary_language

FORMAT = 1  # of a config.json; raised when an old `asr` could not run a new model
PACKAGED = Path(__file__).parents[1] / "pretrained"
LANGUAGE_MODEL = "ngrams.lm"  # a packaged language model is a folder with this file and its MODEL_CARD.md
LEXICON = "lexicon.lex"  # and a packaged lexicon one with this file
PRONOUNCER = "g2p.lm"  # and this one, beside a lexicon: how words are pronounced that it does not have


def limits(lowest: float, highest: float) -> dict[str, tuple[float, float]]:
    """Metadata of a field that is a number, or numbers, within this range."""
    return {"range": (lowest, highest)}


def check_fields(config: Any) -> None:
    """ValueError names the first field of a dataclass whose value is not of its type or out of its range.

    Of JSON's values lists become tuples; texts become printable.
    """
    for item in dataclasses.fields(config):
        value, kind = getattr(config, item.name), cast(Any, get_origin(item.type) or item.type)
        if kind is tuple and isinstance(value, list | tuple):
            length = get_args(item.type)
            if length[-1] is not ... and len(value) != len(length):
                raise ValueError(f"{item.name} has {len(value)} numbers, not {len(length)}")
            for each in value:
                _check_number(item, float, each)
            object.__setattr__(config, item.name, tuple(map(float, value)))
        elif kind in (int, float):
            _check_number(item, kind, value)
        elif value not in get_args(item.type) if kind is Literal else not isinstance(value, kind):
            expected = " or ".join(map(repr, get_args(item.type))) if kind is Literal else kind.__name__
            raise ValueError(f"{item.name} is {value!r:.60}, not {expected}")
        elif isinstance(value, str):
            object.__setattr__(config, item.name, printable(value))


def _check_number(item: "dataclasses.Field[Any]", kind: type, value: object) -> None:
    lowest, highest = item.metadata["range"]
    whole = "whole " if kind is int else ""
    if not isinstance(value, int | kind) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ValueError(f"{item.name} is {value!r:.40}, not a {whole}number from {lowest:g} to {highest:g}")


@dataclass(frozen=True)
class DecoderConfig:
    """How the bundle is decoded best, as `asr tune` found on dev data."""

    lm: str = ""  # a packaged language model's name, or a file in the bundle's folder; nothing for none
    lm_weight: float = field(default=0.5, metadata=limits(0, 100))  # these three: asr.decode.fusion.FusionWeights
    word_bonus: float = field(default=1.5, metadata=limits(-100, 100))
    unknown_score: float = field(default=-13.0, metadata=limits(-1000, 1000))
    # Power of the priors that posteriors are divided by, see asr.decode.priors; 0 for none.
    prior_scale: float = field(default=0.0, metadata=limits(0, 10))
    # These are slope and offset, see asr.decode.calibration.
    greedy_confidence: tuple[float, float] = field(default=(1.0, 0.0), metadata=limits(-1e4, 1e4))
    beam_confidence: tuple[float, float] = field(default=(1.0, 0.0), metadata=limits(-1e4, 1e4))
    rescored_confidence: tuple[float, float] = field(default=(1.0, 0.0), metadata=limits(-1e4, 1e4))
    # Of a recurrent language model, and of an attention decoder, see asr.decode.rescoring.
    rescoring_weight: float = field(default=0.2, metadata=limits(0, 100))
    rescoring_bonus: float = field(default=0.5, metadata=limits(-100, 100))
    attention_weight: float = field(default=0.3, metadata=limits(0, 100))
    attention_bonus: float = field(default=0.5, metadata=limits(-100, 100))
    attention_confidence: tuple[float, float] = field(default=(1.0, 0.0), metadata=limits(-1e4, 1e4))

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Fields of every config.json. ValueError for one of another type or beyond its limits."""

    name: str
    language: str  # its code; a region in the file is left out
    description: str
    license: str
    model: dict[str, Any]  # size and shape, see `asr.nn.config`
    metrics: dict[str, float] = field(default_factory=dict)
    format: int = field(default=FORMAT, metadata=limits(1, FORMAT))

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "language", primary_language(self.language))
        if not all(isinstance(value, int | float) for value in self.metrics.values()):
            raise ValueError("metrics are not all numbers")


@dataclass(frozen=True, kw_only=True)
class BundleConfig(ModelConfig):
    """config.json of an acoustic model. Durations in seconds, frequencies in Hz."""

    sample_rate: int = field(metadata=limits(8_000, 192_000))
    frame_seconds: float = field(metadata=limits(0.001, 1))  # one row of log-probabilities
    streaming: bool  # one direction: can run chunk by chunk
    tokenizer: dict[str, Any]  # asr.data.config.TokenizerConfig
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    # Frames of log-probabilities that a live model is behind its audio.
    lookahead: int = field(default=0, metadata=limits(0, 1000))
    spelling: Literal["letters", "phones"] = "letters"  # what tokens are made of
    lexicon: str = ""  # for phones: a packaged lexicon's name, or a file in the bundle's folder
    # ln of each token's average probability on training data, if it was measured.
    log_priors: tuple[float, ...] = field(default=(), metadata=limits(-1000, 1))

    def __post_init__(self) -> None:
        if isinstance(self.decoder, dict):  # as it was read
            object.__setattr__(self, "decoder", DecoderConfig(**self.decoder))
        super().__post_init__()
        if (self.spelling == "phones") != bool(self.lexicon):
            raise ValueError(f"spelling {self.spelling!r}, lexicon {self.lexicon!r}")

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
    def case(self) -> str:
        """Of the texts that it learned from: lower, upper, or keep."""
        return str(self.config.tokenizer.get("case", ""))

    @property
    def graph(self) -> Path:
        """The ONNX graph of the acoustic model."""
        return self.path / "model.onnx"


def packaged_models() -> list[str]:
    """Names of the acoustic ones."""
    return sorted(graph.parent.name for graph in PACKAGED.glob("*/model.onnx"))


def _find_bundle(name: str | Path) -> Path:
    packaged = [PACKAGED / name] if str(name) in packaged_models() else []  # a folder of that name is ./NAME
    for folder in (*packaged, Path(name)):
        if os.path.isfile(folder / "config.json"):
            return folder
    if os.path.exists(name):
        raise BundleError(f"{name}: not a model bundle, it has no config.json; name another, or copy it again")
    raise BundleError(f"no model '{name}': neither a folder nor one of {', '.join(packaged_models()) or '(none)'}")


def find_inside(folder: Path, name: str | Path) -> Path | None:
    """The file of a name in a model's folder, if there is one. BundleError for one that a link puts elsewhere."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not os.path.isfile(path):  # nor a pipe or a device
        return None
    # Installers may link the files of packages.
    if folder.parent != PACKAGED and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise BundleError(f"{path}: a link that leads out of the bundle; copy the file itself there")
    return path


def require_inside(folder: Path, name: str, kind: str = "bundle") -> Path:
    """`find_inside`; BundleError also if there is none. `kind` is what the error calls the folder."""
    if path := find_inside(folder, name):
        with suppress(OSError), open_input(path) as file:  # whoever reads it says what is wrong
            if problem := stand_in(file.read(512)):
                raise BundleError(f"{path}: holds {problem}")
        return path
    if not folder.exists():
        raise BundleError(f"{folder}: no such folder; name that of a {kind}")
    raise BundleError(f"{folder}: incomplete, {name} is missing; copy the {kind} again or export it again")


def packaged_language_models() -> list[str]:
    return sorted(file.parent.name for file in PACKAGED.glob(f"*/{LANGUAGE_MODEL}"))


def find_language_model(name: str | Path, bundle: "Bundle | None" = None) -> Path:
    """The file of a packaged language model's name, or of a path. LanguageModelError if there is none.

    With a `bundle`, the name is one in its config: of a file inside the bundle or a packaged model, never of another.
    """
    if bundle is not None and (inside := find_inside(bundle.path, name)):
        return inside
    packaged = packaged_language_models()
    if str(name) in packaged:
        return PACKAGED / name / LANGUAGE_MODEL
    if bundle is None and os.path.exists(name):
        return Path(name)
    where, file = ("", "a file") if bundle is None else (f"{bundle.path}/config.json: ", "a file in the bundle")
    raise LanguageModelError(f"{where}no language model '{name}': neither {file} nor one of {', '.join(packaged)}")


def find_lexicon(bundle: "Bundle") -> Path:
    """The file of the lexicon that the bundle's config names. BundleError if there is none."""
    name = bundle.config.lexicon
    if inside := find_inside(bundle.path, name):
        return inside
    packaged = sorted(file.parent.name for file in PACKAGED.glob(f"*/{LEXICON}"))
    if name in packaged:
        return PACKAGED / name / LEXICON
    raise BundleError(
        f"{bundle.path}/config.json: no lexicon '{name}': neither a file in the bundle nor one of {', '.join(packaged)}"
    )


def load_bundle(name: str | Path) -> Bundle:
    """Open a bundle by packaged name or path; nothing heavy is loaded. BundleError if it is incomplete."""
    if not isinstance(name, str | os.PathLike):
        raise ArgumentError(f"name: {name!r:.40} is neither a model's name nor a folder")
    folder = _find_bundle(name)
    config = read_config(folder, BundleConfig, "bundle")
    bundle = Bundle(folder, config, Tokens.load(require_inside(folder, "tokens.txt")))
    priors, tokens = len(bundle.config.log_priors), len(bundle.tokens)
    if priors != tokens and (priors or bundle.config.decoder.prior_scale):
        raise BundleError(
            f"{folder}/config.json: {priors} log_priors for {tokens} tokens; copy the bundle again or export it again"
        )
    require_inside(folder, bundle.graph.name)
    return bundle


Config = TypeVar("Config")


def read_config(folder: Path, config: type[Config], kind: str) -> Config:
    """The config.json of a model's folder; fields of later versions are left out. `kind` is what an error calls it."""
    path = require_inside(folder, "config.json", kind)
    try:
        values = json.loads(read_text(path))
        if values["format"] > FORMAT:
            raise BundleError(f"{folder}: made by a newer asr ({kind} format {values['format']}); update asr")
        known = dataclasses.fields(config)  # type: ignore[arg-type]
        needed = (item for item in known if item.default is item.default_factory is dataclasses.MISSING)
        if missing := [item.name for item in needed if item.name not in values]:
            raise ValueError(f"it has no {', '.join(missing)}")
        return config(**{item.name: values[item.name] for item in known if item.name in values})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path}: not the config of a {kind} ({one_line(error)})") from error


def write_config(folder: Path, config: Any) -> None:
    text = json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
