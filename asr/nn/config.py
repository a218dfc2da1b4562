"""Sizes and shapes of the networks, as a recipe has them, and types for fields with limits.

Nothing is checked when an object is built or changed; reading a recipe does it (`asr.train.config`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StrictBool, TypeAdapter

HIGHEST = 10**9  # of numbers that have no lower limit of their own
Count = Annotated[int, Field(ge=1, le=HIGHEST, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, le=HIGHEST, strict=True)]
Layers = Annotated[int, Field(ge=1, le=100, strict=True)]
Size = Annotated[int, Field(ge=1, le=1 << 14, strict=True)]  # of a vector
Vocabulary = Annotated[int, Field(ge=1, le=1 << 16, strict=True)]  # tokens
Threads = Annotated[int, Field(ge=0, le=1024, strict=True)]
Positive = Annotated[float, Field(gt=0, le=HIGHEST)]
NotNegative = Annotated[float, Field(ge=0, le=HIGHEST)]
Share = Annotated[float, Field(ge=0, le=1)]

Cell = Literal["rnn", "lstm", "gru"]
Config = TypeVar("Config")


def validated(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A dataclass from a file, its fields checked as those of a recipe are.

    TypeError for a field that is missing or unknown, ValueError for a value of another type or beyond its limits.
    """
    return TypeAdapter(kind).validate_python(asdict(kind(**values)))  # type: ignore[call-overload]


@dataclass
class AcousticConfig:
    """Size and shape of the acoustic model."""

    cell: Cell = "lstm"
    bidirectional: StrictBool = True  # reads the whole utterance; a unidirectional model can stream
    layers: Layers = 4
    hidden_size: Size = 320  # of every layer, per direction
    # Frames of 40 ms that a unidirectional model waits for; its delay is one more.
    lookahead: Annotated[int, Field(ge=0, le=1000, strict=True)] = 0
    dropout: Share = 0.1  # on the output of each recurrent layer
    variational_dropout: StrictBool = False  # one mask for all frames of an utterance (Gal & Ghahramani 2016)
    weight_dropout: Share = 0.0  # on the recurrent weights, one mask per batch (Merity et al. 2018)
    n_mels: Annotated[int, Field(ge=1, le=1000, strict=True)] = 80  # mel bands
    # Takes each band's mean over the utterance off, and so the level and the microphone's response (Atal 1974,
    # "Effectiveness of linear prediction characteristics of the speech wave"); for a model that reads all of it.
    mean_normalization: StrictBool = False
    # Floor of a band's energy before the logarithm. 1e-6 is about 80 dB below full scale: in a recording that is 30 dB
    # too quiet much of the speech is below it.
    energy_floor: Positive = 1e-6


@dataclass
class LanguageConfig:
    """Size and shape of a recurrent language model."""

    cell: Cell = "lstm"
    layers: Layers = 2
    hidden_size: Size = 512  # of every layer
    dropout: Share = 0.1  # on the embedding and on the output of each recurrent layer


@dataclass
class TaggerConfig:
    """Size and shape of a tagger, which finds marks and capitals."""

    cell: Cell = "lstm"
    bidirectional: StrictBool = True  # reads the whole text; a unidirectional tagger needs no words beyond `lookahead`
    lookahead: Annotated[int, Field(ge=0, le=100, strict=True)] = 0  # words that a unidirectional one waits for
    layers: Layers = 2
    hidden_size: Size = 128  # of every layer, per direction
    rows: Annotated[int, Field(ge=1, le=1 << 24, strict=True)] = 40_000  # of the table that words are hashed into
    embedding_size: Size = 64
    dropout: Share = 0.1


@dataclass
class AttentionConfig:
    """Attention decoder on the encoder of an acoustic model, for a second pass over the beam's n best.

    It is trained beside CTC, (1 − weight) · CTC + weight · attention (Watanabe et al. 2017, "Hybrid CTC/attention
    architecture for end-to-end speech recognition"), or later on an encoder that stays as it is.
    """

    weight: Share = 0.0  # 0 for no decoder
    freeze_encoder: StrictBool = False  # only the decoder learns, on the encoder of `init_from`
    vocabulary: Vocabulary = 500  # BPE tokens of the letters, with the boundary
    cell: Cell = "lstm"
    layers: Annotated[int, Field(ge=1, le=4, strict=True)] = 2
    hidden_size: Size = 256  # of every layer
    heads: Annotated[int, Field(ge=1, le=64, strict=True)] = 4
    score: Literal["dot", "additive"] = "dot"
    dropout: Share = 0.1  # on the embedding, and on what each layer adds
    smoothing: Share = 0.1  # share of the target that is spread over all tokens
    guide: NotNegative = 1.0  # weight of attention far from the diagonal
