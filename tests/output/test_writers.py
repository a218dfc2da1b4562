import csv
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.data.manifest import read_manifest
from asr.errors import AsrError
from asr.output.subtitles import CUE_MINIMUM, Cue, Layout, subtitle_cues
from asr.output.transcript import Segment, Transcript, Word, merge_channels, split_segments, within
from asr.output.writers import FORMATS, LIVE_FORMATS, render

EMPTY = Transcript((), 5.0)
ONE_WORD = Transcript((Segment((Word("hello", 1.25, 1.5, 0.98765),)),), 2.0)
LATE = Transcript((Segment((Word("late", 3723.0044, 3725.5, 0.5),)),), 4000.0)
VERY_LATE = Transcript((Segment((Word("later", 100 * 3600 + 59.9996, 100 * 3600 + 62, 0.5),)),), 400_000.0)
TIMESTAMP = r"(\d{2,}):([0-5]\d):([0-5]\d)%s(\d{3})"


def spoken(*texts: str, pause: float = 0.05, length: float = 0.3, start: float = 0.0) -> Transcript:
    words = [
        Word(text, start + i * (length + pause), start + i * (length + pause) + length, 0.5)
        for i, text in enumerate(texts)
    ]
    return Transcript(split_segments(words), words[-1].end)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Any words without white space, `-->` and markup included, whose times may touch and slightly cross."""
    texts = st.one_of(
        st.sampled_from(["-->", "<i>", "a&b", "&lt;", "ß", "don't", "x" * 43]),
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=14),
    )
    words, now = [], draw(st.sampled_from([0.0, 3599.5, 86_400.0]))
    for text in draw(st.lists(texts, max_size=20)):
        start = max(0.0, now + draw(st.floats(-0.05, 1.5)))
        now = start + draw(st.floats(0, 0.8))
        words.append(Word(text, start, now, draw(st.floats(0, 1))))
    return Transcript(split_segments(words), now + 1)


def live(transcript: Transcript, format: str, name: str = "a") -> list[str]:
    """The pieces in which a transcript is written while it is spoken: each segment is an utterance."""
    writer = LIVE_FORMATS[format](name)
    return [writer.begin(), *(writer.add(segment) for segment in transcript.segments)]


def to_milliseconds(fields: tuple[str, ...]) -> int:
    hours, minutes, seconds, milliseconds = map(int, fields)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


def parse_blocks(blocks: list[list[str]], decimal_mark: str) -> list[tuple[int, int, list[str]]]:
    time = TIMESTAMP % re.escape(decimal_mark)
    cues = []
    for times, *lines in blocks:
        match = re.fullmatch(f"{time} --> {time}", times)
        assert match, times
        assert lines
        assert all(line.strip() for line in lines)
        cues.append((to_milliseconds(match.groups()[:4]), to_milliseconds(match.groups()[4:]), lines))
    return cues


def split_blocks(text: str) -> list[list[str]]:
    return [block.removesuffix("\n").split("\n") for block in text.split("\n\n")]


def parse_srt(text: str) -> list[tuple[int, int, list[str]]]:
    if not text:
        return []
    blocks = split_blocks(text)
    assert [block[0] for block in blocks] == [str(number) for number in range(1, len(blocks) + 1)]
    return parse_blocks([block[1:] for block in blocks], ",")


def parse_vtt(text: str) -> list[tuple[int, int, list[str]]]:
    header, *blocks = split_blocks(text)
    assert header == ["WEBVTT"]
    cues = parse_blocks(blocks, ".")
    for _, _, lines in cues:
        for line in lines:
            assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", line), line
    return [(start, end, [html.unescape(line) for line in lines]) for start, end, lines in cues]


def texts_of(cues: list[tuple[int, int, list[str]]]) -> list[str]:
    return [word for _, _, lines in cues for line in lines for word in line.split(" ")]


@pytest.mark.parametrize(
    ("format", "expected"),
    [("txt", "\n"), ("srt", ""), ("vtt", "WEBVTT\n"), ("tsv", "start\tend\ttext\n"), ("ctm", "")],
)
def test_empty_transcript(format: str, expected: str):
    assert render(EMPTY, format, "silence.wav") == expected


def test_empty_transcript_as_json_still_names_the_recording():
    assert json.loads(render(EMPTY, "json", "silence.wav")) == {
        "audio": "silence.wav",
        "duration": 5.0,
        "text": "",
        "segments": [],
    }


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("txt", "hello\n"),
        ("srt", "1\n00:00:01,250 --> 00:00:02,000\nhello\n"),
        ("vtt", "WEBVTT\n\n00:00:01.250 --> 00:00:02.000\nhello\n"),
        ("tsv", "start\tend\ttext\n1250\t1500\thello\n"),
        ("ctm", "my_file 1 1.25 0.25 hello 0.988\n"),
    ],
)
def test_one_word(format: str, expected: str):
    assert render(ONE_WORD, format, "my file") == expected


def test_one_word_as_json():
    word = {"word": "hello", "start": 1.25, "end": 1.5, "confidence": 0.988}
    segment = {"start": 1.25, "end": 1.5, "text": "hello", "words": [word]}
    recording = json.loads(render(ONE_WORD, "json", "my file"))
    assert recording == {"audio": "my file", "duration": 2.0, "text": "hello", "segments": [segment]}


def test_json_has_nothing_that_a_terminal_would_obey():
    name = "\x1b[31m \x9b2J \u202e \u2028 größer 😀"
    line = render(EMPTY, "json", name)
    assert line[:-1].isprintable()
    assert "größer 😀" in line
    assert json.loads(line)["audio"] == name


def test_json_of_several_recordings_is_json_lines_in_plain_utf8():
    lines = render(spoken("größer", "été"), "json", "a") + render(EMPTY, "json", "b")
    assert [json.loads(line)["audio"] for line in lines.split("\n") if line] == ["a", "b"]
    assert "größer été" in lines


def test_times_beyond_an_hour():
    assert "01:02:03,004 --> 01:02:05,500" in render(LATE, "srt", "a")
    assert "01:02:03.004 --> 01:02:05.500" in render(LATE, "vtt", "a")
    assert "3723004\t3725500\tlate\n" in render(LATE, "tsv", "a")
    assert render(LATE, "ctm", "a") == "a 1 3723.00 2.50 late 0.500\n"


def test_times_beyond_a_hundred_hours_round_up_into_the_next_minute():
    assert "100:01:00,000 --> 100:01:02,000" in render(VERY_LATE, "srt", "a")
    assert "Dialogue: 0,100:01:00.00,100:01:02.00," in render(VERY_LATE, "ass", "a")


def test_vtt_escapes_markup_and_arrow():
    (cue,) = render(spoken("a<b", "&amp", "-->"), "vtt", "a").split("\n\n")[1:]
    assert cue.split("\n")[1] == "a&lt;b &amp;amp --&gt;"


def test_srt_text_never_holds_the_time_arrow():
    (cue,) = parse_srt(render(spoken("left", "-->", "right"), "srt", "a"))
    assert cue[2] == ["left → right"]


def test_ctm_start_plus_duration_is_the_end():
    rows = render(Transcript((Segment((Word("a", 0.005, 0.016, 1),)),), 1), "ctm", "x").split()
    assert float(rows[2]) + float(rows[3]) == pytest.approx(0.02)


def test_unknown_format_names_the_known_ones():
    with pytest.raises(AsrError, match="unknown format 'doc'; choose one of txt, json, srt, vtt, ass, tsv, ctm"):
        render(EMPTY, "doc", "a")


@given(transcripts())
def test_tsv_rows_are_the_segments_in_milliseconds(transcript: Transcript):
    header, *rows = render(transcript, "tsv", "a").removesuffix("\n").split("\n")
    assert header == "start\tend\ttext"
    parsed = [row.split("\t") for row in rows]
    assert [(int(start), int(end), text) for start, end, text in parsed] == [
        (round(1000 * segment.start), round(1000 * segment.end), segment.text) for segment in transcript.segments
    ]


@given(transcripts())
def test_ctm_rows_are_the_words(transcript: Transcript):
    rows = [
        re.fullmatch(r"a_b 1 (\d+\.\d\d) (\d+\.\d\d) (\S+) ([01]\.\d{3})", row)
        for row in render(transcript, "ctm", "a b").split("\n")[:-1]
    ]
    assert all(rows)
    assert [row[3] for row in rows if row] == [word.text for word in transcript.words]
    for row, word in zip(rows, transcript.words, strict=True):
        assert row
        assert float(row[1]) == pytest.approx(word.start, abs=0.0051)
        assert float(row[1]) + float(row[2]) == pytest.approx(word.end, abs=0.0051)


@given(transcripts())
def test_json_and_txt_hold_the_whole_text(transcript: Transcript):
    line = render(transcript, "json", "a")
    assert line.count("\n") == 1
    recording = json.loads(line)
    assert recording["text"] == transcript.text
    assert render(transcript, "txt", "a") == "\n".join(segment.text for segment in transcript.segments) + "\n"
    words = [word["word"] for segment in recording["segments"] for word in segment["words"]]
    assert words == [word.text for word in transcript.words]


@given(transcripts())
@example(EMPTY)
def test_subtitles_hold_the_cues(transcript: Transcript):
    cues = subtitle_cues(transcript.segments, until=transcript.end)
    srt, vtt = parse_srt(render(transcript, "srt", "a")), parse_vtt(render(transcript, "vtt", "a"))
    assert [Cue(start, end, tuple(lines)) for start, end, lines in vtt] == cues
    assert [cue[:2] for cue in srt] == [cue[:2] for cue in vtt]
    assert texts_of(srt) == [word.text.replace("-->", "→") for word in transcript.words]


TALK = spoken(*("the quick brown fox jumped & said <nothing> to anyone " * 8).split(), start=3590.0)


def cues_in_pysrt(text: str) -> list[Cue]:
    pysrt = pytest.importorskip("pysrt", reason="pysrt is not installed: only our own parser checked the srt")
    return [Cue(cue.start.ordinal, cue.end.ordinal, tuple(cue.text.split("\n"))) for cue in pysrt.from_string(text)]


def cues_in_webvtt_py(text: str) -> list[Cue]:
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py is not installed: only our own parser checked the vtt")
    cues = []
    for cue in webvtt.from_string(text):
        start, end = (to_milliseconds(tuple(re.split("[:.]", time))) for time in (cue.start, cue.end))
        cues.append(Cue(start, end, tuple(html.unescape(cue.raw_text).split("\n"))))
    return cues


def test_srt_reads_the_same_in_pysrt():
    assert cues_in_pysrt(render(TALK, "srt", "a")) == subtitle_cues(TALK.segments, until=TALK.end)


def test_vtt_reads_the_same_in_webvtt_py():
    assert cues_in_webvtt_py(render(TALK, "vtt", "a")) == subtitle_cues(TALK.segments, until=TALK.end)


@given(transcripts())
@example(EMPTY)
def test_live_subtitles_are_numbered_ordered_readable_and_complete(transcript: Transcript):
    expected = [word.text for word in transcript.words]
    srt, vtt = parse_srt("".join(live(transcript, "srt"))), parse_vtt("".join(live(transcript, "vtt")))
    assert texts_of(srt) == [text.replace("-->", "→") for text in expected]
    assert texts_of(vtt) == expected
    assert [cue[:2] for cue in srt] == [cue[:2] for cue in vtt]
    for (start, end, _), (following, _, _) in pairwise(vtt):
        assert min(start + CUE_MINIMUM, following) <= end <= following


@settings(deadline=None)
@given(st.lists(st.lists(st.text("abc&<", min_size=1, max_size=14), min_size=1, max_size=30), max_size=4))
@example([["<"], ["<"], ["<" * length for length in (1, 2, 4, 14, 14, 4, 5, 7, 9, 13, 1)]])
def test_live_subtitles_of_utterances_apart_are_those_of_the_whole_in_the_libraries(utterances: list[list[str]]):
    parts = [spoken(*texts, start=100.0 * number) for number, texts in enumerate(utterances)]
    transcript = Transcript(tuple(segment for part in parts for segment in part.segments[:1]), 500.0)
    cues = [cue for segment in transcript.segments for cue in subtitle_cues([segment])]
    assert cues_in_pysrt("".join(live(transcript, "srt"))) == cues
    assert cues_in_webvtt_py("".join(live(transcript, "vtt"))) == cues
    whole = subtitle_cues(transcript.segments)
    assert [(cue.start, cue.lines) for cue in cues] == [(cue.start, cue.lines) for cue in whole]


CHANNELS = merge_channels(
    [
        Transcript((Segment((Word("hello", 0.5, 0.9, 1.0),)), Segment((Word("fine", 3.0, 3.4, 1.0),))), 4.0),
        Transcript((Segment((Word("hi", 0.8, 1.5, 1.0),)),), 4.0),
    ]
)


@pytest.mark.parametrize(
    ("format", "lines"),
    [
        ("txt", ["[1] hello", "[2] hi", "[1] fine"]),
        (
            "srt",
            ["1", "00:00:00,500 --> 00:00:01,500", "[1] hello", "", "2", "00:00:00,800 --> 00:00:01,800", "[2] hi"],
        ),
        ("vtt", ["WEBVTT", "", "00:00:00.500 --> 00:00:01.500", "<v Channel 1>hello"]),
        ("tsv", ["start\tend\ttext", "500\t900\t[1] hello", "800\t1500\t[2] hi", "3000\t3400\t[1] fine"]),
        ("ctm", ["a 1 0.50 0.40 hello 1.000", "a 2 0.80 0.70 hi 1.000", "a 1 3.00 0.40 fine 1.000"]),
    ],
)
def test_channels_that_were_recognized_apart_are_labeled(format: str, lines: list[str]):
    assert render(CHANNELS, format, "a").splitlines()[: len(lines)] == lines


def test_channels_in_json_and_in_textgrid():
    recording = json.loads(render(CHANNELS, "json", "a"))
    assert [segment["channel"] for segment in recording["segments"]] == [1, 2, 1]
    assert re.findall('name = "(.*)"', render(CHANNELS, "textgrid", "a")) == ["words 1", "words 2"]


def test_timestamps_stand_before_each_segment_of_a_text():
    text = render(CHANNELS, "txt", "a", Layout(timestamps=True))
    assert text.splitlines()[0] == "[00:00:00.500 --> 00:00:00.900] [1] hello"


def test_a_part_has_the_times_of_the_recording(tmp_path: Path):
    part = Transcript((Segment((Word("hello", 10.5, 10.9, 1.0),)),), 2.0, start=10.0)
    assert render(part, "srt", "a") == "1\n00:00:10,500 --> 00:00:11,500\nhello\n"
    assert "xmax = 12.000" in render(part, "textgrid", "a")
    (tmp_path / "part.jsonl").write_text(render(part, "jsonl", str(tmp_path / "a.wav")))
    (entry,) = read_manifest(tmp_path / "part.jsonl")
    assert (entry.offset, entry.duration) == (10.0, 2.0)


@given(transcripts(), st.floats(0, 2))
def test_nothing_ends_after_the_recording_does(transcript: Transcript, cut: float):
    end = max(0.001, transcript.duration - cut)
    words = within(transcript.words, end)
    assert all(word.end <= end for word in words)
    cut_short = Transcript(split_segments(words), end)
    for cue in subtitle_cues(cut_short.segments, until=end):
        assert cue.end <= max(round(1000 * end), cue.start + 1)


def test_a_live_cue_that_stays_for_a_second_delays_the_next():
    first, second = (Segment((Word(text, start, start + 0.1, 1),)) for text, start in (("yes", 0.0), ("no", 0.8)))
    writer = LIVE_FORMATS["srt"]("a")
    assert writer.add(first) == "1\n00:00:00,000 --> 00:00:01,000\nyes\n"
    assert writer.add(second) == "\n2\n00:00:01,000 --> 00:00:02,000\nno\n"


def test_a_live_cue_ends_with_the_audio_so_far():
    word = Segment((Word("yes", 3.0, 3.1, 1),))
    assert [LIVE_FORMATS["srt"]("a").add(word, heard=heard).split()[3] for heard in (9.0, 3.45, 3.0)] == [
        "00:00:04,000",
        "00:00:03,450",
        "00:00:03,001",
    ]


TIME = {"type": "number", "minimum": 0}
WORDS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "word": {"type": "string", "minLength": 1},
            "start": TIME,
            "end": TIME,
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["word", "start", "end", "confidence"],
        "additionalProperties": False,
    },
}
SEGMENT: dict[str, Any] = {
    "type": "object",
    "properties": {"start": TIME, "end": TIME, "text": {"type": "string"}, "words": WORDS},
    "required": ["start", "end", "text", "words"],
    "additionalProperties": False,
}
RECORDING: dict[str, Any] = {
    "type": "object",
    "properties": {
        "audio": {"type": "string"},
        "duration": TIME,
        "text": {"type": "string"},
        "segments": {"type": "array", "items": SEGMENT},
    },
    "required": ["audio", "duration", "text", "segments"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def checked() -> Callable[[str, dict[str, Any]], None]:
    """Whether a line of json has the form that a schema promises."""
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed: nothing checked the json's form"
    )
    return lambda line, schema: jsonschema.Draft202012Validator(schema).validate(json.loads(line))


@settings(max_examples=30)
@given(transcript=transcripts())
@example(transcript=EMPTY)
def test_json_is_as_promised(checked: Callable[[str, dict[str, Any]], None], transcript: Transcript):
    checked(render(transcript, "json", "a"), RECORDING)
    for piece in live(transcript, "json")[1:]:
        checked(piece, SEGMENT)


@given(transcripts())
@example(EMPTY)
def test_tsv_reads_as_rows_in_csv(transcript: Transcript):
    rows = csv.reader(io.StringIO(render(transcript, "tsv", "a"), newline=""), "excel-tab", quoting=csv.QUOTE_NONE)
    assert [row[2] for row in rows] == ["text", *(segment.text for segment in transcript.segments)]


Interval = tuple[float, float, str]


def intervals_in_praatio(text: str, path: Path) -> tuple[float, list[Interval]]:
    """The end of the recording, and the intervals of its only tier, the empty ones too."""
    textgrid = pytest.importorskip("praatio.textgrid", reason="praatio is not installed: nothing read the textgrid")
    path.write_text(text, encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    assert grid.tierNames == ("words",)
    tier = grid.getTier("words")
    assert (tier.minTimestamp, grid.minTimestamp, tier.maxTimestamp) == (0, 0, grid.maxTimestamp)
    return grid.maxTimestamp, [(entry.start, entry.end, entry.label) for entry in tier.entries]


@pytest.fixture(scope="module")
def grid_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("praat") / "a.TextGrid"


@settings(deadline=None)
@given(transcript=transcripts(), cut=st.floats(0, 2))
@example(transcript=EMPTY, cut=0)
@example(transcript=Transcript((), 0.0), cut=0)
def test_textgrid_covers_the_recording_in_praatio(transcript: Transcript, cut: float, grid_path: Path):
    transcript = Transcript(transcript.segments, max(0.0, transcript.duration - cut))  # may end before its last word
    duration, intervals = intervals_in_praatio(render(transcript, "textgrid", "a"), grid_path)
    assert duration >= round(transcript.duration, 3)
    assert (intervals[0][0], intervals[-1][1]) == (0, duration)
    assert all(start < end for start, end, _ in intervals)
    assert all(one[1] == other[0] for one, other in pairwise(intervals))
    assert not any(one[2] == other[2] == "" for one, other in pairwise(intervals))
    assert [text for _, _, text in intervals if text] == [word.text for word in transcript.words]


@settings(deadline=None)
@given(texts=st.lists(st.sampled_from(["a", '"', '""', 'he"', "größer", "日本", "him —"]), min_size=1))
def test_textgrid_words_have_their_own_times_in_praatio(texts: list[str], grid_path: Path):
    transcript = spoken(*texts, start=0.5)
    duration, intervals = intervals_in_praatio(render(transcript, "textgrid", "a"), grid_path)
    assert duration == pytest.approx(transcript.duration)
    words = [interval for interval in intervals if interval[2]]
    assert [text for _, _, text in words] == texts
    for (start, end, _), word in zip(words, transcript.words, strict=True):
        assert (start, end) == pytest.approx((word.start, word.end), abs=0.0006)


def test_textgrid_is_praats_long_text_form():
    assert (
        render(Transcript((Segment((Word('"x"', 0.1, 0.25, 1),)),), 0.25), "textgrid", "a")
        == """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.250
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.250
        intervals: size = 2
        intervals [1]:
            xmin = 0.000
            xmax = 0.100
            text = ""
        intervals [2]:
            xmin = 0.100
            xmax = 0.250
            text = \"\"\"x\"\"\"
