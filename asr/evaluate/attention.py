"""Where an attention decoder looks while it writes a text, against the CTC alignment of the same words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio.sources import Excerpt
from asr.decode.build import open_attention
from asr.decode.rescoring import LONGEST_SECONDS
from asr.errors import ArgumentError, AsrError
from asr.model.second_pass import BOUNDARY
from asr.model.tokens import WORD_START
from asr.output.transcript import Word
from asr.recognize.align import align
from asr.recognize.offline import Recognizer

NEAR_SECONDS = 0.5  # before and after a word


@dataclass(frozen=True)
class AttendedText:
    """For each token of a text the attention of the last layer, mean of its heads, and the word it is of."""

    pieces: list[str]
    weights: np.ndarray  # float32 (S, T); each row sums to 1
    words: list[Word]  # (S,), with their times by CTC
    frame_seconds: float

    @property
    def share(self) -> float:
        """Of the attention, that within `NEAR_SECONDS` of the token's word."""
        middles = (np.arange(self.weights.shape[1]) + 0.5) * self.frame_seconds
        starts, ends = (np.array([[getattr(word, side)] for word in self.words]) for side in ("start", "end"))
        near = (middles >= starts - NEAR_SECONDS) & (middles <= ends + NEAR_SECONDS)
        return float((self.weights * near).sum() / self.weights.sum())


def attend(
    recognizer: Recognizer, source: str | Path | Excerpt, text: str | None = None
) -> tuple[AttendedText, np.ndarray]:
    """Where the decoder looks while it writes `text`, by default what is recognized; and the CTC log-probabilities.

    ArgumentError if the model has no decoder, or the recording is too long for it; AsrError if the text does not fit.
    """
    bundle = recognizer.bundle
    model = open_attention(bundle)
    frames, level = recognizer.frames_and_level(source)
    if model is None or frames.encoded is None:
        raise ArgumentError(f"{bundle.config.name} has no attention decoder; choose a model with second_pass.onnx")
    if level.seconds > LONGEST_SECONDS:
        raise ArgumentError(
            f"{source}: {level.seconds:.0f} s; the attention of at most {LONGEST_SECONDS:.0f} s can be shown"
        )
    text = recognizer.transcribe(source).text if text is None else text
    if not text:
        raise AsrError(f"{source}: no words are recognized")
    aligned = [word for word in align(recognizer, source, text).words if word.spoken]
    tokens = [model.encode(word.text) for word in aligned]
    ids = [token for its in tokens for token in its]
    run = model.run(np.array([[BOUNDARY, *ids[:-1]]]), model.start(1), frames.encoded)
    words = [word for word, its in zip(aligned, tokens, strict=True) for _ in its]
    pieces = [model.tokens.symbols[token].replace(WORD_START, "_") for token in ids]
    return AttendedText(pieces, run.weights[0, -1], words, bundle.config.frame_seconds), frames.log_probs
