"""Training of the acoustic model: recordings and their texts, CTC loss, word error rate of the greedy decoder."""

import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.data.augment.batch import SpecAugment
from asr.data.batch import Batch, Targets, read_sources
from asr.data.manifest import Entry
from asr.data.pronunciation import make_speller
from asr.data.tokenizer import (
    ATTENTION_MODEL,
    PHONES_MODEL,
    TOKENIZER_MODEL,
    TextRule,
    Tokenizer,
    attention_tokenizer,
    make_tokenizer,
    phones_tokenizer,
)
from asr.decode.greedy import GreedyDecoder
from asr.decode.lexicon import Pronunciations
from asr.errors import RecipeError, one_line
from asr.evaluate.wer import Utterance, evaluate
from asr.model.bundle import LEXICON
from asr.nn.attention import AttentionDecoder, teacher_forced
from asr.nn.ctc_model import SAMPLES_PER_FRAME, AcousticModel, output_lengths
from asr.nn.frontend import SAMPLE_RATE
from asr.nn.graphs import RecurrentGraphs
from asr.train import distributed
from asr.train.config import AcousticRecipe
from asr.train.crf import Bigrams
from asr.train.loader import CorpusData
from asr.train.loss import Objective
from asr.train.pretrained import TrainedModel, load_trained
from asr.train.report.saturation import Saturation
from asr.train.runs import LAST, MEASURES
from asr.train.task import Epoch, Say, Task

FRAME_SECONDS = SAMPLES_PER_FRAME / SAMPLE_RATE
NORMALISATION_UTTERANCES = 500  # enough for the mean and deviation of 80 bands
FIRST_EPOCHS = 5  # in which a model may well write only blanks
MEASURED_UTTERANCES = 200  # of the training data after each epoch; not more than there are dev utterances
LENGTHS = (2, 4, 8, 16)  # seconds, between utterances whose losses are told apart


@dataclass(kw_only=True)
class AcousticEpoch(Epoch):
    measure = MEASURES["acoustic"]
    title = "dev WER, greedy"
    unit = "s audio"
    dev_wer: float  # fraction, greedy
    train_wer: float | None = None  # the same of some training utterances, unchanged; None in curves of older versions
    loss_by_seconds: dict[str, float] = field(default_factory=dict)  # dev loss of utterances so long, `loss_by_seconds`
    more_wer: dict[str, float] = field(default_factory=dict)  # of `data.more_dev`, by manifest
    only_blanks: bool = False  # whether all dev texts are empty
    ranked_by_loss: bool = False  # with CTC-CRF: the greedy decoder has no n-grams, so its WER says little
    attention_loss: float = 0.0  # nats per token of the attention decoder on the dev data
    attention_accuracy: float = 0.0  # share of these tokens that it finds likeliest after the true ones

    @property
    def outcome(self) -> str:
        too_short = f"  too short for their text: {self.too_short}" if self.too_short else ""
        more = "".join(f"  {Path(name).stem} {wer:6.2%}" for name, wer in self.more_wer.items())
        found = f"  attention loss {self.attention_loss:.3f}, {self.attention_accuracy:.1%} right"
        train = f"  on training data {self.train_wer:6.2%}" if self.train_wer is not None else ""
        return f"WER {self.dev_wer:6.2%}{more}{train}{found * (self.attention_loss > 0)}{too_short}"

    @property
    def advice(self) -> str:
        if not self.only_blanks:
            return ""
        normal = "which is normal in the first epochs"
        wrong = "lower optimizer.learning_rate, or look for texts that do not belong to their audio"
        advice = normal if self.epoch <= FIRST_EPOCHS else wrong
        return f"all dev texts are empty: the model still writes only blanks, {advice}"


