"""Text for language models: token ids in memory, shuffled by sentences, read as parallel sequences."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.data.manifest import read_manifest
from asr.data.tokenizer import TextRule, Tokenizer
from asr.errors import RecipeError
from asr.lm.neural import BOUNDARY
from asr.lm.source import read_sentences


def read_texts(path: str, rule: TextRule) -> Iterable[str]:
    """The sentences of a text or, if its name ends in .jsonl, of a manifest, as the rule leaves them; none is empty."""
    if path.endswith(".jsonl"):
        sentences = ((f"{path}: '{entry.id}'", entry.text) for entry in read_manifest(Path(path)))
    else:
        sentences = ((path, sentence) for sentence in read_sentences([path], as_is=True))
    for where, sentence in sentences:
        if text := rule(sentence, where):
            yield text


@dataclass
class EncodedText:
    """Token ids (N,) of all sentences, a boundary behind each, and their ends (S,)."""

    tokens: np.ndarray
    ends: np.ndarray
    words: int

    @classmethod
    def encode(cls, texts: Iterable[str], tokenizer: Tokenizer) -> "EncodedText":
        tokens = array("H" if len(tokenizer.tokens) <= 1 << 16 else "I")  # 2 bytes for one of millions of tokens
        ends = array("Q")
        words = 0
        for text in texts:
            tokens.extend(tokenizer.encode(text))
            tokens.append(BOUNDARY)
            ends.append(len(tokens))
            words += text.count(" ") + 1
        return cls(np.frombuffer(tokens, f"u{tokens.itemsize}"), np.frombuffer(ends, np.uint64), words)

    def shuffled(self, *seed: int) -> np.ndarray:
        """A boundary and the sentences in another order, (N + 1,): none is scored with another one as context."""
        tokens = np.empty(len(self.tokens) + 1, self.tokens.dtype)
        tokens[0], place = BOUNDARY, 1
        for sentence in np.random.default_rng(seed).permutation(len(self.ends)):
            begin, end = int(self.ends[sentence - 1]) if sentence else 0, int(self.ends[sentence])
            tokens[place : place + end - begin] = self.tokens[begin:end]
            place += end - begin
        return tokens


@dataclass
class TokenBatch:
    """Consecutive tokens of each sequence: inputs (B, T), and the token after each, targets (B, T)."""

    ids: list[str]
    inputs: Tensor
    targets: Tensor

    @property
    def amount(self) -> float:
        """Tokens."""
        return float(self.targets.numel())


class TokenStream:
    """Batches for truncated back-propagation through time: `batch_size` sequences, `bptt_length` tokens of each.

    A sequence goes on in batch n of a pass where it ended in batch n − 1. Each pass has another order of the sentences.
    What is left at the end of the sequences, less than `bptt_length` tokens of each, is not used in that pass.
    """

    def __init__(self, corpus: EncodedText, batch_size: int, bptt_length: int, seed: int):
        self.corpus = corpus
        self.batch_size = batch_size
        self.bptt_length = bptt_length
        self.seed = seed
        self.batches = len(corpus.tokens) // (batch_size * bptt_length)  # in a pass
        if not self.batches:
            raise RecipeError(
                f"the training text has {len(corpus.tokens):,} tokens, too few for {batch_size} sequences of "
                f"{bptt_length}; lower data.batch_size or data.bptt_length, or add text"
            )
        self._pass = -1
        self._stream = np.zeros(0)

    def __getitem__(self, index: int) -> TokenBatch:
        """Batch `index` of the run."""
        number, place = divmod(index, self.batches)
        if number != self._pass:
            self._pass, self._stream = number, self.corpus.shuffled(self.seed, number)
        length = self.batches * self.bptt_length
        begins = np.arange(self.batch_size)[:, None] * length + place * self.bptt_length
        tokens = torch.from_numpy(self._stream[begins + np.arange(self.bptt_length + 1)].astype(np.int64))
        return TokenBatch([f"pass {number + 1}, batch {place + 1} of {self.batches}"], tokens[:, :-1], tokens[:, 1:])
