"""Training of the tagger: the mark after each word, and its case."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.data.written import LabeledText, TaggedBatch, TaggedText
from asr.errors import RecipeError
from asr.evaluate.tagging import MAIN, Counts
from asr.model.tagger import CASES, MARKS
from asr.model.tokens import BLANK, Tokens
from asr.nn.tagger import TaggerModel
from asr.train import distributed
from asr.train.config import TaggerRecipe
from asr.train.runs import MEASURES
from asr.train.task import Epoch, Say, Task


@dataclass(kw_only=True)
class TaggingEpoch(Epoch):
    measure = MEASURES["tagger"]
    title = "1 − dev F1"
    unit = "words"
    dev_error: float  # 1 − the mean F1 of comma, full stop, question mark and capitals
    f1: dict[str, float] = field(default_factory=dict)  # by mark and case

    @property
    def outcome(self) -> str:
        return "F1 " + "  ".join(f"{name} {score:.3f}" for name, score in self.f1.items())


class TaggingTask(Task):
    """Learns from texts as they are written and as they are spoken. Nothing is `carried`."""

    epoch_type = TaggingEpoch

    def __init__(self, recipe: TaggerRecipe, device: torch.device, say: Say):
        if distributed.count() > 1:
            raise RecipeError("kind=tagger: trains on one device; train without torchrun")
        data = recipe.data
        self.recipe, self.device = recipe, device
        train, dev = LabeledText.read(data.train), LabeledText.read(data.dev)
        for name, corpus in (("train", train), ("dev", dev)):
            say(f"{name}: {len(corpus.ends):,} sentences, {len(corpus.words):,} words")
        self.tokens = Tokens([BLANK, *MARKS[1:]])  # no mark is the blank
        self.model: TaggerModel = TaggerModel(recipe.model).to(device)
        self.data = TaggedText(train, data, recipe.model.rows, recipe.seed)
        self.dev = TaggedText(dev, data, recipe.model.rows, recipe.seed)
        self.epoch_batches = max(1, data.epoch_words // data.batch_words)
        self.epoch_amount = float(data.epoch_words)
        self.carried: dict[str, Tensor] = {}
        say(f"an epoch is {data.epoch_words / len(train.words):.2f} passes over the text")

    def start_epoch(self, curve: list[TaggingEpoch], done: int) -> Iterator[TaggedBatch]:
        return self.data.batches(len(curve), self.recipe.data.epoch_words, skip=done)

    def count(self, batch: TaggedBatch) -> tuple[int, int]:
        return int(batch.lengths.sum()), 0

    def loss(self, batch: TaggedBatch) -> Tensor:
        return self._losses(self.model, batch)[0]

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Loss per word and F1 of the dev texts, of words alone: neither pauses nor confidences are known."""
        model.eval()
        loss, words, counts = 0.0, 0, Counts()
        for batch in self.dev.batches(0, len(self.dev.corpus.words), plain=True):
            summed, log_probs = self._losses(model, batch)
            loss += summed.item()
            words += int(batch.lengths.sum())
            batch.score(log_probs.cpu().numpy(), counts)
        scores = counts.f1()
        error = 1 - float(np.mean([scores[name] for name in MAIN if name in scores] or [0.0]))
        return {"dev_loss": loss / words, "dev_error": error, "f1": scores}

    def _losses(self, model: nn.Module, batch: TaggedBatch) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of marks and cases in nats; log_probs (B, T, marks + cases)."""
        log_probs = model(*(item.to(self.device) for item in (batch.features, batch.extras, batch.lengths)))
        marks, cases = (
            F.nll_loss(part.flatten(0, 1), label.to(self.device).flatten(), ignore_index=-1, reduction="sum")
            for part, label in zip(
                log_probs.split([len(MARKS), len(CASES)], 2), (batch.marks, batch.cases), strict=True
            )
        )
        return marks + cases, log_probs
