"""Writes the manifests of a corpus, one for each split."""

import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asr.audio.sources import duration
from asr.data.manifest import Entry
from asr.errors import AsrError, RecipeError, one_line
from asr.files import replacing
from asr.normalize import primary_language

LANGUAGE = re.compile(r"[a-z]{2,3}")
DEV_SHARE = (0.05, 0.1)  # of the utterances, where the corpus itself sets none aside

Splits = dict[str, Iterable[Entry]]


@dataclass(frozen=True)
class Corpus:
    """How one corpus is read.

    about: one line for the list of public corpora.
    origin: what the source folder must hold, and where it comes from.
    read: (the corpus's folder, the folder for files that it writes) → its splits by name. An utterance with an empty
    text is left out and counted. May raise anything.
    folder: that its archives unpack to: SRC may be this one or the one above it.
    download: into a folder, where the corpus has a stable public address; may return the corpus's folder.
    """

    about: str
    origin: str
    read: Callable[[Path, Path], Splits]
    folder: str = ""
    download: Callable[[Path], Path | None] | None = None


@dataclass(frozen=True)
class Prepared:
    """A manifest that was written; left_out: ids of utterances whose text is unknown or ambiguous."""

    manifest: Path
    utterances: int
    seconds: float  # of those whose length is known
    unmeasured: int  # utterances whose length is not known, as of most mp3 files
    left_out: list[str]

    def __str__(self) -> str:
        line = f"{self.manifest}: {self.utterances:,} utterances, {self.seconds / 3600:.2f} h"
        line += f" and {self.unmeasured:,} of unknown length" * bool(self.unmeasured)
        return f"{line}; {_without_text(self.left_out)}" if self.left_out else line


def _without_text(ids: Sequence[str]) -> str:
    more = ", …" * (len(ids) > 1)
    return f"{len(ids):,} left out, without a text that says what was spoken: {ids[0]}{more}"


def prepare(corpus: Corpus, source: Path, output: Path, download: bool = False) -> list[Prepared]:
    """Write OUTPUT/SPLIT.jsonl for every split of the corpus at `source`. Raises RecipeError."""
    roots = [source / corpus.folder, source]
    if download:
        if corpus.download is None:
            raise RecipeError(f"there is no stable address to download this corpus from; unpack {corpus.origin}")
        source.mkdir(parents=True, exist_ok=True)
        with _translate_errors(
            f"{source}: the download failed",
            f"try again, without archives that may be damaged; or unpack {corpus.origin}",
        ):
            roots.insert(0, corpus.download(source) or roots[0])
    root = next((root for root in roots if root.exists()), None)
    if root is None:
        raise RecipeError(f"{source}: not found; it should hold {corpus.origin}")
    with _translate_errors(f"{root}: cannot be read", f"mend it or unpack it again; it should hold {corpus.origin}"):
        splits = {split: list(entries) for split, entries in corpus.read(root.absolute(), output).items()}
    for split, entries in splits.items():
        _check(split, entries)
    output.mkdir(parents=True, exist_ok=True)
    return [_write(output / f"{split}.jsonl", entries) for split, entries in splits.items()]


@contextmanager
def _translate_errors(problem: str, advice: str) -> Iterator[None]:
    """RecipeError for whatever a damaged file, a recipe or an address raises."""
    try:
        yield
    except (AsrError, ModuleNotFoundError):
        raise
    except Exception as error:
        reason = one_line(error, 240) or type(error).__name__
        if isinstance(error, OSError) and error.strerror and error.filename:
            reason = f"{error.strerror}: {os.path.basename(str(error.filename))}"  # the folder is named anyway
        raise RecipeError(f"{problem} ({reason}); {advice}") from error


def language_of(name: str) -> str:
    """The language of a code like en, sv-SE or zh_TW. RecipeError if it is none."""
    language = primary_language(name)
    if not LANGUAGE.fullmatch(language):
        raise RecipeError(f"'{name}' is no language; name it by its code, such as en, de or sv-SE")
    return language


