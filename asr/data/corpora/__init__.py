"""Corpora → manifests: `prepare` writes those of `CORPORA` (by name), of a table, a folder, or any Lhotse recipe.

Importing this needs no training packages: what only one reader needs it imports when it reads.
"""

from dataclasses import replace

from asr.data.corpora import archives
from asr.data.corpora.archives import SPEECH_COMMANDS, download_speechcommands
from asr.data.corpora.corpus import Corpus, prepare
from asr.data.corpora.lhotse_recipes import fetch, lhotse_corpus, librispeech, read_ljspeech
from asr.data.corpora.own import csv_corpus, folder_corpus

__all__ = ["CORPORA", "Corpus", "csv_corpus", "folder_corpus", "lhotse_corpus", "prepare"]

LIBRISPEECH = (
    *("train-clean-100", "train-clean-360", "train-other-500"),
    *("dev-clean", "dev-other", "test-clean", "test-other"),
)
LIBRISPEECH_100 = ("train-clean-100", "dev-clean", "test-clean")

CORPORA = {
    "librispeech": librispeech("English audiobooks, 960 h", "the archives of openslr.org/12", *LIBRISPEECH),
    "librispeech-100": librispeech(
        "Only the 100 h part of librispeech", f"{', '.join(LIBRISPEECH_100)} of openslr.org/12", *LIBRISPEECH_100
    ),
    "mini-librispeech": librispeech(
        "English audiobooks, 5 h", "the archives of openslr.org/31", "train-clean-5", "dev-clean-2"
    ),
    "commonvoice": Corpus("Sentences of many speakers, one language", archives.COMMONVOICE, archives.read_commonvoice),
    "ljspeech": Corpus(
        "One English reader, 24 h",
        "LJSpeech-1.1 of keithito.com/LJ-Speech-Dataset",
        read_ljspeech,
        "LJSpeech-1.1",
        fetch("ljspeech", "LJSpeech-1.1"),
    ),
    "an4": Corpus(
        "English spelling and numbers, 1 h",
        "an4_sphere.tar.gz of speech.cs.cmu.edu/databases/an4",
        archives.read_an4,
        "an4",
    ),
    "tedlium": Corpus(
        "English talks, 452 h",
        "TEDLIUM_release-3 of openslr.org/51",
        archives.read_tedlium,
        "TEDLIUM_release-3",
        fetch("tedlium", "TEDLIUM_release-3"),
    ),
    "voxforge": Corpus(
        "English sentences of volunteers",
        "the .tgz files of VoxForge's English archive, unpacked",
        archives.read_voxforge,
    ),
    "speechcommands": Corpus(
        "35 English words, one second each",
        f"{SPEECH_COMMANDS}.tar.gz of download.tensorflow.org/data, unpacked in a folder of that name",
        archives.read_speechcommands,
        f"SpeechCommands/{SPEECH_COMMANDS}",
        download_speechcommands,
    ),
}
CORPORA["digits"] = replace(
    CORPORA["speechcommands"], about="Only the ten digits of speechcommands", read=archives.read_digits
)
