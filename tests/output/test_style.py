"""Both forms of a text in every format: words that are written as one, their times, cues and segments."""

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ArgumentError
from asr.output.subtitles import Layout, subtitle_cues
from asr.output.transcript import (
    SEGMENT_CHARACTERS,
    SEGMENT_PAUSE,
    Segment,
    Transcript,
    Word,
    merge_channels,
    split_segments,
    written_words,
)
from asr.output.writers import FORMATS, LIVE_FORMATS, SPOKEN_FORMATS, render

WORDS = (
    Word("she", 0.0, 0.2, 0.9, written="She"),
    Word("paid", 0.3, 0.5, 0.8, written="paid"),
    Word("twenty", 0.6, 0.9, 0.9, written="$25."),
    Word("five", 1.0, 1.3, 0.5, written=""),
    Word("dollars", 1.4, 1.8, 0.7, written=""),
)
TRANSCRIPT = Transcript(split_segments(WORDS), 2.0)
SPOKEN = Transcript(split_segments([Word(word.text, word.start, word.end, word.confidence) for word in WORDS]), 2.0)


def test_a_written_word_has_the_times_of_all_and_the_lowest_confidence() -> None:
    assert TRANSCRIPT.written_words == (*written_words(WORDS[:2]), Word("$25.", 0.6, 1.8, 0.5))
    assert TRANSCRIPT.words == WORDS
    assert (TRANSCRIPT.text, TRANSCRIPT.written) == ("she paid twenty five dollars", "She paid $25.")
    assert (SPOKEN.written_words, SPOKEN.written) == (SPOKEN.words, SPOKEN.text)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_its_form(format: str) -> None:
    text = render(TRANSCRIPT, format, "a")
    if format in SPOKEN_FORMATS:
        assert text == render(SPOKEN, format, "a")
    else:
        assert "She paid $25." in text
    assert "$25" not in render(SPOKEN, format, "a")


def test_json_has_both_forms() -> None:
    values = json.loads(render(TRANSCRIPT, "json", "a"))
    assert (values["text"], values["spoken"]) == ("She paid $25.", "she paid twenty five dollars")
    (segment,) = values["segments"]
    assert (segment["text"], segment["spoken"]) == (values["text"], values["spoken"])
    assert [(word["word"], word["written"]) for word in segment["words"]] == [
        (word.text, word.written) for word in WORDS
    ]
    plain = json.loads(render(SPOKEN, "json", "a"))
    assert "spoken" not in {*plain, *plain["segments"][0]}
    assert set(plain["segments"][0]["words"][0]) == {"word", "start", "end", "confidence"}


def test_subtitles_in_either_style() -> None:
    assert TRANSCRIPT.to_srt() == "1\n00:00:00,000 --> 00:00:01,800\nShe paid $25.\n"
    assert TRANSCRIPT.to_srt("spoken") == SPOKEN.to_srt() == SPOKEN.to_srt("spoken")
    assert TRANSCRIPT.to_vtt("spoken") == SPOKEN.to_vtt()
    apart = merge_channels([TRANSCRIPT, SPOKEN])
    assert apart.to_vtt("spoken").count("<v Channel 1>she paid twenty five dollars") == 1
    with pytest.raises(ArgumentError, match="written or spoken"):
        TRANSCRIPT.to_srt("fancy")  # type: ignore[arg-type]


def test_highlighted_words_are_those_that_are_written() -> None:
    (segment,) = TRANSCRIPT.segments
    text = LIVE_FORMATS["vtt"]("a", Layout(highlight_words=True)).add(segment)
    assert "She <00:00:00.300>paid <00:00:00.600>$25." in text


def from_texts(*texts: str, pause: float = 0.05) -> list[Word]:
    """A word of 0.3 s for each text, and another one for each `=` in it."""
    words: list[Word] = []
    for text in texts:
        for written in (text, *[""] * text.count("=")):
            start = len(words) * (0.3 + pause)
            words.append(Word("w", start, start + 0.3, 0.9, written=written))
    return words


def test_a_segment_that_is_full_ends_with_its_last_sentence_or_else_a_clause() -> None:
    sentences = (
        "It was late. Nobody came to the old house by the river any more, not even once in a whole year in summer."
    )
    segments = split_segments(from_texts(*sentences.split()))
    assert [segment.written for segment in segments] == [
        "It was late.",
        "Nobody came to the old house by the river any more,",
        "not even once in a whole year in summer.",
    ]
    titles = "He said that the best of all the doctors in the city of London at that time was Dr. Smith of Mayfair"
    assert split_segments(from_texts(*titles.split()))[0].written[-6:] != "as Dr."
    noon = "We had been there since three p.m. and nobody who had come to see the pictures wanted to leave it yet now"
    noon = noon.replace("three p.m.", "3=p.m.")
    assert not split_segments(from_texts(*noon.split()))[0].written.endswith("p.m.")
    army = "Most of all that the generals of the allies had planned was for the U.S. Army and the others."
    assert not split_segments(from_texts(*army.split()))[0].written.endswith("U.S.")


TOKENS = st.sampled_from(["a", "end.", "Now", "so,", "May=3rd", "1=2=3=4", "–", "x" * 90, "no?", "Dr.", "p.m."])
TIMED = st.lists(st.tuples(TOKENS, st.floats(0, 1.5), st.floats(0.05, 0.6)), max_size=40)


def spread(parts: Sequence[tuple[str, float, float]]) -> list[Word]:
    words, now = [], 0.0
    for text, pause, length in parts:
        for written in (text, *[""] * text.count("=")):
            words.append(Word("w", now, now + length, 0.9, written=written))
            now += length + pause
    return words


@given(TIMED)
def test_no_segment_and_no_cue_cuts_what_is_written_as_one(parts: list[tuple[str, float, float]]) -> None:
    words = spread(parts)
    segments = split_segments(words)
    assert [word for segment in segments for word in segment.words] == words
    assert all(segment.words[0].written for segment in segments)
    texts = [text for text, *_ in parts]
    assert " ".join(segment.written for segment in segments) == " ".join(texts)
    shown = " ".join(" ".join(cue.lines) for cue in subtitle_cues(segments))
    assert shown == " ".join(texts)
    for segment in segments:
        assert len(segment.written) <= SEGMENT_CHARACTERS or len(segment.written_words) == 1
        tokens = segment.written_words
        assert all(b.start - a.end <= SEGMENT_PAUSE + 1e-9 for a, b in pairwise(tokens))


@given(TIMED, st.integers(0, 80))
def test_more_words_change_only_the_last_segment(parts: list[tuple[str, float, float]], count: int) -> None:
    words = spread(parts)
    while 0 < count < len(words) and words[count].written == "":
        count += 1
    begun: tuple[Segment, ...] = split_segments(words[:count])[:-1]
    assert split_segments(words)[: len(begun)] == begun
