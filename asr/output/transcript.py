"""What a recogniser returns: words with times, grouped into segments, grouped into a transcript."""

from collections.abc import Sequence
from dataclasses import dataclass

# A silence this long between two words ends a segment; shorter ones are ordinary breath.
SEGMENT_PAUSE = 0.6  # seconds
# Two subtitle lines of 42 characters, the broadcasters' usual limit, fit one segment.
SEGMENT_CHARACTERS = 84


@dataclass(frozen=True)
class Word:
    """One word: `start` and `end` in seconds from the start of the audio, `confidence` in 0…1."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Segment:
    """Words spoken without a long pause; never empty."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end


@dataclass(frozen=True)
class Alternative:
    """One reading of a whole recording; natural logs.

    acoustic: its score without a language model. rescoring: what a recurrent one added to it. score: in all.
    """

    text: str
    acoustic: float
    score: float
    rescoring: float = 0.0


@dataclass(frozen=True)
class Transcript:
    """All that was heard in one recording of `duration` seconds; no segments when nothing was.

    alternatives: the n-best readings, best first; the first is that of the segments.
    """

    segments: tuple[Segment, ...]
    duration: float
    alternatives: tuple[Alternative, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def confidence(self) -> float:
        """The share of its words that may be expected to be right, the mean of theirs; 0 without words."""
        words = self.words
        return sum(word.confidence for word in words) / len(words) if words else 0.0


def split_segments(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Group words into segments: a new one after a pause, or when a subtitle would overflow."""
    segments: list[Segment] = []
    current: list[Word] = []
    characters = 0
    for word in words:
        paused = current and word.start - current[-1].end > SEGMENT_PAUSE
        overflows = current and characters + 1 + len(word.text) > SEGMENT_CHARACTERS
        if paused or overflows:
            segments.append(Segment(tuple(current)))
            current, characters = [], 0
        characters += len(word.text) + (1 if current else 0)
        current.append(word)
    if current:
        segments.append(Segment(tuple(current)))
    return tuple(segments)
