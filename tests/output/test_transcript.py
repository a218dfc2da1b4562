from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from asr.output.transcript import SEGMENT_CHARACTERS, SEGMENT_PAUSE, Segment, Transcript, Word, split_segments


def words_at(*times: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start, end, 0.9) for text, start, end in times]


@st.composite
def word_lists(draw: st.DrawFn) -> list[Word]:
    words, now = [], 0.0
    for text in draw(st.lists(st.text("abcdefgh'", min_size=1, max_size=100), max_size=40)):
        start = now + draw(st.floats(0, 1.5))
        now = start + draw(st.floats(0.01, 1.0))
        words.append(Word(text, start, now, draw(st.floats(0, 1))))
    return words


def test_no_words_make_no_segments():
    assert split_segments([]) == ()


def test_one_word_makes_one_segment_with_its_times():
    (segment,) = split_segments(words_at(("hello", 1.0, 1.5)))
    assert (segment.text, segment.start, segment.end) == ("hello", 1.0, 1.5)


def test_long_pause_splits_and_pause_at_the_limit_does_not():
    breath = split_segments(words_at(("a", 0.0, 0.0), ("b", SEGMENT_PAUSE, 1.0)))
    silence = split_segments(words_at(("a", 0.0, 0.0), ("b", SEGMENT_PAUSE + 0.01, 1.0)))
    assert [segment.text for segment in breath] == ["a b"]
    assert [segment.text for segment in silence] == ["a", "b"]


def test_exactly_full_segment_stays_whole_and_one_more_character_splits():
    full = split_segments(words_at(("a" * 41, 0, 1), ("b" * (SEGMENT_CHARACTERS - 42), 1, 2)))
    over = split_segments(words_at(("a" * 41, 0, 1), ("b" * (SEGMENT_CHARACTERS - 41), 1, 2)))
    assert [len(segment.text) for segment in full] == [SEGMENT_CHARACTERS]
    assert [len(segment.words) for segment in over] == [1, 1]


def test_word_longer_than_a_segment_stands_alone():
    segments = split_segments(words_at(("a", 0, 1), ("x" * 100, 1, 2), ("b", 2, 3)))
    assert [len(segment.words) for segment in segments] == [1, 1, 1]


def test_words_that_overlap_in_time_stay_together():
    assert len(split_segments(words_at(("a", 0.0, 1.0), ("b", 0.9, 1.5)))) == 1


@given(word_lists())
def test_segments_keep_every_word_in_order_and_hold_both_limits(words: list[Word]):
    segments = split_segments(words)
    assert [word for segment in segments for word in segment.words] == words
    for segment in segments:
        assert segment.words
        assert len(segment.text) <= SEGMENT_CHARACTERS or len(segment.words) == 1
        for before, after in pairwise(segment.words):
            assert after.start - before.end <= SEGMENT_PAUSE


@given(word_lists())
def test_segments_split_only_where_a_limit_demands_it(words: list[Word]):
    segments = split_segments(words)
    for before, after in pairwise(segments):
        paused = after.start - before.end > SEGMENT_PAUSE
        overflows = len(before.text) + 1 + len(after.words[0].text) > SEGMENT_CHARACTERS
        assert paused or overflows


def test_transcript_joins_the_text_and_the_words_of_its_segments():
    words = words_at(("good", 0, 1), ("morning", 1, 2), ("ada", 5, 6))
    transcript = Transcript((Segment(tuple(words[:2])), Segment(tuple(words[2:]))), 7.0)
    assert transcript.text == "good morning ada"
    assert transcript.words == tuple(words)
    assert Transcript((), 3.0).text == ""
