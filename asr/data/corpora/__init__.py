"""Corpora → manifests: `prepare` writes those of `CORPORA` (by name), of a table, a folder, or any Lhotse recipe.

Importing this needs no training packages: what only one reader needs it imports when it reads.
"""

from asr.data.corpora.corpus import Corpus, prepare
from asr.data.corpora.lhotse_recipes import (
    fetch,
    lhotse_corpus,
    librispeech,
    read_commonvoice,
    read_ljspeech,
    read_tedlium,
)
from asr.data.corpora.own import DIGITS, csv_corpus, folder_corpus, read_an4, read_voxforge, speech_commands

__all__ = ["CORPORA", "Corpus", "csv_corpus", "folder_corpus", "lhotse_corpus", "prepare"]

LIBRISPEECH = "train-clean-100, train-clean-360, train-other-500, dev-clean, dev-other, test-clean, test-other"
LIBRISPEECH_100 = "train-clean-100, dev-clean, test-clean"
MINI_LIBRISPEECH = "train-clean-5, dev-clean-2"

CORPORA = {
    "librispeech": librispeech("English audiobooks, 960 h", "the archives of openslr.org/12", LIBRISPEECH),
    "librispeech-100": librispeech(
        "Only the 100 h part of librispeech", f"{LIBRISPEECH_100} of openslr.org/12", LIBRISPEECH_100
    ),
    "mini-librispeech": librispeech("English audiobooks, 5 h", "the archives of openslr.org/31", MINI_LIBRISPEECH),
    "commonvoice": Corpus(
        "Sentences of many speakers, one language",
        "one language of release 13 or later, as cv-corpus-17.0-2024-03-15/en, of commonvoice.mozilla.org",
        read_commonvoice,
    ),
    "ljspeech": Corpus(
        "One English reader, 24 h",
        "LJSpeech-1.1 of keithito.com/LJ-Speech-Dataset",
        read_ljspeech,
        "LJSpeech-1.1",
        fetch("ljspeech", "LJSpeech-1.1"),
    ),
    "an4": Corpus(
        "English spelling and numbers, 1 h", "an4_sphere.tar.gz of speech.cs.cmu.edu/databases/an4", read_an4, "an4"
    ),
    "tedlium": Corpus(
        "English talks, 452 h",
        "TEDLIUM_release-3 of openslr.org/51 (the splits in legacy)",
        read_tedlium,
        "TEDLIUM_release-3",
        fetch("tedlium", "TEDLIUM_release-3"),
    ),
    "voxforge": Corpus(
        "English sentences of volunteers", "the .tgz files of VoxForge's English archive, unpacked", read_voxforge
    ),
    "speechcommands": speech_commands("35 English words, one second each"),
    "digits": speech_commands("Only the ten digits of speechcommands", *DIGITS),
}
