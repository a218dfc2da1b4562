"""Training of the acoustic model: recordings and their texts, CTC, word errors of the greedy decoder."""

import math
import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from lhotse import MonoCut
from torch import Tensor

from asr.decode.greedy import GreedyDecoder
from asr.errors import RecipeError
from asr.evaluate import Utterance, evaluate
from asr.manifest import Entry
from asr.nn.acoustic import SAMPLES_PER_FRAME, AcousticModel, ctc_loss, frames_needed, output_lengths
from asr.nn.features import SAMPLE_RATE
from asr.train import parallel
from asr.train.augment.spec import SpecAugment
from asr.train.checkpoint import LAST
from asr.train.config import AcousticRecipe
from asr.train.dataset import Batch, draw_eval, draw_train, make_cuts, make_loader, read_entries, usable_cuts
from asr.train.objective import Objective
from asr.train.saturation import Saturation
from asr.train.task import Epoch, Say, Task
from asr.train.tokenizer import TextRule, Tokenizer, make_tokenizer
from asr.train.trained import TrainedModel, load_trained

FRAME_SECONDS = SAMPLES_PER_FRAME / SAMPLE_RATE
NORMALISATION_UTTERANCES = 500  # enough for the mean and deviation of 80 bands
TOKENIZER_MODEL = "tokenizer.model"
LENGTHS = (2, 4, 8, 16)  # seconds, between utterances whose losses are told apart


@dataclass(kw_only=True)
class AcousticEpoch(Epoch):
    dev_wer: float  # fraction, greedy
    too_short: int  # utterances of this epoch too short for their text after speed perturbation
    loss_by_seconds: dict[str, float] = field(default_factory=dict)  # dev loss of utterances so long, `loss_by_seconds`

    @property
    def rank(self) -> tuple[float, ...]:
        """The fewest dev word errors; among equals, as on the blank-only plateau, the lowest dev loss."""
        return self.dev_wer, self.dev_loss

    @property
    def outcome(self) -> str:
        too_short = f"  too short for their text: {self.too_short}" if self.too_short else ""
        return f"WER {self.dev_wer:6.2%}{too_short}"


