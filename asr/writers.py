"""A transcript as text in one of the usual formats: txt, json, srt, vtt, tsv, ctm.

One writer class per format, found by name in `FORMATS`, after Whisper's `utils.py`. It is made for the name of one
recording and returns text; opening and saving are the caller's.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asr.errors import AsrError
from asr.transcript import Segment, Transcript, Word

# The broadcasters' usual limits for a subtitle (BBC and Netflix guidelines).
CUE_LINES = 2
CUE_LINE_CHARACTERS = 42
CUE_MINIMUM = 1000  # milliseconds; a shorter cue cannot be read


@dataclass(frozen=True)
class Cue:
    """One subtitle: `start` and `end` in whole milliseconds, text in `lines`."""

    start: int
    end: int
    lines: tuple[str, ...]


def subtitle_cues(segments: Sequence[Segment], free_from: int = 0) -> list[Cue]:
    """The subtitles of segments, in order, never overlapping, each at least 1 ms long, none before `free_from` (ms).

    A segment is one cue of at most 2 lines of 42 characters; one that does not fit is halved by its words'
    times. A line is longer only when a single word is. A cue stays for a second where the next one allows it.
    """
    groups = [group for segment in segments for group in _split_cue(segment.words)]
    starts = [_milliseconds(group[0].start) for group in groups]
    cues: list[Cue] = []
    for number, group in enumerate(groups):
        # Joined windows may hand over words whose times touch or cross, so order is enforced here.
        start = max(starts[number], free_from)
        end = max(_milliseconds(group[-1].end), start + CUE_MINIMUM)
        if number + 1 < len(groups):
            end = max(min(end, starts[number + 1]), start + 1)
        cues.append(Cue(start, end, tuple(_wrap(group))))
        free_from = end
    return cues


def _split_cue(words: Sequence[Word]) -> list[Sequence[Word]]:
    """Words in groups that each fit one cue. Halving leaves no lone word flashing up at the end."""
    if len(_wrap(words)) <= CUE_LINES:
        return [words]
    lengths = [len(word.text) + 1 for word in words]
    total, before = sum(lengths), 0
    imbalance = []
    for length in lengths[:-1]:
        before += length
        imbalance.append(abs(total - 2 * before))
    middle = imbalance.index(min(imbalance)) + 1
    return _split_cue(words[:middle]) + _split_cue(words[middle:])


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


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _timestamp(milliseconds: int, decimal_mark: str) -> str:
    """`01:02:03,004`; the hours grow beyond two digits when they must."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{milliseconds:03}"


class Writer(ABC):
    """One recording in one format: as a whole, or piece by piece while it is still being spoken.

    Live, the file is `begin()` and an `add` for each utterance; what was written never changes afterwards.
    """

    def __init__(self, name: str):
        self.name = name

    def whole(self, transcript: Transcript) -> str:
        """The file of a finished transcript."""
        return self.begin() + self.add(*transcript.segments)

    def begin(self) -> str:
        """What comes before the first segment."""
        return ""

    @abstractmethod
    def add(self, *segments: Segment) -> str:
        """The next segments, in whole lines."""


class TxtWriter(Writer):
    """The text on one line, an empty one when nothing was said; live, a line for each utterance."""

    def whole(self, transcript: Transcript) -> str:
        return f"{transcript.text}\n"

    def add(self, *segments: Segment) -> str:
        return "".join(f"{segment.text}\n" for segment in segments)


class JsonWriter(Writer):
    """One object on one line, so that several recordings make JSON Lines; live, an object for each utterance.

    Times in seconds.
    """

    def whole(self, transcript: Transcript) -> str:
        recording = {
            "audio": self.name,
            "duration": round(transcript.duration, 3),
            "text": transcript.text,
            "segments": [self._object(segment) for segment in transcript.segments],
        }
        return self._line(recording)

    def add(self, *segments: Segment) -> str:
        return "".join(self._line(self._object(segment)) for segment in segments)

    def _object(self, segment: Segment) -> dict[str, Any]:
        return {
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "text": segment.text,
            "words": [
                {
                    "word": word.text,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": round(word.confidence, 3),
                }
                for word in segment.words
            ],
        }

    def _line(self, values: dict[str, Any]) -> str:
        return json.dumps(values, ensure_ascii=False) + "\n"


class SrtWriter(Writer):
    """SubRip subtitles; an empty file when nothing was said.

    SubRip has no escapes. Its one reserved string, `-->`, becomes an arrow; markup characters stay as spoken.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self._cues = 0
        self._free_from = 0

    def add(self, *segments: Segment) -> str:
        blocks = []
        for cue in subtitle_cues(segments, self._free_from):
            self._cues += 1
            self._free_from = cue.end
            times = f"{_timestamp(cue.start, ',')} --> {_timestamp(cue.end, ',')}"
            text = "\n".join(cue.lines).replace("-->", "→")
            separator = "\n" if self._cues > 1 else ""
            blocks.append(f"{separator}{self._cues}\n{times}\n{text}\n")
        return "".join(blocks)


class VttWriter(Writer):
    """WebVTT subtitles (W3C WebVTT, section 4.2); only the header when nothing was said."""

    def __init__(self, name: str):
        super().__init__(name)
        self._free_from = 0

    def begin(self) -> str:
        return "WEBVTT\n"

    def add(self, *segments: Segment) -> str:
        blocks = []
        for cue in subtitle_cues(segments, self._free_from):
            self._free_from = cue.end
            times = f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.end, '.')}"
            # `&` first, or it would escape the escapes; `>` because the text must not hold `-->`.
            text = "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            blocks.append(f"\n{times}\n{text}\n")
        return "".join(blocks)


class TsvWriter(Writer):
    """Tab-separated segments, times in whole milliseconds as Whisper writes them."""

    def begin(self) -> str:
        return "start\tend\ttext\n"

    def add(self, *segments: Segment) -> str:
        rows = []
        for segment in segments:
            text = " ".join(segment.text.split())  # a tab in the text would be a fourth column
            rows.append(f"{_milliseconds(segment.start)}\t{_milliseconds(segment.end)}\t{text}\n")
        return "".join(rows)


class CtmWriter(Writer):
    """NIST time-marked conversation (sclite's `ctm`): recording, channel 1, start, duration, word, confidence.

    Times are seconds with two decimals. Fields are separated by spaces, so a space inside one becomes `_`.
    """

    def add(self, *segments: Segment) -> str:
        rows = []
        for word in (word for segment in segments for word in segment.words):
            start, end = round(word.start, 2), round(word.end, 2)  # first, so that start + duration is the end
            times = f"{start:.2f} {end - start:.2f}"
            rows.append(f"{_field(self.name)} 1 {times} {_field(word.text)} {word.confidence:.3f}\n")
        return "".join(rows)


def _field(text: str) -> str:
    return re.sub(r"\s", "_", text)


FORMATS: dict[str, type[Writer]] = {
    "txt": TxtWriter,
    "json": JsonWriter,
    "srt": SrtWriter,
    "vtt": VttWriter,
    "tsv": TsvWriter,
    "ctm": CtmWriter,
}


def render(transcript: Transcript, format: str, name: str) -> str:
    """The transcript of the recording `name` in one of `FORMATS`.

    Every format ends in a newline unless it is empty. Raises AsrError for a format that does not exist.
    """
    if format not in FORMATS:
        raise AsrError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[format](name).whole(transcript)
