"""Results of recognition: words with times, grouped into segments, grouped into a transcript."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, TypeVar, get_args

from asr.errors import ArgumentError

Style = Literal["written", "spoken"]  # of texts; what has no written form is shown as it is spoken

# A silence this long between two words ends a segment; shorter ones are ordinary breath.
SEGMENT_PAUSE = 0.6  # seconds
# Two subtitle lines of 42 characters, the broadcasters' usual limit, fit one segment.
SEGMENT_CHARACTERS = 84

SENTENCE_END = re.compile(r"[.?!…][\"'”’»)]*$")
CLAUSE_END = re.compile(r"[,;:–—]$")
TITLES = {  # as they are written before a name
    **{"doctor": "Dr.", "mister": "Mr.", "missus": "Mrs.", "professor": "Prof.", "saint": "St."},
    **{"dr": "Dr.", "mr": "Mr.", "mrs": "Mrs.", "ms": "Ms."},
}


@dataclass(frozen=True)
class Phone:
    """One phone, by its name in ARPAbet; as a word otherwise."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, repr=False)
class Word:
    """One word, as it is spoken: `start` and `end` in seconds from the start of the audio, `confidence` in 0…1.

    written: as people write it, with the mark after it ("John,", "$25."). Of what several words are written as, the
    first one has all and the others "". None where nothing was written.
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
    written: str | None = None

    def __repr__(self) -> str:
        return f"Word({self.text!r}, {self.start:.2f}, {self.end:.2f}, {self.confidence:.2f})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `word`, `start`, `end`, `confidence`, to three decimals; `written`, `phones` if any; `spoken` if it
        is not.
        """
        written = {} if self.written is None else {"written": self.written}
        unspoken = {} if self.spoken else {"spoken": False}
        phones = [{"phone": phone.text, **_rounded(phone)} for phone in self.phones]
        return {"word": self.text, **written, **_rounded(self), **unspoken, **({"phones": phones} if phones else {})}


def _rounded(item: Word | Phone) -> dict[str, float]:
    return {name: round(getattr(item, name), 3) for name in ("start", "end", "confidence")}


class _Texts:
    """The texts of `words`, which never change."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words as they are spoken, with spaces between them."""
        return " ".join(word.text for word in self.words)

    @property
    def written_words(self) -> tuple[Word, ...]:
        """See `written_words`."""
        return written_words(self.words)

    @property
    def written(self) -> str:
        """The text as people write it, where it has that form."""
        return " ".join(word.text for word in self.written_words)


