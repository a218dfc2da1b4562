"""Corpora that Lhotse's recipes read: its recordings and supervisions become entries, its warnings become errors."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from importlib import import_module
from inspect import Parameter, signature
from io import StringIO
from pathlib import Path
from typing import Any

from asr.audio.sources import find_audio
from asr.data.corpora.corpus import MISSING, Corpus, Splits, cut, hold_out
from asr.data.manifest import Entry
from asr.data.text import language_of, spoken_words, without_noises
from asr.errors import RecipeError, one_line

CATALOG = "lhotse.readthedocs.io/en/latest/corpus.html"
ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zip")

logger = logging.getLogger(__name__)


def librispeech(about: str, origin: str, *parts: str) -> Corpus:
    """LibriSpeech (Panayotov et al. 2015), the parts that are there. Texts are A to Z and apostrophes."""

    def read(root: Path, output: Path) -> Splits:
        present = [part for part in parts if (root / part).is_dir()]
        if not present:
            raise RecipeError(f"{root}: none of {', '.join(parts)} is there; give the folder that holds them")
        splits: Splits = {}
        for part in present:
            splits |= read_recipe(
                "librispeech", root, output, lambda said: said.text.lower(), folder=root / part, dataset_parts=part
            )
        return splits

    def download(folder: Path) -> None:
        wanted = [part for part in parts if not unpacked_by_hand(folder / "LibriSpeech" / part, folder)]
        recipe("librispeech", "download")(folder, dataset_parts=wanted)

    return Corpus(about, origin, read, "LibriSpeech", download)


def read_ljspeech(root: Path, output: Path) -> Splits:
    """LJSpeech (Ito & Johnson 2017), its second transcript, in which numbers and abbreviations are spelled out.

    There is one speaker, so whole chapters are set aside as dev data.
    """
    found = read_recipe("ljspeech", root, output, lambda said: spoken_words(said.custom["normalized_text"]))
    return hold_out(found[""], lambda entry: entry.id.partition("-")[0])  # LJ001-0001: chapter 1


def lhotse_corpus(name: str, language: str) -> Corpus:
    """Any of Lhotse's recipes that needs only the corpus's folder. What it cannot read is logged as a warning."""
    name = name.lower().replace("-", "_")

    def read(root: Path, output: Path) -> Splits:
        code = language_of(language)
        parameters = signature(recipe(name)).parameters
        needed = [key for key, value in parameters.items() if value.default is Parameter.empty][1:]
        if others := set(needed) - {"output_dir"}:
            raise RecipeError(f"Lhotse's recipe {name} also needs {', '.join(sorted(others))}; run it from Python")
        options: dict[str, Any] = dict.fromkeys(needed, output / "lhotse") | {"absolute_paths": True}
        options = {key: value for key, value in options.items() if key in parameters}
        text = lambda said: spoken_words(without_noises(said.text or ""), code)  # noqa: E731
        splits = read_recipe(name, root, output, text, is_whole=False, **options)
        return splits if "" not in splits else hold_out(splits[""])

    about = f"Lhotse's recipe {name}"
    return Corpus(about, f"what {about} reads, see {CATALOG}", read, "", fetch(name))


def recipe(name: str, action: str = "prepare") -> Callable[..., Any]:
    """A function of Lhotse's. RecipeError if there is none."""
    try:
        return getattr(import_module(f"lhotse.recipes.{name}"), f"{action}_{name}")
    except (AttributeError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("lhotse.recipes"):
            raise
        raise RecipeError(f"Lhotse cannot {action} {name!r}; choose one of {CATALOG}") from error


def fetch(name: str, unpacked: str = "") -> Callable[[Path], Path | None]:
    """Downloads a corpus into a folder, where it becomes the folder `unpacked`, if that is known."""

    def download(folder: Path) -> Path | None:
        if unpacked and unpacked_by_hand(folder / unpacked, folder):
            return None
        if not unpacked and any(unpacked_by_hand(path, folder, "") for path in folder.iterdir()):
            raise RecipeError(f"{folder}: not empty; download into a new folder, or leave out --download")
        return recipe(name, "download")(folder)

    return download


def unpacked_by_hand(unpacked: Path, folder: Path, archive: str | None = None) -> bool:
    """Whether a folder came here without its archive: Lhotse would delete it and download it again."""
    start = unpacked.name if archive is None else archive
    archives = (path for path in folder.iterdir() if path.suffix in ARCHIVES)
    return unpacked.is_dir() and not any(path.name.startswith(start) for path in archives)


def read_recipe(
    name: str,
    root: Path,
    output: Path,
    text: Callable[[Any], str],
    folder: Path | None = None,
    is_whole: bool = True,
    **options: Any,
) -> Splits:
    """The splits of a recipe, one named "" where it has none; text: of a supervision, as it will be learned.

    folder: of the recordings, by default `root`. Recordings that the recipe passes over are an error if the corpus
    `is_whole`, otherwise logged as a warning.
    """
    folder = folder or root
    with reading(folder) as problems:
        found = dict(flatten(recipe(name)(root, **options)))
        recordings = [one for part in found.values() for one in part["recordings"]]
        used = {os.path.abspath(source.source) for one in recordings for source in one.sources}
        unused = [path for path in find_audio(folder) if os.path.abspath(path) not in used]
        problems += [f"{path}: a recording without a text" for path in unused]
    if not found:
        raise RecipeError(f"{root}: Lhotse's recipe {name} gives no texts; choose another corpus")
    if problems and is_whole:
        raise RecipeError(f"{folder}: {problems[0]} ({len(problems):,} problems); unpack the archive again")
    if problems:
        logger.warning("%s: %s problems, the first: %s", root, len(problems), problems[0])
    with reading(folder):
        return {split: list(entries(part, text, output / "audio" / split)) for split, part in found.items()}


@contextmanager
def reading(root: Path) -> Iterator[list[str]]:
    """RecipeError for any exception, and a list that takes Lhotse's warnings. A log gets no progress bars."""
    problems: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: problems.append(one_line(record.getMessage(), 240))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    try:
        with nullcontext() if is_terminal else redirect_stderr(StringIO()):
            yield problems
    except (RecipeError, ModuleNotFoundError):
        raise
    except Exception as error:
        reason = one_line(error, 240) or type(error).__name__
        raise RecipeError(f"{root}: cannot be read ({reason}); unpack the archive again") from error
    finally:
        logging.getLogger().removeHandler(handler)


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
        if len(source.channels) > 1 or recording.duration - said.duration > MISSING:
            entry = cut(entry, said.start, said.end, folder, source.channels.index(channel))
        yield entry
