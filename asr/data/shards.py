"""Shards: recordings in large tar files (Lhotse Shar), on a disk or in any storage that fsspec opens by its URL.

cuts.000000.jsonl.gz        a line for each recording: text, speaker, length
recording.000000.tar        the recordings in the same order, FLAC
"""

import gzip
import io
import json
import os
import shutil
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from fsspec.core import url_to_fs

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.data.manifest import Entry, read_manifest
from asr.errors import AudioError, RecipeError, one_line

SHARD_SIZE = 1000  # recordings


@dataclass(frozen=True)
class ShardEntry(Entry):
    """An utterance in a shard."""

    tar: str = ""  # path or URL


def write_shards(manifest: Path, folder: Path) -> str:
    """Pack a manifest's recordings, as 16 kHz mono of 16 bits, into a new folder. Raises RecipeError.

    Returns a line that says what was written, and one for each recording that is left out because it cannot be read.
    """
    from lhotse.shar import SharWriter  # 3.5 s, only to write

    entries = read_manifest(manifest, check_files=True)
    if folder.exists():
        raise RecipeError(f"{folder}: is there already; name a new folder")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    total, left_out = 0.0, []
    try:
        partial.mkdir(parents=True)
        with SharWriter(partial, {"recording": "flac"}, SHARD_SIZE) as shards:
            for entry in entries:
                try:
                    samples = read(entry.source)
                except AudioError as error:
                    left_out.append(str(error))
                    continue
                shards.write(_cut(entry, samples))
                total += len(samples) / SAMPLE_RATE
        if len(left_out) == len(entries):
            raise RecipeError(f"{manifest}: no recording can be read: {left_out[0]}")
        os.replace(partial, folder)
    except OSError as error:
        raise RecipeError(f"{folder}: cannot write ({one_line(error)}); name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    count = len(entries) - len(left_out)
    line = f"{folder}: {count:,} utterances, {total / 3600:.2f} h in {-(-count // SHARD_SIZE):,} shards"
    return "\n".join([line, *(f"left out: {problem}" for problem in left_out)])


def _cut(entry: Entry, samples: np.ndarray) -> Any:
    from lhotse import Recording, SupervisionSegment

    stream = io.BytesIO()
    soundfile.write(stream, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    cut = Recording.from_bytes(stream.getvalue(), entry.id).to_cut()
    cut.id = entry.id
    said = {"confidence": entry.confidence, "phones": entry.phones}
    custom = {name: value for name, value in said.items() if value is not None} or None
    cut.supervisions = [
        SupervisionSegment(entry.id, entry.id, 0.0, cut.duration, text=entry.text, speaker=entry.speaker, custom=custom)
    ]
    return cut


def are_shards(source: str) -> bool:
    return "://" in source or os.path.isdir(source)


def read_training(source: str, check_files: bool = False) -> Sequence[Entry]:
    """The entries of a manifest or, from a folder or URL, of shards. RecipeError if they cannot be read."""
    if not are_shards(source):
        return read_manifest(source, check_files)
    try:
        return _read_shards(source)
    except Exception as error:  # each storage has its own
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise RecipeError(
            f"{source}: cannot read shards there ({reason}); make them with asr prepare shar, check the URL"
        ) from error


def read_lists(source: str) -> bytes:
    """The lists of shards."""
    storage, root = url_to_fs(source)
    return b"".join(storage.cat_file(path) for path in _lists(storage, root))


def _lists(storage: Any, root: str) -> list[str]:
    found = sorted(storage.glob(f"{root.rstrip('/')}/cuts.*.jsonl.gz"))
    if not found:
        raise FileNotFoundError("no cuts.*.jsonl.gz")
    return found


def _read_shards(source: str) -> list[ShardEntry]:
    storage, root = url_to_fs(source)
    entries = []
    for path in _lists(storage, root):
        name = path.rpartition("/")[2].replace("cuts.", "recording.").replace(".jsonl.gz", ".tar")
        tar = f"{source.rstrip('/')}/{name}"
        for line in gzip.decompress(storage.cat_file(path)).splitlines():
            cut = json.loads(line)
            said = cut["supervisions"] or [{}]
            custom = said[0].get("custom") or {}
            entries.append(
                ShardEntry(
                    id=cut["id"],
                    audio=Path(tar),
                    text=" ".join(one.get("text") or "" for one in said),
                    seconds=cut["duration"],
                    speaker=said[0].get("speaker"),
                    confidence=custom.get("confidence"),
                    phones=custom.get("phones"),
                    tar=tar,
                )
            )
    return entries


def read_recordings(entries: Iterable[ShardEntry]) -> Iterator[BinaryIO | AudioError]:
    """The file of each entry, or why it cannot be read, in the order of `read_training`, from whole shards.

    RecipeError for a shard with other recordings than its list.
    """
    for tar, group in groupby(entries, lambda entry: entry.tar):
        left = deque(group)
        reason = "the shard ends before it"
        try:
            storage, path = url_to_fs(tar)
            with storage.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
                for member in members:
                    name, suffix = os.path.splitext(member.name)
                    if suffix in (".json", ".nometa"):  # descriptions, between the recordings
                        continue
                    if not left or name != left[0].id:
                        listed = f"'{left[0].id}'" if left else "nothing more"
                        raise RecipeError(f"{tar}: holds '{name}' where the list has {listed}; copy the shards again")
                    recording = io.BytesIO(members.extractfile(member).read())  # type: ignore[union-attr]
                    recording.name = f"{tar}: {left.popleft().id}"
                    yield recording
        except RecipeError:
            raise
        except Exception as error:  # each storage has its own
            reason = f"{type(error).__name__}: {one_line(error)}"
        for entry in left:
            yield AudioError(f"{tar}: {entry.id}: cannot be read ({reason})")
