"""Measure the times of words, aligned and recognized, against those of a synthesizer, which knows when it speaks each.

    python tools/measure_word_times.py en-bilstm en-gru path/to/bundle [--labelled a.wav a.TextGrid] [--labelled …]

With --labelled the reference is recordings with TextGrids of words (a tier `word`, `words` or `Text`) instead.

espeak-ng's library (Debian: libespeak-ng1) reports words and phones while it speaks. A word begins where its first
phone does, and ends where the next word or a pause begins. A little noise is added, which recordings have.
"""

import argparse
import ctypes
import ctypes.util
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from praatio import textgrid

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.decode.build import DEFAULT_DECODER
from asr.recognize.align import align
from asr.recognize.offline import Recognizer

TEXTS = (
    "the birds were singing in the garden",
    "and the old man sat down by the river to read his letter and then he went home",
    "my mother said that the house was too large for three people",
    "he looked at her for a long time but she did not answer him",
    "they walked along the road until the sun had gone behind the hills",
    "the captain gave his orders and every man went back to his place",
    "when the door was opened again nobody was standing in the hall",
    "she wrote a letter to her brother in the city and asked him for money",
)
VOICES = (("en-us", 150), ("en-gb", 130))  # names and words a minute
SYNCHRONOUS, PHONEME_EVENTS, RATE_PARAMETER = 2, 1, 1  # of speak_lib.h
WORD, PHONEME = 1, 7  # types of events
PAUSES = (b"", b"_", b"_:", b"_!", b"_::", b"_|")
NOISE, AUDIBLE = 3e-4, 4e-3  # full scale is 1
FRAME = 0.04  # seconds, of the models
TIERS = ("word", "words", "Text")  # of a TextGrid, that have the words
SILENCES = ("", "sil", "sp", "<SIL>", "*")  # labels of no word
MISALIGNED = 0.3  # seconds; a start that is further away is another word's


class Identifier(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("type", "unique", "text_position", "length", "milliseconds", "sample")),
        ("user", ctypes.c_void_p),
        ("id", Identifier),
    ]


@dataclass(frozen=True)
class Spoken:
    """Speech (n,) at `rate` hertz, its text, and the start and end of each word in seconds."""

    samples: np.ndarray
    rate: int
    text: str
    words: list[tuple[float, float]]


def speak(texts: tuple[str, ...] = TEXTS, voices: tuple[tuple[str, int], ...] = VOICES) -> list[Spoken]:
    """The texts in each voice. OSError if espeak-ng's library is missing."""
    library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
    rate = library.espeak_Initialize(SYNCHRONOUS, 500, None, PHONEME_EVENTS)
    pieces: list[np.ndarray] = []
    events: list[tuple[int, int, bytes]] = []  # type, sample, phone

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))
    def collect(wave, count, found):  # type: ignore[no-untyped-def]
        if wave and count > 0:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        number = 0
        while found[number].type:
            event = found[number]
            events.append((event.type, event.sample, event.id.string if event.type == PHONEME else b""))
            number += 1
        return 0

    library.espeak_SetSynthCallback(collect)
    spoken = []
    for text in texts:
        for voice, speed in voices:
            pieces.clear()
            events.clear()
            library.espeak_SetVoiceByName(voice.encode())
            library.espeak_SetParameter(RATE_PARAMETER, speed, 0)
            library.espeak_Synth(text.encode(), len(text.encode()) + 1, 0, 1, 0, 1, None, None)
            library.espeak_Synchronize()
            samples = np.concatenate(pieces).astype(np.float32) / 32768
            words = boundaries(events, int(np.flatnonzero(np.abs(samples) > AUDIBLE)[-1]))
            noise = np.random.default_rng(len(spoken)).normal(0, NOISE, len(samples)).astype(np.float32)
            spoken.append(Spoken(samples + noise, rate, text, [(start / rate, end / rate) for start, end in words]))
    return spoken


def labelled(audio: str, grid: str) -> Spoken:
    """A recording and its words, as somebody has marked them."""
    tiers = textgrid.openTextgrid(grid, includeEmptyIntervals=False)
    tier = next(tiers.getTier(name) for name in TIERS if name in tiers.tierNames)
    words = [interval for interval in tier.entries if interval.label not in SILENCES]
    text = " ".join(word.label.lower() for word in words)
    return Spoken(read(audio), SAMPLE_RATE, text, [(word.start, word.end) for word in words])


def boundaries(events: list[tuple[int, int, bytes]], last: int) -> list[tuple[int, int]]:
    """The first and the last sample of each word; the text ends at sample `last`."""
    starts = [sample for kind, sample, _ in events if kind == WORD]
    pauses = [sample for kind, sample, phone in events if kind == PHONEME and phone in PAUSES]
    words = []
    for start, following in zip(starts, [*starts[1:], last], strict=True):
        within = [sample for sample in pauses if start < sample < following]
        words.append((start, min([following, *within])))
    return words


def timed(model: str, spoken: list[Spoken], recognized: bool = False) -> np.ndarray:
    """Start and end in seconds of each word that was found, and the true ones: (words, 4).

    recognized: words of the default decoder that are right, else those of `align`.
    """
    recognizer, found = Recognizer(model, DEFAULT_DECODER if recognized else "greedy", style="spoken"), []
    for item in spoken:
        texts = item.text.split()
        if len(texts) != len(item.words):  # espeak-ng says some words as one
            continue
        if recognized:
            words = recognizer.transcribe(item.samples, sample_rate=item.rate).words
        else:
            words = align(recognizer, item.samples, item.text, item.rate, min_confidence=0).words
        for block in SequenceMatcher(None, [word.text for word in words], texts, autojunk=False).get_matching_blocks():
            for word, times in zip(words[block.a :], item.words[block.b : block.b + block.size], strict=False):
                found.append((word.start, word.end, *times))
    times = np.array(found).reshape(-1, 4)
    return times[np.abs(times[:, 0] - times[:, 2]) < MISALIGNED]


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of words against a synthesizer's.")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--labelled", nargs=2, action="append", metavar=("AUDIO", "TEXTGRID"))
    options = parser.parse_args()
    spoken = [labelled(*pair) for pair in options.labelled] if options.labelled else speak()
    for model in options.models:
        for recognized in (False, True):
            found = timed(model, spoken, recognized)
            line = [f"{model}, {'recognized' if recognized else 'aligned'}: {len(found)} words"]
            for name, column in zip(("starts", "ends"), 1000 * (found[:, :2] - found[:, 2:]).T, strict=True):
                line.append(f"{name} {np.median(column):+.0f} ms, |error| median {np.median(np.abs(column)):.0f} ms")
            length, true = found[:, 1] - found[:, 0], found[:, 3] - found[:, 2]
            line.append(f"length {length.sum() / true.sum():.2f} of the true one")
            print("; ".join([*line, f"{np.mean(length < 1.5 * FRAME):.0%} last one frame"]))


if __name__ == "__main__":
    main()
