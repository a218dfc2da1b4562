"""Hotwords as people write them."""

import pytest

from asr.decode.hotwords import Hotwords, default_boost, hotword_cases, parse_hotwords
from asr.errors import ArgumentError, AsrError
from asr.model.tokens import BLANK, WORD_START, Tokens

LOWER = Tokens([BLANK, WORD_START, *"abcdefghijklmnopqrstuvwxyz'"])
UPPER = Tokens([BLANK, "▁THE", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"])


@pytest.mark.parametrize(
    ("text", "hotwords"),
    [
        ("Ivanhoe, knee jerk:8", {"ivanhoe": 15.0, "knee jerk": 8.0}),
        ("ivanhoe:2.5\n\n  knee   jerk  \n", {"ivanhoe": 2.5, "knee jerk": 18.0}),
        ("o'brien : 3,", {"o'brien": 3.0}),
        ("O’Brien", {"o'brien": 15.0}),
        ("ada, ADA:4", {"ada": 4.0}),
        ("", {}),
        (" ,\n, ", {}),
    ],
)
def test_phrases_are_parted_by_commas_and_lines_and_may_have_a_boost(text: str, hotwords: dict[str, float]):
    assert parse_hotwords(text, LOWER) == hotwords


def test_they_take_the_case_of_the_tokens():
    assert parse_hotwords("Ivanhoe", UPPER) == {"IVANHOE": 15.0}


def test_a_dotted_capital_i_is_spelled_and_written_as_it_was_given():
    assert parse_hotwords("İstanbul, I\u0307zmir:2", LOWER) == {"istanbul": 18.0, "izmir": 2.0}
    assert hotword_cases("İstanbul") == {("istanbul",): ("İstanbul",)}


def test_titles_are_spoken_as_words_and_written_as_they_were_given():
    assert parse_hotwords("Dr. Who, mrs. Hudson:9", LOWER) == {"doctor who": 21.0, "missus hudson": 9.0}
    assert hotword_cases("Dr. Who, iPhone, ms. x") == {("doctor", "who"): ("Dr.", "Who"), ("iphone",): ("iPhone",)}


@pytest.mark.parametrize("text", ["Müller", "R2D2", "ivanhoe, $:3", "<blank>"])
def test_a_word_that_the_model_cannot_spell_is_named(text: str):
    phrase = text.split(",")[-1].partition(":")[0].strip()
    with pytest.raises(AsrError, match=f"hotword '.*{phrase[1:]}'.*cannot spell"):
        parse_hotwords(text.replace("$", "$$"), LOWER)


@pytest.mark.parametrize("text", ["ivanhoe:", "ivanhoe:much", "ivanhoe:-1", "ivanhoe:0", "ivanhoe:nan", "a:101", ":5"])
def test_a_bad_boost_is_one_clear_line(text: str):
    with pytest.raises(AsrError, match=r"boost is a number above 0|cannot spell"):
        parse_hotwords(text, LOWER)


def test_a_longer_word_is_preferred_more():
    assert [default_boost(word) for word in ("a", "ann", "anna", "new york")] == [3.0, 3.0, 6.0, 15.0]
    long = "a hundred letters " * 8
    assert parse_hotwords(long, LOWER) == {long.strip(): 3.0 * (15 * 8 - 2)}  # more than may be written


@pytest.mark.parametrize(
    "hotwords",
    [
        "Ivanhoe, knee jerk:8",
        ["Ivanhoe", "knee jerk:8"],
        ("Ivanhoe", "Knee jerk : 8"),
        {"Ivanhoe": None, "knee jerk": 8},
    ],
)
def test_text_lists_and_mappings_say_the_same(hotwords: Hotwords):
    assert parse_hotwords(hotwords, LOWER) == {"ivanhoe": 15.0, "knee jerk": 8.0}


@pytest.mark.parametrize(
    ("hotwords", "message"),
    [
        (5, "hotwords: 5 is neither text, a list of phrases, nor a mapping"),
        ([5], r"hotwords: \[5\] is neither"),
        (None, "hotwords: None is neither"),
        ({"ivanhoe": "much"}, "hotword 'ivanhoe:much': a boost is a number"),
        ({"ivanhoe": float("inf")}, "hotword 'ivanhoe:inf': a boost is a number"),
        ({"R2D2": 3.0}, "hotword 'R2D2': the model cannot spell it"),
        ({"": 3.0}, "hotword '': the model cannot spell it"),
        (["ivanhoe:0"], "hotword 'ivanhoe:0': a boost is a number"),
    ],
)
def test_wrong_hotwords_are_an_error_of_ours_that_is_also_a_value_error(hotwords: object, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        parse_hotwords(hotwords, LOWER)  # type: ignore[arg-type]
    assert isinstance(caught.value, AsrError)


@pytest.mark.parametrize("hotwords", ["x" * 100_000, "a, " + "b" * 201, {"c" * 300: 5.0}, ["word"] * 10_001])
def test_long_phrases_and_very_many_are_refused_with_the_limit(hotwords: Hotwords):
    with pytest.raises(ArgumentError, match=r"give at most (200|10,000)") as caught:
        parse_hotwords(hotwords, LOWER)
    assert len(str(caught.value)) <= 300


def test_a_phrase_that_a_terminal_would_obey_is_refused():
    with pytest.raises(ArgumentError, match="control characters") as caught:
        parse_hotwords(["the \x1b[31m cat"], Tokens([BLANK, WORD_START, *"abcdefghijklmnopqrstuvwxyz'"]))
    assert str(caught.value).isprintable()
