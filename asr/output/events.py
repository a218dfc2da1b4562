"""Events of streaming recognition; times are in seconds from the start of the stream."""

from collections.abc import Sequence
from dataclasses import dataclass

from asr.output.transcript import Segment, Word


@dataclass(frozen=True)
class Partial:
    """Text of the utterance in progress, as it is spoken.

    stable_prefix: the words at the start of `text` that no further audio will change. (A second pass still may.)
    """

    text: str
    stable_prefix: str
    words: tuple[Word, ...]

    def __repr__(self) -> str:
        return f"Partial({self.text!r}, stable {self.stable_prefix!r}{_times(self.words)})"


@dataclass(frozen=True)
class _Finished:
    segment: Segment
    utterance: int = 0

    @property
    def text(self) -> str:
        """The words of the segment as they are spoken."""
        return self.segment.text

    @property
    def written(self) -> str:
        """The text as people write it, where it has that form."""
        return self.segment.written

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.utterance}: {self.written!r}{_times(self.segment.words)})"


class Final(_Finished):
    """A finished utterance. `utterance` counts the finals of a stream from 0."""


class Revised(_Finished):
    """The second pass's segment for the utterance whose Final came earlier, with the same number."""


Event = Partial | Final | Revised


def _times(words: Sequence[Word]) -> str:
    return f", {words[0].start:.2f}–{words[-1].end:.2f} s" if words else ""
