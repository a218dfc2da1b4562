"""The attention decoder of a bundle, run by onnxruntime: P(text | recording), for a second pass over the beam's n best.

second_pass.onnx    tokens (N, S) int64, state, encoded (1, T, size) → log_probs (N, S, V) of the token after each, next
                    state, weights of the attention (N, layers, S, T); see `asr.nn.attention`
second_pass.txt     its tokens: BPE pieces of letters; id 0 begins and ends every sentence
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import BundleError
from asr.model.bundle import require_inside
from asr.model.session import Graph
from asr.model.tokens import BLANK_ID, Tokens

GRAPH, TOKENS = "second_pass.onnx", "second_pass.txt"
BOUNDARY = BLANK_ID


class Attended(NamedTuple):
    """Output for N sequences of S tokens and a recording of T frames."""

    log_probs: np.ndarray  # float32 (N, S, V), of the token after each
    states: np.ndarray  # float32 (N, …), after the last one
    weights: np.ndarray  # float32 (N, layers, S, T), of the attention


class AttentionModel:
    """Holds no state between calls; threads may share one. BundleError if the files are damaged."""

    def __init__(self, folder: Path, case: str):
        """folder: of the bundle; case: of the texts that it learned from, as of its tokenizer."""
        path = require_inside(folder, GRAPH)
        self.case = case
        self.tokens = Tokens.load(require_inside(folder, TOKENS))
        self._graph = Graph(path, threads=1)
        if self._graph.inputs != ["tokens", "state", "encoded"] or self._graph.tokens != [len(self.tokens)]:
            raise BundleError(f"{path}: not the graph of a decoder over the tokens of {TOKENS}; copy it again")
        self._state_shape = self._graph.state_shape("state")

    def start(self, batch: int) -> np.ndarray:
        return np.zeros((batch, *self._state_shape), dtype=np.float32)

    def run(self, tokens: np.ndarray, states: np.ndarray, encoded: np.ndarray) -> Attended:
        """tokens (N, S), states of the N sequences, encoded (T, size), T ≥ 1."""
        inputs = {"tokens": tokens, "state": states, "encoded": encoded[None]}
        outputs = self._graph.run(inputs, (*tokens.shape, len(self.tokens)))
        return Attended(outputs["log_probs"], outputs["next_state"], outputs["weights"])

    def score(self, texts: Sequence[str], encoded: np.ndarray) -> np.ndarray:
        """Natural log of the probability of each text in the recording, its end included: (N,), in one run."""
        sequences = [self.encode(text) for text in texts]
        # Padding may be any token: the model reads from left to right.
        tokens = np.full((len(texts), max(map(len, sequences)) + 2), BOUNDARY, dtype=np.int64)
        for row, sequence in zip(tokens, sequences, strict=True):
            row[1 : len(sequence) + 1] = sequence
        log_probs = self.run(tokens[:, :-1], self.start(len(texts)), encoded).log_probs
        chosen = np.take_along_axis(log_probs, tokens[:, 1:, None], axis=2)[:, :, 0].astype(np.float64)
        inside = np.arange(chosen.shape[1]) <= np.array([[len(sequence)] for sequence in sequences])
        return (chosen * inside).sum(axis=1)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, as in training; characters that have none are left out."""
        pieces = self.tokens.spell(text, {"kind": "bpe", "case": self.case})
        return [self.tokens.ids[piece] for piece in pieces if piece in self.tokens.ids]
