"""The tagger: which mark follows a word, and how it is capitalised.

    xₜ = Σ rows of a hashed table for word t + A extrasₜ        (asr.model.tagger.word_features)
    yₜ = relu(conv₃(x))ₜ                                         the word and its neighbours
    h  = recurrent layers over y (asr.nn.recurrent), in both directions, or in one with a look-ahead of some words
    marks, case = log-softmax of two linear layers of hₜ

After You 2024 (arXiv 2407.13142, a CNN and a BiLSTM over word pieces for punctuation and case together), with hashed
words in place of pieces: a word is one step, and looking it up needs no other library.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.model.tagger import CASES, MARKS
from asr.nn.config import TaggerConfig
from asr.nn.recurrent import Dropout, Lookahead, RecurrentStack, reversed_frames

EXTRAS = 4  # pause and confidence, and whether they are known


class TaggerModel(nn.Module):
    """features (B, T, 5), extras (B, T, 4), lengths (B,) → log_probs (B, T, marks + cases), float32.

    The log-probabilities of the marks come first. Padding does not change a result.
    """

    def __init__(self, config: TaggerConfig):
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.embedding = nn.Embedding(config.rows, config.embedding_size)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.extras = nn.Linear(EXTRAS, config.embedding_size)
        # A unidirectional model sees the words before only; what comes after is the look-ahead's.
        self.convolution = nn.Conv1d(config.embedding_size, size, kernel_size=3)
        self.dropout = Dropout(config.dropout)
        self.recurrent = RecurrentStack(config.cell, size, config.layers, config.bidirectional, dropout=config.dropout)
        self.lookahead = Lookahead(size, config.lookahead) if config.lookahead else nn.Identity()
        self.marks = nn.Linear(size, len(MARKS))
        self.cases = nn.Linear(size, len(CASES))

    def forward(self, features: Tensor, extras: Tensor, lengths: Tensor) -> Tensor:
        words = features.shape[1] + self.config.lookahead
        inside = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)
        x = self.embedding(features).sum(dim=2) + self.extras(extras)
        x = self.dropout(x) * inside.unsqueeze(2)
        left = 1 if self.config.bidirectional else 2
        x = F.pad(x.transpose(1, 2), (left, 2 - left + self.config.lookahead))
        x = F.relu(self.convolution(x)).transpose(1, 2)
        h = self.lookahead(self.recurrent(x, reversed_frames(lengths, words)))
        return torch.cat([head(h).float().log_softmax(dim=2) for head in (self.marks, self.cases)], dim=2)
