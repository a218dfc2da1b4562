"""Subtitles: words cut into cues, and the times of the cues."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from asr.output.transcript import CLAUSE_END, SEGMENT_PAUSE, TITLES, Segment, Word, ends_sentence

CUE_MINIMUM = 1000  # milliseconds, where the next cue leaves room; a shorter cue is hard to read
READING_SPEED = 17  # characters a second, of an adult (Netflix's guideline)
LONGER = 1000  # milliseconds for which a cue may stay after its words, so that it can be read


@dataclass(frozen=True)
class Layout:
    """Of subtitles: characters in a line and lines in a cue, by default the usual limits of the BBC and Netflix.

    timestamps: before each segment of a plain text. highlight_words: in vtt and ass, as they are spoken.
    """

    line_width: int = 42
    lines: int = 2
    timestamps: bool = False
    highlight_words: bool = False


LAYOUT = Layout()
WITHIN = 2.0  # cost of an end of a sentence inside a cue; an empty cue costs 1
LINE_BREAK = 0.5  # widths that a line may be longer to break at the end of a sentence


@dataclass(frozen=True)
class Cue:
    """One subtitle: `start` and `end` in whole milliseconds, text in `lines`, the channel that was recognized apart."""

    start: int
    end: int
    lines: tuple[str, ...]
    channel: int | None = None
    words: Sequence[Word] = field(default=(), compare=False)

    def timed(self) -> Iterator[tuple[str, int, str]]:
        """What stands before each word (nothing, a space, a line break), when it begins (milliseconds), and the word.

        Times are within the cue, and in order.
        """
        text, position, time = "\n".join(self.lines), 0, self.start
        for word in self.words:
            place = text.index(word.text, position)
            time = min(max(time, to_milliseconds(word.start)), self.end)
            yield text[position:place], time, word.text
            position = place + len(word.text)


def subtitle_cues(
    segments: Sequence[Segment], free_from: int = 0, until: float | None = None, layout: Layout = LAYOUT
) -> list[Cue]:
    """The subtitles of segments: in order, never overlapping, none before `free_from` (ms).

    Of channels that were recognized apart, each has its own, which may overlap the others.

    A line is longer than the layout's only when a single word is. Of the possible cuts, the best gives each cue a
    second before the next one's words begin; then has no pauses inside cues; then cuts at ends of sentences, or at
    clauses and shorter pauses, into cues equally full, without single words. A cue begins with its words. It stays for
    a second, and until it could be read up to a second longer than its words, but never after the next one begins:
    where words are too fast for the layout, cues are shorter.

    until: seconds at which the recording ends, as then does the last cue; None while it may go on: the last cue ends
    with its words or after a second, and the first one of the next call may have to wait for it (`free_from`).
    """
    cues = []
    for channel in sorted({segment.channel for segment in segments}, key=lambda channel: channel or 0):
        own = (segment for segment in segments if segment.channel == channel)
        groups = _cut([word for segment in own for word in segment.written_words], layout)
        for group, (start, end) in zip(groups, _times(groups, free_from, until), strict=True):
            cues.append(Cue(start, end, tuple(_wrap(group, layout)), channel, group))
    return sorted(cues, key=lambda cue: cue.start)


def _times(groups: Sequence[Sequence[Word]], free_from: int, until: float | None) -> list[tuple[int, int]]:
    """Start and end of the cue of each group in whole milliseconds, none shorter than one."""
    begins = [to_milliseconds(group[0].start) for group in groups]
    ends = [to_milliseconds(group[-1].end) for group in groups]
    if until is None:
        last = max([max([free_from, *begins]) + CUE_MINIMUM, *ends])
    else:
        last = to_milliseconds(until)
        begins = [max(0, min(begin, last - len(begins) + number)) for number, begin in enumerate(begins)]
    begins.append(last)
    times = []
    for number, group in enumerate(groups):
        start = max(begins[number], free_from)
        # Cues that begin at one time (their words are not spoken) or before `free_from` share the time until the next.
        later = next((later for later in range(number + 1, len(begins)) if begins[later] > start), len(groups))
        room = max(1, (begins[later] - start) // (later - number))
        characters = sum(len(word.text) + 1 for word in group) - 1
        readable = min(start + 1000 * characters // READING_SPEED, ends[number] + LONGER)
        free_from = min(max(ends[number], start + CUE_MINIMUM, readable), start + room)
        times.append((start, free_from))
    return times


def _cut(words: Sequence[Word], layout: Layout) -> list[Sequence[Word]]:
    """The words of each cue, at the lowest total cost (dynamic programming, as Knuth & Plass 1981 break paragraphs)."""
    # For the first n words: the lowest cost, and the first word of the last cue.
    best: list[tuple[tuple[int, ...], int]] = [((0, 0, 0), 0)]
    texts = [word.text for word in words]
    for end in range(1, len(words) + 1):
        choices = []
        for first in reversed(range(end)):
            if end - first > 1 and len(_fill(texts[first:end], layout.line_width)) > layout.lines:
                break
            costs = zip(best[first][0], _cost(words, first, end, layout), strict=True)
            choices.append((tuple(map(sum, costs)), first))
        best.append(min(choices))
    groups: list[Sequence[Word]] = []
    end = len(words)
    while end:
        _, first = best[end]
        groups.append(words[first:end])
        end = first
    return groups[::-1]


def _cost(words: Sequence[Word], first: int, end: int, layout: Layout) -> tuple[int, int, int]:
    """Cost of words[first:end] as a cue, compared in this order: milliseconds below the minimum, pauses inside,
    roughness.

    Roughness is a whole number of millionths: sums of fractions would be rounded, and the choice between equally good
    cuts would depend on the words long before.
    """
    cue, following = words[first:end], words[end] if end < len(words) else None
    pauses = sum(later.start - word.end > SEGMENT_PAUSE for word, later in pairwise(cue))
    characters = sum(len(word.text) + 1 for word in cue)
    roughness = (1 - characters / (layout.lines * layout.line_width)) ** 2
    roughness += WITHIN * sum(ends_sentence(word.text, later.text) for word, later in pairwise(cue))
    before = words[first - 1] if first else None
    if len(cue) == 1 and before is not None and cue[0].start - before.end <= SEGMENT_PAUSE:
        # The last word of a sentence that was cut off, or a sentence of one word, which goes with the one before.
        roughness += WITHIN if ends_sentence(before.text, cue[0].text) else 1
    if following is None:
        return 0, pauses, round(1e6 * roughness)
    missing = to_milliseconds(cue[0].start) + CUE_MINIMUM - to_milliseconds(following.start)
    speech = 1 - min(max(0.0, following.start - cue[-1].end), SEGMENT_PAUSE) / SEGMENT_PAUSE  # 0 for a long pause
    roughness += speech * _break_cost(cue[-1].text, following.text)
    if len(cue) == 1 and speech and ends_sentence(cue[-1].text, following.text):
        roughness += WITHIN  # or with the next one
    return max(0, missing), pauses, round(1e6 * roughness)


def _break_cost(text: str, following: str) -> float:
    """Of parting two words that no pause parts."""
    if ends_sentence(text, following):
        return 0.0
    return 0.5 if CLAUSE_END.search(text) else 2.0 if text in TITLES.values() else 1.0


def _fill(texts: Sequence[str], width: int) -> list[list[str]]:
    # Greedy over whole words; textwrap would see only the joined string and could cut inside a word.
    lines: list[list[str]] = []
    room = -1
    for text in texts:
        room -= len(text) + 1
        if room < 0:
            lines.append([])
            room = width - len(text)
        lines[-1].append(text)
    return lines


def _wrap(words: Sequence[Word], layout: Layout) -> list[str]:
    """As few lines as possible, of about the same length, broken after the marks of sentences and clauses."""
    texts, width = [word.text for word in words], layout.line_width
    fewest, ways = len(_fill(texts, width)), []
    for narrower in (*range(sum(map(len, texts)) // fewest, width), width):
        ways.append(_fill(texts, narrower))
        ways.append([line[::-1] for line in reversed(_fill(texts[::-1], narrower))])  # from the end

    def cost(lines: Sequence[Sequence[str]]) -> float:
        breaks = sum(_break_cost(line[-1], later[0]) for line, later in pairwise(lines))
        return max(len(" ".join(line)) for line in lines) / width + LINE_BREAK * breaks

    best = min((lines for lines in ways if len(lines) == fewest), key=cost)
    return [" ".join(line) for line in best]


def to_milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
