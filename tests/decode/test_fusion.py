"""Gains of tokens: their sums against the documented ones, states, bounds, and what hotwords lend and take back."""

from itertools import pairwise, product

import pytest
from fused import ALPHABETS, Parts, parts, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.fusion import Fusion, FusionState, FusionWeights
from asr.lm.estimate import estimate
from asr.model.tokens import BLANK, WORD_START, Tokens

TOLERANCE = 1e-9
LETTERS = Tokens([BLANK, WORD_START, *"abcdefghijklmnopqrstuvwxyz"])
PIECES = Tokens([BLANK, "▁knee", "▁jerk", "▁new", "▁york", "▁city", "▁k", "nee", "▁j", "er", "k", "▁yo", "rk", "s"])
# Ids beyond the alphabet drawn are taken back into it.
SEQUENCES = st.lists(st.lists(st.integers(0, 100), max_size=10), min_size=1, max_size=6)


def ids(tokens: Tokens, drawn: list[int]) -> list[int]:
    return [1 + number % (len(tokens) - 1) for number in drawn]


def spell(tokens: Tokens, text: str) -> list[int]:
    """Letter by letter, a lone ▁ before every word."""
    return [tokens.symbols.index(letter) for letter in f" {text}".replace(" ", WORD_START)]


def walk(fusion: Fusion, sequence: list[int]) -> tuple[list[float], FusionState]:
    """The sum of gains before the first token and after each, and the last state."""
    state, gains = fusion.start(), [0.0]
    for token in sequence:
        gain, state = fusion.step(state, token)
        gains.append(gains[-1] + gain)
    return gains, state


def total(fusion: Fusion, sequence: list[int]) -> float:
    gains, state = walk(fusion, sequence)
    return gains[-1] + fusion.end(state)


@settings(deadline=None, max_examples=100)
@given(parts(), SEQUENCES)
def test_the_sum_is_the_documented_one_whatever_the_tokens(given_parts: Parts, drawn: list[list[int]]):
    fusion = given_parts.fusion()
    for sequence in [ids(given_parts.tokens, numbers) for numbers in drawn]:
        expected = given_parts.sum(given_parts.tokens.text(sequence))
        assert total(fusion, sequence) == pytest.approx(expected, abs=TOLERANCE)


@settings(deadline=None, max_examples=60)
@given(parts())
def test_equal_states_have_equal_futures(given_parts: Parts):
    fusion, tokens = given_parts.fusion(), given_parts.tokens
    sequences = [list(ids) for length in range(3) for ids in product(range(1, len(tokens)), repeat=length)]
    first_with: dict[FusionState, tuple[list[int], float]] = {}
    for sequence in sequences:
        gains, state = walk(fusion, sequence)
        other, gain = first_with.setdefault(state, (sequence, gains[-1]))
        for future in ([], [1], [2, 3], [3, 1, 2]) if other is not sequence else ():
            found, expected = (given_parts.sum(tokens.text([*past, *future])) for past in (sequence, other))
            assert found - gains[-1] == pytest.approx(expected - gain, abs=TOLERANCE)


def test_other_tokens_of_the_same_text_lead_to_the_same_state():
    text = ("knee jerk", "new york")
    parts = Parts(PIECES, estimate([*text, "york city"], 2)[0], hotwords={"jerk": 5.0, "new york": 3.0})
    ways = (["▁knee", "▁jerk", "▁new", "▁yo", "rk"], ["▁k", "nee", "▁j", "er", "k", "▁new", "▁york"])
    fusion = parts.fusion()
    states = [walk(fusion, [PIECES.symbols.index(symbol) for symbol in way])[1] for way in ways]
    assert states[0] is states[1]


def test_readings_meet_where_the_word_in_progress_cannot_tell_their_older_words_apart():
    parts = Parts(LETTERS, estimate(["the knee", "a knee", "the elbow"], 2)[0])
    fusion = parts.fusion()
    knees, elbows = ([walk(fusion, spell(LETTERS, f"{word} {letter}"))[1] for word in ("a", "the")] for letter in "ke")
    assert knees[0] is not knees[1]
    assert elbows[0] is not elbows[1]  # "the elbow" is a bigram
    assert len({walk(fusion, spell(LETTERS, f"{word} a"))[1] for word in ("a", "the", "elbow")}) == 1


@settings(deadline=None, max_examples=100)
@given(parts(), SEQUENCES)
def test_a_step_that_may_gain_enough_is_not_refused(given_parts: Parts, drawn: list[list[int]]):
    fusion, other, tokens = given_parts.fusion(), given_parts.fusion(), given_parts.tokens
    exact = not given_parts.hotwords
    for sequence in [ids(tokens, numbers) for numbers in drawn]:
        (_, state), (_, known) = walk(fusion, sequence), walk(other, sequence)
        for token in range(1, len(tokens)):
            gain, _ = other.step(known, token)  # `fusion` does not know the step yet, as when the beam asks
            assert fusion.may_gain(state, token, gain - TOLERANCE)
            assert not (exact and fusion.may_gain(state, token, gain + 3 * TOLERANCE))


