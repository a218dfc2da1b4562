import html
import json
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.transcript import Segment, Transcript, Word, split_segments
from asr.writers import CUE_LINE_CHARACTERS, CUE_LINES, CUE_MINIMUM, FORMATS, Cue, render, subtitle_cues

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
    for text in draw(st.lists(texts, max_size=40)):
        start = max(0.0, now + draw(st.floats(-0.05, 1.5)))
        now = start + draw(st.floats(0, 0.8))
        words.append(Word(text, start, now, draw(st.floats(0, 1))))
    return Transcript(split_segments(words), now + 1)


def live(transcript: Transcript, format: str, name: str = "a") -> list[str]:
    """The pieces in which a transcript is written while it is spoken: each segment is an utterance."""
    writer = FORMATS[format](name)
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
        ("srt", "1\n00:00:01,250 --> 00:00:02,250\nhello\n"),
        ("vtt", "WEBVTT\n\n00:00:01.250 --> 00:00:02.250\nhello\n"),
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


def test_vtt_escapes_markup_and_arrow():
    (cue,) = render(spoken("a<b", "&amp", "-->"), "vtt", "a").split("\n\n")[1:]
    assert cue.split("\n")[1] == "a&lt;b &amp;amp --&gt;"


def test_srt_text_never_holds_the_time_arrow():
    (cue,) = parse_srt(render(spoken("left", "-->", "right"), "srt", "a"))
    assert cue[2] == ["left → right"]


def test_segment_of_two_full_lines_is_one_cue():
    transcript = spoken(*["a" * 20, "b" * 21, "c" * 20, "d" * 20])
    (cue,) = parse_srt(render(transcript, "srt", "a"))
    assert [len(line) for line in cue[2]] == [42, 41]


def test_segment_that_word_breaks_spread_over_three_lines_is_split_at_a_word_time():
    transcript = spoken("a" * 30, "b" * 30, "c" * 22)
    assert len(transcript.segments) == 1
    first, second = parse_srt(render(transcript, "srt", "a"))
    assert first[2] == ["a" * 30]
    assert second[2] == ["b" * 30, "c" * 22]
    assert second[0] == 350  # where the word b starts


def test_short_cue_stays_a_second_or_until_the_next():
    words = [Word("yes", 0.0, 0.1, 1), Word("no", 0.8, 0.9, 1), Word("so", 5.0, 5.1, 1)]
    cues = subtitle_cues(split_segments(words))
    assert [(cue.start, cue.end) for cue in cues] == [(0, 800), (800, 1800), (5000, 6000)]


def test_cues_that_start_together_are_still_ordered_and_visible():
    segments = tuple(Segment((Word(text, 2.0, 3.0, 1),)) for text in "abc")
    cues = subtitle_cues(segments)
    assert [(cue.start, cue.end) for cue in cues] == [(2000, 2001), (2001, 2002), (2002, 3002)]


def test_ctm_start_plus_duration_is_the_end():
    rows = render(Transcript((Segment((Word("a", 0.005, 0.016, 1),)),), 1), "ctm", "x").split()
    assert float(rows[2]) + float(rows[3]) == pytest.approx(0.02)


def test_unknown_format_names_the_known_ones():
    with pytest.raises(AsrError, match="unknown format 'doc'; choose one of txt, json, srt, vtt, tsv, ctm"):
        render(EMPTY, "doc", "a")


@given(transcripts())
@example(EMPTY)
def test_cues_are_ordered_readable_and_complete(transcript: Transcript):
    expected = [word.text for word in transcript.words]
    srt, vtt = parse_srt(render(transcript, "srt", "a")), parse_vtt(render(transcript, "vtt", "a"))
    assert texts_of(srt) == [text.replace("-->", "→") for text in expected]
    assert texts_of(vtt) == expected
    assert [cue[:2] for cue in srt] == [cue[:2] for cue in vtt]
    free_from = 0
    for number, (start, end, lines) in enumerate(vtt):
        assert free_from <= start < end
        free_from = end
        assert len(lines) <= CUE_LINES
        assert all(len(line) <= CUE_LINE_CHARACTERS or " " not in line for line in lines)
        assert end - start >= CUE_MINIMUM or vtt[number + 1][0] == end


@given(transcripts())
def test_cues_start_and_end_with_their_words(transcript: Transcript):
    if any(later.start < word.end for word, later in pairwise(transcript.words)):
        return  # crossing times are moved on purpose; the ordering test covers them
    words = list(transcript.words)
    for cue in subtitle_cues(transcript.segments):
        count = sum(len(line.split(" ")) for line in cue.lines)
        group, words = words[:count], words[count:]
        assert abs(cue.start - 1000 * group[0].start) <= 2
        assert cue.end >= 1000 * group[-1].end - 2
    assert not words


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
    assert render(transcript, "txt", "a") == recording["text"] + "\n" == transcript.text + "\n"
    words = [word["word"] for segment in recording["segments"] for word in segment["words"]]
    assert words == [word.text for word in transcript.words]


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
    assert cues_in_pysrt(render(TALK, "srt", "a")) == subtitle_cues(TALK.segments)


def test_vtt_reads_the_same_in_webvtt_py():
    assert cues_in_webvtt_py(render(TALK, "vtt", "a")) == subtitle_cues(TALK.segments)


@given(transcripts())
@example(EMPTY)
def test_live_subtitles_are_numbered_ordered_readable_and_complete(transcript: Transcript):
    expected = [word.text for word in transcript.words]
    srt, vtt = parse_srt("".join(live(transcript, "srt"))), parse_vtt("".join(live(transcript, "vtt")))
    assert texts_of(srt) == [text.replace("-->", "→") for text in expected]
    assert texts_of(vtt) == expected
    assert [cue[:2] for cue in srt] == [cue[:2] for cue in vtt]
    free_from = 0
    for start, end, _ in vtt:
        assert free_from <= start < end
        free_from = end


@given(st.lists(st.lists(st.text("abc&<", min_size=1, max_size=14), min_size=1, max_size=30), max_size=4))
def test_live_subtitles_of_utterances_apart_are_those_of_the_whole_in_the_libraries(utterances: list[list[str]]):
    parts = [spoken(*texts, start=100.0 * number) for number, texts in enumerate(utterances)]
    transcript = Transcript(tuple(segment for part in parts for segment in part.segments[:1]), 500.0)
    cues = subtitle_cues(transcript.segments)
    assert cues_in_pysrt("".join(live(transcript, "srt"))) == cues
    assert cues_in_webvtt_py("".join(live(transcript, "vtt"))) == cues


def test_a_live_cue_that_stays_for_a_second_delays_the_next():
    first, second = (Segment((Word(text, start, start + 0.1, 1),)) for text, start in (("yes", 0.0), ("no", 0.8)))
    writer = FORMATS["srt"]("a")
    assert writer.add(first) == "1\n00:00:00,000 --> 00:00:01,000\nyes\n"
    assert writer.add(second) == "\n2\n00:00:01,000 --> 00:00:02,000\nno\n"


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
    assert list(FORMATS) == ["txt", "json", "srt", "vtt", "tsv", "ctm"]
