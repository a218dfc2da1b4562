"""A recipe: every field with its default and its limits, and how it is read and written.

A YAML file says what differs from the defaults, `a.b=value` on the command line what differs from the file.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from asr.data.config import AugmentConfig, DataConfig, PhonesConfig, TextConfig, TokenizerConfig, WrittenConfig
from asr.data.pronunciation import suits
from asr.errors import RecipeError, one_line
from asr.files import read_text, replacing
from asr.nn.config import (
    AcousticConfig,
    AttentionConfig,
    Count,
    CountOrZero,
    LanguageConfig,
    NotNegative,
    Positive,
    Share,
    TaggerConfig,
    Threads,
)


@dataclass
class ObjectiveConfig:
    """Training loss: CTC and, each with a weight above 0, terms that are known to help a recurrent CTC model.

    (1 − intermediate − smoothing − distillation) · CTC + each weight · its term, as in asr/train/loss.py.
    """

    # Weight of CTC-CRF's log Z − log P(l) beside CTC (asr/train/crf.py; Xiang & Ou 2019). For decoding with a language
    # model: without one more words are wrong. The best epoch is the one with the least loss on `data.dev`.
    crf: Share = 0.0
    intermediate: Share = 0.0  # CTC of a lower layer, through the same output layer (Lee & Watanabe 2021, who take 0.3)
    intermediate_layer: CountOrZero = 0  # number of this layer, counted from 1; 0 is the middle one
    # Agreement of two copies of each utterance with other masks and dropout (Yao et al. 2024, "CR-CTC", who take 0.2
    # and 2.5 times as many time masks). It begins when the masks do; from then on a step costs twice as much.
    consistency: NotNegative = 0.0
    smoothing: Share = 0.0  # label smoothing: each frame's Kullback-Leibler divergence from uniform (Kim et al. 2018)
    # Frame by frame, the outputs of a teacher, mostly a bidirectional one for a model that streams (Kim et al. 2018).
    # The student may be up to `delay` frames of 40 ms late, since it sees less of the future (Kurata & Audhkhasi 2018;
    # Li et al. 2025).
    distillation: Share = 0.0
    teacher: str = ""  # a packaged name, a bundle's or a run's folder, with the same tokens
    delay: CountOrZero = 0


@dataclass
class OptimizerConfig:
    """The algorithm and a schedule of the learning rate.

    adamw: Loshchilov & Hutter 2019. muon: for the matrices of recurrent layers, see `asr.train.optim.Muon`.

    A linear warm-up, then

    cosine: half a cosine to 1 % of the peak.
    constant: the peak, then 1 − √ of the share of the decay that is done, to 1 % of it (warm-up, stable, decay: Hu et
    al. 2024, "MiniCPM"; the form of the decay: Hägele et al. 2024). Weights from before the decay are kept as
    constant.safetensors: another run goes on from there (`init_from`).
    """

    algorithm: Literal["adamw", "muon"] = "adamw"
    learning_rate: Positive = 1.5e-3  # at the peak
    weight_decay: NotNegative = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Share = 0.08  # share of the run
    decay: Share = 0.25  # share of the run, of the constant schedule
    clip: Positive = 1.0  # gradient norm

    @model_validator(mode="after")
    def _check_shares(self) -> "OptimizerConfig":
        if self.schedule == "constant" and self.warmup + self.decay > 1:
            raise ValueError("optimizer.warmup and optimizer.decay are more than the whole run; lower one")
        return self


def _check_name(name: str) -> str:
    if name in ("", "..") or Path(name).name != name or not name.isprintable() or len(name.encode()) > 200:
        raise ValueError("it becomes a folder below output and may hold no slash; at most 200 bytes, all printable")
    return name


@dataclass
class Recipe:
    """Fields of every recipe, whatever is trained."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True)

    kind: str = ""  # acoustic, language or tagger
    name: Annotated[str, AfterValidator(_check_name)] = "model"
    language: str = "en"
    description: str = ""  # one sentence for the model card
    license: str = "unstated"  # of the weights, for the model card
    attribution: str = ""  # of the data, for the model card
    output: str = "runs"  # the run's folder is OUTPUT/NAME
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 1
    epochs: Count = 20
    # auto is bfloat16 (autocast) on CUDA and on processors that multiply it faster (AMX tiles, AMD's AVX-512 BF16), and
    # float32 on others. float16 with a scaled loss (Micikevicius et al. 2018) is for older CUDA; its first updates may
    # be skipped until the scale fits.
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: Threads = 0  # CPU threads, 0 leaves the choice to torch
    checkpoint_minutes: NotNegative = 10.0  # time between checkpoints; one is also saved after each epoch and at a stop
    # Above 0, the run ends after so many minutes, measuring and saving included, if not after `epochs`. The schedule
    # then goes by the time, and window.safetensors has weights of half precision that are never older than a minute.
    budget_minutes: NotNegative = 0.0
    keep_last: Count = 1  # above 1, the checkpoints of the last so many epochs are kept too, for `asr average`
    accumulate: Count = 1  # batches whose gradients make one update, in each process
    max_skipped: CountOrZero = 10  # updates in a row that may be skipped because the loss or gradient is not finite
    # Moving average of the weights, for instance 0.999 (Polyak & Juditsky 1992): validated and exported in their place.
    ema_decay: Annotated[Share, Field(lt=1)] = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name


