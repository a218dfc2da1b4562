"""Batches read from files or shards while training, by worker processes, in an order that Lhotse's samplers draw."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from lhotse import CutSet, MonoCut
from lhotse.dataset import DynamicBucketingSampler, DynamicCutSampler

from asr.data.augment.waveform import WaveformAugment
from asr.data.batch import Batch
from asr.data.dataset import SpeechDataset, join, make_cuts, perturb, source_of, usable_cuts
from asr.data.manifest import Entry
from asr.data.tokenizer import Tokenizer
from asr.data.workers import WorkerLoader
from asr.train import distributed
from asr.train.config import AcousticRecipe
from asr.train.loader import Manifests, say_usable

WHOLE = {"world_size": 1, "rank": 0}  # otherwise Lhotse deals batches out to processes, and pads an epoch's end


def make_loader(cuts: list[MonoCut], tokenizer: Tokenizer, recipe: AcousticRecipe) -> WorkerLoader:
    """Loader for `draw_train` and `draw_eval`. cuts: of the training data, for babble."""
    augment = WaveformAugment(recipe.augment, [source_of(cut) for cut in cuts])
    return WorkerLoader(SpeechDataset(tokenizer, augment), recipe.data.workers)


def draw_train(cuts: list[MonoCut], recipe: AcousticRecipe, epoch: int, done: int = 0) -> Iterator[CutSet]:
    """This process's batches of epoch `epoch` (from 1) after the first `done` of all, in the order of `loader.plan`.

    Every draw depends on the seed, the epoch and the utterance only: an epoch can be repeated. The cuts of an update
    are dealt out to its batches: all processes have utterances of one length. A batch may be empty.
    """
    data = recipe.data
    perturbed = [perturb(cut, recipe.augment, recipe.seed, epoch) for cut in cuts]
    if epoch == 1:
        perturbed.sort(key=lambda cut: (cut.duration, cut.id))
    else:
        if recipe.augment.join_share:
            perturbed = join(perturbed, recipe.augment, recipe.seed, epoch)
        random.Random(f"{recipe.seed} {epoch}").shuffle(perturbed)
    ordered = CutSet.from_cuts(perturbed)
    count = recipe.accumulate * distributed.count()  # batches of an update
    limits = {"max_duration": count * data.batch_seconds, "max_cuts": count * data.max_batch, **WHOLE}
    buckets = min(data.buckets, len(perturbed) // 2)
    if epoch == 1 or buckets < 2:  # one bucket is none to Lhotse
        sampler = DynamicCutSampler(ordered, **limits, shuffle=False)
    else:
        # Of so many cuts at a time, Lhotse's default, a bucket may not have enough for an update of many processes.
        size = max(20_000, len(perturbed))
        sampler = DynamicBucketingSampler(
            ordered, **limits, num_buckets=buckets, buffer_size=size, shuffle=True, seed=recipe.seed + epoch
        )
    batches = (CutSet.from_cuts(list(update)[part::count]) for update in sampler for part in range(count))
    return islice(batches, done + distributed.rank(), None, distributed.count())


def draw_eval(cuts: list[MonoCut], recipe: AcousticRecipe) -> Iterable[CutSet]:
    """All cuts once, unchanged, in batches of similar length."""
    ordered = CutSet.from_cuts(sorted(cuts, key=lambda cut: (cut.duration, cut.id)))
    return DynamicCutSampler(ordered, max_duration=recipe.data.batch_seconds, shuffle=False, **WHOLE)


class LhotseData:
    """`TrainingData` that workers read from files or shards, batch by batch."""

    def __init__(
        self,
        recipe: AcousticRecipe,
        tokenizer: Tokenizer,
        train: list[Entry],
        dev: Sequence[Manifests],
        say: Callable[[str], None],
    ):
        """RecipeError if no utterance of a set can be used."""
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.say = say
        self.train_cuts = self._cuts("train", train, recipe.data.max_seconds)
        self.dev_cuts = [self._cuts("dev", [e for _, part in sources for e in part], math.inf) for sources in dev]
        self.loader = make_loader(self.train_cuts, tokenizer, recipe)
        self.seconds = sum(cut.duration for cut in self.train_cuts)
        self.batches = math.ceil(
            max(self.seconds / recipe.data.batch_seconds, len(self.train_cuts) / recipe.data.max_batch)
        )

    def _cuts(self, name: str, entries: list[Entry], max_seconds: float) -> list[MonoCut]:
        cuts, unreadable = make_cuts(entries)
        for message in unreadable.values():
            self.say(message)
        usable, left_out = usable_cuts(cuts, self.tokenizer, max_seconds)
        say_usable(self.say, name, [cut.duration for cut in usable], left_out)
        return usable

    def train(self, epoch: int, done: int, gain_only: bool = False) -> Iterator[Batch]:
        return self.loader.load(draw_train(self.train_cuts, self.recipe, epoch, done))

    def dev(self, number: int) -> Iterator[Batch]:
        return self.loader.load(draw_eval(self.dev_cuts[number], self.recipe))

    def sample(self, count: int) -> Iterator[Batch]:
        chosen = random.Random(self.recipe.seed).sample(self.train_cuts, min(count, len(self.train_cuts)))
        return self.loader.load(draw_eval(chosen, self.recipe))
