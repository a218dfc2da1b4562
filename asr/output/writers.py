"""A transcript as text in one of the usual formats: txt, json, srt, vtt, ass, tsv, ctm, textgrid, jsonl.

Texts are as people write them where words have that form; ctm, textgrid and jsonl, which are for scoring, phonetics and
training, have the words as they are spoken, and json both.

A writer class for each format that can be written live, after Whisper's `utils.py`, and a function for each other. They
are given the name of one recording and return text, which the caller saves. Names must be printable; in JSON, any in
UTF-8.
"""

import html
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from asr.errors import ArgumentError
from asr.output.subtitles import LAYOUT, Cue, Layout, subtitle_cues, to_milliseconds
from asr.output.transcript import Phone, Segment, Transcript, Word


def _timestamp(milliseconds: int, decimal_mark: str) -> str:
    """`01:02:03,004`; the hours grow beyond two digits when they must."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{milliseconds:03}"


class Writer(ABC):
    """One recording in one format, whole or piece by piece while it is still being spoken.

    Live, the file is `begin()` and an `add` for each utterance; earlier pieces never change.
    """

    def __init__(self, name: str, layout: Layout = LAYOUT):
        self.name = name
        self.layout = layout

    def whole(self, transcript: Transcript) -> str:
        """The file of a finished transcript."""
        return self.begin() + self.add(*transcript.segments)

    def begin(self) -> str:
        """The text before the first segment."""
        return ""

    @abstractmethod
    def add(self, *segments: Segment, heard: float | None = None) -> str:
        """The next segments, of one channel where channels are recognized apart, in whole lines.

        heard: seconds of audio so far, after which nothing ends; None if that is not known.
        """


class TxtWriter(Writer):
    """A line for each segment, or live for each utterance; an empty one when nothing was said."""

    def whole(self, transcript: Transcript) -> str:
        return self.add(*transcript.segments) or "\n"

    def add(self, *segments: Segment, heard: float | None = None) -> str:
        return "".join(f"{self._times(segment)}{_label(segment.channel)}{segment.written}\n" for segment in segments)

    def _times(self, segment: Segment) -> str:
        start, end = (_timestamp(to_milliseconds(seconds), ".") for seconds in (segment.start, segment.end))
        return f"[{start} --> {end}] " if self.layout.timestamps else ""


def _label(channel: int | None) -> str:
    return "" if channel is None else f"[{channel}] "


class JsonWriter(Writer):
    """One object on one line, so that several recordings make JSON Lines; live, an object for each utterance.

    Times in seconds.
    """

    def whole(self, transcript: Transcript) -> str:
        return json_line({"audio": self.name, **transcript.to_dict()})

    def add(self, *segments: Segment, heard: float | None = None) -> str:
        return "".join(json_line(segment.to_dict()) for segment in segments)


def json_line(values: dict[str, Any]) -> str:
    """JSON in a line, in which what a terminal would obey is escaped, also where JSON would not need that."""
    line = json.dumps(values, ensure_ascii=False)
    if not line.isprintable():
        line = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)
    return f"{line}\n"


class SubtitleWriter(Writer):
    """Cues with a blank line between them; none begins before the one before it, of its channel, has ended."""

    between = "\n"

    def __init__(self, name: str, layout: Layout = LAYOUT):
        super().__init__(name, layout)
        self._cues = 0
        self._free_from: dict[int | None, int] = {}  # milliseconds, by the channel

    def whole(self, transcript: Transcript) -> str:
        return self.begin() + self._blocks(subtitle_cues(transcript.segments, 0, transcript.end, self.layout))

    def add(self, *segments: Segment, heard: float | None = None) -> str:
        free_from = self._free_from.get(segments[0].channel, 0) if segments else 0
        cues = subtitle_cues(segments, free_from, layout=self.layout)
        if heard is not None:  # a short last cue would stay for a second, though the recording may end here
            latest = to_milliseconds(heard)
            cues = [replace(cue, end=min(cue.end, max(latest, cue.start + 1))) for cue in cues]
        return self._blocks(cues)

    def _blocks(self, cues: Sequence[Cue]) -> str:
        blocks = []
        for cue in cues:
            blocks.append(self.between if self._cues or self.begin() else "")
            self._cues += 1
            self._free_from[cue.channel] = cue.end
            blocks.append(self.block(self._cues, cue))
        return "".join(blocks)

    @abstractmethod
    def block(self, number: int, cue: Cue) -> str:
        """The lines of a cue; they are numbered from 1."""


class SrtWriter(SubtitleWriter):
    """SubRip subtitles; an empty file when nothing was said.

    SubRip has no escapes. Its one reserved string, `-->`, becomes an arrow; markup characters stay as spoken.
    """

    def block(self, number: int, cue: Cue) -> str:
        text = _label(cue.channel) + "\n".join(cue.lines).replace("-->", "→")
        return f"{number}\n{_timestamp(cue.start, ',')} --> {_timestamp(cue.end, ',')}\n{text}\n"


class VttWriter(SubtitleWriter):
    """WebVTT subtitles (W3C WebVTT, section 4.2); only the header when nothing was said. A channel is a voice."""

    def begin(self) -> str:
        return "WEBVTT\n"

    def block(self, number: int, cue: Cue) -> str:
        if self.layout.highlight_words:
            text = ""
            for gap, time, word in cue.timed():
                mark = f"<{_timestamp(time, '.')}>" if cue.start < time < cue.end else ""
                text += gap + mark + html.escape(word, quote=False)
        else:
            text = html.escape("\n".join(cue.lines), quote=False)  # `>`, too: the text must not hold `-->`
        text = text if cue.channel is None else f"<v Channel {cue.channel}>{text}"
        return f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.end, '.')}\n{text}\n"


ASS_HEADER = """[Script Info]
ScriptType: v4.00+
WrapStyle: 2
ScaledBorderAndShadow: yes
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&H808080,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
ASS_ESCAPES = str.maketrans({"\\": "⧵", "{": "\\{", "}": "\\}"})


