"""Batches from a corpus in memory: cut, padded and augmented a whole batch at a time, where the model computes.

All that is drawn for an utterance depends on the seed, the pass and the utterance, as in `asr.data.dataset`.
"""

import math
import random
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.data.augment.batch import BatchAugment, change_speed, check
from asr.data.augment.room import room_bank
from asr.data.batch import Batch, LeftOut, Targets
from asr.data.manifest import Entry, read_manifest
from asr.data.tokenizer import Tokenizer
from asr.errors import RecipeError
from asr.files import replacing
from asr.nn.ctc_model import SAMPLES_PER_FRAME
from asr.nn.frontend import SAMPLE_RATE
from asr.nn.graphs import padded_frames
from asr.train import distributed
from asr.train.config import AcousticRecipe
from asr.train.corpus import FULL_SCALE, Corpus, digest

ROOMS = 400  # impulse responses, simulated once, of which one is drawn for an utterance
BUCKET = SAMPLE_RATE // 4  # samples by which utterances differ that are taken for equally long
AUDIO = "audio"  # the folder of decoded audio, below the recipe's output
EVAL_SECONDS = {"cuda": 2000.0, "cpu": 200.0}  # of audio in a batch that is only measured
Manifests = Sequence[tuple[str, Sequence[Entry]]]  # each with its entries, in the order of its lines


@dataclass(frozen=True)
class Utterance:
    """An utterance of a corpus, by its index there, with its token ids; phones are those of the second head."""

    index: int
    id: str
    text: str
    samples: int
    targets: list[int]
    phones: list[int]


def usable_utterances(
    corpus: Corpus,
    tokenizer: Tokenizer,
    phones: Tokenizer | None = None,
    max_seconds: float = math.inf,
    chosen: Container[str] | None = None,
) -> tuple[list[Utterance], LeftOut]:
    """Those of the chosen ids that can be trained on, and how many cannot; `corpus.problems` are in neither."""
    usable, left_out = [], LeftOut()
    for index, entry in enumerate(corpus.entries):
        if index in corpus.problems or (chosen is not None and entry.id not in chosen):
            continue
        samples, targets = corpus.length(index), tokenizer.encode(entry.spelled(tokenizer.spelling))
        if left_out.admits(samples, entry.text, targets, max_seconds):
            spelled = phones.encode(entry.phones) if phones and entry.phones else []
            usable.append(Utterance(index, entry.id, entry.text, samples, targets, spelled))
    return usable, left_out


class CorpusData:
    """`TrainingData` that is decoded once and held in memory."""

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
    ):
        """chosen: ids of those to learn from. RecipeError if no utterance of a set can be used, or the recipe has a
        change to the audio that cannot be made for a whole batch.
        """
        check(recipe.augment)
        self.recipe = recipe
        self.device = device
        self.say = say
        self.folder = Path(recipe.output) / AUDIO
        with distributed.main_first():  # which decodes and simulates for all
            rules = (tokenizer, phones, recipe.data.max_seconds, chosen)
            self.corpus, self.utterances = self._read("train", train, *rules)
            self.augment = self._make_augment()
            self.dev_sets = [self._read("dev", manifests, tokenizer) for manifests in dev]
        self.gain = BatchAugment(replace(recipe.augment, rooms=[], noises=[], codecs=[]), [], {}, None, device)
        self.seconds = sum(row.samples for row in self.utterances) / SAMPLE_RATE
        self.batches = sum(1 for _ in self._draw(1))  # of a pass; later ones have about as many

    def _read(self, name: str, manifests: Manifests, *rules: Any) -> tuple[Corpus, list[Utterance]]:
        corpus = Corpus(manifests, self.folder)
        for problem in corpus.problems.values():
            self.say(f"left out: {problem}")
        usable, left_out = usable_utterances(corpus, *rules)
        where = " in the GPU" if corpus.move_to(self.device) else " in memory"
        say_usable(self.say, name, [row.samples / SAMPLE_RATE for row in usable], left_out, where)
        return corpus, usable

    def _make_augment(self) -> BatchAugment:
        augment, noises, rooms = self.recipe.augment, {}, None
        for manifest in augment.noises:
            if manifest.endswith(".jsonl"):
                recorded = Corpus([(manifest, read_manifest(manifest))], self.folder)
                for problem in recorded.problems.values():
                    self.say(f"cannot augment with it: {problem}")
                readable = (index for index in range(len(recorded.entries)) if index not in recorded.problems)
                noises[manifest] = [recorded.samples(index).to(self.device) for index in readable]
        if augment.rooms:
            rooms = torch.from_numpy(load_rooms(self.recipe, self.folder)).to(self.device)
        babble = self.utterances if "babble" in augment.noises else []
        voices = [self.corpus.samples(voice.index) for voice in babble]
        return BatchAugment(augment, voices, noises, rooms, self.device)

    def train(self, epoch: int, done: int = 0, gain_only: bool = False) -> Iterator[Batch]:
        passes = self.recipe.data.passes
        numbers = range((epoch - 1) * passes + 1, epoch * passes + 1)
        drawn = ((number, rows) for number in numbers for rows in self._draw(number))
        here = islice(drawn, done + distributed.rank(), None, distributed.count())
        change = self.gain if gain_only else self.augment
        loaded = (self._load(rows, number, change) for number, rows in here)
        return prefetch(loaded, self.device) if self.device.type == "cuda" else loaded

    def dev(self, number: int) -> Iterator[Batch]:
        """In batches of similar length."""
        corpus, utterances = self.dev_sets[number]
        ordered = sorted(utterances, key=lambda row: (row.samples, row.id))
        limit = EVAL_SECONDS[self.device.type] * SAMPLE_RATE
        for begin, end in cut([row.samples for row in ordered], limit, len(ordered)):
            rows = ordered[begin:end]
            yield make_batch(
                rows, [row.id for row in rows], self._waveforms(corpus, rows), [row.samples for row in rows]
            )

    def sample(self, count: int) -> Iterator[Batch]:
        """At their volumes, in noise and rooms."""
        chosen = random.Random(self.recipe.seed).sample(self.utterances, min(count, len(self.utterances)))
        for row in sorted(chosen, key=lambda row: row.samples):
            yield self._load([(row, 1.0)], 0, self.augment)

    def _draw(self, number: int) -> Iterator[list[tuple[Utterance, float]]]:
        """The batches of a pass, as utterances and their speeds; those of one update are dealt out to its batches."""
        recipe = self.recipe
        count = recipe.accumulate * distributed.count()
        drawn = [(utterance, self._speed(utterance, number)) for utterance in self.utterances]
        frames = [math.ceil(utterance.samples / speed / SAMPLES_PER_FRAME) for utterance, speed in drawn]
        if self.device.type == "cuda":  # to which its batch is padded
            frames = [padded_frames(count + recipe.model.lookahead) for count in frames]
        lengths = [SAMPLES_PER_FRAME * count for count in frames]
        seconds = count * recipe.data.batch_seconds
        for update in plan(lengths, seconds * SAMPLE_RATE, count * recipe.data.max_batch, (recipe.seed, number)):
            for part in range(count):
                yield [drawn[index] for index in update[part::count]]

    def _speed(self, utterance: Utterance, number: int) -> float:
        return random.Random(f"{self.recipe.seed} {number} {utterance.id}").choice(self.recipe.augment.speeds)

    def _load(self, drawn: list[tuple[Utterance, float]], number: int, change: BatchAugment) -> Batch:
        if not drawn:  # an update with fewer utterances than batches
            return Batch.empty()
        rows, speeds = [row for row, _ in drawn], [speed for _, speed in drawn]
        ids = [f"{row.id}@{self.recipe.seed}.{number}" for row in rows]
        waveforms, lengths = change_speed(self._waveforms(self.corpus, rows), [row.samples for row in rows], speeds)
        return make_batch(rows, ids, change(waveforms, lengths, ids), lengths)

    def _waveforms(self, corpus: Corpus, rows: Sequence[Utterance]) -> Tensor:
        """(B, N) float32 on the device, padded with zeros."""
        samples = pad_sequence([corpus.samples(row.index) for row in rows], batch_first=True)
        if self.device.type == "cuda" and not samples.is_cuda:
            samples = samples.pin_memory()
        return samples.to(self.device, non_blocking=True).float() / FULL_SCALE


