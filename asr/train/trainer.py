"""The one training loop."""

import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lhotse import MonoCut
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from asr.decode.greedy import GreedyDecoder
from asr.errors import RecipeError
from asr.evaluate import Evaluation, Utterance, evaluate
from asr.manifest import Entry
from asr.nn.acoustic import SAMPLES_PER_FRAME, AcousticModel, ctc_loss
from asr.nn.features import SAMPLE_RATE
from asr.train.augment import SpecAugment
from asr.train.checkpoint import load_checkpoint, save_checkpoint
from asr.train.config import Recipe, check_resumed, save_recipe
from asr.train.dataset import Batch, eval_loader, make_cuts, read_entries, train_loader, usable_cuts
from asr.train.tokenizer import TextRule, Tokenizer, make_tokenizer

FRAME_SECONDS = SAMPLES_PER_FRAME / SAMPLE_RATE
NORMALISATION_UTTERANCES = 500  # enough for the mean and deviation of 80 bands
TOKENIZER_MODEL = "tokenizer.model"
FIRST_LEARNING_RATE = 0.01  # of the peak, at the first step
FINAL_LEARNING_RATE = 0.01  # of the peak, at the last step


@dataclass
class Epoch:
    """One line of the training curve, also of `curve.jsonl`."""

    epoch: int
    step: int
    train_loss: float  # nats per token
    dev_loss: float  # nats per token
    dev_wer: float  # fraction, greedy
    gradient_norm: float  # mean before clipping
    learning_rate: float
    too_short: int  # utterances of this epoch too short for their text after speed perturbation
    speed: float  # seconds of audio trained per second
    minutes: float  # of training and validation so far


