"""Batches of a decoded corpus: cut, padded and augmented a whole batch at a time, where the model computes.

All that is drawn for an utterance depends on the seed, the pass and the utterance: a pass can be repeated, and go on
after any number of its batches.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.data.augment.batch import BatchAugment, change_rate, is_noise_alone
from asr.data.augment.filters import changed_length, resample, stretch
from asr.data.augment.room import simulate
from asr.data.batch import Batch, Targets, cut, unusable
from asr.data.config import AugmentConfig
from asr.data.manifest import Entry, read_manifest
from asr.data.tokenizer import TextRule, Tokenizer, attention_tokenizer
from asr.errors import RecipeError
from asr.nn.ctc_model import SAMPLES_PER_FRAME
from asr.nn.frontend import SAMPLE_RATE
from asr.nn.graphs import padded_frames
from asr.train import distributed
from asr.train.config import AcousticRecipe
from asr.train.corpus import FULL_SCALE, AudioCorpus

ROOMS = 400  # impulse responses, of which one is drawn for an utterance
LONGEST_RESPONSE = SAMPLE_RATE // 2  # samples of an impulse response that are used
BUCKET = SAMPLE_RATE // 4  # samples by which utterances differ that are taken for equally long
AUDIO = "audio"  # the folder of decoded audio, below the recipe's output
EVAL_SECONDS = {"cuda": 2000.0, "cpu": 200.0}  # of audio in a batch that is only measured
Manifests = Sequence[tuple[str, Sequence[Entry]]]  # each with its entries, in the order of its lines


@dataclass(frozen=True)
class CorpusUtterance:
    """An utterance of a corpus, by its index there."""

    index: int
    id: str
    text: str
    spelled: str  # the text as the tokenizer has it: letters or phones
    phones: str  # empty where it has none
    samples: int


@dataclass(frozen=True)
class Part:
    """An utterance at a speed and a tempo; a row of a batch is one, or several that are joined."""

    utterance: CorpusUtterance
    speed: float
    tempo: float

    @property
    def samples(self) -> int:
        return changed_length(changed_length(self.utterance.samples, self.speed), self.tempo)


Row = list[Part]


def usable_utterances(
    corpus: AudioCorpus, tokenizer: Tokenizer, max_seconds: float = math.inf, chosen: Container[str] | None = None
) -> tuple[list[CorpusUtterance], Counter[str]]:
    """Those of the chosen ids that can be trained on, and how many cannot and why; without `corpus.problems`."""
    usable, left_out = [], Counter[str]()
    for index, entry in enumerate(corpus.entries):
        if index in corpus.problems or (chosen is not None and entry.id not in chosen):
            continue
        samples, spelled = len(corpus.samples(index)), entry.spelled(tokenizer.spelling)
        if reason := unusable(samples, entry.text, tokenizer.encode(spelled), max_seconds):
            left_out[reason] += 1
        else:
            usable.append(CorpusUtterance(index, entry.id, entry.text, spelled, entry.phones or "", samples))
    return usable, left_out


class CorpusData:
    """Training and dev data, as batches.

    `seconds` is the training audio, `batches` about how many there are in a pass over it.
    """

    def __init__(
        self,
        recipe: AcousticRecipe,
        tokenizer: Tokenizer,
        phones: Tokenizer | None,
        train: Manifests,
        chosen: Container[str],
        dev: Sequence[Manifests],
        device: torch.device,
        say: Callable[[str], None],
        letters: Tokenizer | None = None,
    ):
        """phones: of the second head; chosen: ids of those to learn from; letters: of the attention decoder.

        RecipeError if no utterance of a set, or no recording of noise or rooms, can be used.
        """
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.phones = phones
        self.letters = letters
        self.letter_rule = TextRule(attention_tokenizer(recipe.attention, recipe.tokenizer))
        self.device = device
        self.say = say
        self.folder = Path(recipe.output) / AUDIO
        with distributed.main_first():  # which decodes for all
            self.corpus, self.utterances = self._read("train", train, recipe.data.max_seconds, chosen)
            self.augment = self._make_augment()
            self.dev_sets = [self._read("dev", manifests) for manifests in dev]
        self.gain = BatchAugment(replace(recipe.augment, rooms=[], noises=[], codecs=[]), [], {}, None, device)
        self.seconds = sum(row.samples for row in self.utterances) / SAMPLE_RATE
        self.batches = sum(1 for _ in self._draw(1))  # later passes have about as many

    def _read(
        self, name: str, manifests: Manifests, max_seconds: float = math.inf, chosen: Container[str] | None = None
    ) -> tuple[AudioCorpus, list[CorpusUtterance]]:
        corpus = AudioCorpus(manifests, self.folder, self.say)
        usable, left_out = usable_utterances(corpus, self.tokenizer, max_seconds, chosen)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "none"
        if not usable:
            raise RecipeError(f"no utterance of the {name} data can be used; left out: {reasons}")
        where = " in the GPU" if corpus.move_to(self.device) else ""
        hours = sum(row.samples for row in usable) / SAMPLE_RATE / 3600
        self.say(f"{name}: {len(usable):,} utterances, {hours:.2f} h{where}; left out: {reasons}")
        return corpus, usable

    def _make_augment(self) -> BatchAugment:
        config = self.recipe.augment
        noises = {source: self._recordings(source) for source in config.noises if source.endswith(".jsonl")}
        voices = [self.corpus.samples(row.index) for row in self.utterances] if "babble" in config.noises else []
        return BatchAugment(
            config,
            voices,
            {source: [noise.to(self.device) for noise in recordings] for source, recordings in noises.items()},
            self._rooms().to(self.device) if config.rooms else None,
            self.device,
        )

    def _recordings(self, manifest: str) -> list[Tensor]:
        """Of noise or rooms, (n,) int16 each."""
        corpus = AudioCorpus([(manifest, read_manifest(manifest))], self.folder, self.say, "cannot augment with it")
        found = [samples for index in range(len(corpus.entries)) if len(samples := corpus.samples(index))]
        if not found:
            raise RecipeError(f"{manifest}: there are no recordings to augment with; take it out")
        return found

    def _rooms(self) -> Tensor:
        """Impulse responses (ROOMS, taps) that begin with the direct sound; all sources have an equal share of them."""
        recipe, sources = self.recipe, self.recipe.augment.rooms
        recorded = {source: self._recordings(source) for source in sources if source != "simulated"}
        responses = []
        for number in range(ROOMS):
            source, draw = sources[number % len(sources)], random.Random(f"bank {recipe.seed} {number}")
            if source in recorded:
                response = draw.choice(recorded[source]).numpy() / np.float32(FULL_SCALE)
            else:
                response = simulate(draw.uniform(*recipe.augment.reverberation), draw)
            responses.append(torch.from_numpy(response[np.abs(response).argmax() :][:LONGEST_RESPONSE]))
        return pad_sequence(responses, batch_first=True)

    def train(self, epoch: int, done: int = 0, gain_only: bool = False) -> Iterator[Batch]:
        """This process's batches of an epoch (from 1), after the first `done` of all processes.

        gain_only: without rooms, noise and codecs.
        """
        passes = self.recipe.data.passes
        numbers = range((epoch - 1) * passes + 1, epoch * passes + 1)
        drawn = ((number, rows) for number in numbers for rows in self._draw(number))
        here = islice(drawn, done + distributed.rank(), None, distributed.count())
        change = self.gain if gain_only else self.augment
        loaded = (self._load(rows, number, change) for number, rows in here)
        return prefetch(loaded, self.device) if self.device.type == "cuda" else loaded

    def dev(self, number: int) -> Iterator[Batch]:
        """The dev set of this number (from 0), unchanged, in batches of similar length."""
        return self._unchanged(*self.dev_sets[number])

    def train_unchanged(self, count: int) -> Iterator[Batch]:
        """`count` training utterances, always the same ones, as `dev` gives a dev set."""
        return self._unchanged(self.corpus, self._drawn(count))

    def _unchanged(self, corpus: AudioCorpus, utterances: Sequence[CorpusUtterance]) -> Iterator[Batch]:
        ordered = sorted(utterances, key=lambda row: (row.samples, row.id))
        limit = EVAL_SECONDS[self.device.type] * SAMPLE_RATE
        for begin, end in cut([row.samples for row in ordered], limit, len(ordered)):
            rows = ordered[begin:end]
            parts = [[Part(row, 1.0, 1.0)] for row in rows]
            yield self._batch(parts, [row.id for row in rows], self._waveforms(corpus, rows), [r.samples for r in rows])

    def _drawn(self, count: int) -> list[CorpusUtterance]:
        return random.Random(self.recipe.seed).sample(self.utterances, min(count, len(self.utterances)))

    def sample(self, count: int) -> Iterator[Tensor]:
        """`count` training utterances (n,), at their volumes, in noise and rooms, for the features' statistics."""
        for row in sorted(self._drawn(count), key=lambda row: row.samples):
            yield self._load([[Part(row, 1.0, 1.0)]], 0, self.augment).waveforms[0]

    def _draw(self, number: int) -> Iterator[list[Row]]:
        """The batches of a pass; the rows of one update are dealt out to its batches."""
        recipe = self.recipe
        count = recipe.accumulate * distributed.count()
        rows = [[self._perturbed(utterance, number)] for utterance in self.utterances]
        shortest_first = number == 1 and not recipe.init_from
        if recipe.augment.join_share and not shortest_first:
            rows = join(rows, recipe.augment, f"{recipe.seed} {number}")
        frames = [math.ceil(sum(part.samples for part in row) / SAMPLES_PER_FRAME) for row in rows]
        if self.device.type == "cuda":  # to which its batch is padded
            frames = [padded_frames(count + recipe.model.lookahead) for count in frames]
        lengths = [SAMPLES_PER_FRAME * count for count in frames]
        seconds = count * recipe.data.batch_seconds
        limits = seconds * SAMPLE_RATE, count * recipe.data.max_batch
        for update in plan(lengths, *limits, (recipe.seed, number), shortest_first):
            for part in range(count):
                yield [rows[index] for index in update[part::count]]

    def _perturbed(self, utterance: CorpusUtterance, number: int) -> Part:
        draw, augment = random.Random(f"{self.recipe.seed} {number} {utterance.id}"), self.recipe.augment
        return Part(utterance, draw.choice(augment.speeds), draw.choice(augment.tempos))

    def _load(self, rows: list[Row], number: int, change: BatchAugment) -> Batch:
        if not rows:  # an update with fewer utterances than batches
            return Batch.empty()
        parts = [part for row in rows for part in row]
        waveforms = self._waveforms(self.corpus, [part.utterance for part in parts])
        lengths = [part.utterance.samples for part in parts]
        waveforms, lengths = change_rate(waveforms, lengths, [part.speed for part in parts], resample)
        if any(part.tempo != 1.0 for part in parts):
            waveforms, lengths = change_rate(waveforms, lengths, [part.tempo for part in parts], stretch)
        if len(parts) > len(rows):
            pieces = iter([waveform[:length] for waveform, length in zip(waveforms, lengths, strict=True)])
            joined = [torch.cat(list(islice(pieces, len(row)))) for row in rows]
            waveforms, lengths = pad_sequence(joined, batch_first=True), [len(row) for row in joined]
        ids = ["+".join(f"{part.utterance.id}@{self.recipe.seed}.{number}" for part in row) for row in rows]
        said = [[] if is_noise_alone(change.config, name) else row for row, name in zip(rows, ids, strict=True)]
        return self._batch(said, ids, change(waveforms, lengths, ids), lengths)

    def _batch(self, rows: Sequence[Row], ids: list[str], waveforms: Tensor, lengths: list[int]) -> Batch:
        texts = [" ".join(part.utterance.text for part in row) for row in rows]
        targets = Targets.pad([self.tokenizer.encode(" ".join(part.utterance.spelled for part in row)) for row in rows])
        phones = None
        if self.phones:
            spelled = [[part.utterance.phones for part in row] for row in rows]
            phones = Targets.pad([self.phones.encode(" ".join(row)) if all(row) else [] for row in spelled])
        letters = None
        if self.letters:
            written = [[self.letter_rule(part.utterance.text, part.utterance.id) for part in row] for row in rows]
            letters = Targets.pad([self.letters.encode(" ".join(row)) if all(row) else [] for row in written])
        return Batch(ids, texts, waveforms, torch.tensor(lengths), targets, phones, letters)

    def _waveforms(self, corpus: AudioCorpus, rows: Sequence[CorpusUtterance]) -> Tensor:
        """(B, N) float32 on the device, padded with zeros."""
        samples = pad_sequence([corpus.samples(row.index) for row in rows], batch_first=True)
        if self.device.type == "cuda" and not samples.is_cuda:
            samples = samples.pin_memory()
        return samples.to(self.device, non_blocking=True).float() / FULL_SCALE


