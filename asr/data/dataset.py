"""Manifests → Lhotse cuts → batches of padded waveforms and targets."""

import random
from collections.abc import Iterable

import soxr
import torch
from lhotse import AudioSource, CutSet, MonoCut, Recording
from lhotse.cut import MixedCut
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from asr.audio.sources import duration, read
from asr.data.augment.waveform import WaveformAugment, change_tempo
from asr.data.batch import Batch, LeftOut, Targets
from asr.data.config import AugmentConfig
from asr.data.manifest import Entry
from asr.data.shards import ShardEntry, fetch, labeled, read_recording
from asr.data.tokenizer import Tokenizer
from asr.errors import AudioError, RecipeError
from asr.nn.frontend import SAMPLE_RATE


def make_cut(entry: Entry) -> MonoCut:
    """The whole recording as a cut of 16 kHz mono, which is what `load_samples` makes of it.

    Only the header is read; where it does not say how long the audio is, the manifest does, or the audio is decoded.
    Of a recording in a shard nothing is read. RecipeError if it is not audio.
    """
    if isinstance(entry, ShardEntry):
        source, seconds = entry.source, entry.seconds or 0.0
    else:
        source = str(entry.audio)
        try:
            seconds = duration(source) or entry.seconds or len(read(source)) / SAMPLE_RATE
        except AudioError as error:
            raise RecipeError(str(error)) from error
    samples = round(seconds * SAMPLE_RATE)
    audio = AudioSource("file", [0], source)
    return labeled(Recording(entry.id, [audio], SAMPLE_RATE, samples, samples / SAMPLE_RATE), entry)


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

    fetched: the bytes of recordings in shards. Raises AudioError.
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
        cut
        for cut in cuts
        if left_out.admits(
            cut.num_samples, cut.supervisions[0].text, tokenizer.encode(spelled(cut, tokenizer)), max_seconds
        )
    ]
    return usable, left_out


def spelled(cut: MonoCut, tokenizer: Tokenizer) -> str:
    """As `Entry.spelled`, in the tokenizer's spelling."""
    supervision = cut.supervisions[0]
    return supervision.text if tokenizer.spelling == "letters" else (supervision.custom or {}).get("phones", "")


class SpeechDataset(Dataset):
    """A Lhotse CutSet in, a `Batch` out; runs in the loader's workers. Cuts that `perturb` made are augmented."""

    def __init__(self, tokenizer: Tokenizer, augment: WaveformAugment):
        self.tokenizer = tokenizer
        self.augment = augment

    def __getitem__(self, cuts: CutSet) -> Batch:
        ids, texts, spellings, waveforms, unreadable = [], [], [], [], {}
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
            spellings.append(" ".join(spelled(part, self.tokenizer) for part, _ in loaded))
            waveform = torch.cat([samples for _, samples in loaded])
            if "speed" in (loaded[0][0].custom or {}):  # `perturb` made it; samplers write into `custom`, too
                try:
                    waveform = torch.from_numpy(self.augment(waveform.numpy(), ids[-1]))
                except AudioError as error:
                    unreadable[str(error)] = f"cannot augment with it: {error}"
            waveforms.append(waveform)
        if not ids:
            return Batch.empty(unreadable)
        targets = Targets.pad([self.tokenizer.encode(spelling) for spelling in spellings])
        lengths = torch.tensor([len(samples) for samples in waveforms])
        padded = pad_sequence(waveforms, batch_first=True)
        return Batch(ids, texts, padded, lengths, targets.ids, targets.lengths, unreadable)


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