class AcousticTask(Task[Batch, AcousticEpoch]):
    """`carried` counts the utterances of the epoch that were too short for their text."""

    epoch_type = AcousticEpoch
    unit = "s audio"

    def __init__(self, recipe: AcousticRecipe, device: torch.device, say: Say):
        self.recipe = recipe
        self.device = device
        self.say = say
        self.unreadable: set[str] = set()
        self.augment: SpecAugment | None = None
        # A resumed run needs no longer what it began with.
        begun = (recipe.folder / LAST).exists()
        self.source = load_trained(recipe.init_from) if recipe.init_from and not begun else None
        if self.source is not None:
            self.source.check_model(recipe.model)
        teacher = load_trained(recipe.objective.teacher) if recipe.objective.teacher else None
        self._prepare_data(None if begun else self.source or teacher)
        self.tokens = self.tokenizer.tokens
        self.model: AcousticModel = AcousticModel(recipe.model, len(self.tokens)).to(device)
        if teacher is not None and teacher.tokenizer.tokens.symbols != self.tokens.symbols:
            raise RecipeError(
                f"objective.teacher: {teacher.path} has other tokens; set kind, case, alphabet and vocabulary of "
                "tokenizer as they are there"
            )
        self.objective = Objective(recipe.objective, None if teacher is None else teacher.model().to(device))
        self.epoch_amount = sum(cut.duration for cut in self.train_cuts)
        self.carried = {"too_short": torch.tensor(0)}

    def _prepare_data(self, source: TrainedModel | None) -> None:
        """`source` has a tokenizer that is taken if the recipe asks for such a one."""
        recipe = self.recipe
        rule = TextRule(recipe.tokenizer)
        train, dev = read_entries(recipe.data.train, rule), read_entries([recipe.data.dev], rule)
        train = self._sure(train, recipe.data.min_confidence)
        if recipe.data.train_fraction < 1:
            count = max(1, round(len(train) * recipe.data.train_fraction))
            train = random.Random(recipe.seed).sample(train, count)
        if rule.dropped:
            self.say(f"dropped from the texts: {dict(rule.dropped.most_common())}")
        texts = (entry.text for entry in train if entry.text)
        model = recipe.folder / TOKENIZER_MODEL
        with parallel.main_first():
            if parallel.is_main():
                if not (recipe.folder / LAST).exists():  # a run that was stopped may have had another vocabulary
                    model.unlink(missing_ok=True)
                if source is not None and source.tokenizer.model and source.has_tokenizer(recipe.tokenizer):
                    model.write_bytes(source.tokenizer.model)
            self.tokenizer: Tokenizer = make_tokenizer(recipe.tokenizer, texts, model)
        self.train_cuts = self._cuts("train", train, recipe.data.max_seconds)
        self.dev_cuts = self._cuts("dev", dev, math.inf)
        self.loader = make_loader(self.train_cuts, self.tokenizer, recipe)

    def _sure(self, entries: list[Entry], least: float) -> list[Entry]:
        """Those whose text is not a model's that was less sure than that."""
        sure = [entry for entry in entries if entry.confidence is None or entry.confidence >= least]
        if not sure:
            raise RecipeError(f"data.min_confidence={least} leaves no utterance; lower it")
        if len(sure) < len(entries):
            self.say(f"train: {len(entries) - len(sure):,} utterances with a confidence below {least} left out")
        return sure

    def _cuts(self, name: str, entries: list[Entry], max_seconds: float) -> list[MonoCut]:
        cuts, unreadable = make_cuts(entries)
        self._report_unreadable(unreadable)
        usable, left_out = usable_cuts(cuts, self.tokenizer, max_seconds)
        hours = sum(cut.duration for cut in usable) / 3600
        self.say(f"{name}: {len(usable):,} utterances, {hours:.2f} h; left out: {left_out}")
        if not usable:
            raise RecipeError(f"no utterance of the {name} data can be used; left out: {left_out}")
        return usable

    def begin(self) -> None:
        """Take the weights of `init_from`, or mean and deviation of the features from a sample of the training data."""
        if self.source is not None:
            same = self.source.begin(self.model, self.tokens)
            note = "" if same else ", but a new output layer: the recipe's tokenizer has other tokens"
            self.say(f"begins with the weights of {self.source.path}{note}")
            return
        sample = random.Random(self.recipe.seed).sample(
            self.train_cuts, min(NORMALISATION_UTTERANCES, len(self.train_cuts))
        )
        self.model.features.fit(
            waveform[:length].to(self.device)
            for batch in self.loader.load(draw_eval(sample, self.recipe))
            for waveform, length in zip(batch.waveforms, batch.lengths, strict=True)
        )

    def start_epoch(self, curve: list[AcousticEpoch], done: int) -> Iterator[Batch]:
        learning = any(epoch.dev_wer < self.recipe.augment.mask_below_wer for epoch in curve)
        self.augment = SpecAugment(self.recipe.augment) if learning else None
        drawn = draw_train(self.train_cuts, self.recipe, len(curve) + 1, done)
        return map(self._reported, self.loader.load(drawn))

    def count(self, batch: Batch) -> int:
        return int(self._counts(batch).sum())

    def _counts(self, batch: Batch) -> Tensor:
        return batch.target_lengths * self._usable(batch)

    def _usable(self, batch: Batch) -> Tensor:
        return frames_needed(batch.targets, batch.target_lengths) <= output_lengths(batch.lengths)

    def loss(self, batch: Batch) -> Tensor:
        self.carried["too_short"] += (~self._usable(batch)).sum()
        return self.objective(self.model, batch, self.augment).sum()

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """log_probs (B, T, V), lengths (B,), CTC losses (B,)."""
        log_probs, lengths = self.model(batch.waveforms.to(self.device), batch.lengths.to(self.device))
        targets, target_lengths = batch.targets.to(self.device), batch.target_lengths.to(self.device)
        return log_probs, lengths, ctc_loss(log_probs, lengths, targets, target_lengths)[0]

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Loss per token and greedy word errors of the dev data, in float32."""
        self.model.eval()
        decoder = GreedyDecoder(self.tokens, FRAME_SECONDS)
        loss, tokens = 0.0, 0
        utterances = []
        measured: list[tuple[float, float, int]] = []
        with Saturation(self.model) as saturation:
            for batch in map(self._reported, self.loader.load(draw_eval(self.dev_cuts, self.recipe))):
                if not batch.ids:
                    continue
                saturation.lengths = output_lengths(batch.lengths)
                log_probs, lengths, losses = self._forward(batch)
                loss += losses.sum().item()
                tokens += self.count(batch)
                seconds = [length / SAMPLE_RATE for length in batch.lengths.tolist()]
                measured += zip(seconds, losses.tolist(), self._counts(batch).tolist(), strict=True)
                for row, (name, text) in enumerate(zip(batch.ids, batch.texts, strict=True)):
                    state = decoder.reset()
                    decoder.advance(state, log_probs[row, : lengths[row]].cpu().numpy())
                    hypothesis = decoder.finish(state)[0].text
                    utterances.append(Utterance(name, text, hypothesis, seconds[row]))
        too_short = int(self.carried["too_short"])
        self.carried["too_short"].zero_()
        return {
            "dev_loss": loss / max(1, tokens),
            "dev_wer": evaluate(utterances).wer,
            "too_short": too_short,
            "loss_by_seconds": loss_by_seconds(measured),
            "saturation": saturation.shares(),
        }

    def _reported(self, batch: Batch) -> Batch:
        self._report_unreadable(batch.unreadable)
        return batch

    def _report_unreadable(self, unreadable: dict[str, str]) -> None:
        """Say once of each recording that it cannot be read; the run goes on without it."""
        for file, message in unreadable.items():
            if file not in self.unreadable:
                self.say(message)
                self.unreadable.add(file)


def loss_by_seconds(measured: Iterable[tuple[float, float, int]]) -> dict[str, float]:
    """(seconds, loss, tokens) of each utterance → loss per token of those below 2 s, from 2 to 4 s, …, if there are."""
    edges = ["0", *map(str, LENGTHS), ""]
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0])
    for seconds, loss, tokens in measured:
        sums[bisect(LENGTHS, seconds)][0] += loss
        sums[bisect(LENGTHS, seconds)][1] += tokens
    return {
        f"{edges[place]}-{edges[place + 1]}": loss / tokens for place, (loss, tokens) in sorted(sums.items()) if tokens
    }