@dataclass
class AcousticRecipe(Recipe):
    """Recipe for an acoustic model."""

    kind: Literal["acoustic"] = "acoustic"
    # Fine-tuning: a packaged name, a bundle's or a run's folder. Weights and normalisation of the features are taken
    # from there; the tokens and the output layer too, if the tokenizer's settings are the same. Further layers
    # (`model.layers`) begin as copies of its uppermost ones.
    init_from: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: AcousticConfig = field(default_factory=AcousticConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    phones: PhonesConfig = field(default_factory=PhonesConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)

    @model_validator(mode="after")
    def _check_sections(self) -> "AcousticRecipe":
        data, model, augment, objective = self.data, self.model, self.augment, self.objective
        if model.mean_normalization and not model.bidirectional:
            raise ValueError("model.mean_normalization needs the whole utterance; set model.bidirectional to true")
        if model.lookahead and model.bidirectional:
            raise ValueError(f"model.lookahead={model.lookahead} is for a live model; set model.bidirectional to false")
        if augment.join_share and augment.join_seconds > data.max_seconds:
            raise ValueError(f"augment.join_seconds={augment.join_seconds} is over data.max_seconds={data.max_seconds}")
        if objective.crf and "bpe" in self.tokenizer.kind and self.tokenizer.vocabulary > 2000:
            problem = "objective.crf sums over all pairs of tokens; set tokenizer.vocabulary to 2000 or less, not"
            raise ValueError(f"{problem} {self.tokenizer.vocabulary}")
        layer = objective.intermediate_layer
        if objective.intermediate and not 1 <= (layer or model.layers // 2) < model.layers:
            raise ValueError(
                f"objective.intermediate_layer is {layer}, of {model.layers} layers; name one below the last"
            )
        if bool(objective.distillation) != bool(objective.teacher):
            raise ValueError("objective.distillation, a weight, and objective.teacher, a model: set both or neither")
        if objective.consistency and not augment.mask_below_wer:
            raise ValueError("objective.consistency needs masks; set augment.mask_below_wer, which is 0, to 1")
        if objective.intermediate + objective.smoothing + objective.distillation + self.phones.weight >= 1:
            raise ValueError("objective.intermediate, smoothing, distillation and phones.weight leave nothing for CTC")
        tokenizer, attention = self.tokenizer, self.attention
        if attention.hidden_size % attention.heads:
            raise ValueError(f"attention.hidden_size={attention.hidden_size} is no multiple of heads={attention.heads}")
        if attention.freeze_encoder and not (attention.weight and self.init_from):
            raise ValueError("attention.freeze_encoder needs attention.weight=1, and init_from with the encoder")
        if tokenizer.spelling == "phones" and not suits(tokenizer.lexicon, self.language):
            raise ValueError(
                f"tokenizer.kind={tokenizer.kind}: {tokenizer.lexicon} has no words of language {self.language!r}; "
                "set tokenizer.lexicon to a dictionary (word, tab, ARPAbet), or tokenizer.kind to bpe"
            )
        return self


@dataclass
class LanguageRecipe(Recipe):
    """Recipe for a recurrent language model."""

    kind: Literal["language"] = "language"
    data: TextConfig = field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: LanguageConfig = field(default_factory=LanguageConfig)

    @model_validator(mode="after")
    def _check_sections(self) -> "LanguageRecipe":
        if self.tokenizer.spelling == "phones":
            raise ValueError(f"tokenizer.kind={self.tokenizer.kind}: a language model spells letters; set it to bpe")
        return self


@dataclass
class TaggerRecipe(Recipe):
    """Recipe for a tagger, which finds marks and capitals."""

    kind: Literal["tagger"] = "tagger"
    data: WrittenConfig = field(default_factory=WrittenConfig)
    model: TaggerConfig = field(default_factory=TaggerConfig)

    @model_validator(mode="after")
    def _check_sections(self) -> "TaggerRecipe":
        if self.model.lookahead and self.model.bidirectional:
            raise ValueError(f"model.lookahead={self.model.lookahead} is for a live tagger; set bidirectional to false")
        return self


AnyRecipe = AcousticRecipe | LanguageRecipe | TaggerRecipe
RECIPES: dict[str, type[AnyRecipe]] = {"acoustic": AcousticRecipe, "language": LanguageRecipe, "tagger": TaggerRecipe}
# Fields that may change when a run is resumed: how long and how it runs, not what it learns from and with.
RESUMABLE = (
    *("epochs", "precision", "threads", "output", "checkpoint_minutes", "max_skipped"),
    *("data.ngram", "description", "license", "attribution", "keep_last", "budget_minutes"),
    "accumulate",  # times the processes it is the same: `Trainer` sees to that
)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, and references, which could stand for billions of values; a date is text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None, None, "references (*) are not read", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"'{twice[0]}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)


# ValueError and others: of numbers and characters that cannot be; RecursionError: of deep nesting.
YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)


def load_recipe(path: Path, overrides: list[str]) -> AnyRecipe:
    """Defaults, then the YAML at `path`, then overrides like `optimizer.clip=2`. Errors are RecipeError, one line."""
    sources = [(str(path), _read(path))]
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise RecipeError(f"'{override}' is not an override; write key=value, for example epochs=10")
        try:
            sources.append((f"'{override}'", _flat({key: yaml.load(text, _Loader)})))
        except YAML_ERRORS as error:
            raise RecipeError(f"'{override}': the value is not valid YAML") from error
    kind = sources[0][1].get("kind", "acoustic")
    if str(kind) not in RECIPES:
        raise RecipeError(f"{path}: kind is {kind!r:.60}; it should be one of {', '.join(map(repr, RECIPES))}")
    known = _flat(asdict(RECIPES[kind]()))
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for where, given in sources:
        for key, value in given.items():
            if key not in known:
                raise RecipeError(f"{where}: {_unknown(key, value, known)}")
            origin[key] = where
            section, _, field_name = key.rpartition(".")
            (values.setdefault(section, {}) if section else values)[field_name] = value
    try:
        recipe = TypeAdapter(RECIPES[kind]).validate_python(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, origin, path)) from error
    if not recipe.data.train or not recipe.data.dev:
        files = "manifests" if kind == "acoustic" else "texts"
        raise RecipeError(f"{path}: data.train and data.dev must name {files}, for example data.dev=dev.jsonl")
    return recipe


