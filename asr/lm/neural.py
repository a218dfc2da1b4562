"""A recurrent language model over tokens that spell letters, run by onnxruntime.

It is a folder that `asr train` writes: config.json (`NeuralConfig`), tokens.txt, model.onnx (tokens (B, T) int64 and
state → log_probs (B, T, V) of the token after each, next state), weights.safetensors, MODEL_CARD.md. Id 0, the blank of
acoustic models, is the boundary here: it begins and ends every sentence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr.errors import BundleError, LanguageModelError, one_line
from asr.model.bundle import ModelConfig, read_config, require_inside
from asr.model.session import Graph
from asr.model.tokens import BLANK_ID, Tokens

BOUNDARY = BLANK_ID
NAME = "recurrent language model"  # in errors
BATCH = 64  # sequences that are scored together
TOKENS_PER_WORD = 30  # limit on generated text, on average


@dataclass(frozen=True, kw_only=True)
class NeuralConfig(ModelConfig):
    """config.json."""

    tokenizer: dict[str, Any]  # asr.data.config.TokenizerConfig
    kind: Literal["language"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(self.tokenizer.get(name, ""), str) for name in ("case", "kind")):
            raise ValueError("tokenizer.case and tokenizer.kind are not both texts")


class NeuralModel:
    """Log-probabilities of token sequences. Holds no state between calls; threads may share one.

        log_probs, states = model.advance([BOUNDARY] * B, model.start(B))  # (B, V): of the first token of each sentence
        log_probs, states = model.advance(tokens, states)                  # of the token after `tokens`

    States are float32 with the batch as first axis: index them as hypotheses branch and end.
    """

    def __init__(self, config: NeuralConfig, tokens: Tokens, graph: Graph):
        self.config = config
        self.tokens = tokens
        self._graph = graph
        self._state_shape = graph.state_shape("state")

    @classmethod
    def load(cls, folder: Path | str, graph: Path | None = None) -> "NeuralModel":
        """Open a model's folder; graph: another than its own. Raises LanguageModelError."""
        folder = Path(folder)
        try:
            config = read_config(folder, NeuralConfig, NAME)
            tokens = Tokens.load(require_inside(folder, "tokens.txt", NAME))
            path = graph or require_inside(folder, "model.onnx", NAME)
        except BundleError as error:
            raise LanguageModelError(str(error)) from error
        opened = Graph(path, 1, error=LanguageModelError)
        if opened.inputs != ["tokens", "state"] or opened.tokens != [len(tokens)]:
            raise LanguageModelError(
                f"{path}: not the graph of a language model over the {len(tokens)} tokens of tokens.txt; copy it again"
            )
        return cls(config, tokens, opened)

    def start(self, batch: int = 1) -> np.ndarray:
        return np.zeros((batch, *self._state_shape), dtype=np.float32)

    def advance(self, tokens: Sequence[int] | np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """tokens (B,), states → log_probs (B, V) of the tokens after them, next states."""
        log_probs, states = self._run(np.asarray(tokens, dtype=np.int64)[:, None], states)
        return log_probs[:, 0], states

    def _run(self, tokens: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """tokens (B, T), states → log_probs (B, T, V), next states. LanguageModelError if the graph fails."""
        inputs = {"tokens": tokens, "state": states}
        log_probs, states = self._graph.run(inputs, (*tokens.shape, len(self.tokens))).values()
        return log_probs, states

    def score(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Natural log of the probability of each sequence as a whole sentence, its end included: (N,)."""
        return np.array([scores.sum() for scores in self.score_tokens(sequences)])

    def score_tokens(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """For each sequence of n tokens the natural logs (n + 1,) of their probabilities and of the sentence's end."""
        scores: list[np.ndarray] = [np.zeros(0)] * len(sequences)
        by_length = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        for begin in range(0, len(by_length), BATCH):
            rows = by_length[begin : begin + BATCH]
            # Padding may be any token: the model reads from left to right.
            tokens = np.full((len(rows), len(sequences[rows[-1]]) + 2), BOUNDARY, dtype=np.int64)
            for row, index in zip(tokens, rows, strict=True):
                row[1 : len(sequences[index]) + 1] = sequences[index]
            log_probs, _ = self._run(tokens[:, :-1], self.start(len(rows)))
            chosen = np.take_along_axis(log_probs, tokens[:, 1:, None], axis=2)[:, :, 0].astype(np.float64)
            for row, index in zip(chosen, rows, strict=True):
                scores[index] = row[: len(sequences[index]) + 1]
        return scores

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, as in training. LanguageModelError names a character that has no token."""
        pieces = self.tokens.spell(text, self.config.tokenizer)
        for piece in pieces:
            if piece not in self.tokens.ids:
                raise LanguageModelError(f"{self.config.name} has no token for '{piece}' in “{one_line(text)}”")
        return [self.tokens.ids[piece] for piece in pieces]

    def generate(self, prompt: str, words: int, temperature: float = 1.0, seed: int = 0) -> Iterator[str]:
        """Sentences of `words` words in total, the first one after `prompt`, whose words do not count.

        Each token is drawn from p ^ (1 / temperature); at temperature 0 it is the most probable one.
        """
        generator = np.random.default_rng(seed)
        sentence, given, states = self.encode(prompt), len(prompt.split()), self.start()
        for token in (BOUNDARY, *sentence):
            log_probs, states = self.advance([token], states)
        for _ in range(words * TOKENS_PER_WORD):
            token = _draw(log_probs[0], temperature, generator)
            written = self.tokens.text([*sentence, token]).split()
            if len(written) - given > words:
                break
            if token == BOUNDARY:
                yield " ".join(written)
                words -= len(written) - given
                sentence, given = [], 0
                if words <= 0:
                    return
            else:
                sentence.append(token)
            log_probs, states = self.advance([token], states)
        yield self.tokens.text(sentence)


def _draw(log_probs: np.ndarray, temperature: float, generator: np.random.Generator) -> int:
    if not temperature:
        return int(log_probs.argmax())
    weights = np.exp((log_probs.astype(np.float64) - log_probs.max()) / temperature)
    return int(generator.choice(len(weights), p=weights / weights.sum()))
