"""What is to be done: the recordings of all sources, in parts that are written one by one.

The plan stands in the output, `plan.jsonl`: the settings in its first line, then one part a line. A job that goes on
takes it up; recordings that are new become new parts, and those whose file was replaced are found by size and version.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from asr.audio.files import AUDIO_SUFFIXES, find_audio
from asr.audio.sources import MAX_SECONDS, Excerpt, duration
from asr.bulk.store import Store, is_url, open_system
from asr.data.manifest import read_number
from asr.errors import ArgumentError, AsrError, RecipeError, one_line, printable
from asr.files import open_input

PLAN = "plan.jsonl"
PART_RECORDINGS = 200
PART_BYTES = 256_000_000  # of recordings: some hours
BYTES_PER_SECOND = 16_000  # of a recording whose header is not here: a guess
# A better one, rather too high, by the suffix. Of others, such as videos, the size says too little to cut them.
BYTES_OF = {".wav": 176_000, ".aiff": 176_000, ".aif": 176_000, ".flac": 80_000, ".mp3": 32_000}
LONG_SECONDS = 1200.0  # from here on several processes share a recording, which then is a part of its own
MANIFESTS = (".jsonl", ".parquet", ".txt", ".lst")
COLUMNS = ("audio", "path", "file", "url")  # one of them names the recording in a manifest
NAME_BYTES = 230  # of a file or folder; systems take 255, with the suffixes that are added

Key = tuple[str, float, float | None]  # path, offset, duration: what tells recordings apart


@dataclass(frozen=True)
class Recording:
    """path: of a file, or an address. name: of files that are written for it. offset, duration: of a part of it."""

    path: str
    name: str
    size: int = 0  # bytes; 0 if unknown
    version: str = ""  # when it was changed, or its ETag in a bucket; empty if unknown
    seconds: float | None = None  # that its header promises, if it is here
    offset: float = 0.0
    duration: float | None = None

    @property
    def key(self) -> Key:
        return self.path, self.offset, self.duration

    @property
    def length(self) -> float:
        """Seconds, by its size where the header is not here; 0 if that is not known either."""
        return self.duration or self.seconds or self.size / BYTES_OF.get(self.suffix, BYTES_PER_SECOND)

    @property
    def long(self) -> bool:
        """Whether several processes may share it."""
        known = self.seconds is not None or self.suffix in BYTES_OF
        return known and self.duration is None and not self.offset and self.length > LONG_SECONDS

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.path)[1].lower()

    def excerpt(self, source: str) -> Excerpt:
        """Its part of the source, which is the recording or a copy of it. ArgumentError if there can be none."""
        end = None if self.duration is None else self.offset + self.duration
        return Excerpt(source, start=self.offset, end=end)


@dataclass(frozen=True)
class Part:
    """Recordings whose rows are one file."""

    name: str
    recordings: tuple[Recording, ...]


def list_recordings(sources: Sequence[str], on_error: Callable[[AsrError], object]) -> list[Recording]:
    """The recordings of files, folders, patterns, manifests and addresses, each once, in order.

    on_error: called with an AsrError for each folder that cannot be read. AsrError for a source without recordings.
    """
    found: dict[Key, Recording] = {}
    for source in sources:
        before = len(found)
        for recording in _expand(source, on_error):
            found.setdefault(recording.key, recording)
        if len(found) == before:
            raise AsrError(f"{source}: no recordings there that are not listed already; check the path")
    return list(found.values())


def _expand(source: str, on_error: Callable[[AsrError], object]) -> Iterator[Recording]:
    suffix = os.path.splitext(source)[1].lower()
    if suffix in MANIFESTS:
        yield from _read_manifest(source)
    elif is_url(source) and not source.startswith(("http://", "https://")):
        yield from _list_bucket(source)
    elif is_url(source):
        yield Recording(source, _safe(source.split("?")[0].rpartition("/")[2]))
    elif any(char in source for char in "*?[") and not os.path.exists(source):
        import glob

        yield from (_local(path, path) for path in sorted(glob.glob(source, recursive=True)) if os.path.isfile(path))
    elif os.path.isdir(source):
        yield from (_local(str(path), str(path.relative_to(source))) for path in find_audio(source, on_error))
    elif not os.path.exists(source):  # else what appears there later would be planned as this recording
        raise AsrError(f"{source}: no such file or folder; check the path")
    else:
        yield _local(source, Path(source).name)


def _local(path: str, name: str) -> Recording:
    about = os.stat(path) if os.path.isfile(path) else None
    size, version = (about.st_size, str(about.st_mtime_ns)) if about else (0, "")
    return Recording(os.path.abspath(path), _safe(name), size, version, duration(path))


def _list_bucket(source: str) -> Iterator[Recording]:
    system, inside = open_system(source)
    protocol = source.partition("://")[0]
    try:
        pattern = any(char in inside for char in "*?[")
        found = system.glob(inside, detail=True) if pattern else system.find(inside, detail=True)
    except Exception as error:  # each bucket's library has errors of its own
        raise AsrError(f"{source}: cannot be listed: {one_line(error)}; check the address and the access") from None
    for path, about in sorted(found.items()):
        if path.lower().endswith(AUDIO_SUFFIXES) and about.get("type", "file") == "file":
            name = path.removeprefix(inside.rstrip("/") + "/") if path != inside and not pattern else Path(path).name
            version = str(about.get("ETag") or about.get("etag") or about.get("mtime"))
            yield Recording(f"{protocol}://{path}", _safe(name), int(about.get("size") or 0), version)


def _read_manifest(source: str) -> Iterator[Recording]:
    folder, number = source.rpartition("/")[0], 0
    try:
        for row in _rows(source):
            number += 1
            if row is not None:
                yield _listed(row, folder)
    except (RecipeError, ArgumentError) as error:
        raise AsrError(f"{source}:{number}: {error}") from None
    except Exception as error:  # of the file system, JSON or Parquet
        line = f":{number + 1}" if number else ""
        raise AsrError(f"{source}{line}: not a manifest that can be read: {one_line(error)}") from None


def _rows(source: str) -> Iterator[Any]:
    """What the rows of a manifest hold; None for an empty line."""
    import fsspec

    with fsspec.open(source, "rb") if is_url(source) else open_input(source) as file:
        if source.lower().endswith(".parquet"):
            import pyarrow.parquet

            table = pyarrow.parquet.ParquetFile(file)
            columns = [name for name in (*COLUMNS, "offset", "duration") if name in table.schema_arrow.names]
            for batch in table.iter_batches(columns=columns):
                yield from batch.to_pylist()
            return
        written = source.lower().endswith(".jsonl")
        for line in map(str.strip, io.TextIOWrapper(file, "utf-8-sig", newline="\n")):
            yield None if not line else json.loads(line) or {} if written else {"path": line}


def _listed(row: Any, folder: str) -> Recording:
    """The recording of a row of a manifest in a folder. RecipeError, ArgumentError."""
    path = next((row[column] for column in COLUMNS if row.get(column)), None) if isinstance(row, dict) else None
    if not isinstance(path, str):
        raise RecipeError(f"names no recording; give each row a column {' or '.join(COLUMNS)}")
    offset = read_number(row, "offset", 0, MAX_SECONDS) or 0.0
    length = read_number(row, "duration", sys.float_info.min, MAX_SECONDS)
    where = path if is_url(path) or os.path.isabs(path) or not folder else f"{folder}/{path}"
    name = f"{path}@{offset:g}" if offset or length else path
    recording = Recording(where, _safe(name)) if is_url(where) else _local(where, name)
    recording = replace(recording, offset=offset, duration=length)
    recording.excerpt(where)
    return recording


def _safe(name: str) -> str:
    """A name to write files under: inside the output, printable and not too long, whatever the source's name says."""
    parts = name.partition("://")[2] if is_url(name) else name
    kept = (part for part in printable(parts).replace("\\", "/").split("/") if part not in ("", ".", ".."))
    return "/".join(part.encode()[:NAME_BYTES].decode(errors="ignore") for part in kept)