def say_usable(
    say: Callable[[str], None], name: str, seconds: Sequence[float], left_out: LeftOut, where: str = ""
) -> None:
    """Report the usable utterances of a set by their lengths. RecipeError if there are none."""
    if not seconds:
        raise RecipeError(f"no utterance of the {name} data can be used; left out: {left_out}")
    say(f"{name}: {len(seconds):,} utterances, {sum(seconds) / 3600:.2f} h{where}; left out: {left_out}")


def make_batch(rows: Sequence[Utterance], ids: list[str], waveforms: Tensor, lengths: list[int]) -> Batch:
    targets, phones = Targets.pad([row.targets for row in rows]), Targets.pad([row.phones for row in rows])
    texts = [row.text for row in rows]
    return Batch(ids, texts, waveforms, torch.tensor(lengths), targets.ids, targets.lengths, {}, phones)


def prefetch(items: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same, each made in a thread while the one before it is used."""
    # A thread begins with the first GPU.
    start = (torch.cuda.set_device, (device,)) if device.type == "cuda" else (None, ())
    with ThreadPoolExecutor(1, "batches", *start) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def load_rooms(recipe: AcousticRecipe, folder: Path) -> np.ndarray:
    """The impulse responses (ROOMS, taps) that the recipe asks for, simulated once and kept in `folder`."""
    asked = (recipe.augment.rooms, list(recipe.augment.reverberation), recipe.seed, ROOMS)
    recorded = [digest(read_manifest(source)) for source in recipe.augment.rooms if source.endswith(".jsonl")]
    kept = folder / f"rooms-{sha256(repr((asked, recorded)).encode()).hexdigest()[:16]}.npy"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as part, open(part, "wb") as file:
            np.save(file, room_bank(*asked))
    return np.load(kept, allow_pickle=False)


def plan(lengths: Sequence[int], limit: float, count: int, seed: tuple[int, int]) -> list[list[int]]:
    """Indices of utterances of `lengths` samples, batch by batch; seed: of the run, and the number of the pass.

    A batch has at most `count` rows and, padded, `limit` samples. The first pass goes from the shortest utterance to
    the longest: short ones have few possible alignments, so the model leaves the blank-only plateau sooner (Amodei et
    al. 2016, "SortaGrad"). Later ones batch utterances of similar length, in random order.
    """
    draw = np.random.default_rng(seed)
    shuffled = draw.permutation(len(lengths))
    rounded = np.asarray(lengths)[shuffled] // BUCKET
    order = shuffled[np.argsort(rounded, kind="stable")]
    batches = [order[begin:end].tolist() for begin, end in cut([lengths[i] for i in order], limit, count)]
    if seed[1] > 1:
        draw.shuffle(batches)
    return batches


def cut(lengths: Sequence[int], limit: float, count: int) -> Iterator[tuple[int, int]]:
    """Spans (begin, end) of at most `count` rows that, padded to their longest, have at most `limit` samples."""
    begin, longest = 0, 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if index > begin and ((index + 1 - begin) * longest > limit or index - begin >= count):
            yield begin, index
            begin, longest = index, length
    if lengths:
        yield begin, len(lengths)
