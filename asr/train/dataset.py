"""Manifests → Lhotse cuts → batches of padded waveforms and targets."""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import soxr
import torch
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.cut import MixedCut
from lhotse.dataset import DynamicBucketingSampler, DynamicCutSampler
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from asr.audio.files import duration, read
from asr.errors import AudioError, RecipeError
from asr.manifest import Entry
from asr.nn.features import SAMPLE_RATE
from asr.train import parallel
from asr.train.augment.tempo import change_tempo
from asr.train.augment.waveform import WaveformAugment
from asr.train.batch import Batch, LeftOut
from asr.train.config import AcousticRecipe, AugmentConfig
from asr.train.shards import ShardEntry, fetch, read_recording
from asr.train.tokenizer import Tokenizer
from asr.train.workers import WorkerLoader

WHOLE = {"world_size": 1, "rank": 0}  # otherwise Lhotse deals batches out to processes, and pads an epoch's end


def make_cut(entry: Entry) -> MonoCut:
    """The whole recording as a cut of 16 kHz mono, which is what `load_samples` makes of it.

    Only the header is read; where it does not say how long the audio is, the manifest does, or the audio is decoded.
    Of a recording in a shard nothing is read. RecipeError if it is not audio.
    """
    if isinstance(entry, ShardEntry):
        seconds, source = entry.seconds or 0.0, entry.source
    else:
        try:
            seconds = duration(entry.audio) or entry.seconds or len(read(entry.audio)) / SAMPLE_RATE
        except AudioError as error:
            raise RecipeError(str(error)) from error
        source = str(entry.audio)
    recording = Recording(
        id=entry.id,
        sources=[AudioSource("file", [0], source)],
        sampling_rate=SAMPLE_RATE,
        num_samples=round(seconds * SAMPLE_RATE),
        duration=round(seconds * SAMPLE_RATE) / SAMPLE_RATE,
    )
    cut = recording.to_cut()
    cut.id = entry.id
    cut.supervisions = [
        SupervisionSegment(entry.id, entry.id, 0.0, cut.duration, text=entry.text, speaker=entry.speaker)
    ]
    return cut


def make_cuts(entries: Iterable[Entry]) -> tuple[list[MonoCut], dict[str, str]]:
    """The cuts of the recordings that can be opened, and by file a line for each that cannot."""
    cuts, unreadable = [], {}
    for entry in entries:
        try:
            cuts.append(make_cut(entry))
        except RecipeError as error:
            unreadable[str(entry.audio)] = f"left out: {error}"
    return cuts, unreadable


def source_of(cut: MonoCut) -> str:
    return cut.recording.sources[0].source


def load_samples(cut: MonoCut, fetched: dict[str, bytes | Exception] | None = None) -> Tensor:
    """The cut's audio at its speed and tempo, float32 (samples,), 16 kHz, read as recognition reads it.

    fetched: what of it is in shards. Raises AudioError.
    """
    samples = read_recording(source_of(cut), fetched)
    factors = cut.custom or {}
    if (speed := factors.get("speed", 1.0)) != 1.0:  # played faster: fewer samples, a higher pitch, as of a tape
        samples = soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE)
    waveform = torch.from_numpy(samples)
    return waveform if (tempo := factors.get("tempo", 1.0)) == 1.0 else change_tempo(waveform, tempo)


def usable_cuts(cuts: Iterable[MonoCut], tokenizer: Tokenizer, max_seconds: float) -> tuple[list[MonoCut], LeftOut]:
    """The cuts that can be trained on, and how many cannot."""
    left_out = LeftOut()
    usable = [
        cut for cut in cuts if left_out.admits(cut.num_samples, tokenizer.encode(cut.supervisions[0].text), max_seconds)
    ]
    return usable, left_out


class SpeechDataset(Dataset):
    """A Lhotse CutSet in, a `Batch` out; runs in the loader's workers. Cuts that `perturb` made are augmented."""

    def __init__(self, tokenizer: Tokenizer, augment: WaveformAugment):
        self.tokenizer = tokenizer
        self.augment = augment

    def __getitem__(self, cuts: CutSet) -> Batch:
        ids, texts, waveforms, unreadable = [], [], [], {}
        fetched = fetch(source_of(part) for cut in cuts for part in parts(cut))
        for cut in cuts:
            loaded = []
            for part in parts(cut):
                try:
                    loaded.append((part, load_samples(part, fetched)))
                except AudioError as error:
                    unreadable[source_of(part)] = f"left out: {error}"
            if not loaded:
                continue
            ids.append("+".join(part.id for part, _ in loaded))
            texts.append(" ".join(part.supervisions[0].text for part, _ in loaded))
            waveform = torch.cat([samples for _, samples in loaded])
            if "speed" in (loaded[0][0].custom or {}):  # `perturb` made it; samplers write into `custom`, too
                try:
                    waveform = torch.from_numpy(self.augment(waveform.numpy(), ids[-1]))
                except AudioError as error:
                    unreadable[str(error)] = f"cannot augment with it: {error}"
            waveforms.append(waveform)
        if not ids:
            return Batch.empty(unreadable)
        targets = [torch.tensor(self.tokenizer.encode(text)) for text in texts]
        return Batch(
            ids=ids,
            texts=texts,
            waveforms=pad_sequence(waveforms, batch_first=True),
            lengths=torch.tensor([len(samples) for samples in waveforms]),
            targets=pad_sequence(targets, batch_first=True),
            target_lengths=torch.tensor([len(target) for target in targets]),
            unreadable=unreadable,
        )


