"""Training of the recurrent language model: back-propagation through time, truncated to `bptt_length` tokens.

The hidden state goes on from batch to batch, the gradient does not (Mikolov et al. 2010; Zaremba et al. 2014).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.data.sentences import EncodedText, TokenBatch, TokenStream, read_texts
from asr.data.tokenizer import TOKENIZER_MODEL, TextRule, make_tokenizer
from asr.errors import RecipeError
from asr.lm.neural import BOUNDARY
from asr.nn.language_model import LanguageModel, token_losses
from asr.train import distributed
from asr.train.config import LanguageRecipe
from asr.train.report.saturation import Saturation
from asr.train.runs import LAST, MEASURES
from asr.train.task import Epoch, Say, Task

DEV_BATCH = 64  # sentences
TOKENIZER_SENTENCES = 200_000  # at the beginning of the text, that the byte-pair pieces are learned from


@dataclass(kw_only=True)
class LanguageEpoch(Epoch):
    measure = MEASURES["language"]
    title = "dev perplexity per word"
    unit = "tokens"
    dev_perplexity: float  # per word and end of sentence

    @property
    def outcome(self) -> str:
        return f"perplexity {self.dev_perplexity:.1f}"


class LanguageTask(Task):
    """`carried` is the hidden state that the sequences have reached."""

    epoch_type = LanguageEpoch

    def __init__(self, recipe: LanguageRecipe, device: torch.device, say: Say):
        if distributed.count() > 1:
            raise RecipeError("kind=language: each batch goes on where the one before ended; train without torchrun")
        data = recipe.data
        self.device = device
        rule = TextRule(recipe.tokenizer)
        texts = chain.from_iterable(read_texts(path, rule) for path in data.train)
        beginning = list(islice(texts, TOKENIZER_SENTENCES))
        if not beginning:
            raise RecipeError(f"the train text has no words: {', '.join(data.train)}")
        if not (recipe.folder / LAST).exists():  # a run that was stopped before may have had another vocabulary
            (recipe.folder / TOKENIZER_MODEL).unlink(missing_ok=True)
        tokenizer = make_tokenizer(recipe.tokenizer, beginning, recipe.folder / TOKENIZER_MODEL)
        self.tokens = tokenizer.tokens
        train = EncodedText.encode(chain(beginning, texts), tokenizer)
        self.dev = EncodedText.encode(read_texts(data.dev, rule), tokenizer)
        for name, corpus in (("train", train), ("dev", self.dev)):
            say(f"{name}: {len(corpus.ends):,} sentences, {corpus.words:,} words, {len(corpus.tokens):,} tokens")
        if not self.dev.words:
            raise RecipeError(f"the dev text has no words: {data.dev}")
        if rule.dropped:
            say(f"dropped from the texts: {dict(rule.dropped.most_common())}")
        self.stream = TokenStream(train, data.batch_size, data.bptt_length, recipe.seed)
        self.epoch_batches = data.epoch_batches
        self.epoch_amount = float(data.epoch_batches * data.batch_size * data.bptt_length)
        self.model: LanguageModel = LanguageModel(recipe.model, len(self.tokens)).to(device)
        self.carried = {"hidden": self.model.start(data.batch_size)}
        passes = recipe.epochs * data.epoch_batches / self.stream.batches
        say(f"{recipe.epochs} epochs of {data.epoch_batches:,} batches: {passes:.2f} passes over the text")

    def start_epoch(self, curve: list[LanguageEpoch], done: int) -> Iterator[TokenBatch]:
        begin = len(curve) * self.epoch_batches
        return map(self.stream.__getitem__, range(begin + done, begin + self.epoch_batches))

    def count(self, batch: TokenBatch) -> tuple[int, int]:
        return batch.targets.numel(), 0

    def loss(self, batch: TokenBatch) -> Tensor:
        log_probs, hidden = self.model(batch.inputs.to(self.device), self.carried["hidden"])
        # A state that is not finite would spoil all that follows, the batches that are skipped for it never end.
        self.carried["hidden"] = hidden.detach() if hidden.isfinite().all() else torch.zeros_like(hidden)
        return token_losses(log_probs, batch.targets.to(self.device)).sum()

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Loss per token and perplexity per word of the dev sentences, each for itself, in float32."""
        assert isinstance(model, LanguageModel)
        model.eval()
        tokens = torch.from_numpy(self.dev.tokens.astype("int64"))
        sentences = sorted(tokens.tensor_split(torch.from_numpy(self.dev.ends[:-1].astype("int64"))), key=len)
        loss = 0.0
        with Saturation(model) as saturation:
            for begin in range(0, len(sentences), DEV_BATCH):
                batch = sentences[begin : begin + DEV_BATCH]
                targets = pad_sequence(batch, batch_first=True).to(self.device)
                saturation.lengths = torch.tensor([len(sentence) for sentence in batch])
                inputs = F.pad(targets, (1, 0), value=BOUNDARY)[:, :-1]
                losses = token_losses(model(inputs, model.start(len(batch)))[0], targets)
                inside = torch.arange(targets.shape[1]) < saturation.lengths.unsqueeze(1)
                loss += losses[inside.to(self.device)].sum().item()
        return {
            "dev_loss": loss / len(self.dev.tokens),
            "dev_perplexity": math.exp(loss / (self.dev.words + len(self.dev.ends))),
            "saturation": saturation.shares(),
        }
