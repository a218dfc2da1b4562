"""LibriSpeech (Panayotov et al. 2015), and Mini LibriSpeech: a manifest for each part, named after it."""

from pathlib import Path

from asr.data.corpora.corpus import Corpus, Splits, unpacked_by_hand
from asr.data.corpora.library import count_lines, entries_of, reading
from asr.errors import RecipeError

PARTS = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other")
PARTS_100 = ("train-clean-100", "dev-clean", "test-clean")
MINI_PARTS = ("train-clean-5", "dev-clean-2")


def make_corpus(about: str, origin: str, parts: tuple[str, ...]) -> Corpus:
    """A corpus that is read as far as its parts are there. Texts are A to Z and apostrophes: only the case changes."""

    def read(root: Path, _output: Path) -> Splits:
        present = [part for part in parts if (root / part).is_dir()]
        if not present:
            raise RecipeError(f"{root}: none of {', '.join(parts)} is there; give the folder that holds them")
        from lhotse.recipes.librispeech import prepare_librispeech

        splits: Splits = {}
        for part in present:
            for chapter in {recording.parent for recording in (root / part).rglob("*.flac")}:
                if not any(chapter.glob("*.trans.txt")):  # Lhotse would pass over it
                    raise RecipeError(f"{chapter}: recordings without their .trans.txt; unpack the archive again")
            with reading(root / part):
                lines = count_lines((root / part).rglob("*.trans.txt"))
                manifests = prepare_librispeech(root, dataset_parts=part)[part]
            splits[part] = entries_of(manifests, lambda supervision: supervision.text.lower(), lines, root / part)
        return splits

    def download(folder: Path) -> None:
        from lhotse.recipes.librispeech import download_librispeech

        wanted = [
            part for part in parts if not unpacked_by_hand(folder / "LibriSpeech" / part, folder / f"{part}.tar.gz")
        ]
        download_librispeech(folder, dataset_parts=wanted)

    return Corpus(about, origin, read, "LibriSpeech", download)


LIBRISPEECH = make_corpus("English audiobooks, 960 h", "the archives of openslr.org/12", PARTS)
LIBRISPEECH_100 = make_corpus(
    "Only the 100 h part of librispeech", f"{', '.join(PARTS_100)} of openslr.org/12", PARTS_100
)
MINI_LIBRISPEECH = make_corpus("English audiobooks, 5 h", "the archives of openslr.org/31", MINI_PARTS)