def hold_out(entries: Iterable[Entry], *keys: Callable[[Entry], str | None]) -> Splits:
    """Set aside dev data by a rule that needs no random numbers: whole groups, those of one speaker for example.

    Groups go to dev in the order of the CRC-32 of their names until dev has 5 % of the utterances, passing over those
    that would take it beyond 10 %; where all would, the smallest goes. Utterances whose key is None stay in train.
    Groups that share a recording are one, so that no recording is in both. A key by which dev would be more than half
    gives way to the next one; without keys: the speaker, then the text.
    """
    entries = list(entries)
    if not entries:
        return {"train": entries}
    _check_ids(entries)
    least, most = (max(1, round(share * len(entries))) for share in DEV_SHARE)
    for rule in keys or (lambda entry: entry.speaker, lambda entry: entry.text or None):
        group = _groups(entries, rule)
        sizes = Counter(name for entry in entries if (name := group[entry.id]) is not None)
        chosen: set[str] = set()
        held = 0
        for name in sorted(sizes, key=lambda name: (zlib.crc32(name.encode("utf-8", "replace")), name)):
            if held < least and held + sizes[name] <= most:
                chosen.add(name)
                held += sizes[name]
        if not chosen and sizes:
            chosen = {min(sizes, key=lambda name: (sizes[name], name))}
        dev = [entry for entry in entries if group[entry.id] in chosen]
        if dev and 2 * len(dev) <= len(entries):
            return {"train": [entry for entry in entries if group[entry.id] not in chosen], "dev": dev}
    raise RecipeError("nothing could be set aside as dev data: there are too few different speakers and texts")


def _groups(entries: Sequence[Entry], rule: Callable[[Entry], str | None]) -> dict[str, str | None]:
    """The group of each entry by its id: its key, the first of those that are joined by recordings that they share."""
    parent: dict[str | None, str | None] = {}

    def find(name: str | None) -> str | None:
        while (above := parent.setdefault(name, name)) != name:
            name = above
        return name

    first: dict[str, str | None] = {}  # of each recording, the key of its first entry
    for entry in entries:
        key = rule(entry)
        one, other = find(key), find(first.setdefault(os.path.realpath(entry.audio), key))
        if one != other:
            kept = None if None in (one, other) else min(str(one), str(other))
            parent[one] = parent[other] = kept
    return {entry.id: find(rule(entry)) for entry in entries}


def _check_ids(entries: Iterable[Entry]) -> None:
    recordings: dict[str, Path] = {}
    for entry in entries:
        if entry.id in recordings:
            raise RecipeError(
                f'{recordings[entry.id]} and {entry.audio}: the id "{entry.id}" would be there twice; '
                "name each recording once"
            )
        recordings[entry.id] = entry.audio


def _check(split: str, entries: Sequence[Entry]) -> None:
    """RecipeError for what cannot become a manifest; nothing is written then."""
    used = [entry for entry in entries if entry.text]
    if not used:
        left_out = _without_text([entry.id for entry in entries]) if entries else "the source has none"
        raise RecipeError(f"{split}: no utterances found: {left_out}; check the source")
    if missing := [entry.audio for entry in used if not os.path.isfile(entry.audio)]:
        raise RecipeError(
            f"{missing[0]}: no such recording, {len(missing):,} of {len(used):,} in {split} are missing; unpack the"
            " archive again, or mend the list"
        )
    _check_ids(used)
    for entry in used:
        try:
            f"{entry.id}{entry.audio}{entry.speaker}".encode()
        except UnicodeEncodeError as error:
            raise RecipeError(f"{entry.audio!a}: a name that is not UTF-8; rename the file") from error


def _write(path: Path, entries: list[Entry]) -> Prepared:
    """The manifest at `path`, whole or not at all."""
    used = [entry for entry in entries if entry.text]
    total, unmeasured = 0.0, 0
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for entry in used:
            seconds = entry.seconds or entry.duration or duration(entry.audio)
            total += seconds or 0.0
            unmeasured += not seconds
            file.write(_line(entry, seconds, path.parent))
    return Prepared(path, len(used), total, unmeasured, [entry.id for entry in entries if not entry.text])


def _line(entry: Entry, seconds: float | None, folder: Path) -> str:
    audio, folder = (Path(os.path.abspath(path)) for path in (entry.audio, folder))
    if audio.is_relative_to(folder):  # what is there moves with it
        audio = audio.relative_to(folder)
    part = {"offset": entry.offset, "duration": entry.duration} if entry.source != entry.audio else {}
    seconds = seconds and round(seconds, 3)
    fields = {"id": entry.id, "audio": str(audio), **part, "seconds": seconds, "speaker": entry.speaker}
    return json.dumps(fields | {"text": entry.text}, ensure_ascii=False) + "\n"
