"""Sizes and shapes of the networks, as a recipe has them, and types for fields with limits.

Nothing is checked when an object is built or changed; reading a recipe does it (`asr.train.config`).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StrictBool

Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Cell = Literal["rnn", "lstm", "gru"]


@dataclass
class AcousticConfig:
    """Size and shape of the acoustic model."""

    cell: Cell = "lstm"
    bidirectional: StrictBool = True  # reads the whole utterance; a unidirectional model can stream
    layers: Count = 4
    hidden_size: Count = 320  # of every layer, per direction
    lookahead: CountOrZero = 0  # frames of 40 ms that a unidirectional model waits for; its delay is one more
    dropout: Share = 0.1  # on the output of each recurrent layer
    variational_dropout: StrictBool = False  # one mask for all frames of an utterance (Gal & Ghahramani 2016)
    weight_dropout: Share = 0.0  # on the recurrent weights, one mask per batch (Merity et al. 2018)
    n_mels: Count = 80  # mel bands
    # Floor of a band's energy before the logarithm. 1e-6 is about 80 dB below full scale: in a recording that is 30 dB
    # too quiet much of the speech is below it.
    energy_floor: Positive = 1e-6


@dataclass
class LanguageConfig:
    """Size and shape of a recurrent language model."""

    cell: Cell = "lstm"
    layers: Count = 2
    hidden_size: Count = 512  # of every layer
    dropout: Share = 0.1  # on the embedding and on the output of each recurrent layer