class AssWriter(SubtitleWriter):
    """Advanced SubStation Alpha, in ffmpeg's style; highlighted words are karaoke (`\\k`, hundredths of seconds)."""

    between = ""

    def begin(self) -> str:
        return ASS_HEADER

    def block(self, number: int, cue: Cue) -> str:
        words, text = [*cue.timed()], _label(cue.channel)
        marks = [round(time / 10) for time in (cue.start, *(time for _, time, _ in words[1:]), cue.end)]
        for (gap, _, word), (begin, end) in zip(words, pairwise(marks), strict=True):
            karaoke = f"{{\\k{end - begin}}}" if self.layout.highlight_words else ""
            text += gap.replace("\n", "\\N") + karaoke + word.translate(ASS_ESCAPES)
        times = ",".join(_timestamp(10 * round(time / 10), ".").removeprefix("0")[:-1] for time in (cue.start, cue.end))
        return f"Dialogue: 0,{times},Default,,0,0,0,,{text}\n"


class TsvWriter(Writer):
    """Tab-separated segments, times in whole milliseconds as Whisper writes them."""

    def begin(self) -> str:
        return "start\tend\ttext\n"

    def add(self, *segments: Segment, heard: float | None = None) -> str:
        rows = []
        for segment in segments:
            words = " ".join(segment.written.split())  # a tab in the text would be a fourth column
            text = _label(segment.channel) + words
            rows.append(f"{to_milliseconds(segment.start)}\t{to_milliseconds(segment.end)}\t{text}\n")
        return "".join(rows)


class CtmWriter(Writer):
    """NIST time-marked conversation (sclite's `ctm`): recording, channel, start, duration, word, confidence.

    Times are seconds with two decimals. Fields are separated by spaces, so a space inside one becomes `_`.
    """

    def add(self, *segments: Segment, heard: float | None = None) -> str:
        rows = []
        for channel, word in ((segment.channel or 1, word) for segment in segments for word in segment.words):
            start, end = round(word.start, 2), round(word.end, 2)  # first, so that start + duration is the end
            times = f"{start:.2f} {end - start:.2f}"
            rows.append(f"{_field(self.name)} {channel} {times} {_field(word.text)} {word.confidence:.3f}\n")
        return "".join(rows)


def _field(text: str) -> str:
    return re.sub(r"\s", "_", text)


