"""The loss of the acoustic model: CTC, and the terms beside it that a recipe may ask for."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.data.batch import Batch, Targets
from asr.nn.attention import attention_loss
from asr.nn.config import AttentionConfig
from asr.nn.ctc_model import AcousticModel, Augment, ctc_loss
from asr.train.config import ObjectiveConfig
from asr.train.crf import Bigrams, log_partition


@dataclass(frozen=True)
class Objective:
    """Loss of each utterance of a batch, (B,), in nats; 0 for one too short for its text."""

    config: ObjectiveConfig
    teacher: AcousticModel | None = None  # for distillation, with the same tokens; it stays as it is
    phones: float = 0.0  # weight of the second head
    # Of the decoder whose loss is weighed against all the others (Watanabe et al. 2017, equation 8).
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    bigrams: Bigrams | None = None  # of tokens, for CTC-CRF

    def __post_init__(self) -> None:
        if self.teacher is not None:
            self.teacher.eval()

    def __call__(self, model: AcousticModel, batch: Batch, augment: Augment | None) -> Tensor:
        if self.attention.freeze_encoder:
            return self._decoder_loss(model, batch, augment)
        config, device = self.config, model.head.weight.device
        views = 2 if config.consistency and augment is not None else 1
        layer = self.layer(model)
        waveforms = batch.waveforms.to(device)
        targets = batch.targets.repeat(views)
        encoded, frames = model.encode(waveforms, batch.lengths, augment, views, layer)
        log_probs = model.log_probs(encoded[-1])
        here = frames.to(device, non_blocking=True)
        loss, usable = self.text_loss(log_probs, frames, targets)
        loss = loss * (1 - config.intermediate - config.smoothing - config.distillation - self.phones)
        if layer is not None:
            lower = model.log_probs(encoded[0])
            loss = loss + config.intermediate * ctc_loss(lower, frames, *targets)[0]
        if self.phones:
            loss = loss + self.phones * self._phone_loss(model, encoded[-1], frames, batch, views)
        if config.smoothing:
            loss = loss + config.smoothing * smoothing(log_probs, here)
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(waveforms, batch.lengths)[0].repeat(views, 1, 1)
            loss = loss + config.distillation * distillation(log_probs, taught, here, config.delay)
        if views == 2:
            loss = loss + config.consistency * consistency(log_probs, here)
        if weight := self.attention.weight:
            loss = (1 - weight) * loss + weight * self._attention_loss(model, encoded[-1], here, batch, views)
        return torch.where(usable, loss, 0.0).unflatten(0, (views, -1)).mean(0)

    def text_loss(self, log_probs: Tensor, frames: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """`ctc_loss`, or as much CTC-CRF in it as asked for."""
        loss, usable = ctc_loss(log_probs, frames, *targets)
        if self.bigrams is not None:
            here, *texts = (each.to(log_probs.device, non_blocking=True) for each in (frames, *targets))
            log_prob = self.bigrams.log_prob(*texts) - log_partition(log_probs, here, self.bigrams)
            loss = loss - self.config.crf * torch.where(usable, log_prob, 0.0)
        return loss, usable

    def layer(self, model: AcousticModel) -> int | None:
        """Of the intermediate CTC."""
        config = self.config
        return (config.intermediate_layer or model.config.layers // 2) if config.intermediate else None

    def _decoder_loss(self, model: AcousticModel, batch: Batch, augment: Augment | None) -> Tensor:
        """The attention's loss alone, of an encoder that stays as it is: without dropout and without gradients."""
        model.eval()
        assert model.attention is not None
        model.attention.train()
        device = model.head.weight.device
        with torch.no_grad():
            (encoded,), frames = model.encode(batch.waveforms.to(device), batch.lengths, augment)
        return self._attention_loss(model, encoded, frames.to(device), batch, 1)

    def _attention_loss(
        self, model: AcousticModel, encoded: Tensor, frames: Tensor, batch: Batch, views: int
    ) -> Tensor:
        """Of the decoder, (B · views,); 0 for an utterance with no letters."""
        assert batch.letters is not None
        assert model.attention is not None
        letters = Targets(*(x.to(encoded.device, non_blocking=True) for x in batch.letters))
        return attention_loss(model.attention, encoded, frames, *letters.repeat(views))

    def _phone_loss(self, model: AcousticModel, encoded: Tensor, frames: Tensor, batch: Batch, views: int) -> Tensor:
        """CTC of the second head, (B · views,); 0 for an utterance without phones, or too short for them."""
        assert batch.phones is not None
        phones = batch.phones.repeat(views)
        loss, _ = ctc_loss(model.log_probs(encoded, model.phones_head), frames, *phones)
        return loss * (phones.lengths > 0).to(loss.device, non_blocking=True)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback-Leibler divergence of q from p at each frame: (B, T, V) twice → (B, T) in nats."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(2)


def over_frames(values: Tensor, frames: Tensor) -> Tensor:
    """Sum of the first frames[b] of each row: (B, T), (B,) → (B,)."""
    outside = torch.arange(values.shape[1], device=values.device) >= frames.unsqueeze(1)
    return values.masked_fill(outside, 0.0).sum(1)


def consistency(log_probs: Tensor, frames: Tensor) -> Tensor:
    """Row b and row B + b are two views of one utterance, each the fixed target of the other: (2 B, T, V) → (2 B,).

    Yao et al. 2024, "CR-CTC: Consistency regularization on CTC for improved speech recognition": half of their sum,
    the mean over both views, is its L_CR.
    """
    targets = log_probs.detach().roll(len(log_probs) // 2, dims=0)
    return over_frames(divergence(targets, log_probs), frames)


def smoothing(log_probs: Tensor, frames: Tensor) -> Tensor:
    """Divergence of each frame from the uniform distribution, log V less its entropy: (B, T, V) → (B,).

    Kim et al. 2018, "Improved training for online end-to-end speech recognition systems"; Inaguma's neural_sp does so.
    """
    uniform = torch.full_like(log_probs, -math.log(log_probs.shape[2]))
    return over_frames(divergence(log_probs, uniform), frames)


def distillation(student: Tensor, teacher: Tensor, frames: Tensor, delay: int) -> Tensor:
    """Divergence of the student from the teacher, (B, T, V) each → (B,), at the delay that suits an utterance best.

    A student that sees less of the future spikes later: at the teacher's frames it would have to guess (Kurata &
    Audhkhasi 2018, "Improved knowledge distillation from bi-directional to uni-directional LSTM CTC"), so it is allowed
    a range of delays, as by Li et al. 2025, "Delayed-KD". Here an utterance has one: student frame t + d answers to
    teacher frame t, for the d from 0 to `delay` with the least divergence, a mean over the frames that have a partner.
    Returned is this mean times all frames, so that it adds to the others' sums.
    """
    means = []
    for d in range(min(delay, student.shape[1] - 1) + 1):
        pairs = frames - d
        total = over_frames(divergence(teacher[:, : student.shape[1] - d], student[:, d:]), pairs)
        means.append(torch.where(pairs > 0, total / pairs.clamp(min=1), torch.inf))
    return torch.stack(means).amin(0) * frames