def _read(path: Path) -> dict[str, Any]:
    """Its values by dotted keys."""
    try:
        values = yaml.load(read_text(path), _Loader)
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror or error})") from error
    except YAML_ERRORS as error:
        raise RecipeError(f"{path}: not valid YAML: {one_line(error)}") from error
    if not isinstance(values, dict | None):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, not {values!r:.80}")
    return _flat(values or {})


def _flat(values: dict[Any, Any], section: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{section}{name}.") if isinstance(value, dict) else {f"{section}{name}": value}
    return flat


def _unknown(key: str, value: Any, known: Iterable[str]) -> str:
    if any(name.startswith(f"{key}.") for name in known):
        return f"{key} is {value!r:.80}; it should be a section of keys and values"
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else "")


def _explain(error: ValidationError, origin: dict[str, str], path: Path) -> str:
    """The first of the errors: where, key, value, and what is allowed. A check over several fields says it itself."""
    first = error.errors()[0]
    key = ".".join(part for part in first["loc"] if isinstance(part, str))
    item = "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
    allowed = re.sub(r"^\w+ should", "it should", first["msg"].replace(" after validation", ""))
    if first["type"] == "list_type":
        allowed = "it should be a list, as [a, b]"
    elif first["type"] == "value_error":
        allowed = str(first["ctx"]["error"])
    return f"{origin[key]}: {key}{item} is {first['input']!r:.80}; {allowed}" if key in origin else f"{path}: {allowed}"


def check_resumed(recipe: Recipe, saved: Path) -> None:
    """RecipeError if `recipe` differs from the one a run began with in more than what may change."""
    before = _flat(asdict(type(recipe)())) | _read(saved)  # fields may be newer than the run
    for key, new in _flat(asdict(recipe)).items():
        if key not in RESUMABLE and (old := before[key]) != new:
            raise RecipeError(f"{saved}: {key} was {old}, not {new}; a run goes on as it began, set name for another")


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every field, defaults included: the run's own record, without which it could not be resumed."""
    with replacing(path) as part, open(part, "w", encoding="utf-8") as file:
        yaml.safe_dump(asdict(recipe), file, sort_keys=False, allow_unicode=True, width=120)
