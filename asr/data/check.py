"""Validate training data: every line of the manifests and every sample of the audio; errors and warnings."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asr.audio.level import Level
from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read_blocks
from asr.data.config import TokenizerConfig
from asr.data.manifest import Entry, parse_entry, read_manifest
from asr.data.pronunciation import PhoneSpeller
from asr.data.tokenizer import TextRule
from asr.errors import AudioError, RecipeError, one_line, printable

# Letters a second. Of the starter recipe's 11,913 utterances the slowest, spelled letters, have 1, the fastest 19.
SLOWEST, FASTEST = 0.8, 25.0
SILENCE = 1e-3  # RMS of the loudest tenth of a second, −60 dB; no utterance of Common Voice or LibriSpeech is below
MOST_CLIPPED = 1e-3  # of the samples at full scale; 26 of the same utterances have more

ERRORS = {
    "manifest": "a line that cannot be read; nothing else is checked in that manifest",
    "id twice": "two lines with one id; nothing else is checked in that manifest",
    "no file": "audio that is not there",
    "unreadable": "audio that is empty, damaged or truncated",
    "alphabet": "characters outside the tokenizer's alphabet",
    "audio in dev": "audio that is in dev too: dev would measure what was learned by heart",
}
WARNINGS = {
    "audio twice": "the same audio under another id",
    "dropped": "characters outside the tokenizer's alphabet; left out of the texts",
    "no text": "nothing to learn; left out of training",
    "no phones": "words that cannot be pronounced; left out of training",
    "too fast": f"more than {FASTEST:g} letters a second: a wrong text, or audio cut short",
    "too slow": f"less than {SLOWEST:g} letters a second: a wrong text, or much silence",
    "silent": "no tenth of a second above −60 dB",
    "clipped": f"more than {MOST_CLIPPED:.1%} of the samples at full scale",
    "text in dev": "a text that is in dev too, as read by somebody else",
    "speaker in dev": "a speaker who is in dev too: dev would not measure new voices",
}


@dataclass(frozen=True)
class Finding:
    """One error or warning. kind: a key above."""

    kind: str
    manifest: str
    id: str
    detail: str


@dataclass(frozen=True)
class Report:
    """All findings in so many utterances and seconds of audio."""

    utterances: int
    seconds: float
    findings: list[Finding]
    unknown: str = ""  # all characters outside the alphabet

    @property
    def counts(self) -> Counter[str]:
        return Counter(finding.kind for finding in self.findings)

    @property
    def has_errors(self) -> bool:
        return any(kind in ERRORS for kind in self.counts)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"counts": self.counts, "has_errors": self.has_errors}

    def __str__(self) -> str:
        """A table: each kind with its count, its meaning, and the first finding."""
        lines = [f"{self.utterances:,} utterances, {self.seconds / 3600:.2f} h: {len(self.findings):,} findings"]
        for title, kinds in (("errors", ERRORS), ("warnings", WARNINGS)):
            found = [kind for kind in kinds if self.counts[kind]]
            lines += ["", title] if found else []
            for kind in found:
                first = next(finding for finding in self.findings if finding.kind == kind)
                lines.append(f"{self.counts[kind]:>9,}  {kind:<15} {kinds[kind]}")
                lines.append(f"{'':9}  {'':<15} first: {first.manifest}: {first.id}: {first.detail}")
                if kind in ("alphabet", "dropped"):
                    lines.append(f"{'':9}  {'':<15} all of them: {printable(self.unknown)}")
        return "\n".join(lines)


@dataclass
class Utterance:
    """A line of a manifest, and its text as it will be learned."""

    manifest: Path
    entry: Entry
    is_dev: bool
    text: str = ""
    unknown: frozenset[str] = frozenset()  # characters of it outside the alphabet
    seconds: float = 0.0
    digest: str = ""  # equal for equal samples, whatever the file's name and format; empty if it cannot be read

    def finding(self, kind: str, detail: str) -> Finding:
        return Finding(kind, str(self.manifest), self.entry.id, detail)


def check(
    manifests: Iterable[Path],
    dev: Path | None,
    tokenizer: TokenizerConfig,
    on_progress: Callable[[Path, float], None] | None = None,
    speller: PhoneSpeller | None = None,
) -> Report:
    """Check training manifests, and a dev manifest, which must share nothing with them.

    All audio is decoded, on every core; `on_progress` is called with each recording and its seconds. The tokenizer says
    which characters texts may hold, or `pronunciation` which words. Raises RecipeError only for a manifest that is not
    there.
    """
    findings: list[Finding] = []
    utterances = [
        Utterance(manifest, entry, is_dev)
        for manifest, is_dev in [*((manifest, False) for manifest in manifests), *([(dev, True)] if dev else [])]
        for entry in _read(manifest, findings)
    ]
    findings += _check_texts(utterances, tokenizer, speller)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for utterance, found in zip(utterances, pool.map(_check_audio, utterances), strict=True):
            findings += found
            if on_progress is not None:
                on_progress(utterance.entry.audio, utterance.seconds)
    findings += _shared_with_dev(utterances)
    findings += _repeated_audio(utterances)
    unknown = frozenset[str]().union(*(utterance.unknown for utterance in utterances))
    seconds = sum(utterance.seconds for utterance in utterances)
    return Report(len(utterances), seconds, findings, "".join(sorted(unknown)))


def _read(manifest: Path, findings: list[Finding]) -> list[Entry]:
    try:
        return read_manifest(manifest)
    except RecipeError as error:
        if not manifest.is_file():
            raise
        # The reader stops at the first wrong line, but there are often many repeated ids.
        findings += _repeated_ids(manifest) or [Finding("manifest", str(manifest), "-", str(error))]
        return []


def _repeated_ids(manifest: Path) -> list[Finding]:
    lines: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(manifest.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        with suppress(RecipeError):  # not a line of a manifest
            lines[parse_entry(line, manifest.parent).id].append(number)
    return [
        Finding("id twice", str(manifest), name, f"lines {', '.join(map(str, numbers))}")
        for name, numbers in lines.items()
        if len(numbers) > 1
    ]


def _check_texts(
    utterances: Iterable[Utterance], tokenizer: TokenizerConfig, speller: PhoneSpeller | None
) -> Iterator[Finding]:
    """Sets the texts as they will be learned."""
    rule = TextRule(tokenizer if speller else replace(tokenizer, unknown="drop"))
    for utterance in utterances:
        rule.dropped.clear()
        utterance.text = rule(utterance.entry.text, utterance.entry.id)
        if rule.dropped:
            utterance.unknown = frozenset(rule.dropped)
            unknown = " ".join(sorted(rule.dropped))
            kind = "dropped" if tokenizer.unknown == "drop" else "alphabet"
            yield utterance.finding(kind, f"{unknown} in “{one_line(utterance.entry.text)}”")
            if kind in ERRORS:
                continue
        if not utterance.text:
            yield utterance.finding("no text", "an empty text")
        elif speller and utterance.entry.phones is None:
            missing = [word for word in utterance.text.split() if not speller.word(word)]
            if missing:
                yield utterance.finding("no phones", f"{' '.join(missing)} in “{one_line(utterance.entry.text)}”")


def _check_audio(utterance: Utterance) -> list[Finding]:
    """Sets seconds and digest where the audio can be read."""
    path = utterance.entry.audio
    if not os.path.isfile(path):
        return [utterance.finding("no file", str(path))]
    level = Level()
    digest = hashlib.blake2b(digest_size=16)
    try:
        for block in read_blocks(utterance.entry.source):
            level.add(block)
            digest.update(block.tobytes())
    except AudioError as error:
        return [utterance.finding("unreadable", str(error))]
    if not level.samples:
        return [utterance.finding("unreadable", "no audio in the file")]
    utterance.seconds, utterance.digest = level.samples / SAMPLE_RATE, digest.hexdigest()
    letters = len(utterance.text.replace(" ", ""))
    rate, detail = letters / utterance.seconds, f"{letters} letters in {utterance.seconds:.2f} s"
    findings = []
    if rate > FASTEST:
        findings.append(utterance.finding("too fast", detail))
    if 0 < rate < SLOWEST:
        findings.append(utterance.finding("too slow", detail))
    if level.loudest < SILENCE:
        findings.append(utterance.finding("silent", f"RMS {level.loudest:.6f} where it is loudest"))
    if level.clipped > MOST_CLIPPED * level.samples:
        findings.append(utterance.finding("clipped", f"{level.clipped / level.samples:.2%} of the samples"))
    return findings


def _shared_with_dev(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    keys: dict[str, Callable[[Utterance], str | None]] = {
        "audio in dev": lambda utterance: utterance.digest,
        "text in dev": lambda utterance: utterance.text,
        "speaker in dev": lambda utterance: utterance.entry.speaker,
    }
    for kind, key in keys.items():
        known = {name: utterance.entry.id for utterance in utterances if utterance.is_dev and (name := key(utterance))}
        for utterance in utterances:
            if not utterance.is_dev and (name := key(utterance)) in known:
                yield utterance.finding(kind, f"as {known[name]}" if kind != "speaker in dev" else name)


def _repeated_audio(utterances: Iterable[Utterance]) -> Iterator[Finding]:
    """Within train, and within dev."""
    first: dict[tuple[bool, str], Utterance] = {}
    for utterance in utterances:
        known = first.setdefault((utterance.is_dev, utterance.digest), utterance)
        if known is not utterance and utterance.digest:
            yield utterance.finding("audio twice", f"as {known.entry.id}")
