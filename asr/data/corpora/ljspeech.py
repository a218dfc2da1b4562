"""LJSpeech (Ito & Johnson 2017): one speaker, so whole chapters are set aside as dev data."""

from pathlib import Path

from asr.data.corpora.corpus import Corpus, Splits, hold_out, unpacked_by_hand
from asr.data.corpora.library import count_lines, entries_of, reading
from asr.data.text import spoken_words
from asr.errors import RecipeError


def read(root: Path, _output: Path) -> Splits:
    """The corpus's own second transcript, which has numbers and abbreviations spelled out, cleaned."""
    table = root / "metadata.csv"
    if not table.is_file():
        raise RecipeError(f"{root}: no metadata.csv; give the folder LJSpeech-1.1")
    from lhotse.recipes.ljspeech import prepare_ljspeech

    with reading(root):
        lines = count_lines([table])
        manifests = prepare_ljspeech(root)
    entries = entries_of(manifests, lambda said: spoken_words(said.custom["normalized_text"]), lines, root)
    return hold_out(entries, lambda entry: entry.id.partition("-")[0])  # LJ001-0001: chapter 1


def download(folder: Path) -> None:
    from lhotse.recipes.ljspeech import download_ljspeech

    if not unpacked_by_hand(folder / "LJSpeech-1.1", folder / "LJSpeech-1.1.tar.bz2"):
        download_ljspeech(folder)


LJSPEECH = Corpus(
    "One English reader, 24 h", "LJSpeech-1.1 of keithito.com/LJ-Speech-Dataset", read, "LJSpeech-1.1", download
)
