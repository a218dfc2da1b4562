"""Public corpora that Lhotse has no recipe for, or whose recipe loses utterances, read as their archives unpack."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.data.corpora.corpus import Splits, by_speaker, cut, hold_out
from asr.data.corpora.own import read_table
from asr.data.manifest import Entry
from asr.data.text import language_of, spoken_words, without_noises
from asr.errors import RecipeError

SPLITS = ("train", "dev", "test")
AN4_LINE = re.compile(r"(.*?)\s*\(([^()\s]+)\)")  # <s> RUBOUT G M </s> (an251-fash-b)
AN4_MARKS = re.compile(r"<[^>]*>")  # sentence ends and silences, not words
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEECH_COMMANDS = "speech_commands_v0.02"
COMMONVOICE = "the folder of one language, as cv-corpus-17.0-2024-03-15/en, of commonvoice.mozilla.org"
TSV: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}  # quotation marks have no meaning there
CLITICS = re.compile(r"(?<=\w) '(?=\w)")  # written apart in TED-LIUM: it 's
PROMPTS = ("PROMPTS", "prompts-original")  # VoxForge: the first is cleaned of punctuation, and not always there


def read_an4(root: Path, _output: Path) -> Splits:
    """AN4 (Acero 1990): its test set, and its training set with some speakers set aside as dev."""
    return hold_out(_an4(root, "train"), by_speaker) | {"test": _an4(root, "test")}


def _an4(root: Path, part: str) -> Iterator[Entry]:
    """Texts are A to Z already, with numbers and letters as words; only the case changes."""
    transcription = root / "etc" / f"an4_{part}.transcription"
    names = _read(transcription.with_suffix(".fileids")).split()
    lines = (AN4_LINE.fullmatch(line.strip()) for line in _read(transcription).splitlines())
    texts = {match[2]: AN4_MARKS.sub(" ", match[1]) for match in lines if match}
    for name in names:  # an4_clstk/fash/an251-fash-b
        audio = root / "wav" / f"{name}.sph"
        if audio.stem not in texts:
            raise RecipeError(f"{transcription}: no line for {audio.stem}; unpack the archive again")
        yield Entry(audio.stem, audio, " ".join(texts[audio.stem].lower().split()), None, audio.parent.name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}); give the corpus's folder, all of it unpacked") from error


def read_commonvoice(root: Path, _output: Path) -> Splits:
    """Common Voice (Ardila et al. 2020), whose splits share no speakers. The folder's name is the language.

    Lhotse's recipe has 24 languages and the columns of some releases, and passes over missing clips.
    """
    if not all((root / f"{split}.tsv").is_file() for split in SPLITS):
        raise RecipeError(f"{root}: not all of train.tsv, dev.tsv and test.tsv; give {COMMONVOICE}")
    try:
        language = language_of(root.name)
    except RecipeError as error:
        raise RecipeError(f"{root}: {error}: rename the folder as it is in the archive") from error
    table = root / "clip_durations.tsv"
    seconds: dict[str, float] = {}
    try:
        if table.is_file():  # not in old releases
            rows = read_table(table, ("clip", "duration[ms]"), **TSV)
            seconds = {row["clip"]: int(row["duration[ms]"]) / 1000 for _, row in rows}
    except ValueError as error:
        raise RecipeError(f"{table}: a duration is not a number ({error}); unpack the archive again") from error
    return {split: _clips(root / f"{split}.tsv", language, seconds) for split in SPLITS}


def _clips(table: Path, language: str, seconds: dict[str, float]) -> Iterator[Entry]:
    for _, row in read_table(table, ("client_id", "path", "sentence"), **TSV):
        clip = table.parent / "clips" / row["path"]
        text = spoken_words(row["sentence"], language)
        yield Entry(clip.stem, clip, text, seconds.get(row["path"]), row["client_id"])


def read_speechcommands(root: Path, _output: Path) -> Splits:
    """Speech Commands (Warden 2018). Its lists of dev and test files share no speaker with train.

    Lhotse takes the test set from another archive, which has ten of the 35 words.
    """
    lists = {"dev": "validation_list.txt", "test": "testing_list.txt"}
    splits = {split: _read(root / name).split() for split, name in lists.items()}
    held_out = {name for names in splits.values() for name in names}
    found = (path.relative_to(root).as_posix() for path in root.glob("*/*_nohash_*.wav"))
    splits = {"train": sorted(name for name in found if name not in held_out)} | splits
    return {
        split: [
            Entry(f"{root.name}/{word}/{Path(wav).stem}", root / word / wav, word, None, wav.partition("_")[0])
            for word, _, wav in (name.partition("/") for name in names)  # seven/0a7c2a8d_nohash_0.wav
        ]
        for split, names in splits.items()
    }


def read_digits(root: Path, output: Path) -> Splits:
    found = read_speechcommands(root, output)
    return {split: [entry for entry in entries if entry.text in DIGITS] for split, entries in found.items()}


def download_speechcommands(folder: Path) -> None:
    from torchaudio.datasets import SPEECHCOMMANDS

    SPEECHCOMMANDS(folder, SPEECH_COMMANDS, download=True)


def read_tedlium(root: Path, output: Path) -> Splits:
    """TED-LIUM 3 (Hernandez et al. 2018), its `legacy` splits; each utterance becomes a FLAC file below OUTPUT/audio.

    Lhotse shortens utterances that end after their talk, and needs the program sph2pipe.
    """
    folders = {split: root / "legacy" / split for split in SPLITS}
    for folder in folders.values():
        if not any((folder / "stm").glob("*.stm")):
            raise RecipeError(f"{folder}: no stm/*.stm; give the folder TEDLIUM_release-3, all of it unpacked")
    return {split: _tedlium(folder, output / "audio" / split) for split, folder in folders.items()}


def _tedlium(folder: Path, output: Path) -> Iterator[Entry]:
    for transcript in sorted((folder / "stm").glob("*.stm")):
        talk = folder / "sph" / f"{transcript.stem}.sph"
        for number, line in enumerate(_read(transcript).split("\n")):
            if not line.strip():
                continue
            try:
                _talk, _channel, speaker, start, end, _label, *words = line.split()
                times = float(start), float(end)
            except ValueError as error:
                raise RecipeError(f"{transcript}: cannot be read ({error}); unpack the archive again") from error
            if words != ["ignore_time_segment_in_scoring"]:
                # <unk> is a spoken word that is not written: `spoken_words` gives no text at all.
                text = spoken_words(CLITICS.sub("'", without_noises(" ".join(words))))
                yield cut(Entry(f"{talk.stem}-{number}", talk, text, None, speaker), *times, output)


def read_voxforge(root: Path, _output: Path) -> Splits:
    """VoxForge, a folder for each submission, as Aaron-20080318-kdl. Some speakers are set aside as dev."""
    submissions = sorted({path.parent.parent for name in PROMPTS for path in root.rglob(f"etc/{name}")})
    if not submissions:
        packed = sum(1 for _ in root.rglob("*.tgz"))
        raise RecipeError(f"{root}: no submission with etc/PROMPTS, {packed:,} .tgz files; unpack them there")
    return hold_out((entry for folder in submissions for entry in _voxforge(folder)), by_speaker)


def _voxforge(submission: Path) -> Iterator[Entry]:
    """The text is empty where no prompt belongs to a recording."""
    name = submission.name.partition("-")[0]
    speaker = None if name.lower() == "anonymous" else name  # perhaps somebody in dev: those stay in train
    path = next(path for name in PROMPTS if (path := submission / "etc" / name).is_file())
    content = path.read_bytes()
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
