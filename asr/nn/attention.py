"""A recurrent decoder that attends to the encoder's frames: P(yᵢ | y₁…yᵢ₋₁, recording), in letters, beside CTC.

h₁…h_T are the encoded frames, each plus a sinusoidal encoding of its place (Vaswani et al. 2017, section 3.5), y₀ and
y_{S+1} the boundary of a sentence; W and v are learned. Layer l of the decoder makes x⁽ˡ⁾ from x⁽ˡ⁻¹⁾, where x⁽⁰⁾ᵢ is
the embedding of yᵢ₋₁:

    sᵢ  = x⁽ˡ⁻¹⁾ᵢ + RNN(LayerNorm(x⁽ˡ⁻¹⁾))ᵢ               a recurrent layer, `asr.nn.recurrent`
    qᵢ  = W_q LayerNorm(sᵢ),  kⱼ = W_k hⱼ,  vⱼ = W_v hⱼ     query, keys, values
    eᵢⱼ = qᵢ · kⱼ / √d          dot       (Luong et al. 2015; scaled as by Vaswani et al. 2017, section 3.2.1)
        = v · tanh(qᵢ + kⱼ)     additive  (Bahdanau et al. 2015, section A.1.2)
    aᵢⱼ = exp eᵢⱼ / Σₖ exp eᵢₖ,   cᵢ = Σⱼ aᵢⱼ vⱼ
    x⁽ˡ⁾ᵢ = sᵢ + W_c cᵢ

and P(yᵢ | …) = softmax(W LayerNorm(x⁽ᴸ⁾ᵢ)). With several heads, each attends with its own part of q, k, v and e (Chiu
et al. 2018, "State-of-the-art speech recognition with sequence-to-sequence models", section 2.2.2).

The order is that of Luong et al. 2015, "Effective approaches to attention-based neural machine translation", section 3:
recurrent state, then attention, then output. In Bahdanau's the context cᵢ is an input of the state after it, so the
tokens go one by one. Here a recurrent layer does not depend on the attention above it: with the tokens given, in
training and in rescoring, all of them go through a layer in one call. Where it attended is still known to the decoder,
as by "input feeding": layer 2 reads the contexts of layer 1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.nn.config import AttentionConfig
from asr.nn.recurrent import STATES, Dropout, RecurrentLayer

LONGEST_WAVE = 10_000.0  # frames / 2π, of the encoding of places
GUIDE_WIDTH = 0.2  # share of the utterance


def encode_places(frames: Tensor) -> Tensor:
    """Sine and cosine of each place in T frames (B, T, size), at wavelengths from 2π to 2π · 10,000: (T, size)."""
    size = frames.shape[2]
    rates = torch.exp(torch.arange(0, size, 2, device=frames.device) * (-math.log(LONGEST_WAVE) / size))
    # Counted by a sum, not `arange`: the number of frames would be written into an exported graph as a constant.
    angles = (torch.ones_like(frames[0, :, :1]).cumsum(0) - 1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :size]


class Attention(nn.Module):
    """queries (N, S, size), frames (B, T, encoder_size) → contexts (N, S, size), weights (N, S, T).

    B is N, or 1 for token sequences of one recording. The weights are the mean of all heads.
    """

    def __init__(self, size: int, encoder_size: int, heads: int, additive: bool):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(encoder_size, size, bias=False)
        self.value = nn.Linear(encoder_size, size)
        self.context = nn.Linear(size, size)
        self.energy = nn.Parameter(torch.randn(heads, size // heads) / math.sqrt(size // heads)) if additive else None

    def forward(self, queries: Tensor, frames: Tensor, outside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """outside (B, T) bool: frames that are padding."""
        q, k, v = (self._split(x) for x in (self.query(queries), self.key(frames), self.value(frames)))
        if self.energy is None:
            energies = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        else:
            energies = torch.einsum("bhstd,hd->bhst", torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)), self.energy)
        if outside is not None:
            energies = energies.masked_fill(outside[:, None, None], -math.inf)
        weights = energies.float().softmax(dim=3)
        contexts = (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        return self.context(contexts), weights.mean(1)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, size) → (B, heads, T, size / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class AttentionDecoder(nn.Module):
    """Log-probabilities of the token after each of a sentence, float32. Id 0, the blank of CTC, begins and ends it.

    tokens (N, S) int64, state, encoded (B, T, encoder_size) → log_probs (N, S, vocabulary), next state, weights of the
    attention (N, layers, S, T). B is N, or 1 for token sequences of one recording. The state (N, layers · states, size)
    holds h of each layer, for LSTMs h and c; `start` gives the first one. A sentence may be cut anywhere.
    """

    def __init__(self, config: AttentionConfig, encoder_size: int):
        super().__init__()
        size = config.hidden_size
        self.config, self.encoder_size = config, encoder_size
        self.embedding = nn.Embedding(config.vocabulary, size)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(config.cell, size, bidirectional=False, dropout=config.dropout) for _ in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(config.layers))
        self.attentions = nn.ModuleList(
            Attention(size, encoder_size, config.heads, config.score == "additive") for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, config.vocabulary)

    def start(self, batch: int) -> Tensor:
        """Initial state (N, layers · states, size): zeros."""
        config = self.config
        return self.head.weight.new_zeros(batch, config.layers * STATES[config.cell], config.hidden_size)

    def forward(
        self, tokens: Tensor, state: Tensor, encoded: Tensor, outside: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """outside (B, T) bool: frames that are padding."""
        frames = encoded + encode_places(encoded)
        x = self.dropout(self.embedding(tokens))
        states, weights = [], []
        before = state.chunk(self.config.layers, dim=1)
        for layer, norm, attention, its in zip(self.layers, self.norms, self.attentions, before, strict=True):
            x, after = layer.step(x, its)  # type: ignore[operator]
            contexts, where = attention(norm(x), frames, outside)
            x = x + self.dropout(contexts)
            states.append(after)
            weights.append(where)
        log_probs = self.head(self.norm(x)).float().log_softmax(dim=2)
        return log_probs, torch.cat(states, dim=1).float(), torch.stack(weights, dim=1)


def teacher_forced(
    decoder: AttentionDecoder, encoded: Tensor, frames: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities with the true tokens as inputs; targets (B, S) are padded with 0, frames (B,) are valid.

    Returns log_probs (B, S + 1, V), the tokens that they are of (B, S + 1), weights (B, layers, S + 1, T).
    """
    outside = torch.arange(encoded.shape[1], device=encoded.device) >= frames.unsqueeze(1)
    inputs, outputs = F.pad(targets, (1, 0)), F.pad(targets, (0, 1))
    log_probs, _, weights = decoder(inputs, decoder.start(len(targets)), encoded, outside)
    return log_probs, outputs, weights


