"""Inputs for each kind of file and for arguments: seeds that are made here, and what damages them, by a number."""

import json
import math
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SAMPLE = Path(__file__).parents[1] / "data" / "sample.flac"
WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog"]
SOUNDFILE = {  # suffix: format and coding of libsndfile
    "wav": ("WAV", "PCM_16"), "float.wav": ("WAV", "FLOAT"), "adpcm.wav": ("WAV", "IMA_ADPCM"), "flac": ("FLAC", None),
    "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", None), "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "ULAW"), "caf": ("CAF", "ALAC_16"), "w64": ("W64", "PCM_16"), "rf64": ("RF64", "PCM_24"),
    "voc": ("VOC", "PCM_16"), "sph": ("NIST", "PCM_16"), "sd2.paf": ("PAF", "PCM_16"), "avr": ("AVR", "PCM_16"),
}  # fmt: skip
FFMPEG = ("m4a", "mov", "webm", "mkv", "aac", "ac3", "wma", "avi", "flv", "mp2", "spx", "wv", "tta", "ts", "gsm")
HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1, 7, 45, 2**31, 2**32 - 1, 2**63, 10**400, -0.5, 1e-300, 1e300, math.nan, math.inf),
    *("", " ", "x" * 5000, "\x1b[31m", "\x9b2J", "../..", "/etc/passwd", "a\0b", "NONE", "1e5", "${oc.env:HOME}"),
    *([], [[]], {}, {"a": {"b": []}}, [1, 2], ["a"], [math.nan], {"format": 1}),
]  # fmt: skip


@cache
def audio_seeds() -> list[tuple[str, bytes]]:
    """Suffix and content of half a second of the sample in each format that can be written here."""
    folder = Path(tempfile.mkdtemp())
    samples, rate = soundfile.read(SAMPLE, frames=8000, dtype="float32")
    found = []
    for suffix, (format, subtype) in SOUNDFILE.items():
        path = folder / f"seed.{suffix}"
        try:
            soundfile.write(path, samples, rate, format=format, subtype=subtype)
            found.append((suffix.split(".")[-1], path.read_bytes()))
        except (RuntimeError, ValueError):  # a libsndfile without this format
            continue
    for suffix in FFMPEG if shutil.which("ffmpeg") else ():
        path = folder / f"seed.{suffix}"
        for hertz in (16_000, 48_000, 8_000):
            command = [
                "ffmpeg",
                "-v",
                "quiet",
                "-y",
                "-i",
                SAMPLE,
                "-t",
                "0.5",
                "-ar",
                str(hertz),
                "-strict",
                "-2",
                path,
            ]
            if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0:
                found.append((suffix, path.read_bytes()))
                break
    shutil.rmtree(folder)
    lists = ["#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n", "ffconcat version 1.0\nfile '/etc/passwd'\n"]
    return found + [("wav", text.encode()) for text in lists]


def damage(dice: random.Random, content: bytes) -> bytes:
    """The content with some bytes changed, numbers of 1 to 8 bytes set to extremes, a piece gone, doubled or added."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        # Headers hold most of what can be wrong.
        place = dice.randrange(min(len(data), dice.choice((16, 64, 512, 1 << 30))) or 1)
        width = dice.choice((1, 1, 2, 4, 8))
        kind = dice.randrange(7)
        if kind == 0:
            data[place : place + 1] = dice.randbytes(1)
        elif kind == 1:
            data[place : place + width] = dice.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")) * width
        elif kind == 2:
            data[place : place + width] = dice.randbytes(width)
        elif kind == 3:
            del data[place : place + dice.choice((1, 4, 100, 10**6))]
        elif kind == 4:
            data[place:place] = data[place : place + dice.choice((1, 16, 1000))]
        elif kind == 5:
            data[place:place] = dice.choice(
                (b"\n", b"\0", b'"', b"{", b"[" * 3000, b"\xef\xbb\xbf", b"\xff\xfe", b"*a")
            )
        elif place < len(data):
            data[place] ^= 1 << dice.randrange(8)
    return bytes(data)


def damage_json(dice: random.Random, value: Any) -> Any:
    """The value with one part of it changed for something of another kind or size, gone, or renamed."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        changed = dict(value)
        key = dice.choice([*changed])
        part = changed.pop(key)
        if dice.random() < 0.9:
            changed[key if dice.random() < 0.95 else str(dice.choice(HOSTILE))[:50]] = damage_json(dice, part)
        return changed
    if isinstance(value, list) and value and dice.random() < 0.6:
        place = dice.randrange(len(value))
        return [*value[:place], damage_json(dice, value[place]), *value[place + 1 :]]
    return dice.choice(HOSTILE)


def json_text(dice: random.Random, value: Any) -> bytes:
    """JSON of the value, damaged as such or as text."""
    if dice.random() < 0.7:
        try:
            return json.dumps(damage_json(dice, value)).encode("utf-8", "surrogatepass")
        except ValueError:  # a number of more digits than Python writes
            pass
    return damage(dice, json.dumps(value).encode())


def number(dice: random.Random) -> Any:
    return dice.choice([value for value in HOSTILE if isinstance(value, int | float)] + [dice.gauss(0, 1e3)])


def samples(dice: random.Random) -> Any:
    """Arrays, and what is none."""
    make: list[Callable[[], Any]] = [
        lambda: np.zeros(dice.choice((0, 1, 639, 8000)), dtype=np.float32),
        lambda: np.full(
            2000, dice.choice((math.nan, math.inf, 1e30, -1.0)), dtype=dice.choice((np.float32, np.float64))
        ),
        lambda: np.random.default_rng(dice.randrange(9)).standard_normal((4000, dice.choice((1, 2, 64, 65)))),
        lambda: np.ones(3000, dtype=dice.choice((np.int16, np.int32, np.uint8, np.int64, bool, object, complex))),
        lambda: np.zeros((2, 3, 4)),
        lambda: [dice.choice(HOSTILE)] * 3,
        lambda: dice.choice(HOSTILE),
    ]
    return dice.choice(make)()
