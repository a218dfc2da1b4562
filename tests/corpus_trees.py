"""Small trees of the corpora's real layouts, with noise for speech."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tiny_corpus import write_audio

RATE = 16_000


def record(path: Path, seconds: float = 0.2, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not options:
        return write_audio(path, seconds)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, round(seconds * RATE)), RATE, **options)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def librispeech(root: Path) -> None:
    for part, speaker in (("train-clean-5", 19), ("dev-clean-2", 84)):
        for number in range(2):
            record(root / f"LibriSpeech/{part}/{speaker}/198/{speaker}-198-000{number}.flac", 0.2 + number)
        lines = f"{speaker}-198-0000 IT'S NORTHANGER ABBEY\n{speaker}-198-0001 AND THE 'TIS\n"
        write(root / f"LibriSpeech/{part}/{speaker}/198/{speaker}-198.trans.txt", lines)


def ljspeech(root: Path) -> None:
    rows = ""
    for chapter in (1, 2, 3):
        for number in range(1, 1 + 3 * chapter):
            name = f"LJ00{chapter}-000{number}"
            record(root / f"LJSpeech-1.1/wavs/{name}.wav")
            rows += f'{name}|Mr. Lüders, in 1801, said "no."|Mister Lüders, in eighteen oh one, said "no."\n'
    write(root / "LJSpeech-1.1/metadata.csv", rows)


CLIPS = {"train": ("ada", "bob"), "dev": ("cyd",), "test": ("dan",)}


def commonvoice(root: Path, sentence: str = '"He said: ""Café, 21 times”') -> None:
    columns = [
        "client_id",
        "path",
        "sentence",
        "up_votes",
        "down_votes",
        "age",
        "gender",
        "accents",
        "variant",
        "locale",
        "segment",
    ]
    for split, speakers in CLIPS.items():
        table = "\t".join(columns) + "\n"
        for speaker in speakers:
            record(root / f"clips/common_voice_en_{speaker}.mp3", 0.5)
            table += f"{speaker}\tcommon_voice_en_{speaker}.mp3\t{sentence}\t2\t0\t\t\t\t\ten\t\n"
        write(root / f"{split}.tsv", table)


def an4(root: Path) -> None:
    for part, folder, speakers in (
        ("train", "an4_clstk", ("fash", "mblb", "mcel")),
        ("test", "an4test_clstk", ("fcaw",)),
    ):
        names, lines = "", ""
        for speaker in speakers:
            record(
                root / f"an4/wav/{folder}/{speaker}/an1-{speaker}-b.sph", format="NIST", subtype="PCM_16", endian="BIG"
            )
            names += f"{folder}/{speaker}/an1-{speaker}-b\n"
            lines += f"<s> RUBOUT G M  SIXTY <sil> TWO </s> (an1-{speaker}-b)\n"
        write(root / f"an4/etc/an4_{part}.fileids", names)
        write(root / f"an4/etc/an4_{part}.transcription", lines)


STM = """{talk} 1 {talk} 0.00 0.25 <o,f0,male> ignore_time_segment_in_scoring
{talk} 1 {talk} 0.25 0.75 <o,f0,male> it 's the {{NOISE}} 'cause(2) of ' sixties
{talk} 1 {talk} 0.75 1.50 <o,f0,male> so <unk> said
"""


def tedlium(root: Path) -> None:
    for split, talk in (("train", "AlGore_2006"), ("dev", "BillGates_2010"), ("test", "DanBarber_2010")):
        folder = root / f"TEDLIUM_release-3/legacy/{split}"
        record(folder / f"sph/{talk}.sph", 1.5, format="NIST", subtype="PCM_16", endian="LITTLE")
        write(folder / f"stm/{talk}.stm", STM.format(talk=talk))


def voxforge(root: Path) -> None:
    for name in ("Aaron-20080318-kdl", "anonymous-20080504-qvg", "anonymous-20080425-abc", "Bea-20090101-x"):
        folder, suffix = root / name, "flac" if name.startswith("Bea") else "wav"
        for number in (1, 2):
            record(folder / f"{suffix}/a000{number}.{suffix}")
        write(folder / "etc/prompts-original", "a0001 Ten-four, O’Brien.\na0002 Übermut\n")
    write(root / "Aaron-20080318-kdl/etc/PROMPTS", "Aaron-20080318-kdl/mfc/a0001 TEN FOUR O'BRIEN\n")
    (root / "Bea-20090101-x/etc/prompts-original").write_bytes(
        "a0001 Ten-four, O'Brien.\na0002 Übermut\n".encode("latin-1")
    )


def speechcommands(root: Path) -> None:
    root = root / "SpeechCommands/speech_commands_v0.02"
    for word in ("seven", "yes"):
        for speaker in ("0a7c2a8d", "1b4c9b89", "2da58b32"):
            record(root / f"{word}/{speaker}_nohash_0.wav")
    record(root / "_background_noise_/running_tap.wav")
    write(root / "validation_list.txt", "seven/1b4c9b89_nohash_0.wav\nyes/1b4c9b89_nohash_0.wav\n")
    write(root / "testing_list.txt", "seven/2da58b32_nohash_0.wav\nyes/2da58b32_nohash_0.wav\n")


TREES = {
    "mini-librispeech": librispeech,
    "commonvoice": lambda root: commonvoice(root, "Hello."),
    "ljspeech": ljspeech,
    "an4": an4,
    "tedlium": tedlium,
    "voxforge": voxforge,
    "speechcommands": speechcommands,
}


def own_folder(root: Path, *texts: str, speaker: str = ".") -> Path:
    for number, text in enumerate(texts):
        write(record(root / speaker / f"{number}.wav").with_suffix(".txt"), text)
    return root


def yesno(root: Path) -> None:
    for number in range(60):
        record(root / f"{'_'.join(f'{number:08b}')}.wav")
