"""One's own recordings, listed in a table or each beside its text; corpora that Lhotse has no fitting recipe for."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from asr.audio.files import find_audio
from asr.data.corpora.corpus import Corpus, Splits, hold_out, language_of
from asr.data.manifest import COLUMNS, Entry, read_table
from asr.errors import RecipeError, one_line
from asr.files import read_text
from asr.spoken import spoken_words

AN4_LINE = re.compile(r"(.*?)\s*\(([^()\s]+)\)")  # <s> RUBOUT G M </s> (an251-fash-b)
AN4_MARKS = re.compile(r"<[^>]*>")  # sentence ends and silences, not words
PROMPTS = ("PROMPTS", "prompts-original")  # VoxForge: the first is cleaned of punctuation, and not always there
SPEECH_COMMANDS = "speech_commands_v0.02"
SUBSETS = {"train": "training", "dev": "validation", "test": "testing"}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

log = logging.getLogger(__name__)


def csv_corpus(language: str, names: Mapping[str, str] = COLUMNS) -> Corpus:
    """A table with a row for each utterance; audio is absolute or relative to the table.

    names: of its columns for audio and text, and of those that may be missing, see `COLUMNS`; in any case.
    """
    origin = "a CSV file in UTF-8 with the columns audio, text and perhaps speaker"
    return Corpus("", origin, lambda table, _output: hold_out(_listed(table, language_of(language), names)))


def folder_corpus(language: str) -> Corpus:
    """Recordings with their texts beside them, a.wav and a.txt. Folders in it are the speakers' names."""
    origin = "recordings, and their texts in .txt files (UTF-8) of the same names; folders in it are speakers"
    return Corpus("", origin, lambda folder, _output: hold_out(_beside(folder, language_of(language))))


def _listed(table: Path, language: str, names: Mapping[str, str]) -> Iterator[Entry]:
    """The rows of a table; missing recordings are left out."""
    missing = []
    for entry in read_table(table, names):
        if entry.audio.is_file():
            yield replace(entry, text=spoken_words(entry.text, language))
        else:
            missing.append(entry.audio)
    if missing:
        advice = "paths count from the table's folder"
        log.warning("%s: no such recording, %d in %s are left out; %s", missing[0], len(missing), table, advice)


def _beside(folder: Path, language: str) -> Iterator[Entry]:
    found = find_audio(folder)
    if not found:
        raise RecipeError(f"{folder}: no audio in it; put recordings there, and their texts beside them")
    texts = {audio.with_suffix(".txt") for audio in found}
    alone = sorted(path for path in folder.rglob("*.txt") if path not in texts and not path.name.startswith("."))
    if alone:
        advice = "give a text the name of its recording"
        log.warning("%s: no recording of this name, texts left out: %d in %s; %s", alone[0], len(alone), folder, advice)
    for audio in found:
        written = audio.with_suffix(".txt")
        try:
            text = read_text(written, "utf-8-sig") if written.is_file() else ""
        except UnicodeDecodeError as error:
            raise RecipeError(f"{written}: not a text in UTF-8 ({one_line(error)}); save it as that") from error
        name = audio.relative_to(folder).with_suffix("")
        speaker = name.parts[0] if len(name.parts) > 1 else None
        yield Entry(name.as_posix(), audio, spoken_words(text, language), None, speaker)


def read_an4(root: Path, _output: Path) -> Splits:
    """AN4 (Acero 1990): its test set, and its training set with some speakers set aside as dev."""
    return hold_out(_an4(root, "train")) | {"test": _an4(root, "test")}


def _an4(root: Path, part: str) -> Iterator[Entry]:
    """Texts are A to Z already, with numbers and letters as words; only the case changes."""
    transcription = root / "etc" / f"an4_{part}.transcription"
    lines = (AN4_LINE.fullmatch(line.strip()) for line in transcription.read_text(encoding="utf-8").splitlines())
    texts = {match[2]: AN4_MARKS.sub(" ", match[1]) for match in lines if match}
    for name in transcription.with_suffix(".fileids").read_text(encoding="utf-8").split():
        audio = root / "wav" / f"{name}.sph"  # an4_clstk/fash/an251-fash-b
        yield Entry(audio.stem, audio, " ".join(texts[audio.stem].lower().split()), None, audio.parent.name)


def speech_commands(about: str, *words: str) -> Corpus:
    """Speech Commands (Warden 2018), of some words or all. The splits share no speakers.

    Torchaudio reads it: Lhotse takes the test set from another archive, which has ten of the 35 words and no digits.
    """

    def read(root: Path, _output: Path) -> Splits:
        from torchaudio.datasets import SPEECHCOMMANDS

        splits: Splits = {}
        for split, subset in SUBSETS.items():
            clips = SPEECHCOMMANDS(root.parent, root.name, "", subset=subset)
            found = map(clips.get_metadata, range(len(clips)))
            splits[split] = [
                Entry(os.path.splitext(path)[0], root.parent / path, word, None, speaker)
                for path, _, word, speaker, _ in found
                if not words or word in words
            ]
        return splits

    def download(folder: Path) -> None:
        from torchaudio.datasets import SPEECHCOMMANDS

        SPEECHCOMMANDS(folder, SPEECH_COMMANDS, download=True)

    origin = f"{SPEECH_COMMANDS}.tar.gz of download.tensorflow.org/data, unpacked in a folder of that name"
    return Corpus(about, origin, read, f"SpeechCommands/{SPEECH_COMMANDS}", download)


def read_voxforge(root: Path, _output: Path) -> Splits:
    """VoxForge, a folder for each submission, as Aaron-20080318-kdl. Some speakers are set aside as dev."""
    submissions = sorted({path.parent.parent for name in PROMPTS for path in root.rglob(f"etc/{name}")})
    if not submissions:
        packed = sum(1 for _ in root.rglob("*.tgz"))
        raise RecipeError(f"{root}: no submission with etc/PROMPTS, {packed:,} .tgz files; unpack them there")
    return hold_out(entry for folder in submissions for entry in _voxforge(folder))


def _voxforge(submission: Path) -> Iterator[Entry]:
    """The text is empty where no prompt belongs to a recording."""
    name = submission.name.partition("-")[0]
    speaker = None if name.lower() == "anonymous" else name  # perhaps somebody in dev: those stay in train
    content = next(path for name in PROMPTS if (path := submission / "etc" / name).is_file()).read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:  # of the years when browsers sent it so
        lines = content.decode("latin-1").splitlines()
    # A line has the former path of a recording, then its text.
    pairs = (line.split(maxsplit=1) for line in lines)
    prompts = {pair[0].rpartition("/")[2]: pair[1] for pair in pairs if len(pair) == 2}
    for audio in sorted([*submission.glob("wav/*.wav"), *submission.glob("flac/*.flac")]):
        text = spoken_words(prompts.get(audio.stem, ""))
        yield Entry(f"{submission.name}/{audio.stem}", audio, text, None, speaker)
