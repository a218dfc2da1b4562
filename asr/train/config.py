"""A recipe: typed defaults here, a short YAML that says what differs, and `a.b=value` from the command line."""

import dataclasses
import difflib
import math
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from asr.errors import RecipeError, one_line
from asr.nn.acoustic import AcousticConfig
from asr.nn.language import LanguageConfig
from asr.nn.recurrent import CELLS


@dataclass
class DataConfig:
    """Manifests (JSON Lines) and how they are batched. Relative paths start at the current directory."""

    train: list[str] = field(default_factory=list)
    dev: str = ""
    max_seconds: float = 20.0  # longer utterances are left out and counted
    batch_seconds: float = 200.0  # audio in one batch
    max_batch: int = 80  # utterances in one batch, so that very short ones do not make a huge one
    buckets: int = 20  # utterances of similar length are batched together
    workers: int = 1  # loader processes
    # Of texts that a model wrote (`asr transcribe --format jsonl`), only those it was that sure of, from 0 to 1
    # (pseudo-labels, Kahn et al. 2020); the others are left out and counted.
    min_confidence: float = 0.0
    train_fraction: float = 1.0  # keep only this share of the training utterances, for a quick look


@dataclass
class TextConfig:
    """Texts of a sentence a line (plain, gzip or xz), and how a language model walks through them."""

    train: list[str] = field(default_factory=list)
    dev: str = ""  # a manifest (.jsonl), whose texts count, or a text
    tokenizer_from: str = (
        "en-bilstm"  # the tokens are those of this acoustic model: a packaged name or a bundle's folder
    )
    unknown: str = "error"  # a character outside its alphabet: error, or drop it and count
    lanes: int = 128  # places of the text that are read side by side
    span: int = 32  # tokens of each lane in one batch, through which gradients flow back; the state flows on beyond
    epoch_batches: int = 1000  # an epoch is so many batches, not a pass over the text: it is saved and measured then
    ngram: str = ""  # a file of `asr lm build`; the model card has its perplexity beside the model's


@dataclass
class TokenizerConfig:
    """Text to tokens."""

    kind: str = "bpe"  # bpe (sentencepiece, trained on the training text) or characters
    vocabulary: int = 128  # tokens with the blank, for bpe
    case: str = "lower"  # lower, upper or keep: applied to the text before anything else
    alphabet: str = "abcdefghijklmnopqrstuvwxyz'"  # letters that texts may hold beside the space
    unknown: str = "error"  # a character outside the alphabet: error, or drop it and count


@dataclass
class AugmentConfig:
    """Changes to the audio and the features while training."""

    speeds: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])  # one drawn per utterance and epoch
    tempos: list[float] = field(default_factory=lambda: [1.0])  # the same, at the same pitch
    gain_db: float = 6.0  # volume drawn from ± this, since nothing is normalised per file
    # From the second epoch on (the first begins with the shortest) utterances are joined to longer ones.
    join_share: float = 0.0  # utterances that are joined with others, drawn per epoch
    join_seconds: float = 10.0  # what is joined is no longer than this
    # A room, then noise, then a codec. Each happens to its share of the utterances, drawn per utterance and epoch, and
    # is one of a list: names, or manifests (.jsonl, any text) of recorded noise or impulse responses. Empty is none.
    rooms: list[str] = field(default_factory=list)  # simulated, or a manifest
    room_share: float = 0.3
    reverberation: list[float] = field(default_factory=lambda: [0.2, 0.5])  # s until a simulated room is 60 dB quieter
    noises: list[str] = field(default_factory=list)  # white, pink, brown, babble (training utterances), or a manifest
    noise_share: float = 0.3
    snr_db: list[float] = field(default_factory=lambda: [5.0, 25.0])  # speech, pauses included, above noise, from … to
    codecs: list[str] = field(default_factory=list)  # telephone (300–3400 Hz), telephone-mu-law or -gsm, opus, mp3
    codec_share: float = 0.3
    # SpecAugment (Park et al. 2019): masks drawn per utterance. Masking before the model has left the blank-only
    # plateau can keep it there, so masks wait until a dev WER was below `mask_below_wer`.
    frequency_masks: int = 2
    frequency_width: int = 20  # bands at most
    time_masks_per_second: float = 0.3
    time_width: int = 25  # frames of 10 ms at most
    mask_below_wer: float = 0.85  # fraction; 0 never masks


