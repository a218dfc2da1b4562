"""CTC-CRF: CTC with the likelihood of all texts for a denominator (Xiang & Ou 2019, "CRF-based single-stage acoustic
modeling with CTC topology").

CTC gives a text l the product of its frames' probabilities, summed over all paths that spell it. Here a path also has
the probability of its text by an n-gram model of tokens, and p(l) is its share of the sum over all texts:

    log p(l) = log p_CTC(l) + log P(l) − log Z,    Z = Σₗ p_CTC(l) P(l)

Z has all texts that the recogniser could confuse l with, as in maximum mutual information training (Povey et al. 2016,
"Purely sequence-trained neural networks for ASR based on lattice-free MMI"). The n-grams know which tokens follow
which, so the model need not learn it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.model.tokens import BLANK_ID

PRIOR = 20.0  # weight of the unigrams in each row, in occurrences (MacKay & Peto 1995)


class Bigrams(NamedTuple):
    """Probabilities of tokens after the one before: next_probs (V, V), of the end of a text: end_probs (V,).

    Row 0 is for the start of a text, since no blank is in it. Column 0 is 0.
    """

    next_probs: Tensor
    end_probs: Tensor

    @classmethod
    def estimate(cls, texts: Iterable[Sequence[int]], vocabulary: int) -> "Bigrams":
        """From texts of token ids above 0."""
        before, after = [], []
        for text in texts:
            before += [0, *text]
            after += [*text, 0]  # in the column of the blank the end is counted
        pairs = torch.tensor(before) * vocabulary + torch.tensor(after)
        counts = torch.bincount(pairs, minlength=vocabulary**2).view(vocabulary, vocabulary).double()
        single = counts.sum(0) + 1
        probs = (counts + PRIOR * single / single.sum()) / (counts.sum(1, keepdim=True) + PRIOR)
        end, probs[:, 0] = probs[:, 0].clone(), 0.0
        return cls(probs.float(), end.float())

    def to(self, device: torch.device) -> "Bigrams":
        return Bigrams(self.next_probs.to(device), self.end_probs.to(device))

    def log_prob(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """Log P(l) of each text: (B, S) padded, (B,) → (B,)."""
        begin = targets.new_zeros(len(targets), 1)
        before = torch.cat([begin, targets], dim=1)
        inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths.unsqueeze(1)
        steps = self.next_probs[before[:, :-1], targets].log()
        last = before.gather(1, target_lengths.unsqueeze(1)).squeeze(1)
        return torch.where(inside, steps, 0.0).sum(1) + self.end_probs[last].log()


def log_partition(log_probs: Tensor, lengths: Tensor, bigrams: Bigrams) -> Tensor:
    """Log Z of each utterance: log_probs (B, T, V), lengths (B,) of at least 1 → (B,), float32.

    The forward algorithm in probabilities, scaled at each frame. A state is the last token, and whether the frame has
    it or a blank: after a blank the same token can come again, without one it goes on.
    """
    with torch.autocast(log_probs.device.type, enabled=False):
        log_probs = log_probs.float()
        scale = log_probs.detach().amax(dim=2, keepdim=True)
        same = bigrams.next_probs.diagonal()
        different = bigrams.next_probs - same.diag()
        token = torch.zeros_like(log_probs[:, 0])  # of paths whose last frame has the last token
        blank = torch.zeros_like(token)
        blank[:, 0] = 1.0
        either, states, totals = blank, [], []
        for frame in (log_probs - scale).exp().unbind(1):
            token = frame * (either @ different + blank * same + token)
            blank = frame[:, BLANK_ID : BLANK_ID + 1] * either
            total = (token + blank).sum(1, keepdim=True)
            token, blank = token / total, blank / total
            either = token + blank
            states.append(either)
            totals.append(total)
        log_scale = (torch.cat(totals, dim=1).log() + scale.squeeze(2)).cumsum(1)
        ends = (torch.stack(states, dim=1) @ bigrams.end_probs).log()
        return (log_scale + ends).gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)
