"""Corpora that Lhotse's recipes read. What a recipe passes over is counted: an error, or logged as a warning."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, redirect_stderr
from dataclasses import replace
from importlib import import_module
from inspect import Parameter, signature
from io import StringIO
from logging.handlers import BufferingHandler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import soundfile

from asr.audio.files import find_audio
from asr.data.corpora.corpus import Corpus, Splits, hold_out, language_of
from asr.data.manifest import Entry
from asr.errors import RecipeError, one_line
from asr.spoken import spoken_words

CATALOG = "lhotse.readthedocs.io/en/latest/corpus.html"
ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zip")
NOISES = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\(\d+\)")
CLITICS = re.compile(r"(?<=\w) '(?=\w)")  # written apart in TED-LIUM: it 's
MISSING = 0.1  # seconds that a recording may lack at its end

logger = logging.getLogger(__name__)


def librispeech(about: str, origin: str, names: str) -> Corpus:
    """LibriSpeech (Panayotov et al. 2015), the parts that are there. Texts are A to Z and apostrophes."""
    parts = names.split(", ")

    def read(root: Path, output: Path) -> Splits:
        folders = [root / part for part in parts if (root / part).is_dir()]
        if not folders:
            raise RecipeError(f"{root}: none of {names} is there; give the folder that holds them")
        text = lambda said: said.text.lower()  # noqa: E731
        present = [folder.name for folder in folders]
        return read_recipe("librispeech", root, output, text, folders, is_whole=True, dataset_parts=present)

    def download(folder: Path) -> None:
        unpacked = folder / "LibriSpeech"
        wanted = [part for part in parts if has_archive(folder, part) or not (unpacked / part).is_dir()]
        recipe("librispeech", "download")(folder, dataset_parts=wanted)

    return Corpus(about, origin, read, "LibriSpeech", download)


def read_ljspeech(root: Path, output: Path) -> Splits:
    """LJSpeech (Ito & Johnson 2017), its second transcript, in which numbers and abbreviations are spelled out.

    There is one speaker, so whole chapters are set aside as dev data.
    """
    text = lambda said: spoken_words(said.custom["normalized_text"])  # noqa: E731
    found = read_recipe("ljspeech", root, output, text, [root], is_whole=True)
    return hold_out(found[""], lambda entry: entry.id.partition("-")[0])  # LJ001-0001: chapter 1


def read_commonvoice(root: Path, output: Path) -> Splits:
    """Common Voice (Ardila et al. 2020), whose splits share no speakers. The folder's name is the language."""
    language = language_of(root.name)
    if missing := [name for name in ("train.tsv", "dev.tsv", "test.tsv") if not (root / name).is_file()]:
        raise RecipeError(
            f"{root}: no {', '.join(missing)}; unpack one language of a release of Common Voice. Another table, put"
            f" beside the clips, is read by `asr prepare csv {root}/clips/TABLE.tsv OUT --language {root.name}"
            " --audio-column path --text-column sentence --speaker-column client_id`"
        )
    options: dict[str, Any] = {"languages": root.name, "num_jobs": min(8, os.cpu_count() or 1)}
    text = lambda said: spoken_words(said.text, language)  # noqa: E731
    with TemporaryDirectory(prefix="asr-") as folder:  # for Lhotse's own manifests
        found = read_recipe("commonvoice", root.parent, output, text, [], output_dir=folder, **options)
    splits = {name.rpartition("-")[2]: list(clips) for name, clips in found.items()}  # en-train
    for split, clips in splits.items():
        with (root / f"{split}.tsv").open("rb") as table:
            lost = sum(1 for _ in table) - 1 - len(clips)
        if lost:
            logger.warning("%s: %s clips of %s.tsv are not there, and left out", root, lost, split)
    return dict(splits)


def read_tedlium(root: Path, output: Path) -> Splits:
    """TED-LIUM 3 (Hernandez et al. 2018), its `legacy` splits; utterances become FLAC files in OUTPUT/audio."""
    from lhotse import audio_backend

    # <unk> is a spoken word that is not written: `spoken_words` gives no text at all.
    text = lambda said: spoken_words(CLITICS.sub("'", without_noises(said.text)))  # noqa: E731
    with audio_backend("LibsndfileBackend"):  # the default needs the program sph2pipe
        return read_recipe("tedlium", root, output, text, [root / "legacy"])


def lhotse_corpus(name: str, language: str) -> Corpus:
    """Any of Lhotse's recipes that needs only the corpus's folder."""
    name = name.lower().replace("-", "_")

    def read(root: Path, output: Path) -> Splits:
        code = language_of(language)
        parameters = signature(recipe(name)).parameters
        needed = [key for key, value in parameters.items() if value.default is Parameter.empty][1:]
        if others := set(needed) - {"output_dir"}:
            raise RecipeError(f"Lhotse's recipe {name} also needs {', '.join(sorted(others))}; run it from Python")
        options: dict[str, Any] = dict.fromkeys(needed, output / "lhotse")
        if "absolute_paths" in parameters:
            options["absolute_paths"] = True
        text = lambda said: spoken_words(without_noises(said.text or ""), code)  # noqa: E731
        splits = read_recipe(name, root, output, text, [root], **options)
        return hold_out(splits[""]) if "" in splits else splits

    return Corpus("", f"what Lhotse's recipe {name} reads, see {CATALOG}", read, "", fetch(name))


