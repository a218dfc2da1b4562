"""The sections of a recipe that describe its data: manifests, texts, tokens, augmentation."""

from dataclasses import dataclass, field

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
    batch_size: int = 128  # sequences that are read side by side
    bptt_length: int = 32  # tokens of each sequence in a batch, through which gradients flow; the state goes on
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
class PhonesConfig:
    """A second CTC head on the same encoder: over the pronunciations that manifests have as "phones", a letter a phone.

    It is trained beside the first one, and kept in checkpoints and in a bundle's weights.
    """

    weight: float = 0.0  # of its loss, taken from that of the first head; 0 for no second head
    vocabulary: int = 128  # BPE tokens with the blank
    alphabet: str = "aAuowIbCdDeREfghijJklmnNOYprsStTUxvWyzZ"  # CMUdict's 39 phones without stress