def prefetch(items: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same, each made in a thread while the one before it is used."""
    # A thread begins with the first GPU.
    start = (torch.cuda.set_device, (device,)) if device.type == "cuda" else (None, ())
    with ThreadPoolExecutor(1, "batches", *start) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def join(rows: list[Row], config: AugmentConfig, seed: str) -> list[Row]:
    """The rows, of which a share that is drawn is one behind the other in rows of at most `join_seconds`.

    rows: of one part each; seed: of the run and the pass.
    """
    limit = config.join_seconds * SAMPLE_RATE
    alone: list[Row] = []
    chosen: list[Row] = []
    for row in rows:
        drawn = random.Random(f"{seed} join {row[0].utterance.id}").random() < config.join_share
        (chosen if drawn and row[0].samples < limit else alone).append(row)
    random.Random(f"{seed} join").shuffle(chosen)
    joined: list[Row] = []
    length = 0
    for row in chosen:
        length += row[0].samples
        if joined and length <= limit:
            joined[-1].extend(row)
        else:
            joined.append([*row])
            length = row[0].samples
    return alone + joined


def plan(
    lengths: Sequence[int], limit: float, count: int, seed: tuple[int, int], shortest_first: bool = False
) -> list[list[int]]:
    """Indices of utterances of `lengths` samples, batch by batch; seed: of the run, and the number of the pass.

    A batch has at most `count` rows and, padded, `limit` samples, of utterances of similar length. Batches come in
    random order, or shortest first, as in the first pass of a new model: short utterances have few possible alignments,
    so it leaves the blank-only plateau sooner (Amodei et al. 2016, "SortaGrad").
    """
    draw = np.random.default_rng(seed)
    shuffled = draw.permutation(len(lengths))
    rounded = np.asarray(lengths)[shuffled] // BUCKET
    order = shuffled[np.argsort(rounded, kind="stable")]
    batches = [order[begin:end].tolist() for begin, end in cut([lengths[i] for i in order], limit, count)]
    if not shortest_first:
        draw.shuffle(batches)
    return batches
