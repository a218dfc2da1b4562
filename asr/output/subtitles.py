"""Subtitles: words cut into cues, and the times of the cues."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from asr.output.transcript import SEGMENT_PAUSE, Segment, Word

# The broadcasters' usual limits for a subtitle (BBC and Netflix guidelines).
CUE_LINES = 2
CUE_LINE_CHARACTERS = 42
CUE_MINIMUM = 1000  # milliseconds; a shorter cue cannot be read

SENTENCE_END = re.compile(r"[.?!…][\"'”’»)]*$")


@dataclass(frozen=True)
class Cue:
    """One subtitle: `start` and `end` in whole milliseconds, text in `lines`."""

    start: int
    end: int
    lines: tuple[str, ...]


def subtitle_cues(segments: Sequence[Segment], free_from: int = 0) -> list[Cue]:
    """The subtitles of segments: in order, never overlapping, each for at least a second, none before `free_from` (ms).

    A cue has at most 2 lines of 42 characters; a line is longer only when a single word is. Of the possible cuts, the
    best gives each cue its second before the next one's words begin; then has no pauses inside cues; then cuts at
    shorter pauses or ends of sentences, into cues equally full. Where words are too fast for that, cues are delayed.
    """
    groups = _cut([word for segment in segments for word in segment.words])
    times = in_order([(group[0].start, group[-1].end) for group in groups], CUE_MINIMUM, free_from)
    return [Cue(start, end, tuple(_wrap(group))) for (start, end), group in zip(times, groups, strict=True)]


def _cut(words: Sequence[Word]) -> list[Sequence[Word]]:
    """The words of each cue, at the lowest total cost (dynamic programming, as Knuth & Plass 1981 break paragraphs)."""
    # For the first n words: the lowest cost, and the first word of the last cue.
    best: list[tuple[tuple[int, ...], int]] = [((0, 0, 0), 0)]
    for end in range(1, len(words) + 1):
        choices = []
        for first in reversed(range(end)):
            cue = words[first:end]
            if len(cue) > 1 and len(_wrap(cue)) > CUE_LINES:
                break
            costs = zip(best[first][0], _cost(cue, words[end] if end < len(words) else None), strict=True)
            choices.append((tuple(map(sum, costs)), first))
        best.append(min(choices))
    groups: list[Sequence[Word]] = []
    end = len(words)
    while end:
        _, first = best[end]
        groups.append(words[first:end])
        end = first
    return groups[::-1]


def _cost(cue: Sequence[Word], following: Word | None) -> tuple[int, int, int]:
    """Cost of a cue, compared in this order: milliseconds below the minimum, pauses inside, roughness.

    Roughness is a whole number of millionths: sums of fractions would be rounded, and the choice between equally good
    cuts would depend on the words long before.
    """
    pauses = sum(later.start - word.end > SEGMENT_PAUSE for word, later in pairwise(cue))
    characters = sum(len(word.text) + 1 for word in cue)
    roughness = (1 - characters / (CUE_LINES * CUE_LINE_CHARACTERS)) ** 2
    if following is None:
        return 0, pauses, round(1e6 * roughness)
    missing = to_milliseconds(cue[0].start) + CUE_MINIMUM - to_milliseconds(following.start)
    if not SENTENCE_END.search(cue[-1].text):
        roughness += 1 - min(max(0.0, following.start - cue[-1].end), SEGMENT_PAUSE) / SEGMENT_PAUSE
    return max(0, missing), pauses, round(1e6 * roughness)


def _wrap(words: Sequence[Word]) -> list[str]:
    # Greedy over whole words; textwrap would see only the joined string and could cut inside a word.
    lines = [words[0].text]
    for word in words[1:]:
        longer = f"{lines[-1]} {word.text}"
        if len(longer) <= CUE_LINE_CHARACTERS:
            lines[-1] = longer
        else:
            lines.append(word.text)
    return lines


def in_order(spans: Sequence[tuple[float, float]], minimum: int, free_from: int = 0) -> list[tuple[int, int]]:
    """Spans in seconds → in whole milliseconds, in order, none shorter than `minimum`, none before `free_from`.

    Times may touch, cross or be equal. A span ends where the next begins, or has the minimum and the next one waits.
    """
    starts = [to_milliseconds(start) for start, _ in spans]
    times = []
    for number, (_, end) in enumerate(spans):
        start = max(starts[number], free_from)
        free_from = to_milliseconds(end)
        if number + 1 < len(spans):
            free_from = min(free_from, starts[number + 1])
        free_from = max(free_from, start + minimum)
        times.append((start, free_from))
    return times


def to_milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