def make_plan(store: Store, recordings: Iterable[Recording], settings: dict[str, Any], share_long: bool) -> list[Part]:
    """The plan in the store, with what is new added. AsrError if it was begun with other settings.

    share_long: whether long recordings become parts of their own.
    """
    written, parts = store.read(PLAN), list[Part]()
    if written is not None:
        first, parts = _read_plan(written, f"{store.path}/{PLAN}")
        if first.keys() != settings.keys():
            raise AsrError(f"{store.path}: was begun by another version of asr; choose another output")
        if different := [
            f"--{name.replace('_', '-')} {_shown(first[name])}, not {_shown(settings[name])}"
            for name in settings
            if first[name] != settings[name]
        ]:
            raise AsrError(f"{store.path}: was begun with {' and '.join(different)}; choose another output")
    known = {recording.key for part in parts for recording in part.recordings}
    names = {recording.name for part in parts for recording in part.recordings}
    new = []
    for recording in recordings:
        if recording.key not in known:
            name, number = recording.name, 1
            while name in names:  # of another folder
                number += 1
                name = f"{recording.name}-{number}"
            names.add(name)
            new.append(replace(recording, name=name))
    if new or written is None:
        for group in grouped(new, PART_RECORDINGS, PART_BYTES, lambda recording: share_long and recording.long):
            parts.append(Part(_number(parts), tuple(group)))
        write_plan(store, settings, parts)
    return parts


