"""What a recipe may say: every field with its default. `asr.train.recipe` reads what differs from a YAML."""

from dataclasses import dataclass, field
from pathlib import Path

from asr.nn.acoustic import AcousticConfig
from asr.nn.language import LanguageConfig

ROOMS = ("simulated",)
NOISES = ("white", "pink", "brown", "babble")
CODECS = ("telephone", "telephone-mu-law", "telephone-gsm", "opus", "mp3")


@dataclass
class DataConfig:
    """Manifests (JSON Lines) and how they are batched. Relative paths start at the current directory."""

    train: list[str] = field(default_factory=list)  # also folders or URLs of shards (`asr prepare shar`)
    dev: str = ""
    # Further manifests that each epoch is measured on; the best epoch has the lowest mean word error rate of all.
    more_dev: list[str] = field(default_factory=list)
    # All audio decoded once, to OUTPUT/audio, and held in memory, on a GPU that has room for it in the GPU's; batches
    # are put together and augmented there. 115 MB an hour. Not with tempos, joined utterances or lossy codecs.
    in_memory: bool = False
    passes: int = 1  # over the training data in an epoch, with in_memory; it is measured and saved once an epoch
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
    # dB from … to, between which the volume is drawn, since nothing is normalised per file; one number is ± this.
    gain_db: list[float] = field(default_factory=lambda: [-6.0, 6.0])
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
    # plateau can keep it there, so masks wait until a dev WER was below `mask_below_wer`; with data.in_memory rooms,
    # noise and codecs wait too.
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
class PhonesConfig:
    """A second CTC head on the same encoder: over the pronunciations that manifests have as "phones", a letter a phone.

    It is trained beside the first one, and kept in checkpoints and in a bundle's weights.
    """

    weight: float = 0.0  # of its loss, taken from that of the first head; 0 for no second head
    vocabulary: int = 128  # BPE tokens with the blank
    alphabet: str = "aAuowIbCdDeREfghijJklmnNOYprsStTUxvWyzZ"  # CMUdict's 39 phones without stress


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
    licence: str = "unstated"  # of the weights, for the model card
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
