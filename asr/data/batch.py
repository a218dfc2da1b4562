"""What a training step learns from: utterances with their texts, read from manifests and put together in batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.data.manifest import Entry
from asr.data.shards import read_training
from asr.data.tokenizer import TextRule
from asr.nn.ctc_model import frames_needed, output_lengths
from asr.nn.frontend import SAMPLE_RATE

MIN_SECONDS = 0.1  # nothing can be said in less


@dataclass
class Targets:
    """Token ids of each utterance: ids (B, S) padded with 0, lengths (B,)."""

    ids: Tensor
    lengths: Tensor

    @classmethod
    def pad(cls, rows: list[list[int]]) -> "Targets":
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        return cls(pad_sequence(tensors, batch_first=True), torch.tensor([len(row) for row in rows]))

    def fit(self, lengths: Tensor) -> Tensor:
        """Which rows an output of so many frames can spell, (B,) bool."""
        return frames_needed(self.ids, self.lengths) <= lengths


@dataclass
class Batch:
    """waveforms (B, N) padded with zeros, lengths (B,), targets (B, S) padded, target_lengths (B,); B may be 0.

    waveforms may lie on the device that computes; the others are on the CPU. phones: targets of the second head.
    """

    ids: list[str]
    texts: list[str]
    waveforms: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    unreadable: dict[str, str]  # by file, a line for each utterance of the batch that is missing from it
    phones: Targets | None = None

    @classmethod
    def empty(cls, unreadable: dict[str, str] | None = None) -> "Batch":
        nothing = torch.zeros(0, 0, dtype=torch.long)
        return cls([], [], nothing.float(), nothing.sum(1), nothing, nothing.sum(1), unreadable or {})

    @property
    def amount(self) -> float:
        """Seconds of audio."""
        return float(self.lengths.sum()) / SAMPLE_RATE


class TrainingData(Protocol):
    """Training and dev data, as batches."""

    seconds: float  # of training audio
    batches: int  # about so many in a pass over it

    def train(self, epoch: int, done: int, gain_only: bool = False) -> Iterator[Batch]:
        """This process's batches of an epoch, from 1, after the first `done` of all.

        gain_only: without rooms, noise and codecs, where the data can do so.
        """

    def dev(self, number: int) -> Iterator[Batch]:
        """Of the dev set of this number, from 0, unchanged."""

    def sample(self, count: int) -> Iterator[Batch]:
        """So many training utterances, for mean and deviation of the features."""


def read_sources(manifests: Iterable[str], rule: TextRule) -> list[tuple[str, list[Entry]]]:
    """Each manifest, or folder or URL of shards, with its entries: texts as the rule leaves them, ids made unique."""
    taken: set[str] = set()
    sources = []
    for manifest in manifests:
        entries = []
        for entry in read_training(manifest, check_files=True):
            text = rule(entry.text, f"{manifest}: '{entry.id}'")
            name = entry.id if entry.id not in taken else f"{manifest}: {entry.id}"
            number = 2
            while name in taken:  # the manifest is listed once more
                number += 1
                name = f"{manifest} ({number}): {entry.id}"
            taken.add(name)
            entries.append(replace(entry, id=name, text=text))
        sources.append((manifest, entries))
    return sources


@dataclass
class LeftOut:
    """Utterances that cannot be trained on, counted by the reason."""

    too_long: int = 0
    too_short: int = 0  # for its text, or for any speech
    no_text: int = 0

    def __str__(self) -> str:
        reasons = {"too long": self.too_long, "too short for its text": self.too_short, "without text": self.no_text}
        return ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count) or "none"

    def admits(self, samples: int, targets: list[int], max_seconds: float) -> bool:
        """Whether an utterance of so many samples can be trained on; one that cannot is counted."""
        length = output_lengths(torch.tensor([samples]))
        if samples > max_seconds * SAMPLE_RATE:
            self.too_long += 1
        elif not targets:
            self.no_text += 1
        elif samples < MIN_SECONDS * SAMPLE_RATE or not Targets.pad([targets]).fit(length):
            self.too_short += 1
        else:
            return True
        return False
