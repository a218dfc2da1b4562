"""A recipe: the defaults of `config`, a short YAML that says what differs, and `a.b=value` from the command line."""

import dataclasses
import difflib
import math
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from asr.data.config import CODECS, NOISES, ROOMS
from asr.errors import RecipeError, one_line
from asr.files import replacing
from asr.nn.recurrent import CELLS
from asr.train.config import AcousticRecipe, LanguageRecipe, Recipe

KINDS: dict[str, type[AcousticRecipe] | type[LanguageRecipe]] = {
    "acoustic": AcousticRecipe,
    "language": LanguageRecipe,
}
# The keys of one kind mean nothing to the other.
CHOICES = {
    "tokenizer.kind": ("bpe", "characters"),
    "tokenizer.case": ("lower", "upper", "keep"),
    "tokenizer.unknown": ("error", "drop"),
    "model.cell": tuple(CELLS),
    "data.unknown": ("error", "drop"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "optimizer.schedule": ("cosine", "constant"),
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
    "data.batch_size",
    "data.bptt_length",
    "data.epoch_batches",
    "tokenizer.vocabulary",
    "model.layers",
    "model.hidden_size",
    "model.n_mels",
    "model.energy_floor",
    "data.passes",
    "phones.vocabulary",
    "optimizer.learning_rate",
    "optimizer.clip",
)
NOT_NEGATIVE = (
    "threads",
    "checkpoint_minutes",
    "max_skipped",
    "budget_minutes",
    "model.lookahead",
    "data.workers",
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
    *("optimizer.decay", "phones.weight"),
)
SLOWEST, FASTEST = 0.5, 2.0  # speech beyond is none
RANGES = {
    "augment.reverberation": (0.15, 0.6),
    "augment.snr_db": (-30.0, 100.0),
    "augment.gain_db": (-60.0, 20.0),
}  # pairs, within these limits


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
        if "is not a ListConfig" in first_line:
            raise RecipeError(f"{where}: {key} has a wrong type: it is a list, write it as [a, b]") from error
        raise RecipeError(f"{where}: {key} has a wrong type: {first_line}") from error
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: a recipe is a mapping of keys to values ({error})") from error


def _listed(delta: DictConfig) -> DictConfig:
    """One training manifest or text need not be written as a list, nor a volume of ± so many dB."""
    for key in ("data.train", "data.more_dev"):
        if isinstance(manifest := OmegaConf.select(delta, key), str):
            OmegaConf.update(delta, key, [manifest])
    if isinstance(gain := OmegaConf.select(delta, "augment.gain_db"), int | float):
        delta.augment.gain_db = [-abs(gain), abs(gain)]
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
    if values.get("model.lookahead") and values["model.bidirectional"]:
        raise RecipeError(
            f"{path}: model.lookahead is {config.model.lookahead}, but a bidirectional model sees "
            "the whole utterance anyway; set it to 0, or model.bidirectional to false"
        )
    if config.optimizer.warmup + config.optimizer.decay > 1 and config.optimizer.schedule == "constant":
        raise RecipeError(f"{path}: optimizer.warmup and optimizer.decay are more than the whole run; lower one")
    if config.ema_decay == 1:
        raise RecipeError(f"{path}: ema_decay is 1, an average that never moves; set it below, for example to 0.999")
    if config.kind == AcousticRecipe.kind:
        _check_objective(config, path)
    if Path(config.name).name != config.name:
        raise RecipeError(f"{path}: name is '{config.name}'; it becomes a folder below output and may hold no slash")
    if not 0 <= config.seed < 2**32:
        raise RecipeError(f"{path}: seed is {config.seed}; it must be from 0 to 2³² − 1")
    for key in ("augment.speeds", "augment.tempos"):
        factors = values.get(key, [1.0])
        if not factors or not all(SLOWEST <= factor <= FASTEST for factor in factors):
            raise RecipeError(
                f"{path}: {key} is {factors}; give one or more, from {SLOWEST:g} to {FASTEST:g}, for example [1.0]"
            )
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
            "objective.intermediate needs one below the last, or set that to 0"
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
    if objective.intermediate + objective.smoothing + objective.distillation + config.phones.weight >= 1:
        raise RecipeError(
            f"{path}: objective.intermediate, smoothing and distillation and phones.weight together leave nothing for "
            "CTC; their sum must be below 1"
        )
    if not config.data.in_memory and (config.data.passes > 1 or config.phones.weight):
        raise RecipeError(f"{path}: data.passes and phones.weight need data.in_memory=true")


# What may change when a run is resumed: how long and how it runs, not what it learns from and with.
RESUMABLE = (
    *("epochs", "precision", "threads", "output", "checkpoint_minutes", "max_skipped", "data.workers"),
    *("data.ngram", "description", "license", "attribution", "keep_last"),
    "budget_minutes",
    "accumulate",  # times the processes it is the same: `Trainer` sees to that
)


def check_resumed(recipe: Recipe, saved: Path) -> None:
    """RecipeError if `recipe` differs from the one a run began with in more than what may change."""
    try:
        before = OmegaConf.merge(
            OmegaConf.structured(type(recipe)),
            _listed(OmegaConf.load(saved)),  # type: ignore[arg-type]
        )  # fields may be newer than the run
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise RecipeError(
            f"{saved}: cannot read the run's recipe ({one_line(error)}); copy it again, or set another name"
        ) from error
    now = OmegaConf.structured(recipe)
    for key in _keys(recipe):
        old, new = OmegaConf.select(before, key), OmegaConf.select(now, key)
        if key not in RESUMABLE and old != new:
            raise RecipeError(f"{saved}: {key} was {old}, not {new}; a run goes on as it began, set name for another")


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every field, defaults included: the run's own record, without which it could not be resumed."""
    with replacing(path) as part:
        OmegaConf.save(OmegaConf.structured(recipe), part)
