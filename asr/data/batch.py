"""Utterances with their texts, which of them can be trained on, and how rows are put together in batches."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.data.manifest import Entry
from asr.data.pronunciation import PhoneSpeller
from asr.data.shards import read_training
from asr.data.tokenizer import TextRule
from asr.nn.ctc_model import frames_needed, output_lengths
from asr.nn.frontend import SAMPLE_RATE

MIN_SECONDS = 0.1  # no word is shorter


class Targets(NamedTuple):
    """Token ids of each utterance: ids (B, S), padded with 0, and lengths (B,)."""

    ids: Tensor
    lengths: Tensor

    @classmethod
    def pad(cls, rows: list[list[int]]) -> "Targets":
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        return cls(pad_sequence(tensors, batch_first=True), torch.tensor([len(row) for row in rows]))

    def repeat(self, views: int) -> "Targets":
        """Copies, one below the other: (B · views, S)."""
        return Targets(self.ids.repeat(views, 1), self.lengths.repeat(views))

    def fit(self, lengths: Tensor) -> Tensor:
        """Whether the CTC output, of lengths (B,) frames, is long enough for each row, (B,) bool."""
        return frames_needed(self.ids, self.lengths) <= lengths


@dataclass
class Batch:
    """Utterances of a training step; B may be 0. The waveforms may be on the model's device, the rest is on the CPU."""

    ids: list[str]
    texts: list[str]
    waveforms: Tensor  # (B, N) float32, padded with zeros
    lengths: Tensor  # (B,) samples
    targets: Targets
    phones: Targets | None = None  # of the second head
    letters: Targets | None = None  # of the attention decoder

    @classmethod
    def empty(cls) -> "Batch":
        nothing = torch.zeros(0, 0, dtype=torch.long)
        return cls([], [], nothing.float(), nothing.sum(1), Targets(nothing, nothing.sum(1)))

    @property
    def amount(self) -> float:
        """Seconds of audio."""
        return float(self.lengths.sum()) / SAMPLE_RATE


def read_sources(
    manifests: Iterable[str], rule: TextRule, speller: PhoneSpeller | None = None
) -> list[tuple[str, list[Entry]]]:
    """Each manifest, or folder or URL of shards, with its entries: texts as the rule leaves them, ids made unique.

    speller: gives each entry phones.
    """
    taken: set[str] = set()
    sources = []
    for manifest in manifests:
        entries = []
        for entry in read_training(manifest, check_files=True):
            text = rule(entry.text, f"{manifest}: '{entry.id}'")
            others = (f"{manifest} ({number}): {entry.id}" for number in count(3))  # the manifest is listed once more
            name = next(name for name in chain([entry.id, f"{manifest}: {entry.id}"], others) if name not in taken)
            taken.add(name)
            entry = replace(entry, id=name, text=text)
            entries.append(replace(entry, phones=speller(entry)) if speller else entry)
        sources.append((manifest, entries))
    return sources


def unusable(samples: int, text: str, targets: list[int], max_seconds: float) -> str:
    """Why an utterance of so many samples cannot be trained on; empty if it can."""
    if samples > max_seconds * SAMPLE_RATE:
        return "too long"
    if not text:
        return "without text"
    if not targets:
        return "with words that cannot be pronounced"
    fits = Targets.pad([targets]).fit(output_lengths(torch.tensor([samples])))
    return "" if fits and samples >= MIN_SECONDS * SAMPLE_RATE else "too short for its text"


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
