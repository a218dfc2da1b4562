"""Training audio, decoded once: every recording of a manifest or of shards in one file of int16.

    audio/3f2a….i16     the samples of a manifest's recordings, one after the other, 16 kHz mono
    audio/3f2a….json    where each recording ends, and why others could not be read

The files are memory-mapped: a second run over the same manifests starts at once, and a corpus may be larger than the
memory, which then holds what was used last.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from asr.audio.sources import Excerpt, read
from asr.data.manifest import Entry
from asr.data.shards import ShardEntry, read_recordings, read_training
from asr.errors import AudioError, RecipeError, describe_os_error, is_disk_full
from asr.files import replacing

FULL_SCALE = 2**15  # of an int16 sample
BLOCK = 1024  # recordings that are decoded before the first of them is written
MEMORY_SHARE = 0.5  # of a GPU's free memory that the corpus may take


@dataclass(frozen=True)
class Decoded:
    """The recordings of one manifest, in its order."""

    samples: np.ndarray  # (N,) int16, memory-mapped
    ends: list[int]  # where in it each recording ends
    problems: dict[int, str]  # by its number, why a recording cannot be read: it has no samples


def decode_manifest(manifest: Path | str, folder: Path, say: Callable[[str], None] = lambda _: None) -> Decoded:
    """Decode a manifest or shards, or map what is decoded. RecipeError."""
    entries = read_training(str(manifest))
    name = digest(entries)
    samples, index = folder / f"{name}.i16", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):  # another run may decode the same
            if not index.is_file():
                say(f"{manifest}: decoding {len(entries):,} recordings to {folder}, once (115 MB an hour)")
                _decode(entries, samples, index)
        described = json.loads(index.read_text(encoding="utf-8"))
        ends = described["ends"]
        # "c": torch warns of arrays that it must not write to.
        mapped = np.memmap(samples, np.int16, "c", shape=(ends[-1],)) if ends and ends[-1] else np.zeros(0, np.int16)
        return Decoded(mapped, ends, {int(number): line for number, line in described["problems"].items()})
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(
            f"{samples}: decoded audio cannot be written or read ({describe_os_error(error)}); "
            f"{'make room' if is_disk_full(error) else 'delete the files of that name'} and start again"
        ) from error


def digest(entries: Sequence[Entry]) -> str:
    """Of the recordings' names, sizes and times. Texts may change without a new decoding."""
    digest = hashlib.sha256()
    for entry in entries:
        audio = os.path.abspath(entry.audio)
        whole = not entry.offset and entry.duration is None
        named = audio if whole else (audio, entry.offset, entry.duration)
        source = (entry.tar, entry.id) if isinstance(entry, ShardEntry) else named
        status = os.stat(entry.audio) if os.path.isfile(entry.audio) else None
        digest.update(repr((source, status and (status.st_size, status.st_mtime_ns))).encode())
    return digest.hexdigest()[:16]


def _decode(entries: Sequence[Entry], samples: Path, index: Path) -> None:
    in_shards = [entry for entry in entries if isinstance(entry, ShardEntry)]
    recordings = read_recordings(in_shards) if in_shards else (entry.source for entry in entries)
    ends: list[int] = []
    problems, end = {}, 0
    with replacing(samples) as part, open(part, "wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        while block := list(islice(recordings, BLOCK)):
            for decoded in pool.map(_read, block):
                if isinstance(decoded, str):
                    problems[len(ends)] = decoded
                else:
                    file.write(decoded)
                    end += len(decoded) // 2
                ends.append(end)
    with replacing(index) as part:
        part.write_text(json.dumps({"ends": ends, "problems": problems}), encoding="utf-8")


def _read(recording: Path | Excerpt | BinaryIO | AudioError) -> bytes | str:
    """The samples of a recording, or why it cannot be read."""
    try:
        if isinstance(recording, AudioError):
            raise recording
        samples = read(recording) * FULL_SCALE
        return samples.round().clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16).tobytes()
    except AudioError as error:
        return str(error)


class AudioCorpus:
    """The audio of utterances, each a view of the memory that holds its manifest's recordings."""

    def __init__(
        self,
        sources: Iterable[tuple[str, Sequence[Entry]]],
        folder: Path,
        say: Callable[[str], None] = lambda _: None,
        without: str = "left out",
    ):
        """sources: manifests, each with its entries in the order of its lines. The files are in `folder`.

        say: is told what is decoded and, after `without`, which recordings cannot be read.
        """
        self.entries: list[Entry] = []
        self.problems: dict[int, str] = {}  # by index, why a recording cannot be read
        self._places: list[tuple[str, int, int]] = []  # of each entry: manifest, begin, end
        known: dict[str, Decoded] = {}
        for manifest, entries in sources:
            if manifest not in known:
                known[manifest] = decode_manifest(manifest, folder, say=say)
            decoded = known[manifest]
            self.problems |= {len(self.entries) + number: line for number, line in decoded.problems.items()}
            self.entries += entries
            self._places += [(manifest, begin, end) for begin, end in pairwise([0, *decoded.ends])]
        self._memory = {manifest: torch.from_numpy(decoded.samples) for manifest, decoded in known.items()}
        for problem in self.problems.values():
            say(f"{without}: {problem}")

    def samples(self, index: int) -> Tensor:
        """(n,) int16, where the corpus lies."""
        manifest, begin, end = self._places[index]
        return self._memory[manifest][begin:end]

    def move_to(self, device: torch.device) -> bool:
        """Copy all audio to a GPU that has room for it. Returns whether it is there."""
        if device.type != "cuda":
            return False
        size = sum(memory.nbytes for memory in self._memory.values())
        if size > MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]:
            return False
        self._memory = {manifest: memory.to(device) for manifest, memory in self._memory.items()}
        return True