class Trainer:
    """Owns a run: its data, model, optimiser and folder. `run()` trains to the last epoch of the recipe."""

    def __init__(self, recipe: Recipe, console: Console, resume: bool = False):
        self.recipe = recipe
        self.console = console
        self.folder = recipe.folder
        self.last, self.best = self.folder / "last.safetensors", self.folder / "best.safetensors"
        if self.last.exists() and not resume:
            raise RecipeError(f"{self.folder} holds a run already; add --resume to go on, or set name or output")
        if self.last.exists():
            check_resumed(recipe, self.folder / "recipe.yaml")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not resume:  # a run that was stopped before its first checkpoint may have had another vocabulary
            (self.folder / TOKENIZER_MODEL).unlink(missing_ok=True)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.autocast = choose_precision(recipe.precision, self.device) == "bfloat16"
        self.curve: list[Epoch] = []
        self.unreadable: set[str] = set()
        self._prepare_data()
        self.model = AcousticModel(recipe.model, len(self.tokenizer.tokens)).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.optimizer.learning_rate, weight_decay=recipe.optimizer.weight_decay
        )
        tokens = self.tokenizer.tokens.symbols
        if resume and self.last.exists():
            progress = load_checkpoint(self.last, self.model, self.optimizer)
            if tuple(progress.get("tokens", tokens)) != tokens:
                raise RecipeError(f"{self.last}: made with other tokens; a run keeps its tokenizer, set another name")
            try:
                self.curve = [Epoch(**epoch) for epoch in progress["curve"]]
            except (KeyError, TypeError) as error:
                raise RecipeError(f"{self.last}: made by another version of asr; train without --resume") from error
        else:
            self._fit_features()
        self.tokenizer.tokens.save(self.folder / "tokens.txt")
        save_recipe(recipe, self.folder / "recipe.yaml")

    def _prepare_data(self) -> None:
        recipe = self.recipe
        rule = TextRule(recipe.tokenizer)
        train, dev = read_entries(recipe.data.train, rule), read_entries([recipe.data.dev], rule)
        if recipe.data.train_fraction < 1:
            count = max(1, round(len(train) * recipe.data.train_fraction))
            train = random.Random(recipe.seed).sample(train, count)
        if rule.dropped:
            self._say(f"dropped from the texts: {dict(rule.dropped.most_common())}")
        texts = (entry.text for entry in train if entry.text)
        self.tokenizer: Tokenizer = make_tokenizer(recipe.tokenizer, texts, self.folder / TOKENIZER_MODEL)
        self.train_cuts = self._cuts("train", train, recipe.data.max_seconds)
        self.dev_cuts = self._cuts("dev", dev, math.inf)

    def _cuts(self, name: str, entries: list[Entry], max_seconds: float) -> list[MonoCut]:
        cuts, unreadable = make_cuts(entries)
        self._report_unreadable(unreadable)
        usable, left_out = usable_cuts(cuts, self.tokenizer, max_seconds)
        hours = sum(cut.duration for cut in usable) / 3600
        self._say(f"{name}: {len(usable):,} utterances, {hours:.2f} h; left out: {left_out}")
        if not usable:
            raise RecipeError(f"no utterance of the {name} data can be used; left out: {left_out}")
        return usable

    def _fit_features(self) -> None:
        sample = random.Random(self.recipe.seed).sample(
            self.train_cuts, min(NORMALISATION_UTTERANCES, len(self.train_cuts))
        )
        self.model.features.fit(
            waveform[:length].to(self.device)
            for batch in eval_loader(sample, self.tokenizer, self.recipe)
            for waveform, length in zip(batch.waveforms, batch.lengths, strict=True)
        )

    def learning_rate(self, done: float) -> float:
        """Linear warm-up, then half a cosine. `done`, 0…1, is the share of all audio of the run that has been seen."""
        optimizer = self.recipe.optimizer
        if done < optimizer.warmup or optimizer.warmup == 1:
            return optimizer.learning_rate * max(done / optimizer.warmup, FIRST_LEARNING_RATE)
        progress = (done - optimizer.warmup) / (1 - optimizer.warmup)
        share = FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * (1 + math.cos(math.pi * progress)) / 2
        return optimizer.learning_rate * share

    def forward(self, batch: Batch, augment: SpecAugment | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast and self.model.training):
            return self.model(batch.waveforms.to(self.device), batch.lengths.to(self.device), augment)

    def run(self) -> list[Epoch]:
        """Train until the last epoch; after each one validate, keep the last and the best checkpoint."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        precision = "bfloat16" if self.autocast else "float32"
        self._say(f"{parameters:,} parameters, {precision} on {self.device}")
        with SummaryWriter(str(self.folder)) as writer:
            while len(self.curve) < self.recipe.epochs:
                epoch = self._epoch(len(self.curve) + 1, writer)
                self.curve.append(epoch)
                progress = {"curve": [asdict(epoch) for epoch in self.curve], "tokens": self.tokenizer.tokens.symbols}
                if best_epoch(self.curve) is epoch:
                    save_checkpoint(self.best, self.model, self.optimizer, progress)
                save_checkpoint(self.last, self.model, self.optimizer, progress)
                self._report(epoch, writer)
        return self.curve

    def _epoch(self, number: int, writer: SummaryWriter) -> Epoch:
        # Dropout and masks of an epoch do not depend on how many epochs this process has run: resuming repeats them.
        torch.manual_seed(self.recipe.seed * 1_000_003 + number)
        started = time.monotonic()
        step = first_step = self.curve[-1].step if self.curve else 0
        minutes = self.curve[-1].minutes if self.curve else 0.0
        learning = any(epoch.dev_wer < self.recipe.augment.mask_below_wer for epoch in self.curve)
        augment = SpecAugment(self.recipe.augment) if learning else None
        total_loss = total_tokens = total_norm = seconds = 0.0
        too_short = 0
        loader = train_loader(self.train_cuts, self.tokenizer, self.recipe, number)
        with self._progress(number) as progress:
            total_seconds = sum(cut.duration for cut in self.train_cuts)
            task = progress.add_task("", total=total_seconds, loss=math.nan, speed=0.0)
            self.model.train()
            for batch in loader:
                self._report_unreadable(batch.unreadable)
                if not batch.ids:
                    continue
                # Perturbed speeds make an epoch a little longer or shorter than its recordings.
                learning_rate = self.learning_rate(
                    (number - 1 + min(1.0, seconds / total_seconds)) / self.recipe.epochs
                )
                loss, tokens, norm, short = self.step(batch, learning_rate, augment)
                too_short += short
                total_loss += loss
                total_tokens += tokens
                total_norm += norm
                seconds += batch.seconds
                step += 1
                writer.add_scalar("train/loss", loss / max(1, tokens), step)
                writer.add_scalar("train/gradient_norm", norm, step)
                writer.add_scalar("train/learning_rate", learning_rate, step)
                speed = seconds / (time.monotonic() - started)
                progress.update(task, completed=seconds, loss=loss / max(1, tokens), speed=speed)
        speed = seconds / (time.monotonic() - started)
        dev_loss, evaluation = self.validate()
        return Epoch(
            epoch=number,
            step=step,
            train_loss=total_loss / max(1.0, total_tokens),
            dev_loss=dev_loss,
            dev_wer=evaluation.wer,
            gradient_norm=total_norm / max(1, step - first_step),
            learning_rate=self.learning_rate(number / self.recipe.epochs),
            too_short=too_short,
            speed=speed,
            minutes=minutes + (time.monotonic() - started) / 60,
        )

    def step(self, batch: Batch, learning_rate: float, augment: SpecAugment | None) -> tuple[float, float, float, int]:
        """One update. Returns the summed loss, the tokens in it, the gradient norm, and the utterances left out."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        log_probs, lengths = self.forward(batch, augment)
        target_lengths = batch.target_lengths.to(self.device)
        losses, usable = ctc_loss(log_probs, lengths, batch.targets.to(self.device), target_lengths)
        tokens = (target_lengths * usable).sum()
        loss = losses.sum() / tokens.clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.clip)
        if not torch.isfinite(norm):
            raise RecipeError(
                "the gradient is not finite; lower optimizer.learning_rate or set precision=float32. "
                f"The batch: {', '.join(batch.ids[:5])} …"
            )
        self.optimizer.step()
        return losses.sum().item(), tokens.item(), norm.item(), int((~usable).sum())

    @torch.no_grad()
    def validate(self) -> tuple[float, Evaluation]:
        """Loss per token and greedy word errors of the dev data, in float32."""
        self.model.eval()
        decoder = GreedyDecoder(self.tokenizer.tokens, FRAME_SECONDS)
        total_loss = total_tokens = 0.0
        utterances = []
        loader: DataLoader[Any] = eval_loader(self.dev_cuts, self.tokenizer, self.recipe)
        for batch in loader:
            self._report_unreadable(batch.unreadable)
            if not batch.ids:
                continue
            log_probs, lengths = self.forward(batch)
            losses, usable = ctc_loss(
                log_probs, lengths, batch.targets.to(self.device), batch.target_lengths.to(self.device)
            )
            total_loss += losses.sum().item()
            total_tokens += (batch.target_lengths * usable.cpu()).sum().item()
            for row, (name, text) in enumerate(zip(batch.ids, batch.texts, strict=True)):
                state = decoder.reset()
                decoder.advance(state, log_probs[row, : lengths[row]].cpu().numpy())
                hypothesis = decoder.finish(state)[0].text
                utterances.append(Utterance(name, text, hypothesis, float(batch.lengths[row]) / SAMPLE_RATE))
        return total_loss / max(1.0, total_tokens), evaluate(utterances)

    def _report_unreadable(self, unreadable: dict[str, str]) -> None:
        """Say once of each recording that it cannot be read; the run goes on without it."""
        for file, message in unreadable.items():
            if file not in self.unreadable:
                self._say(message)
                self.unreadable.add(file)

    def _progress(self, number: int) -> Progress:
        return Progress(
            TextColumn(f"epoch {number}/{self.recipe.epochs}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:.0f} s audio/s"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def _say(self, text: str) -> None:
        self.console.print(text)

    def _report(self, epoch: Epoch, writer: SummaryWriter) -> None:
        for name in ("train_loss", "dev_loss", "dev_wer", "gradient_norm", "speed"):
            writer.add_scalar(f"epoch/{name}", getattr(epoch, name), epoch.epoch)
        with open(self.folder / "curve.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(line)) + "\n" for line in self.curve)
        self._say(
            f"epoch {epoch.epoch:3d}  train {epoch.train_loss:.3f}  dev {epoch.dev_loss:.3f}  "
            f"WER {epoch.dev_wer:6.2%}  gradient {epoch.gradient_norm:.2f}  {epoch.speed:.0f} s audio/s  "
            f"{epoch.minutes:.1f} min" + (f"  too short for their text: {epoch.too_short}" if epoch.too_short else "")
        )


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto`: bfloat16 where the hardware multiplies it faster than float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Torch has no public name for this yet.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bfloat16" if has_amx() else "float32"


def best_epoch(curve: list[Epoch]) -> Epoch:
    """The epoch with the fewest dev word errors; among equals, as on the blank-only plateau, the lowest dev loss."""
    return min(curve, key=lambda epoch: (epoch.dev_wer, epoch.dev_loss))


def best_model(recipe: Recipe, vocabulary: int, checkpoint: Path) -> AcousticModel:
    """The model of a checkpoint, ready to run."""
    model = AcousticModel(recipe.model, vocabulary)
    load_checkpoint(checkpoint, model)
    return model.eval()