"""
    )


@given(transcripts())
@example(EMPTY)
def test_live_json_is_an_object_for_each_utterance(transcript: Transcript):
    pieces = live(transcript, "json")
    assert pieces[0] == ""
    assert all(piece.endswith("\n") and piece.count("\n") == 1 for piece in pieces[1:])
    assert [json.loads(piece) for piece in pieces[1:]] == json.loads(render(transcript, "json", "a"))["segments"]


@given(transcripts())
def test_live_txt_is_a_line_for_each_utterance(transcript: Transcript):
    assert live(transcript, "txt") == ["", *(segment.text + "\n" for segment in transcript.segments)]


@pytest.mark.parametrize("format", ["tsv", "ctm"])
@given(transcript=transcripts())
def test_live_rows_are_those_of_the_whole(format: str, transcript: Transcript):
    assert "".join(live(transcript, format)) == render(transcript, format, "a")


def test_formats_are_the_promised_ones():
    assert list(LIVE_FORMATS) == ["txt", "json", "srt", "vtt", "ass", "tsv", "ctm"]
    assert list(FORMATS) == [*LIVE_FORMATS, "textgrid", "jsonl"]


@given(transcript=transcripts())
def test_a_line_of_jsonl_is_read_back_as_a_manifest(transcript: Transcript, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "pseudo.jsonl").write_text(render(transcript, "jsonl", "talks/a.wav"), encoding="utf-8")
    (entry,) = read_manifest(folder / "pseudo.jsonl")
    assert (entry.id, entry.audio, entry.text) == ("talks/a.wav", Path("talks/a.wav").absolute(), transcript.text)
    assert entry.seconds == pytest.approx(transcript.duration, abs=1e-3)
    confidences = [word.confidence for word in transcript.words]
    assert entry.confidence == pytest.approx(sum(confidences) / max(1, len(confidences)), abs=1e-4)


def test_a_recording_of_no_length_is_a_line_without_seconds(tmp_path: Path):
    (tmp_path / "pseudo.jsonl").write_text(render(Transcript((), 0.0), "jsonl", "a.wav"), encoding="utf-8")
    (entry,) = read_manifest(tmp_path / "pseudo.jsonl")
    assert (entry.text, entry.seconds, entry.confidence) == ("", None, 0.0)


# Word by word


def cue_words() -> Transcript:
    spoken = ["so", "{this}", "is", "<what>", "we", "say", *["and", "so", "on"] * 3]
    words = tuple(Word(text, 0.5 + 0.3 * number, 0.75 + 0.3 * number, 1.0) for number, text in enumerate(spoken))
    return Transcript((Segment(words),), 10.0)


def test_ass_has_the_cues_of_srt_as_ffmpeg_reads_it(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not on PATH")
    for highlight in (False, True):
        layout = Layout(highlight_words=highlight)
        (tmp_path / "a.ass").write_text(render(cue_words(), "ass", "a", layout), encoding="utf-8")
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", tmp_path / "a.ass", "-f", "srt", "-"]
        shown = subprocess.run(command, check=True, capture_output=True).stdout.decode().replace("\\", "")
        assert shown.split() == render(cue_words(), "srt", "a").split()


def test_words_light_up_when_they_are_spoken() -> None:
    layout = Layout(highlight_words=True)
    vtt = render(cue_words(), "vtt", "a", layout)
    marks = re.findall(r"<(\d\d:\d\d:\d\d\.\d\d\d)>(\S+)", vtt)
    assert marks[0] == ("00:00:00.800", "{this}")
    assert marks[2] == ("00:00:01.400", "&lt;what&gt;")
    assert len(marks) == len(cue_words().words) - 1, "all but the first, which begins with the cue"
    assert re.sub(r"<\d[^>]*>", "", vtt) == render(cue_words(), "vtt", "a")
    (dialogue,) = (line for line in render(cue_words(), "ass", "a", layout).splitlines() if line.startswith("Dialogue"))
    lengths = [int(number) for number in re.findall(r"\\k(\d+)", dialogue)]
    assert lengths[:3] == [30, 30, 30]
    start, end = (60 * int(m) + float(s) for m, s in re.findall(r"0:(\d\d):(\d\d\.\d\d)", dialogue))
    assert sum(lengths) == pytest.approx(100 * (end - start))