@dataclass
class ObjectiveConfig:
    """What is minimised: CTC and, each with a weight above 0, terms that are known to help a recurrent CTC model.

    (1 − intermediate − smoothing − distillation) · CTC + each weight · its term, as in asr/train/objective.py.
    """

    intermediate: float = 0.0  # CTC of a lower layer, through the same output layer (Lee & Watanabe 2021, who take 0.3)
    intermediate_layer: int = 0  # which, counted from 1; 0 is the middle one
    # Agreement of two copies of each utterance with other masks and dropout (Yao et al. 2024, "CR-CTC", who take 0.2
    # and 2.5 times as many time masks). It begins when the masks do; from then on a step costs twice as much.
    consistency: float = 0.0
    smoothing: float = 0.0  # label smoothing: each frame's Kullback-Leibler divergence from uniform (Kim et al. 2018)
    # What a teacher says, mostly one of two directions to one that streams (Kim et al. 2018). Frame by frame, but the
    # student may be up to `delay` frames of 40 ms late, as it must hear more (Kurata & Audhkhasi 2018; Li et al. 2025).
    distillation: float = 0.0
    teacher: str = ""  # a packaged name, a bundle's or a run's folder, with the same tokens
    delay: int = 0


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), linear warm-up, then half a cosine to 1 % of the peak."""

    learning_rate: float = 1.5e-3  # at the peak
    weight_decay: float = 0.01
    warmup: float = 0.08  # share of the run
    clip: float = 1.0  # gradient norm


@dataclass
class Recipe:
    """What the training loop needs to know, whatever is trained."""

    kind: str = ""  # acoustic or language
    name: str = "model"
    language: str = "en"
    description: str = ""  # one sentence for the model card
    licence: str = "unstated"  # of the weights, for the model card
    attribution: str = ""  # of the data, for the model card
    output: str = "runs"  # the run's folder is OUTPUT/NAME
    seed: int = 1
    epochs: int = 20
    # float32, bfloat16 (autocast), or auto: bfloat16 on CUDA and on processors with AMX tiles, where it
    # is fast; on other processors it is slower than float32.
    precision: str = "auto"
    threads: int = 0  # CPU threads, 0 leaves the choice to torch
    checkpoint_minutes: float = 10.0  # the run is saved so often, at the end of an epoch, and when it is told to stop
    keep_last: int = 1  # above 1, the checkpoints of the last so many epochs are kept too, for `asr average`
    accumulate: int = 1  # batches whose gradients make one update
    max_skipped: int = 10  # updates in a row that may be skipped because the loss or the gradient is not finite
    # Moving average of the weights, for instance 0.999 (Polyak & Juditsky 1992): validated and exported in their place.
    ema_decay: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name


@dataclass
class AcousticRecipe(Recipe):
    """Of a model that hears."""

    kind: str = "acoustic"
    # Fine-tuning: a packaged name, a bundle's or a run's folder. Weights and normalisation of the features are taken
    # from there; the tokens and the output layer too, if the tokenizer's settings are the same.
    init_from: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: AcousticConfig = field(default_factory=AcousticConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


@dataclass
class LanguageRecipe(Recipe):
    """Of a recurrent language model."""

    kind: str = "language"
    data: TextConfig = field(default_factory=TextConfig)
    model: LanguageConfig = field(default_factory=LanguageConfig)


KINDS: dict[str, type[AcousticRecipe] | type[LanguageRecipe]] = {
    "acoustic": AcousticRecipe,
    "language": LanguageRecipe,
}
ROOMS = ("simulated",)
NOISES = ("white", "pink", "brown", "babble")
CODECS = ("telephone", "telephone-mu-law", "telephone-gsm", "opus", "mp3")
# The keys of one kind mean nothing to the other.
CHOICES = {
    "tokenizer.kind": ("bpe", "characters"),
    "tokenizer.case": ("lower", "upper", "keep"),
    "tokenizer.unknown": ("error", "drop"),
    "model.cell": tuple(CELLS),
    "model.directions": (1, 2),
    "data.unknown": ("error", "drop"),
    "precision": ("auto", "float32", "bfloat16"),
}
LISTS = {"augment.rooms": (*ROOMS, "*.jsonl"), "augment.noises": (*NOISES, "*.jsonl"), "augment.codecs": CODECS}
POSITIVE = (
    "epochs",
    "keep_last",
    "accumulate",
    "data.max_seconds",
    "data.batch_seconds",
    "data.max_batch",
    "data.buckets",
    "data.train_fraction",
    "data.lanes",
    "data.span",
    "data.epoch_batches",
    "tokenizer.vocabulary",
    "model.layers",
    "model.size",
    "model.bands",
    "optimizer.learning_rate",
    "optimizer.clip",
)
NOT_NEGATIVE = (
    "threads",
    "checkpoint_minutes",
    "max_skipped",
    "model.lookahead",
    "data.workers",
    "augment.gain_db",
    "augment.join_seconds",
    "augment.frequency_masks",
    "augment.frequency_width",
    "augment.time_masks_per_second",
    "augment.time_width",
    "objective.intermediate_layer",
    "objective.consistency",
    "objective.delay",
    "optimizer.weight_decay",
)
SHARES = (  # 0…1
    *("model.dropout", "model.weight_dropout", "optimizer.warmup", "augment.mask_below_wer"),
    *("data.train_fraction", "data.min_confidence"),
    *("augment.join_share", "augment.room_share", "augment.noise_share", "augment.codec_share"),
    *("objective.intermediate", "objective.smoothing", "objective.distillation", "ema_decay"),
)
RANGES = {"augment.reverberation": (0.15, 0.6), "augment.snr_db": (-30.0, 100.0)}  # pairs, within these limits


def _keys(schema: Any, prefix: str = "") -> list[str]:
    keys = []
    for item in dataclasses.fields(schema):
        value = getattr(schema, item.name)
        keys += _keys(value, f"{prefix}{item.name}.") if dataclasses.is_dataclass(value) else [prefix + item.name]
    return keys


def _known(config: DictConfig) -> list[str]:
    schema = OmegaConf.get_type(config)
    assert schema is not None
    return _keys(schema())


def _merge(config: DictConfig, delta: DictConfig, where: str) -> DictConfig:
    try:
        return OmegaConf.merge(config, _listed(delta))  # type: ignore[return-value]
    except ConfigKeyError as error:
        key, known = str(error.full_key), _known(config)
        if key in known:
            raise RecipeError(
                f"{where}: write '{key.split('.')[-1]}' below '{key.split('.')[0]}:', not '{key}'"
            ) from error
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        raise RecipeError(f"{where}: unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else "")) from error
    except OmegaConfBaseException as error:
        first_line = str(error).splitlines()[0]
        key = f"'{error.full_key}'" if error.full_key else "a section"
        raise RecipeError(f"{where}: {key} has a wrong type: {first_line}") from error
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: a recipe is a mapping of keys to values ({error})") from error


def _listed(delta: DictConfig) -> DictConfig:
    """One training manifest or text need not be written as a list."""
    if isinstance(manifest := OmegaConf.select(delta, "data.train"), str):
        delta.data.train = [manifest]
    return delta


def load_recipe(path: Path, overrides: list[str]) -> AcousticRecipe | LanguageRecipe:
    """Defaults, then the YAML at `path`, then overrides like `optimizer.clip=2`. Errors are RecipeError, one line."""
    try:
        delta = OmegaConf.load(path)
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror or error})") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(delta, DictConfig):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, not a list")
    kind = _choose("kind", delta.get("kind", AcousticRecipe.kind), tuple(KINDS), path)
    config = _merge(OmegaConf.structured(KINDS[kind]), delta, str(path))
    for override in overrides:
        if "=" not in override:
            raise RecipeError(f"'{override}' is not an override; write key=value, for example epochs=10")
        try:
            config = _merge(config, OmegaConf.from_dotlist([override]), f"'{override}'")
        except (YAMLError, IndexError) as error:
            raise RecipeError(f"'{override}': the value is not valid YAML") from error
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise RecipeError(f"{path}: '{error.full_key}': {str(error).splitlines()[0]}") from error
    _choose("kind", config.kind, (kind,), path)
    _check_values(config, path)
    recipe: AcousticRecipe | LanguageRecipe = OmegaConf.to_object(config)  # type: ignore[assignment]
    if not recipe.data.train or not recipe.data.dev:
        what = "manifests" if isinstance(recipe, AcousticRecipe) else "texts"
        raise RecipeError(f"{path}: data.train and data.dev must name {what}, for example data.dev=dev.jsonl")
    return recipe


def _choose(key: str, value: Any, choices: tuple, path: Path) -> Any:
    if value not in choices:
        raise RecipeError(f"{path}: {key} is '{value}'; choose one of {', '.join(map(str, choices))}")
    return value


def _check_values(config: DictConfig, path: Path) -> None:
    values = {key: OmegaConf.select(config, key) for key in _known(config)}
    for key, value in values.items():
        if key in CHOICES:
            _choose(key, value, CHOICES[key], path)
        if key in POSITIVE and not 0 < value < math.inf:  # not NaN either
            raise RecipeError(f"{path}: {key} is {value}; it must be above 0")
        if key in NOT_NEGATIVE and not 0 <= value < math.inf:
            raise RecipeError(f"{path}: {key} is {value}; it must not be negative")
        for choice in value if key in LISTS else ():
            if not any(fnmatchcase(choice, known) for known in LISTS[key]):
                raise RecipeError(f"{path}: {key} has '{choice}'; choose of {', '.join(LISTS[key])}")
        if key in RANGES:
            lowest, highest = RANGES[key]
            if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
                raise RecipeError(f"{path}: {key} is {value}; give [from, to], from {lowest:g} to {highest:g}")
        if key in SHARES and not 0 <= value <= 1:
            raise RecipeError(f"{path}: {key} is {value}; it must be from 0 to 1")
    if values.get("model.lookahead") and values["model.directions"] == 2:
        raise RecipeError(
            f"{path}: model.lookahead is {config.model.lookahead}, but two directions see the whole utterance anyway; "
            "set it to 0, or model.directions to 1"
        )
    if config.kind == AcousticRecipe.kind:
        _check_objective(config, path)
    if Path(config.name).name != config.name:
        raise RecipeError(f"{path}: name is '{config.name}'; it becomes a folder below output and may hold no slash")
    if not 0 <= config.seed < 2**32:
        raise RecipeError(f"{path}: seed is {config.seed}; it must be from 0 to 2³² − 1")
    for key in ("augment.speeds", "augment.tempos"):
        factors = values.get(key, [1.0])
        if not factors or not all(0 < factor < math.inf for factor in factors):
            raise RecipeError(f"{path}: {key} is {factors}; give one or more, all above 0, for example [1.0]")
    if values.get("augment.join_share") and values["augment.join_seconds"] > values["data.max_seconds"]:
        raise RecipeError(
            f"{path}: augment.join_seconds is {config.augment.join_seconds}, longer than any utterance may be; "
            f"at most data.max_seconds, {config.data.max_seconds}"
        )


def _check_objective(config: DictConfig, path: Path) -> None:
    objective, layers = config.objective, config.model.layers
    if objective.intermediate and not 1 <= (objective.intermediate_layer or layers // 2) < layers:
        raise RecipeError(
            f"{path}: objective.intermediate_layer is {objective.intermediate_layer}, of {layers} layers; "
            "it must be below the last one, or set objective.intermediate to 0"
        )
    if objective.consistency and not config.augment.mask_below_wer:
        raise RecipeError(
            f"{path}: objective.consistency compares copies with different masks, but augment.mask_below_wer is 0, "
            "which never masks; set it to 1"
        )
    if bool(objective.distillation) != bool(objective.teacher):
        raise RecipeError(
            f"{path}: objective.distillation is {objective.distillation} and objective.teacher '{objective.teacher}'; "
            "set both or neither, for example 0.3 and en-bilstm"
        )
    if objective.intermediate + objective.smoothing + objective.distillation >= 1:
        raise RecipeError(
            f"{path}: objective.intermediate, smoothing and distillation together leave nothing for CTC; "
            "their sum must be below 1"
        )


# What may change when a run is resumed: how long and how it runs, not what it learns from and with.
RESUMABLE = (
    *("epochs", "precision", "threads", "output", "checkpoint_minutes", "max_skipped", "data.workers"),
    *("data.ngram", "description", "licence", "attribution", "keep_last"),
)


def check_resumed(recipe: Recipe, saved: Path) -> None:
    """RecipeError if `recipe` differs from the one a run began with in more than what may change."""
    try:
        before = OmegaConf.merge(
            OmegaConf.structured(type(recipe)), OmegaConf.load(saved)
        )  # fields may be newer than the run
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise RecipeError(
            f"{saved}: cannot read the run's recipe, train without --resume ({one_line(error)})"
        ) from error
    now = OmegaConf.structured(recipe)
    for key in _keys(recipe):
        old, new = OmegaConf.select(before, key), OmegaConf.select(now, key)
        if key not in RESUMABLE and old != new:
            raise RecipeError(f"{saved}: {key} was {old}, not {new}; a run goes on as it began, set name for another")


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every field, defaults included: the run's own record, without which it could not be resumed."""
    temporary = path.with_suffix(".partial")
    OmegaConf.save(OmegaConf.structured(recipe), temporary)
    os.replace(temporary, path)
