"""Every rule of subtitles, over words whose times are good, too close together, or wrong."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.output.subtitles import CUE_MINIMUM, LAYOUT, LONGER, READING_SPEED, Cue, Layout, subtitle_cues
from asr.output.transcript import SEGMENT_PAUSE, Segment, Word, split_segments

TEXTS = st.one_of(st.sampled_from(["a", "end.", "him —", "x" * 43, "y" * 100]), st.text("abc", min_size=1, max_size=14))


def in_turn(*parts: tuple[str, float, float], start: float = 0.0) -> list[Word]:
    """Words one after the other: text, silence before it, length."""
    words = []
    for text, silence, length in parts:
        words.append(Word(text, start + silence, start + silence + length, 1))
        start += silence + length
    return words


def cues_of(words: list[Word], free_from: int = 0) -> list[Cue]:
    return subtitle_cues(split_segments(words), free_from)


def words_of(cue: Cue) -> list[str]:
    return " ".join(cue.lines).split(" ")


@st.composite
def speech(draw: st.DrawFn) -> list[Word]:
    """Words in order; as fast as 20 a second, or with pauses of up to two seconds."""
    part = st.tuples(TEXTS, st.one_of(st.just(0.0), st.floats(0, 2)), st.floats(0.05, 0.8))
    return in_turn(*draw(st.lists(part, max_size=40)))


# Times that are anywhere, in any order, and may end before they begin.
anything = st.lists(st.builds(Word, TEXTS, st.floats(-1, 20), st.floats(-1, 20), st.just(1.0)), max_size=30)
any_words = st.one_of(speech(), anything)
layouts = st.builds(Layout, st.integers(10, 50), st.integers(1, 3))


@given(any_words)
def test_every_word_is_shown_once_and_in_order(words: list[Word]) -> None:
    shown = " ".join(" ".join(cue.lines) for cue in cues_of(words))
    assert shown == " ".join(word.text for word in words)


@given(any_words)
def test_a_cue_has_at_most_two_lines_of_42_characters(words: list[Word]) -> None:
    whole = {word.text for word in words}
    for cue in cues_of(words):
        assert 1 <= len(cue.lines) <= LAYOUT.lines == 2
        assert all(len(line) <= LAYOUT.line_width == 42 or line in whole for line in cue.lines)


@given(any_words, st.integers(0, 30_000))
def test_cues_never_overlap_and_last_a_second_or_until_the_next(words: list[Word], free_from: int) -> None:
    cues = cues_of(words, free_from)
    for cue, following in pairwise(cues):
        assert free_from <= cue.start < cue.end <= following.start
        assert cue.end >= min(cue.start + CUE_MINIMUM, following.start)
    assert CUE_MINIMUM == 1000


@given(speech(), layouts, st.one_of(st.none(), st.floats(0, 2)))
def test_a_cue_begins_with_its_words_and_stays_to_their_end(
    words: list[Word], layout: Layout, silence: float | None
) -> None:
    until = words[-1].end + silence if words and silence is not None else None
    cues = subtitle_cues(split_segments(words), until=until, layout=layout)
    assert [word for cue in cues for word in cue.words] == words
    last = 10**9 if until is None else round(1000 * until)
    for number, cue in enumerate(cues, 1):
        room = cues[number].start if number < len(cues) else last
        assert cue.start == round(1000 * cue.words[0].start)
        assert min(room, max(cue.start + CUE_MINIMUM, round(1000 * cue.words[-1].end))) <= cue.end <= room


def count_words(cue: Cue, words: list[Word]) -> int:
    """How many of the words the cue shows: a word may hold a space."""
    text, count = " ".join(cue.lines), 0
    while text:
        text = text.removeprefix(words[count].text).removeprefix(" ")
        count += 1
    return count


@given(speech())
def test_a_pause_inside_a_cue_is_there_only_for_a_cue_that_would_not_have_its_second(words: list[Word]) -> None:
    number = 0
    for cue in cues_of(words):
        shown = words[number : number + count_words(cue, words[number:])]
        number += len(shown)
        for place, (word, later) in enumerate(pairwise(shown), 1):
            if later.start - word.end > SEGMENT_PAUSE + 1e-6:
                following = words[number].start if number < len(words) else float("inf")
                assert later.start - shown[0].start < 1.001 or following - later.start < 1.001, place


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a" * 20 + " " + "b" * 21 + " " + "c" * 20 + " " + "d" * 20, (42, 41)),
        ("a" * 42 + " " + "b" * 42, (42, 42)),
        ("short", (5,)),
    ],
)
def test_what_fits_two_lines_is_one_cue(text: str, lines: tuple[int, ...]) -> None:
    (cue,) = cues_of(in_turn(*((word, 0.05, 0.3) for word in text.split())))
    assert tuple(map(len, cue.lines)) == lines


def test_a_word_longer_than_a_line_stays_whole() -> None:
    cues = cues_of(in_turn(("see", 0, 0.5), ("x" * 60, 0, 2), ("there", 0, 0.5)))
    assert [line for cue in cues for line in cue.lines] == ["see", "x" * 60, "there"]


def test_a_long_sentence_is_cut_at_its_longest_breath() -> None:
    words = in_turn(*(("word", 0.3 if number == 13 else 0.02, 0.3) for number in range(24)))  # 119 characters
    assert [len(words_of(cue)) for cue in cues_of(words)] == [13, 11]


def test_a_long_sentence_without_a_breath_is_cut_in_the_middle() -> None:
    words = in_turn(*(("word", 0.02, 0.3) for _ in range(24)))
    assert [len(words_of(cue)) for cue in cues_of(words)] == [12, 12]


@pytest.mark.parametrize("end", ["end.", "end?”", "end!)", "end…"])
def test_two_sentences_without_a_pause_are_cut_between_them(end: str) -> None:
    words = in_turn(*((end if number == 9 else "word", 0.02, 0.3) for number in range(24)))
    assert [len(words_of(cue)) for cue in cues_of(words)] == [10, 14]


def test_words_without_a_pause_are_not_cut_where_segments_end() -> None:
    """A segment ends where a line would overflow, in the middle of a phrase."""
    words = in_turn(*(("word", 0.3 if number == 12 else 0.02, 0.3) for number in range(24)))
    assert [len(segment.words) for segment in split_segments(words)] == [17, 7]
    assert [len(words_of(cue)) for cue in cues_of(words)] == [12, 12]


def test_words_apart_by_a_pause_are_cues_of_their_own() -> None:
    cues = cues_of(in_turn(("yes", 0, 0.4), ("no", 0.7, 0.3), ("so", 4, 0.1)))
    assert [(cue.start, cue.end, cue.lines) for cue in cues] == [
        (0, 1000, ("yes",)),
        (1100, 2100, ("no",)),
        (5400, 6400, ("so",)),
    ]


def test_a_word_that_would_not_have_its_second_is_shown_with_a_neighbour() -> None:
    cues = cues_of(in_turn(("yes", 0, 0.1), ("no", 0.7, 0.1), ("so", 4, 0.1)))
    assert [(cue.start, cue.end, cue.lines) for cue in cues] == [(0, 1000, ("yes no",)), (4900, 5900, ("so",))]


def test_cues_of_words_too_fast_for_them_are_short_and_not_late() -> None:
    cues = cues_of(in_turn(*[("x" * 42, 0, 0.125)] * 8))
    assert [(cue.start, cue.end) for cue in cues] == [(0, 250), (250, 500), (500, 750), (750, 1750)]


def test_cues_that_begin_at_one_time_share_the_time_until_the_next() -> None:
    words = [Word(text, 2.0, 2.0, 0, spoken=False) for text in ("not", "spoken")] + [Word("spoken", 2.8, 3.2, 1)]
    cues = subtitle_cues(split_segments(words), until=10.0, layout=Layout(6, 1))
    assert [(cue.start, cue.end) for cue in cues] == [(2000, 2400), (2400, 2800), (2800, 3800)]


def test_cues_before_the_time_that_is_free_share_the_time_until_the_next() -> None:
    words = in_turn(("eleven", 0.5, 0.4), ("twelve", 0, 0.5), ("thirteen", 0, 1.2))
    cues = subtitle_cues(split_segments(words), free_from=1000, layout=Layout(10, 1))
    assert [(cue.start, cue.end) for cue in cues] == [(1000, 1200), (1200, 1400), (1400, 2600)]


def test_words_at_one_time_are_one_cue() -> None:
    (cue,) = subtitle_cues([Segment((Word(text, 2.0, 3.0, 1),)) for text in "abc"])
    assert cue == Cue(2000, 3000, ("a b c",))


def test_a_cue_stays_until_it_could_be_read() -> None:
    slow = in_turn(*(("wordsoften", 0.0, 0.1) for _ in range(6)))
    (cue,) = subtitle_cues(split_segments(slow), until=10.0)
    assert cue.end == 600 + LONGER, "65 characters take 3.8 s, of which it has a second more than its words"
    (cue,) = subtitle_cues(split_segments(in_turn(*(("wordsofte", 0.0, 0.5) for _ in range(6)))), until=10.0)
    assert cue.end == 1000 * 59 // READING_SPEED
    later = [*slow, Word("later", 1.5, 2.0, 1)]
    first, _ = subtitle_cues(split_segments(later), until=10.0)
    assert first.end == 1500, "the next one is waiting"
    (cue,) = subtitle_cues(split_segments(slow), until=1.2)
    assert cue.end == 1200, "the recording ends"


def test_lines_are_balanced() -> None:
    (cue,) = cues_of(in_turn(*((word, 0.0, 0.3) for word in ["word"] * 9)))
    assert cue.lines == ("word word word word word", "word word word word")


def test_no_last_word_stands_alone() -> None:
    words = in_turn(*((word, 0.0, 0.4) for word in ["eleven12345"] * 7), ("end", 0.3, 0.9), ("new", 2.0, 0.5))
    cues = cues_of(words)
    assert len(words_of(cues[-2])) > 1
    assert cues[-2].lines[-1].endswith("end")


def test_width_and_number_of_lines_can_be_chosen() -> None:
    words = in_turn(*((word, 0.0, 0.4) for word in ["word"] * 40))
    for layout in (Layout(20, 1), Layout(32, 3), Layout(60, 2)):
        cues = subtitle_cues(split_segments(words), layout=layout)
        assert " ".join(" ".join(cue.lines) for cue in cues) == " ".join(["word"] * 40)
        assert max(len(cue.lines) for cue in cues) == layout.lines
        assert all(len(line) <= layout.line_width for cue in cues for line in cue.lines)


def said(text: str, comma: float = 0.12, sentence: float = 0.35) -> list[Word]:
    """Words at 15 characters a second, with these pauses after marks."""
    parts, silence = [], 0.0
    for word in text.split():
        parts.append((word, silence, len(word) / 15))
        silence = comma if word[-1] in ",;" else sentence if word[-1] in ".?!" and word != "Dr." else 0.06
    return in_turn(*parts)


def test_cues_end_with_sentences() -> None:
    text = (
        "It has never been surpassed. Printing, then, for our purpose, may be considered as the art of making books "
        "by means of movable types. Now, as all books not primarily intended as picture-books consist of types "
        "composed to form letterpress, it is of the first importance that the letter used should be fine in form. But "
        "why?"
    )
    shown = [" ".join(cue.lines) for cue in cues_of(said(text, sentence=0.1))]
    assert sum(cue.endswith((".", "?")) for cue in shown) == 4
    assert [cue for cue in shown if "." in cue[:-1]] == []


def test_short_sentences_share_a_cue_and_none_is_a_flash() -> None:
    text = (
        "Hello. Good morning. Is Dr. Smith in? No. He left at five. Oh. When will he be back? I don't know. Right. "
        "Absolutely. Okay, so what do we do? Fine. Thank you. Unbelievably. Interesting. Well, then. Bye."
    )
    for sentence in (0.1, 0.35, 0.5):
        cues = cues_of(said(text, sentence=sentence))
        assert [cue.lines for cue in cues if len(cue.words) == 1] == []
        assert all(cue.end - cue.start >= CUE_MINIMUM for cue in cues)
        assert all(cue.start == round(1000 * cue.words[0].start) for cue in cues), "none is late"
        assert [cue for cue in cues if cue.lines[-1].endswith("Dr.")] == []


def test_lines_break_after_a_clause() -> None:
    (cue,) = cues_of(said("If not powered properly, only a blue screen will be displayed."))
    assert cue.lines == ("If not powered properly,", "only a blue screen will be displayed.")
    (cue,) = cues_of(said("So it is, and it was in the middle of the night that he came."))
    assert cue.lines == ("So it is, and it was in the", "middle of the night that he came."), "not after three words"


@pytest.mark.parametrize("width", [10, 16, 24])
def test_narrow_cues_of_fast_speech_stay_with_the_words_and_end_with_the_recording(width: int) -> None:
    words = [Word("quickly" if number % 2 else "now", 0.3 * number, 0.3 * number + 0.25, 1) for number in range(200)]
    cues = subtitle_cues(split_segments(words), 0, 60.0, Layout(line_width=width, lines=1))
    assert all(cue.end <= 60_000 for cue in cues)
    assert all(cue.start == round(1000 * cue.words[0].start) for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))