def textgrid(transcript: Transcript, name: str) -> str:
    """Praat's TextGrid in its long text form: an interval tier of words, with empty intervals between them, and one of
    phones where they are known.

    The intervals cover the recording from 0 to its end, each at least a millisecond long. How many there are stands
    before the first, so it cannot be written live. (Praat manual, "TextGrid file formats".) Channels that were
    recognized apart have a tier each.
    """
    tiers: dict[str, Sequence[Word | Phone]] = {}
    for channel in sorted({segment.channel or 0 for segment in transcript.segments}) or [0]:
        label = f" {channel}" if channel else ""
        words = [word for segment in transcript.segments if (segment.channel or 0) == channel for word in segment.words]
        tiers[f"words{label}"] = words
        if phones := [phone for word in words for phone in word.phones]:
            tiers[f"phones{label}"] = phones
    intervals = {tier: _intervals(items) for tier, items in tiers.items()}
    ends = [end for filled in intervals.values() for _, end, _ in filled]
    duration = max(to_milliseconds(transcript.end), *ends, 1)  # Praat takes no empty interval
    span = ["xmin = 0", f"xmax = {duration / 1000:.3f}"]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", *span, "tiers? <exists>"]
    lines += [f"size = {len(tiers)}", "item []:"]
    for place, (tier, filled) in enumerate(intervals.items(), 1):
        now = filled[-1][1] if filled else 0
        if duration > now:
            filled.append((now, duration, ""))
        head = ['class = "IntervalTier"', f'name = "{tier}"', *span, f"intervals: size = {len(filled)}"]
        lines += [f"    item [{place}]:", *(f"        {line}" for line in head)]
        for number, (start, end, text) in enumerate(filled, 1):
            quoted = text.replace('"', '""')
            interval = [f"xmin = {start / 1000:.3f}", f"xmax = {end / 1000:.3f}", f'text = "{quoted}"']
            lines += [f"        intervals [{number}]:", *(f"            {line}" for line in interval)]
    return "\n".join(lines) + "\n"


def _intervals(items: Sequence[Word | Phone]) -> list[tuple[int, int, str]]:
    """Start, end (milliseconds) and text of each item, and of the gaps before and between them."""
    intervals: list[tuple[int, int, str]] = []
    now = 0
    limits = [*(to_milliseconds(item.start) for item in items[1:]), *(to_milliseconds(item.end) for item in items[-1:])]
    for item, limit in zip(items, limits, strict=True):
        start = max(now, to_milliseconds(item.start))
        if start > now:
            intervals.append((now, start, ""))
        now = max(start + 1, min(to_milliseconds(item.end), limit))
        intervals.append((start, now, item.text))
    return intervals


def jsonl(transcript: Transcript, name: str) -> str:
    """A line of a manifest (asr.data.manifest), with the confidence, to train another model from (pseudo-labels).

    The audio's path is absolute: the line may be written anywhere.
    """
    seconds = round(transcript.duration, 3) or None  # a manifest has no lengths of 0
    entry = {
        "id": name,
        "audio": os.path.abspath(name),
        **({"offset": round(transcript.start, 3), "duration": seconds} if transcript.start else {}),
        "seconds": seconds,
        "text": transcript.text,
        "confidence": round(transcript.confidence, 4),
    }
    return json_line(entry)


LIVE_FORMATS: dict[str, type[Writer]] = {
    "txt": TxtWriter,
    "json": JsonWriter,
    "srt": SrtWriter,
    "vtt": VttWriter,
    "ass": AssWriter,
    "tsv": TsvWriter,
    "ctm": CtmWriter,
}
WHOLE_FORMATS: dict[str, Callable[[Transcript, str], str]] = {"textgrid": textgrid, "jsonl": jsonl}
FORMATS = (*LIVE_FORMATS, *WHOLE_FORMATS)
EXACT_NAMES = ("json", "jsonl")  # formats that can hold any name in UTF-8
SPOKEN_FORMATS = ("ctm", "textgrid", "jsonl")  # without the written form
LAYOUT_FORMATS = {  # the formats that a field of the layout changes
    "line_width": ("srt", "vtt", "ass"),
    "lines": ("srt", "vtt", "ass"),
    "timestamps": ("txt",),
    "highlight_words": ("vtt", "ass"),
}


def render(transcript: Transcript, format: str, name: str, layout: Layout = LAYOUT) -> str:
    """The transcript of the recording `name` in one of `FORMATS`.

    Every format ends in a newline unless it is empty. Raises ArgumentError for a format that does not exist.
    """
    if format not in FORMATS:
        raise ArgumentError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    if format in WHOLE_FORMATS:
        return WHOLE_FORMATS[format](transcript, name)
    return LIVE_FORMATS[format](name, layout).whole(transcript)