@dataclass(frozen=True, repr=False)
class Segment(_Texts):
    """Words spoken without a long pause; never empty. `channel`, from 1: where channels are recognized apart."""

    words: tuple[Word, ...]
    channel: int | None = None

    @property
    def start(self) -> float:
        """Of the first word, in seconds from the start of the audio."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Of the last word, in seconds from the start of the audio."""
        return self.words[-1].end

    def __repr__(self) -> str:
        return f"<Segment {self.start:.2f}–{self.end:.2f} s: {_shortened(self.written)}>"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `channel` if there is one, `start`, `end`, `text`, `words`; seconds rounded to milliseconds.

        The text is the written one if there is one, and `spoken` then has the other.
        """
        return {
            **({"channel": self.channel} if self.channel is not None else {}),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            **_texts(self),
            "words": [word.to_dict() for word in self.words],
        }


def _texts(item: "Segment | Transcript") -> dict[str, str]:
    spoken = {"spoken": item.text} if any(word.written is not None for word in item.words) else {}
    return {"text": item.written, **spoken}


@dataclass(frozen=True)
class Alternative:
    """One reading of a whole recording, as it is spoken; natural logs.

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
class Transcript(_Texts):
    """The words of one recording of `duration` seconds, or of a part of it that begins at `start`.

    Its str is `written`.

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
    def words(self) -> tuple[Word, ...]:  # type: ignore[override]  # nor can it be set in a segment
        """Those of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def confidence(self) -> float:
        """The share of its words that may be expected to be right, the mean of theirs; 0 without words."""
        words = self.words
        return sum(word.confidence for word in words) / len(words) if words else 0.0

    def __str__(self) -> str:
        return self.written

    def __repr__(self) -> str:
        return f"<Transcript {self.duration:.2f} s, words: {len(self.words)}: {_shortened(self.written)}>"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as the json format: `duration`, `text`, `segments`; `start`, `language`, `spoken`, `alternatives`
        if any.
        """
        return {
            **({"start": round(self.start, 3)} if self.start else {}),
            "duration": round(self.duration, 3),
            **({"language": self.language} if self.language else {}),
            **_texts(self),
            "segments": [segment.to_dict() for segment in self.segments],
            **({"alternatives": [item.to_dict() for item in self.alternatives]} if len(self.alternatives) > 1 else {}),
        }

    def to_srt(self, style: Style = "written") -> str:
        """SubRip subtitles of at most two lines of 42 characters."""
        return self._in_format("srt", style)

    def to_vtt(self, style: Style = "written") -> str:
        """WebVTT subtitles of at most two lines of 42 characters."""
        return self._in_format("vtt", style)

    def _in_format(self, name: str, style: Style) -> str:
        from asr.output.writers import render  # which imports this module

        segments = self.segments
        if check_style(style) == "spoken":
            segments = tuple(
                replace(segment, words=tuple(replace(word, written=None) for word in segment.words))
                for segment in segments
            )
        return render(replace(self, segments=segments), name, "")


def _shortened(text: str, characters: int = 60) -> str:
    return repr(text if len(text) <= characters else text[: characters - 1] + "…")


def check_style(style: object) -> Style:
    """ArgumentError if there is no such style."""
    for known in get_args(Style):
        if isinstance(style, str) and style == known:
            return known
    raise ArgumentError(f"style: {style!r:.40}; choose {' or '.join(get_args(Style))}")


def written_words(words: Iterable[Word]) -> tuple[Word, ...]:
    """The words as they are written, with the times of the first and the last spoken one, and the lowest confidence."""
    return tuple(
        replace(group[0], text=text, written=None, end=group[-1].end, confidence=min(word.confidence for word in group))
        for text, group in _written_groups(words)
    )


def _written_groups(words: Iterable[Word]) -> list[tuple[str, list[Word]]]:
    """What is written as one, and its words."""
    groups: list[tuple[str, list[Word]]] = []
    for word in words:
        if word.written == "" and groups:
            groups[-1][1].append(word)
        else:
            groups.append((word.text if word.written is None else word.written, [word]))
    return groups


def ends_sentence(word: str, following: str) -> bool:
    """Whether a sentence ends between two written words: a full stop may be that of "Dr.", "J.", "U.S." or "p.m."."""
    if not SENTENCE_END.search(word) or word in TITLES.values() or re.fullmatch(r"[A-HJ-Z]\.([A-Z]\.)*", word):
        return False
    return not re.search(r"\w\.\w\.$", word) or following[:1].isupper()


def split_segments(words: Iterable[Word]) -> tuple[Segment, ...]:
    """Group words into segments: a new one after a pause, or when a subtitle would overflow, then where a sentence or
    a clause ends if possible.

    What is written as one stays together. More words change nothing but the last segment.
    """
    segments: list[list[Word]] = []
    texts: list[str] = []  # of the segment in progress
    groups: list[list[Word]] = []

    def cut(place: int) -> None:
        segments.append([word for group in groups[:place] for word in group])
        del texts[:place], groups[:place]

    for text, group in _written_groups(words):
        if groups and group[0].start - groups[-1][-1].end > SEGMENT_PAUSE:
            cut(len(groups))
        texts.append(text)
        groups.append(group)
        while len(texts) > 1 and sum(map(len, texts)) + len(texts) - 1 > SEGMENT_CHARACTERS:
            cut(_best_cut(texts))
    if groups:
        cut(len(groups))
    return tuple(Segment(tuple(segment)) for segment in segments)


def _best_cut(texts: Sequence[str]) -> int:
    """How many of the texts, which are too long by the last one, make a segment: to the last sentence end, or to the
    end of a clause beyond the first third, or all but one.
    """
    places = [place for place in range(len(texts) - 1, 0, -1) if texts[place - 1] not in TITLES.values()]
    sentences = (place for place in places if ends_sentence(texts[place - 1], texts[place]))
    third = SEGMENT_CHARACTERS // 3
    clauses = (
        place for place in places if CLAUSE_END.search(texts[place - 1]) and len(" ".join(texts[:place])) > third
    )
    return next(chain(sentences, clauses, places), len(texts) - 1)


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
