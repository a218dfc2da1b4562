"""The sections of a recipe that describe its data: manifests, texts, tokens, augmentation."""

import unicodedata
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from asr.model.phones import LETTERS
from asr.nn.config import Count, CountOrZero, NotNegative, Positive, Share, Vocabulary

NOISES = ("white", "pink", "brown", "babble")
CODECS = ("telephone", "telephone-mu-law", "telephone-gsm", "opus", "mp3")


def choice(*patterns: str) -> AfterValidator:
    """Limit of a name: one of these, `*` stands for anything."""

    def check(name: str) -> str:
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            raise ValueError(f"choose one of {', '.join(patterns)}")
        return name

    return AfterValidator(check)


def interval(lowest: float, highest: float) -> AfterValidator:
    """Limit of a list: two numbers, the first not above the second, both from `lowest` to `highest`."""

    def check(pair: list[float]) -> list[float]:
        if len(pair) != 2 or not lowest <= pair[0] <= pair[1] <= highest:
            raise ValueError(f"give [from, to], from {lowest:g} to {highest:g}")
        return pair

    return AfterValidator(check)


def _symmetric(gain: Any) -> Any:
    return [-abs(gain), abs(gain)] if isinstance(gain, int | float) else gain


Paths = Annotated[list[str], BeforeValidator(lambda paths: [paths] if isinstance(paths, str) else paths)]
Factors = Annotated[list[Annotated[float, Field(ge=0.5, le=2, multiple_of=0.01)]], Field(min_length=1)]
Spelling = Literal["letters", "phones"]  # what tokens are made of
Unknown = Literal["error", "drop"]  # a character outside the alphabet: error, or drop it and count


@dataclass
class DataConfig:
    """Manifests (JSON Lines) and how they are batched. Relative paths start at the current directory."""

    train: Paths = field(default_factory=list)  # also folders or URLs of shards (`asr prepare shar`)
    dev: str = ""
    # Further manifests that each epoch is measured on; the best epoch has the lowest mean word error rate of all.
    more_dev: Paths = field(default_factory=list)
    passes: Count = 1  # over the training data in an epoch; it is measured and saved once an epoch
    max_seconds: Positive = 20.0  # longer utterances are left out and counted
    batch_seconds: Positive = 200.0  # audio in one batch
    max_batch: Count = 80  # utterances in one batch, so that very short ones do not make a huge one
    # Of texts that a model wrote (`asr transcribe --format jsonl`), only those with at least this confidence are used
    # (pseudo-labels, Kahn et al. 2020); the others are left out and counted.
    min_confidence: Share = 0.0
    train_fraction: Annotated[Share, Field(gt=0)] = 1.0  # share of the training utterances to use, for a quick look


@dataclass
class TextConfig:
    """Texts of a sentence a line (plain, gzip or xz), and how a language model walks through them."""

    train: Paths = field(default_factory=list)
    dev: str = ""  # a manifest (.jsonl), whose texts count, or a text
    batch_size: Count = 128  # sequences that are read side by side
    bptt_length: Count = 32  # tokens of each sequence in a batch, through which gradients flow; the state goes on
    epoch_batches: Count = 1000  # an epoch is so many batches, not a pass over the text: it is saved and measured then
    ngram: str = ""  # a file of `asr lm build`; the model card has its perplexity beside the model's


@dataclass
class WrittenConfig:
    """Texts as they are written and as they are spoken (`asr.data.written`), and how a tagger walks through them."""

    train: Paths = field(default_factory=list)
    dev: Paths = field(default_factory=list)
    epoch_words: Count = 5_000_000  # drawn anew for each epoch, from all of the text
    batch_words: Count = 6000
    max_words: Annotated[int, Field(ge=4, le=10_000, strict=True)] = 160  # in a run of sentences
    # How a text sounds and is misheard, a file of tools/speech_statistics.py; without it only words are learned from.
    speech: str = ""
    misheard_runs: Share = 0.4  # runs with errors
    misheard_share: Share = 0.2  # words of these that are drawn as they were heard, right or wrong
    unknown_share: Share = 0.4  # runs of which the pauses are not known, and likewise the confidences


