"""A transcript as text in one of the usual formats: txt, json, srt, vtt, tsv, ctm.

One writer per format, found by name in `FORMATS`, after Whisper's `utils.py`. Every writer takes the
transcript and the name of the recording and returns the whole file; opening and saving are the caller's.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asr.errors import AsrError
from asr.transcript import Transcript, Word

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


def subtitle_cues(transcript: Transcript) -> list[Cue]:
    """The subtitles of a transcript, in order, never overlapping, each at least 1 ms long.

    A segment is one cue of at most 2 lines of 42 characters; one that does not fit is halved by its words'
    times. A line is longer only when a single word is. A cue stays for a second where the next one allows it.
    """
    groups = [group for segment in transcript.segments for group in _split_cue(segment.words)]
    starts = [_milliseconds(group[0].start) for group in groups]
    cues: list[Cue] = []
    free_from = 0
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


def write_txt(transcript: Transcript, name: str) -> str:
    """The text on one line; an empty line when nothing was said."""
    return f"{transcript.text}\n"


def write_json(transcript: Transcript, name: str) -> str:
    """One object on one line, so that several recordings make JSON Lines. Times in seconds."""
    segments = [
        {
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
        for segment in transcript.segments
    ]
    recording = {
        "audio": name,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "segments": segments,
    }
    return json.dumps(recording, ensure_ascii=False) + "\n"


def write_srt(transcript: Transcript, name: str) -> str:
    """SubRip subtitles; an empty file when nothing was said.

    SubRip has no escapes. Its one reserved string, `-->`, becomes an arrow; markup characters stay as spoken.
    """
    blocks = []
    for number, cue in enumerate(subtitle_cues(transcript), start=1):
        times = f"{_timestamp(cue.start, ',')} --> {_timestamp(cue.end, ',')}"
        text = "\n".join(cue.lines).replace("-->", "→")
        blocks.append(f"{number}\n{times}\n{text}\n")
    return "\n".join(blocks)


def write_vtt(transcript: Transcript, name: str) -> str:
    """WebVTT subtitles (W3C WebVTT, section 4.2); only the header when nothing was said."""
    blocks = ["WEBVTT\n"]
    for cue in subtitle_cues(transcript):
        times = f"{_timestamp(cue.start, '.')} --> {_timestamp(cue.end, '.')}"
        # `&` first, or it would escape the escapes; `>` because the text must not hold `-->`.
        text = "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{times}\n{text}\n")
    return "\n".join(blocks)


def write_tsv(transcript: Transcript, name: str) -> str:
    """Tab-separated segments, times in whole milliseconds as Whisper writes them."""
    rows = ["start\tend\ttext\n"]
    for segment in transcript.segments:
        text = " ".join(segment.text.split())  # a tab in the text would be a fourth column
        rows.append(f"{_milliseconds(segment.start)}\t{_milliseconds(segment.end)}\t{text}\n")
    return "".join(rows)


def write_ctm(transcript: Transcript, name: str) -> str:
    """NIST time-marked conversation (sclite's `ctm`): recording, channel 1, start, duration, word, confidence.

    Times are seconds with two decimals. Fields are separated by spaces, so a space inside one becomes `_`.
    """
    rows = []
    for word in transcript.words:
        start, end = round(word.start, 2), round(word.end, 2)  # first, so that start + duration is the end
        rows.append(f"{_field(name)} 1 {start:.2f} {end - start:.2f} {_field(word.text)} {word.confidence:.3f}\n")
    return "".join(rows)


def _field(text: str) -> str:
    return re.sub(r"\s", "_", text)


FORMATS: dict[str, Callable[[Transcript, str], str]] = {
    "txt": write_txt,
    "json": write_json,
    "srt": write_srt,
    "vtt": write_vtt,
    "tsv": write_tsv,
    "ctm": write_ctm,
}


def render(transcript: Transcript, format: str, name: str) -> str:
    """The transcript of the recording `name` in one of `FORMATS`.

    Every format ends in a newline unless it is empty. Raises AsrError for a format that does not exist.
    """
    if format not in FORMATS:
        raise AsrError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[format](transcript, name)