class AcousticTask(Task):
    """Learns from recordings and their texts. Nothing is `carried`."""

    epoch_type = AcousticEpoch

    def __init__(self, recipe: AcousticRecipe, device: torch.device, say: Say):
        self.recipe = recipe
        self.device = device
        self.say = say
        self.augment: SpecAugment | None = None
        # A resumed run needs no longer what it began with.
        begun = (recipe.folder / LAST).exists()
        self.source = load_trained(recipe.init_from) if recipe.init_from and not begun else None
        if self.source is not None:
            self.source.check_model(recipe.model)
        teacher = load_trained(recipe.objective.teacher) if recipe.objective.teacher else None
        self._prepare_data(begun, None if begun else self.source or teacher)
        self.tokens = self.tokenizer.tokens
        phones = len(self.phones.tokens) if self.phones else 0
        self.model: AcousticModel = AcousticModel(recipe.model, len(self.tokens), phones, recipe.attention).to(device)
        if recipe.attention.freeze_encoder:
            assert self.model.attention is not None
            self.model.requires_grad_(False)
            self.model.attention.requires_grad_(True)
        if teacher is not None and teacher.tokenizer.tokens.symbols != self.tokens.symbols:
            raise RecipeError(
                f"objective.teacher: {teacher.path} has other tokens; set kind, case, alphabet and vocabulary of "
                "tokenizer as they are there"
            )
        taught_by = None if teacher is None else teacher.model().to(device)
        bigrams = None
        if recipe.objective.crf:
            spelled = (self.tokenizer.encode(utterance.spelled) for utterance in self.data.utterances)
            bigrams = Bigrams.estimate(spelled, len(self.tokens)).to(device)
        self.objective = Objective(recipe.objective, taught_by, recipe.phones.weight, recipe.attention, bigrams)
        self.epoch_amount = self.data.seconds * recipe.data.passes
        self.epoch_batches = self.data.batches * recipe.data.passes
        self.carried: dict[str, Tensor] = {}

    def _prepare_data(self, begun: bool, source: TrainedModel | None) -> None:
        """`source` has tokenizers that are taken if the recipe asks for such ones."""
        recipe = self.recipe
        rule = TextRule(recipe.tokenizer)
        speller = make_speller(recipe.tokenizer, recipe.phones, recipe.language)
        train = read_sources(recipe.data.train, rule, speller)
        dev = [read_sources([manifest], rule, speller) for manifest in (recipe.data.dev, *recipe.data.more_dev)]
        chosen = self._chosen([entry for _, entries in train for entry in entries])
        if rule.dropped:
            self.say(f"dropped from the texts: {dict(rule.dropped.most_common())}")
        for line in speller.report() if speller else ():
            self.say(line)
        self.pronunciations: Pronunciations | None = None  # how words are written, where phones are spelled
        self.phones: Tokenizer | None = None
        with distributed.main_first():
            if distributed.is_main() and not begun:  # a run that was stopped may have had another vocabulary
                for name in (TOKENIZER_MODEL, PHONES_MODEL, ATTENTION_MODEL, LEXICON):
                    (recipe.folder / name).unlink(missing_ok=True)
                if source is not None:
                    source.give_tokenizers(recipe)
            texts = filter(None, (entry.spelled(recipe.tokenizer.spelling) for entry in chosen))
            self.tokenizer: Tokenizer = make_tokenizer(recipe.tokenizer, texts, recipe.folder / TOKENIZER_MODEL)
            if speller and recipe.tokenizer.spelling == "phones":
                # Without rules for words that are in no lexicon, which take milliseconds each.
                self.pronunciations = Pronunciations(speller.keep(recipe.folder, (entry.text for entry in chosen)))
            if recipe.phones.weight:
                spelled = [entry.phones for entry in chosen if entry.phones]
                if not spelled:
                    raise RecipeError('phones.weight: no training manifest has "phones"; add them, or set it to 0')
                config = phones_tokenizer(recipe.phones)
                self.phones = make_tokenizer(config, spelled, recipe.folder / PHONES_MODEL, "phones")
            letters: Tokenizer | None = None
            if recipe.attention.weight:
                config = attention_tokenizer(recipe.attention, recipe.tokenizer)
                written = filter(None, map(TextRule(config), (entry.text for entry in chosen), repeat("")))
                letters = make_tokenizer(config, written, recipe.folder / ATTENTION_MODEL, "attention")
        ids = {entry.id for entry in chosen}
        self.data = CorpusData(recipe, self.tokenizer, self.phones, train, ids, dev, self.device, self.say, letters)

    def _chosen(self, entries: list[Entry]) -> list[Entry]:
        least, recipe = self.recipe.data.min_confidence, self.recipe
        sure = [entry for entry in entries if entry.confidence is None or entry.confidence >= least]
        if not sure:
            raise RecipeError(f"data.min_confidence={least} leaves no utterance; lower it")
        if len(sure) < len(entries):
            self.say(f"train: {len(entries) - len(sure):,} utterances with a confidence below {least} left out")
        if recipe.data.train_fraction < 1:
            sure = random.Random(recipe.seed).sample(sure, max(1, round(len(sure) * recipe.data.train_fraction)))
        return sure

    def begin(self) -> None:
        """Take the weights of `init_from`, or mean and deviation of the features from a sample of the training data."""
        if self.source is not None:
            same = self.source.begin(self.model, self.tokens)
            note = "" if same else ", but a new output layer: the recipe's tokenizer has other tokens"
            self.say(f"begins with the weights of {self.source.path}{note}")
            return
        self.model.features.fit(self.data.sample(NORMALISATION_UTTERANCES))

    def accelerate(self, dtype: torch.dtype) -> None:
        """Capture graphs of the recurrent layers on a GPU; without them, it waits for the CPU most of the time."""
        recipe = self.recipe
        frozen = recipe.attention.freeze_encoder  # its layers run without gradients
        if self.device.type != "cuda" or dtype == torch.float32 or recipe.accumulate > 1 or frozen:
            return
        views = 2 if recipe.objective.consistency else 1
        frames, rows = views * int(recipe.data.batch_seconds / FRAME_SECONDS), views * recipe.data.max_batch
        self.model.train()
        try:
            layer = self.objective.layer(self.model)
            self.model.graphs = RecurrentGraphs(self.model.recurrent, layer, frames, rows, dtype)
        except RuntimeError as error:
            self.say(f"recurrent layers run without CUDA graphs, which makes them slower: {one_line(error)}")

    def start_epoch(self, curve: list[AcousticEpoch], done: int) -> Iterator[Batch]:
        below = self.recipe.augment.mask_below_wer
        # A model that learns by CTC-CRF may never have a low error rate without n-grams.
        learned = any(not epoch.only_blanks if epoch.ranked_by_loss else epoch.dev_wer < below for epoch in curve)
        learning = below > 0 and (bool(self.recipe.init_from) or learned)
        self.augment = SpecAugment(self.recipe.augment) if learning else None
        return self.data.train(len(curve) + 1, done, gain_only=below > 0 and not learning)

    def count(self, batch: Batch) -> tuple[int, int]:
        tokens = ctc_tokens(batch)
        if self.recipe.attention.freeze_encoder:
            assert batch.letters is not None
            tokens = (batch.letters.lengths + 1) * (batch.letters.lengths > 0)
        too_short = (tokens == 0) & (batch.targets.lengths > 0)  # noise alone has no targets
        return int(tokens.sum()), int(too_short.sum())

    def loss(self, batch: Batch) -> Tensor:
        return self.objective(self.model, batch, self.augment).sum()

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Loss per token of the dev data, greedy word errors of these and of training data, in float32."""
        assert isinstance(model, AcousticModel)
        model.eval()
        wers: dict[str, float] = {}
        measured: list[tuple[float, float, int]] = []  # seconds, loss, tokens of each utterance of the first dev set
        attended: list[tuple[float, int, int]] = []  # loss, right and all tokens of the attention decoder
        only_blanks = True
        with Saturation(model) as saturation:
            for number, name in enumerate((self.recipe.data.dev, *self.recipe.data.more_dev)):
                utterances: list[Utterance] = []
                for batch in self.data.dev(number):
                    saturation.lengths = output_lengths(batch.lengths)
                    log_probs, encoded, lengths = model(batch.waveforms.to(self.device), batch.lengths)
                    recognised = self._recognise(batch, log_probs, lengths)
                    if not number:
                        if model.attention is not None and batch.letters is not None:
                            attended.append(attention_results(model.attention, encoded, lengths, batch.letters))
                        losses = self.objective.text_loss(log_probs, lengths, batch.targets)[0].tolist()
                        seconds = (utterance.seconds for utterance in recognised)
                        measured += zip(seconds, losses, ctc_tokens(batch).tolist(), strict=True)
                    utterances += recognised
                only_blanks = only_blanks and not any(utterance.hypothesis for utterance in utterances)
                wers[name] = evaluate(utterances).wer
        train: list[Utterance] = []
        for batch in self.data.train_unchanged(min(MEASURED_UTTERANCES, len(measured))):
            log_probs, _, lengths = model(batch.waveforms.to(self.device), batch.lengths)
            train += self._recognise(batch, log_probs, lengths)
        letters = max(1, sum(tokens for *_, tokens in attended))
        attention_loss = sum(loss for loss, *_ in attended) / letters
        dev_loss = sum(loss for _, loss, _ in measured) / max(1, sum(tokens for _, _, tokens in measured))
        return {
            "dev_loss": attention_loss if self.recipe.attention.freeze_encoder else dev_loss,
            "attention_loss": attention_loss,
            "attention_accuracy": sum(right for _, right, _ in attended) / letters,
            "dev_wer": wers.pop(self.recipe.data.dev),
            "train_wer": evaluate(train).wer,
            "more_wer": wers,
            "only_blanks": only_blanks,
            "ranked_by_loss": self.recipe.objective.crf > 0,
            "loss_by_seconds": loss_by_seconds(measured),
            "saturation": saturation.shares(),
        }

    def _recognise(self, batch: Batch, log_probs: Tensor, lengths: Tensor) -> list[Utterance]:
        decoder = GreedyDecoder(self.tokens, FRAME_SECONDS, pronunciations=self.pronunciations)
        rows = zip(log_probs.cpu().numpy(), lengths.tolist(), strict=True)
        texts = [greedy_text(decoder, row[:length]) for row, length in rows]
        seconds = [length / SAMPLE_RATE for length in batch.lengths.tolist()]
        return list(map(Utterance, batch.ids, batch.texts, texts, seconds))


def ctc_tokens(batch: Batch) -> Tensor:
    """Tokens of each utterance, (B,); 0 for one too short for its text."""
    return batch.targets.lengths * batch.targets.fit(output_lengths(batch.lengths))


def attention_results(
    decoder: AttentionDecoder, encoded: Tensor, frames: Tensor, letters: Targets
) -> tuple[float, int, int]:
    """Loss in nats without label smoothing, tokens found likeliest after the true ones, and all tokens of a batch."""
    log_probs, outputs, _ = teacher_forced(decoder, encoded, frames.to(encoded.device), letters.ids.to(encoded.device))
    lengths = letters.lengths.to(encoded.device).unsqueeze(1)
    counted = (torch.arange(outputs.shape[1], device=encoded.device) <= lengths) & (lengths > 0)
    losses = -log_probs.gather(2, outputs.unsqueeze(2)).squeeze(2)
    right = log_probs.argmax(2) == outputs
    return float(losses[counted].sum()), int(right[counted].sum()), int(counted.sum())


def greedy_text(decoder: GreedyDecoder, log_probs: np.ndarray) -> str:
    state = decoder.reset()
    decoder.advance(state, log_probs)
    return decoder.finish(state)[0].text


def loss_by_seconds(measured: Iterable[tuple[float, float, int]]) -> dict[str, float]:
    """(seconds, loss, tokens) of each utterance → loss per token of those below 2 s, from 2 to 4 s, …, if there are."""
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0])
    for seconds, loss, tokens in measured:
        sums[bisect(LENGTHS, seconds)][0] += loss
        sums[bisect(LENGTHS, seconds)][1] += tokens
    edges = ["0", *map(str, LENGTHS), ""]
    return {f"{edges[i]}-{edges[i + 1]}": loss / tokens for i, (loss, tokens) in sorted(sums.items()) if tokens}
