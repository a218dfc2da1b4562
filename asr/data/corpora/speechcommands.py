"""Speech Commands v0.02 (Warden 2018): one word in each second, and its ten digits alone.

torchaudio's reader; Lhotse's takes the test set from another archive, which has ten of the 35 words.
"""

from pathlib import Path

from asr.data.corpora.corpus import Corpus, Splits
from asr.data.corpora.library import reading
from asr.data.manifest import Entry

SPLITS = {"train": "training", "dev": "validation", "test": "testing"}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ARCHIVE = "speech_commands_v0.02"
ORIGIN = f"{ARCHIVE}.tar.gz of download.tensorflow.org/data, unpacked in a folder of that name"


def make_corpus(about: str, words: tuple[str, ...] = ()) -> Corpus:
    """A corpus of the recordings of `words`, or of all; its lists of files share no speaker. Texts are single words."""

    def read(root: Path, _output: Path) -> Splits:
        from torchaudio.datasets import SPEECHCOMMANDS

        splits: Splits = {}
        for split, subset in SPLITS.items():
            with reading(root):
                data = SPEECHCOMMANDS(root.parent.parent, root.name, root.parent.name, subset=subset)
                found = [data.get_metadata(index) for index in range(len(data))]
            splits[split] = [
                Entry(path.removesuffix(".wav"), root.parent / path, word, None, speaker)
                for path, _rate, word, speaker, _number in found
                if not words or word in words
            ]
        return splits

    def download(folder: Path) -> None:
        from torchaudio.datasets import SPEECHCOMMANDS

        SPEECHCOMMANDS(folder, ARCHIVE, download=True)

    return Corpus(about, ORIGIN, read, f"SpeechCommands/{ARCHIVE}", download)


SPEECHCOMMANDS = make_corpus("35 English words, one second each")
DIGITS_ONLY = make_corpus("Only the ten digits of speechcommands", DIGITS)
