"""TED-LIUM 3 (Hernandez et al. 2018): talks, cut into the utterances of their transcripts.

Lhotse reads Sphere files only through the program sph2pipe, which has to be compiled; libsndfile reads them too.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import soundfile

from asr.data.corpora.corpus import Corpus, Splits, unpacked_by_hand
from asr.data.manifest import Entry
from asr.data.text import spoken_words
from asr.errors import RecipeError, one_line

SPLITS = ("train", "dev", "test")
NOT_SCORED = "ignore_time_segment_in_scoring"
MISSING = 0.1  # s: what a talk may lack at its end
NOISES = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\(\d+\)")  # {NOISE}, [laughter], and (2): the second way to pronounce a word
CLITICS = re.compile(r"(?<=\w) '(?=\w)")  # written apart: it 's


def read(root: Path, output: Path) -> Splits:
    """The `legacy` splits. Each utterance becomes a FLAC file below OUTPUT/audio: less room than the talks have."""
    folders = {split: root / "legacy" / split for split in SPLITS}
    for folder in folders.values():
        if not any((folder / "stm").glob("*.stm")):
            raise RecipeError(f"{folder}: no stm/*.stm; give the folder TEDLIUM_release-3, all of it unpacked")
    return {split: _entries(folder, output / "audio" / split) for split, folder in folders.items()}


def _entries(folder: Path, output: Path) -> Iterator[Entry]:
    for transcript in sorted((folder / "stm").glob("*.stm")):
        talk = folder / "sph" / f"{transcript.stem}.sph"
        (output / talk.stem).mkdir(parents=True, exist_ok=True)
        try:
            with soundfile.SoundFile(talk) as sound, transcript.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines):
                    if not line.strip():
                        continue
                    _talk, _channel, speaker, start, end, _label, *words = line.split()
                    if words != [NOT_SCORED]:
                        cut = output / talk.stem / f"{talk.stem}-{number}.flac"
                        text = _said(" ".join(words))
                        seconds = _cut(sound, float(start), float(end), cut) if text else None
                        if seconds and seconds < float(end) - float(start) - MISSING:
                            text = ""  # of which a part is not to be heard
                        yield Entry(cut.stem, cut, text, seconds, speaker)
        except (soundfile.SoundFileError, OSError, ValueError) as error:
            reason = one_line(error) or type(error).__name__
            raise RecipeError(f"{talk}: cannot be cut as {transcript} says ({reason}); unpack both again") from error


def _said(text: str) -> str:
    """Nothing when a word is <unk>: it was said, but is not written."""
    return spoken_words(CLITICS.sub("'", NOISES.sub(" ", text)))


def _cut(sound: soundfile.SoundFile, start: float, end: float, path: Path) -> float:
    """Write what is said from `start` to `end`, in seconds; its length."""
    first, last = (round(time * sound.samplerate) for time in (start, end))
    sound.seek(first)
    samples = sound.read(last - first, dtype="int16")
    if not len(samples):
        raise ValueError(f"nothing from {start} to {end} s")
    soundfile.write(path, samples, sound.samplerate, subtype="PCM_16")
    return len(samples) / sound.samplerate


def download(folder: Path) -> None:
    from lhotse.recipes.tedlium import download_tedlium

    if not unpacked_by_hand(folder / "TEDLIUM_release-3", folder / "TEDLIUM_release-3.tgz"):
        download_tedlium(folder)


TEDLIUM = Corpus("English talks, 452 h", "TEDLIUM_release-3 of openslr.org/51", read, "TEDLIUM_release-3", download)