@dataclass
class TokenizerConfig:
    """Text to tokens: letters, or phones by the pronunciation of the words."""

    # bpe and phone_bpe: pieces of several letters or phones, by sentencepiece, trained on the training text.
    # phones: one token a phone, and another for it at the start of a word.
    kind: Literal["bpe", "characters", "phones", "phone_bpe"] = "bpe"
    vocabulary: Vocabulary = 128  # tokens with the blank, for bpe and phone_bpe
    case: Literal["lower", "upper", "keep"] = "lower"  # applied to the text before anything else
    alphabet: str = "abcdefghijklmnopqrstuvwxyz'"  # letters that texts may hold beside the space
    # Where phones are spelled, `error` takes words of other characters too: if they cannot be pronounced, the utterance
    # is left out.
    unknown: Unknown = "error"
    lexicon: str = "en-lexicon"  # how words are pronounced: a packaged name, or a dictionary (word, tab, ARPAbet)

    def __post_init__(self) -> None:
        self.alphabet = unicodedata.normalize("NFC", self.alphabet)  # as texts are

    @property
    def spelling(self) -> Spelling:
        return "phones" if self.kind in ("phones", "phone_bpe") else "letters"


@dataclass
class AugmentConfig:
    """Changes to the audio and the features while training."""

    speeds: Factors = field(default_factory=lambda: [0.9, 1.0, 1.1])  # one drawn per utterance and epoch
    tempos: Factors = field(default_factory=lambda: [1.0])  # the same, at the same pitch
    # dB from … to, between which the volume is drawn, since nothing is normalised per file; one number is ± this.
    gain_db: Annotated[list[float], interval(-60, 20), BeforeValidator(_symmetric)] = field(
        default_factory=lambda: [-6.0, 6.0]
    )
    # Utterances are joined to longer ones, but not in the first pass of a new model, which begins with the shortest.
    join_share: Share = 0.0  # utterances that are joined with others, drawn per epoch
    join_seconds: NotNegative = 10.0  # length of a joined utterance, at most
    # A room, then noise, then a codec. Each happens to its share of the utterances, drawn per utterance and epoch, and
    # is one of a list: names, or manifests (.jsonl, any text) of recorded noise or impulse responses. Empty is none.
    rooms: list[Annotated[str, choice("simulated", "*.jsonl")]] = field(default_factory=list)
    room_share: Share = 0.3
    # Time in s until a simulated room is 60 dB quieter, from … to.
    reverberation: Annotated[list[float], interval(0.15, 0.6)] = field(default_factory=lambda: [0.2, 0.5])
    # babble: other training utterances
    noises: list[Annotated[str, choice(*NOISES, "*.jsonl")]] = field(default_factory=list)
    noise_share: Share = 0.3
    # Of the utterances with noise (babble excepted): those of noise alone, as loud as the speech was, without a text.
    noise_alone: Share = 0.0
    # Speech, pauses included, above noise in dB, from … to.
    snr_db: Annotated[list[float], interval(-30, 100)] = field(default_factory=lambda: [5.0, 25.0])
    codecs: list[Annotated[str, choice(*CODECS)]] = field(default_factory=list)  # telephone is 300–3400 Hz
    codec_share: Share = 0.3
    # SpecAugment (Park et al. 2019): masks drawn per utterance. Masking before the model has left the blank-only
    # plateau can keep it there, so masks wait until a dev WER was below `mask_below_wer`, and rooms, noise and codecs
    # with them. A run with `init_from` has all of them from the beginning.
    frequency_masks: CountOrZero = 2
    frequency_width: CountOrZero = 20  # bands at most
    time_masks_per_second: NotNegative = 0.3
    time_width: CountOrZero = 25  # frames of 10 ms at most
    mask_below_wer: Share = 0.85  # 0 never masks, and has the others from the beginning


@dataclass
class PhonesConfig:
    """A second CTC head on the same encoder, over pronunciations.

    They are those that manifests have as "phones", a letter a phone. Other utterances have those of `tokenizer.lexicon`
    if the alphabet is CMUdict's, else none.

    It is trained beside the first one, and kept in checkpoints and in a bundle's weights.
    """

    weight: Share = 0.0  # of its loss, taken from that of the first head; 0 for no second head
    vocabulary: Vocabulary = 128  # BPE tokens with the blank
    alphabet: str = LETTERS  # CMUdict's 39 phones without stress
