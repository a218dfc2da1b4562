"""Results of recognition: words with times, grouped into segments, grouped into a transcript."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

# A silence this long between two words ends a segment; shorter ones are ordinary breath.
SEGMENT_PAUSE = 0.6  # seconds
# Two subtitle lines of 42 characters, the broadcasters' usual limit, fit one segment.
SEGMENT_CHARACTERS = 84


@dataclass(frozen=True)
class Phone:
    """One phone, by its name in ARPAbet; as a word otherwise."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, repr=False)
class Word:
    """One word: `start` and `end` in seconds from the start of the audio, `confidence` in 0…1.

    phones: of a word that was aligned by a model that spells phones.
    spoken: False of a word of an aligned text that the recording does not have; it stands, without any length, where
    the word before it ends.
    """

    text: str
    start: float
    end: float
    confidence: float
    phones: tuple[Phone, ...] = ()
    spoken: bool = True

    def __repr__(self) -> str:
        return f"Word({self.text!r}, {self.start:.2f}, {self.end:.2f}, {self.confidence:.2f})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `word`, `start`, `end`, `confidence`, to three decimals; `phones` if any; `spoken` if it is not."""
        unspoken = {} if self.spoken else {"spoken": False}
        phones = [{"phone": phone.text, **_rounded(phone)} for phone in self.phones]
        return {"word": self.text, **_rounded(self), **unspoken, **({"phones": phones} if phones else {})}


def _rounded(item: Word | Phone) -> dict[str, float]:
    return {name: round(getattr(item, name), 3) for name in ("start", "end", "confidence")}


@dataclass(frozen=True, repr=False)
class Segment:
    """Words spoken without a long pause; never empty. `channel`, from 1: where channels are recognized apart."""

    words: tuple[Word, ...]
    channel: int | None = None

    @property
    def text(self) -> str:
        """The words, with spaces between them."""
        return " ".join(word.text for word in self.words)

    @property
    def start(self) -> float:
        """Of the first word, in seconds from the start of the audio."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Of the last word, in seconds from the start of the audio."""
        return self.words[-1].end

    def __repr__(self) -> str:
        return f"<Segment {self.start:.2f}–{self.end:.2f} s: {_shortened(self.text)}>"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `channel` if there is one, `start`, `end`, `text`, `words`; seconds rounded to milliseconds."""
        return {
            **({"channel": self.channel} if self.channel is not None else {}),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "words": [word.to_dict() for word in self.words],
        }


@dataclass(frozen=True)
class Alternative:
    """One reading of a whole recording; natural logs.

    acoustic: its score without a language model. rescoring: what a recurrent one added to it. score: in all.
    """

    text: str
    acoustic: float
    score: float
    rescoring: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `text` and the parts of its score, rounded to three decimals."""
        return {
            "text": self.text,
            "acoustic": round(self.acoustic, 3),
            "lm": round(self.score - self.acoustic - self.rescoring, 3),
            **({"rescoring": round(self.rescoring, 3)} if self.rescoring else {}),
            "score": round(self.score, 3),
        }


@dataclass(frozen=True, repr=False)
class Transcript:
    """The words of one recording of `duration` seconds, or of a part of it that begins at `start`; its str is its text.

    alternatives: the n-best readings, best first; the first is that of the segments.
    language: of the model, such as "en".
    """

    segments: tuple[Segment, ...]
    duration: float
    alternatives: tuple[Alternative, ...] = ()
    language: str = ""
    start: float = 0.0

    @property
    def end(self) -> float:
        """Seconds on the recording's clock at which what was read ends; no word ends later."""
        return self.start + self.duration

    @property
    def text(self) -> str:
        """The words, with spaces between them."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> tuple[Word, ...]:
        """Those of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def confidence(self) -> float:
        """The share of its words that may be expected to be right, the mean of theirs; 0 without words."""
        words = self.words
        return sum(word.confidence for word in words) / len(words) if words else 0.0

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Transcript {self.duration:.2f} s, words: {len(self.words)}: {_shortened(self.text)}>"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as the json format: `duration`, `text`, `segments`; `start`, `language`, `alternatives` if any."""
        return {
            **({"start": round(self.start, 3)} if self.start else {}),
            "duration": round(self.duration, 3),
            **({"language": self.language} if self.language else {}),
            "text": self.text,
            "segments": [segment.to_dict() for segment in self.segments],
            **({"alternatives": [item.to_dict() for item in self.alternatives]} if len(self.alternatives) > 1 else {}),
        }

    def to_srt(self) -> str:
        """SubRip subtitles of at most two lines of 42 characters."""
        return self._in_format("srt")

    def to_vtt(self) -> str:
        """WebVTT subtitles of at most two lines of 42 characters."""
        return self._in_format("vtt")

    def _in_format(self, name: str) -> str:
        from asr.output.writers import render  # which imports this module

        return render(self, name, "")


def _shortened(text: str, characters: int = 60) -> str:
    return repr(text if len(text) <= characters else text[: characters - 1] + "…")


def split_segments(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Group words into segments: a new one after a pause, or when a subtitle would overflow."""
    segments: list[list[Word]] = []
    characters = 0
    for word in words:
        paused = segments and word.start - segments[-1][-1].end > SEGMENT_PAUSE
        if not segments or paused or characters + 1 + len(word.text) > SEGMENT_CHARACTERS:
            segments.append([])
            characters = -1  # no space before the first word
        characters += 1 + len(word.text)
        segments[-1].append(word)
    return tuple(Segment(tuple(segment)) for segment in segments)


Timed = TypeVar("Timed", Word, Phone)


def within(words: Iterable[Word], end: float) -> tuple[Word, ...]:
    """The words, none of which ends after `end` seconds: the last frame of a recording reaches beyond it."""

    def cut(item: Timed) -> Timed:
        return replace(item, start=min(item.start, end), end=min(item.end, end))

    return tuple(replace(cut(word), phones=tuple(map(cut, word.phones))) if word.end > end else word for word in words)


def merge_channels(transcripts: Sequence[Transcript]) -> Transcript:
    """One transcript of channels that were recognized apart: their segments, labeled from 1 on, in order of time."""
    labeled = [
        replace(segment, channel=number)
        for number, transcript in enumerate(transcripts, 1)
        for segment in transcript.segments
    ]
    labeled.sort(key=lambda segment: segment.start)
    longest = max(transcripts, key=lambda transcript: transcript.duration)
    return replace(longest, segments=tuple(labeled), alternatives=())
