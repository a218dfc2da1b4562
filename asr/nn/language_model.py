"""Recurrent language model: log-probabilities of the next token (Mikolov et al. 2010).

It has the tokens of an acoustic model. Id 0, the blank there, is the sentence boundary here: every text begins and ends
with it.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from asr.nn.config import LanguageConfig
from asr.nn.recurrent import STATES, RecurrentStack


class LanguageModel(nn.Module):
    """forward(tokens (B, T) int64, state) → log_probs (B, T, vocabulary) of the token after each, next state.

    The state (B, layers · states, size) holds h of each layer, for LSTMs h and c; `start` gives the initial one. A text
    may be cut anywhere without changing its log-probabilities. They and the state are float32, under autocast too.
    """

    def __init__(self, config: LanguageConfig, vocabulary: int):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.recurrent = RecurrentStack(config.cell, config.hidden_size, config.layers, False, dropout=config.dropout)
        self.head = nn.Linear(config.hidden_size, vocabulary)

    def start(self, batch: int) -> Tensor:
        """Initial state (B, layers · states, size): zeros."""
        config = self.config
        return self.head.weight.new_zeros(batch, config.layers * STATES[config.cell], config.hidden_size)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x, after = self.recurrent.step(self.dropout(self.embedding(tokens)), state)
        return self.head(x).float().log_softmax(dim=2), after.float()


def token_losses(log_probs: Tensor, targets: Tensor) -> Tensor:
    """log_probs (B, T, V), targets (B, T) → loss of each token (B, T) in nats."""
    return F.nll_loss(log_probs.transpose(1, 2), targets, reduction="none")
