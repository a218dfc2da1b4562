"""Shards: recordings in large tar files (Lhotse Shar), on a disk or in any storage that fsspec opens by its URL.

    cuts.000000.jsonl.gz        a line for each recording: text, speaker, length
    recording.000000.tar        the recordings in the same order, FLAC
    place.000000.jsonl.gz       where in the tar file each begins, and its bytes

Lhotse's own reader goes through a tar file from its beginning. Here recordings are read by their places, those of
object storage concurrently.
"""

import gzip
import io
import json
import os
import shutil
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import soundfile
from fsspec.core import url_to_fs

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import UNKNOWN_FRAMES, read
from asr.data.manifest import Entry, read_manifest
from asr.errors import AudioError, RecipeError, one_line

SHARD_SIZE = 1000  # recordings
SCHEME = "shar:"  # of the name of a recording in a shard: shar:URL#FIRST+BYTES


@dataclass(frozen=True)
class ShardEntry(Entry):
    """An utterance in a shard, whose audio has a name for `read_recording`."""

    source: str = ""


def write_shards(manifest: Path, folder: Path) -> str:
    """Pack a manifest's recordings, as 16 kHz mono of 16 bits, into a new folder. Raises RecipeError.

    Returns a line that says what was written, and one for each recording that is left out because it cannot be read.
    """
    from lhotse.shar import JsonlShardWriter, SharWriter  # 3.5 s, only to write

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
                    samples = read(entry.audio)
                except AudioError as error:
                    left_out.append(str(error))
                    continue
                shards.write(_cut(entry, samples))
                total += len(samples) / SAMPLE_RATE
        if len(left_out) == len(entries):
            raise RecipeError(f"{manifest}: no recording can be read: {left_out[0]}")
        storage = fsspec.filesystem("file")
        with JsonlShardWriter(f"{partial}/place.%06d.jsonl.gz", SHARD_SIZE) as places:
            for tar in sorted(partial.glob("recording.*.tar")):
                for name, place in _scan(storage, str(tar)):
                    places.write({"cut_id": name, "place": place})
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


def _scan(storage: Any, tar: str) -> Iterator[tuple[str, list[int]]]:
    """The id and place of each recording in a tar file; descriptions are between them."""
    with storage.open(tar) as stream, tarfile.open(fileobj=stream) as members:
        for member in members:
            name, suffix = os.path.splitext(member.name)
            if suffix not in (".json", ".nometa"):
                yield name, [member.offset_data, member.size]


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


def read_list(source: str) -> bytes:
    """The content of a manifest, or the lists of shards."""
    if not are_shards(source):
        return Path(source).read_bytes()
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
        folder, _, name = path.rpartition("/")
        tar = name.replace("cuts.", "recording.").replace(".jsonl.gz", ".tar")
        index = f"{folder}/{name.replace('cuts.', 'place.')}"
        if storage.exists(index):
            places = [(line["cut_id"], line["place"]) for line in _lines(storage, index)]
        else:  # written by another program
            places = list(_scan(storage, f"{folder}/{tar}"))
        for cut, (key, (first, size)) in zip(_lines(storage, path), places, strict=True):
            if cut["id"] != key:
                raise ValueError(f"{tar} holds '{key}' where the list has '{cut['id']}'")
            url = f"{source.rstrip('/')}/{tar}"
            said = cut["supervisions"] or [{}]
            custom = said[0].get("custom") or {}
            entries.append(
                ShardEntry(
                    id=cut["id"],
                    audio=Path(url),
                    text=" ".join(one.get("text") or "" for one in said),
                    seconds=cut["duration"],
                    speaker=said[0].get("speaker"),
                    confidence=custom.get("confidence"),
                    phones=custom.get("phones"),
                    source=f"{SCHEME}{url}#{first}+{size}",
                )
            )
    return entries


def _lines(storage: Any, path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(storage.cat_file(path)).splitlines()]


def fetch(sources: Iterable[str]) -> dict[str, bytes | Exception]:
    """The bytes of those recordings that are in shards, or the storage's exception."""
    wanted: dict[Any, list[tuple[str, str, int, int]]] = defaultdict(list)
    for source in sources:
        if source.startswith(SCHEME):
            url, _, place = source.removeprefix(SCHEME).rpartition("#")
            first, size = map(int, place.split("+"))
            storage, path = url_to_fs(url)
            wanted[storage].append((source, path, first, first + size))
    fetched: dict[str, bytes | Exception] = {}
    for storage, ranges in wanted.items():
        names, *columns = map(list, zip(*ranges, strict=True))
        fetched |= zip(names, storage.cat_ranges(*columns, on_error="return"), strict=True)
    return fetched


def read_recording(source: str | Path, fetched: dict[str, bytes | Exception] | None = None) -> np.ndarray:
    """As `asr.audio.sources.read`, also for a recording in a shard. Raises AudioError."""
    name = str(source)
    if not name.startswith(SCHEME):
        return read(source)
    data = (fetched or fetch([name]))[name]
    if isinstance(data, Exception):
        raise AudioError(f"{name}: cannot be fetched ({type(data).__name__}: {one_line(data)})")
    # As `write_shards` packs it: in two thirds of the time of `read`, the same samples.
    with suppress(RuntimeError, OSError), soundfile.SoundFile(io.BytesIO(data)) as sound:
        plain = (sound.format, sound.samplerate, sound.channels) == ("FLAC", SAMPLE_RATE, 1)
        if plain and sound.frames < UNKNOWN_FRAMES:
            samples = sound.read(dtype="float32")
            if len(samples) == sound.frames:
                return samples
    stream = io.BytesIO(data)
    stream.name = name
    return read(stream)