def attention_loss(
    decoder: AttentionDecoder, encoded: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor
) -> Tensor:
    """Loss of each utterance in nats, (B,); 0 where the target is empty. encoded (B, T, size), the others as above.

    −Σᵢ log P(yᵢ) with label smoothing (Szegedy et al. 2016, section 7): a share of the target is uniform. Added, with
    the weight `guide`, is the attention far from the diagonal: Σᵢⱼ aᵢⱼ (1 − exp(−(i/S − j/T)² / (2 · 0.2²))), the mean
    of the layers (Tachibana et al. 2018, "Efficiently trainable text-to-speech system based on deep convolutional
    networks with guided attention", section 4.1).
    """
    log_probs, outputs, weights = teacher_forced(decoder, encoded, frames, targets)
    share, guide = decoder.config.smoothing, decoder.config.guide
    losses = (share - 1) * log_probs.gather(2, outputs.unsqueeze(2)).squeeze(2) - share * log_probs.mean(2)
    if guide:
        places = torch.arange(outputs.shape[1], device=frames.device) / (target_lengths + 1).unsqueeze(1)
        times = torch.arange(encoded.shape[1], device=frames.device) / frames.unsqueeze(1)
        distance = (places.unsqueeze(2) - times.unsqueeze(1)) / GUIDE_WIDTH
        losses = losses + guide * (weights.mean(1) * -torch.expm1(-distance.square() / 2)).sum(2)
    inside = torch.arange(outputs.shape[1], device=frames.device) <= target_lengths.unsqueeze(1)
    return losses.masked_fill(~inside, 0.0).sum(1) * (target_lengths > 0)
