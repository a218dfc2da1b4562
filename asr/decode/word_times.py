"""Words with times and confidences from tokens aligned to frames: one rule for every decoder and for alignment."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from asr.decode.calibration import UNCALIBRATED, Calibration
from asr.model.tokens import WORD_START, Tokens
from asr.output.transcript import Phone, Word

# CTC writes a token as a spike while it is spoken: a word goes on after its last one, and within speech it begins half
# a frame before its first one, but after a pause with it. A model that reads only the past writes its tokens later.
# (Medians against synthesized speech with known boundaries, and of the ends of real utterances.)
AFTER_SPIKE = 0.06  # seconds, of models that read whole recordings
DELAY = 0.06  # seconds, of the others
PAUSE = 0.3  # seconds without a token before a word
CACHED = 1 << 12  # words: a live stream has most of them again with every chunk


class AlignedToken(NamedTuple):
    """A token and its run of frames, `first` to `last` inclusive; `log_prob` is its highest log-prob in the run."""

    token: int
    first: int
    last: int
    log_prob: float


def spell_words(
    aligned: Iterable[AlignedToken], tokens: Tokens, frame_seconds: float, calibration: Calibration = UNCALIBRATED
) -> tuple[Word, ...]:
    """Words from aligned tokens (no blanks, in order of time).

    A word lasts from the first frame of its first token to the end of the last frame of its last one. Its confidence is
    the geometric mean of its tokens' highest probabilities, calibrated. A `▁` that stands alone, as in character
    models, starts a word but spells nothing: it changes neither times nor confidence. Words without letters are left
    out.
    """
    spelled: list[list[AlignedToken]] = []
    for item in aligned:
        if not spelled or tokens.starts_word(item.token):
            spelled.append([])
        if tokens.symbols[item.token].strip(WORD_START):
            spelled[-1].append(item)
    return tuple(_word(tuple(items), tokens, frame_seconds, calibration) for items in spelled if items)


def sounding(words: Sequence[Word], streaming: bool, frame_seconds: float, begin: float = 0.0) -> tuple[Word, ...]:
    """The words with the times at which they sound, from those of their tokens in audio that begins at `begin` (s)."""
    starts = []
    for before, word in zip([None, *words], words, strict=False):
        earliest = before.end if before is not None else 0.0
        within_speech = before is not None and word.start - before.end < PAUSE
        early = (DELAY if streaming else 0.0) + (frame_seconds / 2 if within_speech else 0.0)
        starts.append(min(word.start, max(word.start - early, earliest)))
    timed = []
    for word, start, after in zip(words, starts, [*starts[1:], math.inf], strict=False):
        end = word.end if streaming else max(word.end, min(word.end + AFTER_SPIKE, after))
        timed.append(_sounding(word, start, end, begin))
    return tuple(timed)


def shift(words: Iterable[Word], seconds: float) -> tuple[Word, ...]:
    """The words with their phones, later by so much."""
    return tuple(_later(word, word.start, word.end, word.phones, seconds) for word in words)


@lru_cache(CACHED)
def rewritten(word: Word, text: str) -> Word:
    """The word with another text."""
    return replace(word, text=text)


@lru_cache(CACHED)
def _sounding(word: Word, start: float, end: float, begin: float) -> Word:
    """The word with other times, later by `begin` seconds."""
    phones = [*word.phones]
    if phones:
        phones[0] = replace(phones[0], start=start)
        phones[-1] = replace(phones[-1], end=end)
    return _later(word, start, end, phones, begin)


def _later(word: Word, start: float, end: float, phones: Sequence[Phone], seconds: float) -> Word:
    later = (replace(phone, start=phone.start + seconds, end=phone.end + seconds) for phone in phones)
    return replace(word, start=start + seconds, end=end + seconds, phones=tuple(later) if phones else ())


@lru_cache(CACHED)
def _word(items: tuple[AlignedToken, ...], tokens: Tokens, frame_seconds: float, calibration: Calibration) -> Word:
    # The geometric mean, so that a long word is not less certain only for having more tokens.
    mean_log_prob = sum(item.log_prob for item in items) / len(items)
    confidence = min(1.0, math.exp(mean_log_prob))  # float32 rounding may put a log-prob just above 0
    return Word(
        text="".join(tokens.symbols[item.token].strip(WORD_START) for item in items),
        start=items[0].first * frame_seconds,
        end=(items[-1].last + 1) * frame_seconds,
        confidence=calibration.probability(confidence),
    )