def write_plan(store: Store, settings: dict[str, Any], parts: Iterable[Part]) -> None:
    rows = [{"part": part.name, "recordings": [asdict(item) for item in part.recordings]} for part in parts]
    store.write(PLAN, "".join(f"{json.dumps(row)}\n" for row in [settings, *rows]).encode())


def find_changed(parts: Iterable[Part], recordings: Iterable[Recording]) -> dict[Key, Recording]:
    """The recordings of a plan whose file is another one by now, as they are now; not those that are gone."""
    found, now = dict[Key, Recording](), {recording.key: recording for recording in recordings}
    for old in (recording for part in parts for recording in part.recordings):
        new = now.get(old.key, old)
        if new.version and (new.size, new.version) != (old.size, old.version):
            found[old.key] = replace(new, name=old.name)
    return found


def _shown(value: Any) -> str:
    """A setting as the value of an option."""
    return one_line(" ".join(map(str, value)) if isinstance(value, list) else value or "unset", 60)


def _read_plan(written: bytes, name: str) -> tuple[dict[str, Any], list[Part]]:
    """Settings and parts. AsrError, which names the plan, if it is not one that `make_plan` wrote."""
    hints, parts = get_type_hints(Recording), list[Part]()
    try:
        first, *rest = map(json.loads, written.decode().splitlines())
        settings = {**first}  # TypeError if it is no object
        for row in rest:
            recordings = tuple(Recording(**item) for item in row["recordings"])
            wrong = [key for item in row["recordings"] for key in item if not isinstance(item[key], hints[key])]
            if wrong or row["part"] != _number(parts):
                raise ValueError(f"part {len(parts)} is not as it was written")
            if outside := [item.name for item in recordings if item.name[:1] == "/" or ".." in item.name.split("/")]:
                raise ValueError(f"{outside[0]!r:.40} is outside of the output")
            parts.append(Part(row["part"], recordings))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AsrError(f"{name}: damaged ({one_line(error)}); choose another output") from None
    return settings, parts


def _number(parts: Sequence[Part]) -> str:
    """Name of the next part."""
    return f"{len(parts):05}"


def grouped(
    recordings: Iterable[Recording], number: int, size: int, alone: Callable[[Recording], bool]
) -> Iterator[list[Recording]]:
    """Groups of at most so many recordings and, if several, so many bytes; those that are to be `alone` are."""
    group: list[Recording] = []
    total = 0
    for recording in recordings:
        if alone(recording):
            yield [recording]
            continue
        if group and (len(group) == number or total + recording.size > size):
            yield group
            group, total = [], 0
        group.append(recording)
        total += recording.size
    if group:
        yield group
