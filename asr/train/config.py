"""What a recipe may say: every field with its default. `asr.train.recipe` reads what differs from a YAML."""

from dataclasses import dataclass, field
from pathlib import Path

from asr.data.config import AugmentConfig, DataConfig, PhonesConfig, TextConfig, TokenizerConfig
from asr.nn.ctc_model import AcousticConfig
from asr.nn.language_model import LanguageConfig


@dataclass
class ObjectiveConfig:
    """What is minimised: CTC and, each with a weight above 0, terms that are known to help a recurrent CTC model.

    (1 − intermediate − smoothing − distillation) · CTC + each weight · its term, as in asr/train/loss.py.
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
    """AdamW (Loshchilov & Hutter 2019) and a schedule of the learning rate: linear warm-up, then

    cosine: half a cosine to 1 % of the peak.
    constant: the peak, then 1 − √ of the share of the decay that is done, to 1 % of it (warm-up, stable, decay: Hu et
    al. 2024, "MiniCPM"; the form of the decay: Hägele et al. 2024). Weights from before the decay are kept as
    constant.safetensors: another run goes on from there (`init_from`).
    """

    learning_rate: float = 1.5e-3  # at the peak
    weight_decay: float = 0.01
    schedule: str = "cosine"  # or constant
    warmup: float = 0.08  # share of the run
    decay: float = 0.25  # share of the run, of the constant schedule
    clip: float = 1.0  # gradient norm


@dataclass
class Recipe:
    """What the training loop needs to know, whatever is trained."""

    kind: str = ""  # acoustic or language
    name: str = "model"
    language: str = "en"
    description: str = ""  # one sentence for the model card
    license: str = "unstated"  # of the weights, for the model card
    attribution: str = ""  # of the data, for the model card
    output: str = "runs"  # the run's folder is OUTPUT/NAME
    seed: int = 1
    epochs: int = 20
    # float32, bfloat16 (autocast), or auto: bfloat16 on CUDA and on processors with AMX tiles, where it
    # is fast; on other processors it is slower than float32. float16 with a scaled loss (Micikevicius et al. 2018), for
    # older CUDA; its first updates may be skipped until the scale fits.
    precision: str = "auto"
    threads: int = 0  # CPU threads, 0 leaves the choice to torch
    checkpoint_minutes: float = 10.0  # the run is saved so often, at the end of an epoch, and when it is told to stop
    # Above 0, the run ends after so many minutes, measuring and saving included, if not after `epochs`. The schedule
    # then goes by the time, and window.safetensors has weights of half precision that are never older than a minute.
    budget_minutes: float = 0.0
    keep_last: int = 1  # above 1, the checkpoints of the last so many epochs are kept too, for `asr average`
    accumulate: int = 1  # batches whose gradients make one update, in each process
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
    phones: PhonesConfig = field(default_factory=PhonesConfig)


@dataclass
class LanguageRecipe(Recipe):
    """Of a recurrent language model."""

    kind: str = "language"
    data: TextConfig = field(default_factory=TextConfig)
    model: LanguageConfig = field(default_factory=LanguageConfig)