def perturb(cut: MonoCut, augment: AugmentConfig, seed: int, epoch: int) -> MonoCut:
    """A copy at a speed and a tempo that are drawn; its id says the epoch, which seeds all else that is drawn."""
    draw = random.Random(f"{seed} {epoch} {cut.id}")
    speed, tempo = draw.choice(augment.speeds), draw.choice(augment.tempos)
    perturbed = cut.perturb_speed(speed) if speed != 1.0 else cut
    perturbed = perturbed.perturb_tempo(tempo) if tempo != 1.0 else perturbed
    perturbed = perturbed.with_id(f"{cut.id}@{seed}.{epoch}")
    perturbed.custom = {"speed": speed, "tempo": tempo}
    return perturbed


def join(cuts: Iterable[MonoCut], augment: AugmentConfig, seed: int, epoch: int) -> list[MonoCut | MixedCut]:
    """The cuts, of which a share that is drawn is one behind the other in cuts of at most `join_seconds`."""
    alone: list[MonoCut | MixedCut] = []
    chosen: list[MonoCut] = []
    for cut in cuts:
        drawn = random.Random(f"{seed} {epoch} join {cut.id}").random() < augment.join_share
        (chosen if drawn and cut.duration < augment.join_seconds else alone).append(cut)
    random.Random(f"{seed} {epoch} join").shuffle(chosen)
    joined: list[MonoCut | MixedCut] = []
    for cut in chosen:
        if joined and joined[-1].duration + cut.duration <= augment.join_seconds:
            joined[-1] = joined[-1].append(cut)
        else:
            joined.append(cut)
    return alone + joined


def parts(cut: MonoCut | MixedCut) -> list[MonoCut]:
    """The utterances of a cut, more than one if they were joined."""
    return [track.cut for track in cut.tracks] if isinstance(cut, MixedCut) else [cut]


class Dealt:
    """This process's batches after the first `done` of all: the others' audio is never read.

    What the sampler draws makes an update; it is dealt out to the update's `count` batches. So all processes have
    utterances of one length, and none waits long for another. A batch may be empty.
    """

    def __init__(self, sampler: Iterable[CutSet], count: int, done: int):
        self.sampler = sampler
        self.count = count
        self.done = done

    def __iter__(self) -> Iterator[CutSet]:
        return islice(self._batches(), self.done + parallel.rank(), None, parallel.count())

    def _batches(self) -> Iterator[CutSet]:
        for drawn in self.sampler:
            cuts = list(drawn)
            yield from (CutSet.from_cuts(cuts[number :: self.count]) for number in range(self.count))


def make_loader(cuts: list[MonoCut], tokenizer: Tokenizer, recipe: AcousticRecipe) -> WorkerLoader:
    """Loads what `draw_train` and `draw_eval` draw. cuts: of the training, for babble."""
    augment = WaveformAugment(recipe.augment, [source_of(cut) for cut in cuts])
    return WorkerLoader(SpeechDataset(tokenizer, augment), recipe.data.workers)


def draw_train(cuts: list[MonoCut], recipe: AcousticRecipe, epoch: int, done: int = 0) -> Dealt:
    """This process's batches of epoch `epoch` (from 1) after the first `done` of all. The first epoch goes from the
    shortest utterance to the longest.

    Short utterances have few possible alignments, so the model leaves the blank-only plateau sooner (Amodei et al.
    2016, "SortaGrad"). Every draw depends on the seed, the epoch and the utterance only: an epoch can be repeated.
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
    count = recipe.accumulate * parallel.count()  # batches of an update
    limits = {"max_duration": count * data.batch_seconds, "max_cuts": count * data.max_batch, **WHOLE}
    buckets = min(data.buckets, len(perturbed) // 2)
    if epoch == 1 or buckets < 2:  # one bucket is none to Lhotse
        sampler = DynamicCutSampler(ordered, **limits, shuffle=False)
    else:
        # Of so many cuts at a time, Lhotse's default, a bucket may not have enough for an update of many processes.
        sampler = DynamicBucketingSampler(
            ordered,
            **limits,
            num_buckets=buckets,
            buffer_size=max(20_000, len(perturbed)),
            shuffle=True,
            seed=recipe.seed + epoch,
        )
    return Dealt(sampler, count, done)


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
        dev: list[list[tuple[str, list[Entry]]]],
        say: Callable[[str], None],
    ):
        """dev: each set as its manifests with their entries. RecipeError if no utterance of a set can be used."""
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.say = say
        self.train_cuts = self._cuts("train", train, recipe.data.max_seconds)
        self.dev_cuts = [self._cuts("dev", [e for _, part in sources for e in part], math.inf) for sources in dev]
        self.loader = make_loader(self.train_cuts, tokenizer, recipe)
        self.seconds = sum(cut.duration for cut in self.train_cuts)

    def _cuts(self, name: str, entries: list[Entry], max_seconds: float) -> list[MonoCut]:
        cuts, unreadable = make_cuts(entries)
        for message in unreadable.values():
            self.say(message)
        usable, left_out = usable_cuts(cuts, self.tokenizer, max_seconds)
        hours = sum(cut.duration for cut in usable) / 3600
        self.say(f"{name}: {len(usable):,} utterances, {hours:.2f} h; left out: {left_out}")
        if not usable:
            raise RecipeError(f"no utterance of the {name} data can be used; left out: {left_out}")
        return usable

    def train(self, epoch: int, done: int, gain_only: bool = False) -> Iterator[Batch]:
        return self.loader.load(draw_train(self.train_cuts, self.recipe, epoch, done))

    def dev(self, number: int) -> Iterator[Batch]:
        return self.loader.load(draw_eval(self.dev_cuts[number], self.recipe))

    def sample(self, count: int) -> Iterator[Batch]:
        chosen = random.Random(self.recipe.seed).sample(self.train_cuts, min(count, len(self.train_cuts)))
        return self.loader.load(draw_eval(chosen, self.recipe))
