"""VoxForge, its English archive: one folder for each submission, as Aaron-20080318-kdl, with prompts and recordings."""

from collections.abc import Iterator
from pathlib import Path

from asr.data.corpora.corpus import Corpus, Splits, hold_out
from asr.data.manifest import Entry
from asr.data.text import spoken_words
from asr.errors import RecipeError

PROMPTS = ("PROMPTS", "prompts-original")  # the first is cleaned of punctuation, and not always there
ANONYMOUS = "anonymous"  # anybody, so perhaps somebody in dev: those recordings stay in train


def read(root: Path, _output: Path) -> Splits:
    """Some speakers are set aside as dev. Recordings that no prompt belongs to are left out."""
    submissions = sorted({path.parent.parent for name in PROMPTS for path in root.rglob(f"etc/{name}")})
    if not submissions:
        packed = sum(1 for _ in root.rglob("*.tgz"))
        raise RecipeError(f"{root}: no submission with etc/PROMPTS, {packed:,} .tgz files; unpack them there")
    entries = [entry for folder in submissions for entry in _entries(folder)]
    return hold_out(entries, lambda entry: entry.speaker)


def _entries(submission: Path) -> Iterator[Entry]:
    speaker = submission.name.partition("-")[0]
    prompts = _prompts(submission)
    for audio in sorted([*submission.glob("wav/*.wav"), *submission.glob("flac/*.flac")]):
        text = spoken_words(prompts.get(audio.stem, ""))
        known = None if speaker.lower() == ANONYMOUS else speaker
        yield Entry(f"{submission.name}/{audio.stem}", audio, text, None, known)


def _prompts(submission: Path) -> dict[str, str]:
    """Texts by the name of the recording, which is the last part of a path that was right once."""
    path = next(path for name in PROMPTS if (path := submission / "etc" / name).is_file())
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:  # of the years when browsers sent it so
        lines = content.decode("latin-1").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[0].rpartition("/")[2]: pair[1] for pair in pairs if len(pair) == 2}


VOXFORGE = Corpus("English sentences of volunteers", "the .tgz files of VoxForge's English archive, unpacked", read)