def without_noises(transcript: str) -> str:
    """A transcript without what is no word: {NOISE}, [laughter], and (2), the second way to pronounce a word."""
    return NOISES.sub(" ", transcript)


def recipe(name: str, action: str = "prepare") -> Callable[..., Any]:
    """A function of Lhotse's. RecipeError if there is none."""
    try:
        return getattr(import_module(f"lhotse.recipes.{name}"), f"{action}_{name}")
    except (AttributeError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("lhotse.recipes"):
            raise
        raise RecipeError(f"Lhotse cannot {action} {name!r}; choose one of {CATALOG}") from error


def fetch(name: str, unpacked: str = "") -> Callable[[Path], Path | None]:
    """Downloads a corpus into a folder, where it becomes the folder `unpacked`, if that is known.

    What is there without its archive was unpacked by hand: Lhotse would delete it and download it again.
    """

    def download(folder: Path) -> Path | None:
        if unpacked and (folder / unpacked).is_dir() and not has_archive(folder, unpacked):
            return None
        if not unpacked and any(folder.iterdir()) and not has_archive(folder):
            raise RecipeError(f"{folder}: not empty; download into a new folder, or leave out --download")
        return recipe(name, "download")(folder)

    return download


def has_archive(folder: Path, stem: str = "*") -> bool:
    return any(path.suffix in ARCHIVES for path in folder.glob(f"{stem}.*"))


def read_recipe(
    name: str,
    root: Path,
    output: Path,
    text: Callable[[Any], str],
    folders: Iterable[Path],
    is_whole: bool = False,
    **options: Any,
) -> Splits:
    """The splits of a recipe, one named "" where it has none.

    Args:
        text: of a supervision, as it will be learned.
        folders: all recordings below them should be used.
        is_whole: problems are an error, else a warning.
        options: of the recipe.
    """
    warnings = BufferingHandler(sys.maxsize)
    warnings.setLevel(logging.WARNING)
    logging.getLogger().addHandler(warnings)
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    try:
        with nullcontext() if is_terminal else redirect_stderr(StringIO()):  # a log gets no progress bars
            found = dict(flatten(recipe(name)(root, **options)))
    finally:
        logging.getLogger().removeHandler(warnings)
    if not found:
        raise RecipeError(f"{root}: Lhotse's recipe {name} gives no texts; choose another corpus")
    recordings = [one for part in found.values() for one in part["recordings"]]
    used = {os.path.abspath(source.source) for one in recordings for source in one.sources}
    problems = [one_line(record.getMessage(), 240) for record in warnings.buffer]
    unused = [path for folder in folders for path in find_audio(folder) if os.path.abspath(path) not in used]
    problems += [f"{path}: a recording without a text" for path in unused]
    if problems and is_whole:
        raise RecipeError(f"{root}: {problems[0]} ({len(problems):,} problems); unpack the archive again")
    if problems:
        logger.warning("%s: %s problems, the first: %s", root, len(problems), problems[0])
    return {split: entries(part, text, output / "audio" / split) for split, part in found.items()}


def flatten(found: dict[str, Any], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Recordings and supervisions by the name of their split, such as dev or en-dev."""
    if found.get("supervisions") is not None:
        yield name, found
        return
    for key, value in found.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{name}-{key}".removeprefix("-"))


def entries(found: dict[str, Any], text: Callable[[Any], str], folder: Path) -> Iterator[Entry]:
    """Entries of a split, in the order of their ids. Parts of recordings become FLAC files in `folder`."""
    recordings = {recording.id: recording for recording in found["recordings"]}
    for said in sorted(found["supervisions"], key=lambda said: said.id):
        recording = recordings[said.recording_id]
        channel = said.channel if isinstance(said.channel, int) else said.channel[0]
        source = next(source for source in recording.sources if channel in source.channels)
        entry = Entry(said.id, Path(source.source), text(said), recording.duration, said.speaker)
        if entry.text and (len(source.channels) > 1 or recording.duration - said.duration > MISSING):
            entry = cut(entry, said.start, said.end, folder, source.channels.index(channel))
        yield entry


def cut(entry: Entry, start: float, end: float, folder: Path, channel: int) -> Entry:
    """The part of its audio from `start` to `end`, in seconds, as FOLDER/RECORDING/ID.flac.

    The text becomes empty where the recording ends before the part.
    """
    path = folder / entry.audio.stem / f"{entry.id}.flac"
    with soundfile.SoundFile(entry.audio) as sound:
        first, last = (round(time * sound.samplerate) for time in (start, end))
        sound.seek(min(first, sound.frames))
        samples = sound.read(last - first, dtype="int16", always_2d=True)[:, channel]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sound.samplerate)
    seconds = len(samples) / sound.samplerate
    return replace(entry, audio=path, seconds=seconds, text=entry.text if seconds > end - start - MISSING else "")