@settings(deadline=None, max_examples=100)
@given(parts(), SEQUENCES)
def test_no_step_gains_more_than_the_highest_gain(given_parts: Parts, drawn: list[list[int]]):
    fusion = given_parts.fusion()
    for sequence in [ids(given_parts.tokens, numbers) for numbers in drawn]:
        gains, _ = walk(fusion, sequence)
        for before, after in pairwise(gains):
            assert after - before <= fusion.highest_gain + TOLERANCE


@pytest.mark.parametrize("tokens", ALPHABETS)
def test_nothing_to_fuse_gains_nothing(tokens: Tokens):
    fusion = Fusion(tokens)
    for sequence in product(range(1, len(tokens)), repeat=3):
        gains, state = walk(fusion, list(sequence))
        assert gains == [0.0] * 4
        assert fusion.end(state) == 0


@settings(deadline=None, max_examples=100)
@given(parts(), SEQUENCES, st.integers(0, 3))
def test_forgetting_changes_no_result_not_even_that_of_states_in_use(
    given_parts: Parts, drawn: list[list[int]], cached: int
):
    sequences = [ids(given_parts.tokens, numbers) for numbers in drawn]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.decode.fusion.CACHED", cached)
        fusion = given_parts.fusion()
        begun = [walk(fusion, sequence[: len(sequence) // 2]) for sequence in sequences]  # each begins anew
        for sequence, (gains, state) in zip(sequences, begun, strict=True):
            gain = gains[-1]
            fusion.trim()
            for token in sequence[len(sequence) // 2 :]:
                more, state = fusion.step(state, token)
                gain += more
            expected = given_parts.sum(given_parts.tokens.text(sequence))
            assert gain + fusion.end(state) == pytest.approx(expected, abs=TOLERANCE)
            assert len(fusion.cache.states) <= cached + sum(map(len, sequences)) + 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.text("ab", min_size=1, max_size=5))
def test_a_word_in_progress_counts_as_the_likeliest_it_may_become(seed: int, letters: str):
    weights = FusionWeights(lm_weight=0.7, word_bonus=0.4, unknown_score=-3.0)
    parts = Parts(LETTERS, random_model(1, seed), weights)
    words = [word for word in map(parts.model.vocabulary.word, range(len(parts.model.vocabulary))) if "<" not in word]
    gains, _ = walk(parts.fusion(), spell(LETTERS, f"b {letters}"))
    for end in range(1, len(letters) + 1):
        beginning = letters[:end]
        possible = [*(word for word in words if word.startswith(beginning)), beginning + "?"]
        assert gains[3 + end] == pytest.approx(max(parts.sum(f"b {word}") for word in possible), abs=TOLERANCE)


def test_a_boost_is_lent_letter_by_letter_and_taken_back():
    fusion = Fusion(LETTERS, hotwords={"knee jerk": 9.0})
    lent = [0, *(length**2 / 9 for length in range(10))]  # of 9 letters, the space among them, after "▁"
    assert walk(fusion, spell(LETTERS, "knee"))[0] == pytest.approx(lent[:6])
    assert walk(fusion, spell(LETTERS, "knee jump"))[0] == pytest.approx([*lent[:8], 0, 0, 0])
    assert walk(fusion, spell(LETTERS, "knee jerks"))[0] == pytest.approx([*lent, 0])
    assert walk(fusion, spell(LETTERS, "knee jerk a"))[0] == pytest.approx([*lent, 9, 9])
    assert walk(fusion, spell(LETTERS, "tknee"))[0] == [0] * 7  # it starts at the start of a word
    assert total(fusion, spell(LETTERS, "knee jer")) == pytest.approx(0)
    assert total(fusion, spell(LETTERS, "knee")) == pytest.approx(0)
    assert total(fusion, spell(LETTERS, "knee knee jerk")) == pytest.approx(9)


@pytest.mark.parametrize(
    ("text", "boost"),
    [
        ("knee jerk", 1 + 20),
        ("jerk", 20),
        ("knee jer", 0),
        ("knee knee jerk jerk", 1 + 20 + 20),
        ("new york city", 300 + 4000),
        ("york city", 4000),
        ("new new york", 300),
        ("york york city", 4000),
        ("city city city", 2 * 50_000),
    ],
)
def test_every_occurrence_of_every_hotword_counts(text: str, boost: float):
    hotwords = {"knee jerk": 1.0, "jerk": 20.0, "new york": 300.0, "york city": 4000.0, "city city": 50_000.0}
    assert total(Fusion(LETTERS, hotwords=hotwords), spell(LETTERS, text)) == pytest.approx(boost)


def test_the_words_of_a_hotword_are_not_unknown():
    model, _ = estimate(["the knee", "the elbow"], 2)
    plain, hot = (
        Parts(LETTERS, model, FusionWeights(0.5, 1.0, -6.0), hotwords) for hotwords in ({}, {"ivan hoe": 2.5})
    )
    gains = [total(part.fusion(), spell(LETTERS, "the hoe")) for part in (plain, hot)]
    assert gains[1] - gains[0] == pytest.approx(6.0)
    gains = [total(part.fusion(), spell(LETTERS, "the ivan hoe")) for part in (plain, hot)]
    assert gains[1] - gains[0] == pytest.approx(2 * 6.0 + 2.5)
