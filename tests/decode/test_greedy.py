"""Greedy decoding on hand-made log-probs, where the right answer can be read off."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode.base import Hypothesis
from asr.decode.greedy import GreedyDecoder
from asr.model.tokens import BLANK, BLANK_ID, WORD_START, Tokens

FRAME_SECONDS = 0.04
CHARACTERS = Tokens([BLANK, WORD_START, *"'adehlnort"])
PIECES = Tokens([BLANK, "▁he", "l", "lo", "▁wor", "ld", "▁don", "'", "t"])


def spoken(tokens: Tokens, frames: list[tuple[str, float]]) -> np.ndarray:
    """Log-probs in which each frame gives the named symbol the given probability, the others the rest."""
    probs = np.empty((len(frames), len(tokens)))
    for row, (symbol, probability) in zip(probs, frames, strict=True):
        row[:] = (1 - probability) / (len(tokens) - 1)
        row[tokens.symbols.index(symbol)] = probability
    return np.log(probs).astype(np.float32)


def sure(tokens: Tokens, symbols: list[str]) -> np.ndarray:
    return spoken(tokens, [(symbol, 0.9) for symbol in symbols])


def decode(tokens: Tokens, *chunks: np.ndarray) -> Hypothesis:
    decoder = GreedyDecoder(tokens, FRAME_SECONDS)
    state = decoder.reset()
    for chunk in chunks:
        decoder.advance(state, chunk)
    (hypothesis,) = decoder.finish(state)
    return hypothesis


def test_repeats_collapse_and_a_blank_between_doubles_the_letter():
    symbols = ["▁", "h", "h", "e", "l", BLANK, "l", "l", "o", BLANK]
    hypothesis = decode(CHARACTERS, sure(CHARACTERS, symbols))
    assert hypothesis.text == "hello"
    assert hypothesis.tokens == tuple(CHARACTERS.symbols.index(symbol) for symbol in "▁hello")


def test_character_words_are_timed_by_letters_not_by_the_word_start():
    symbols = ["▁", BLANK, "h", "a", "a", BLANK, "▁", "▁", BLANK, "d", "o", "▁"]
    words = decode(CHARACTERS, sure(CHARACTERS, symbols)).words
    assert [word.text for word in words] == ["ha", "do"]
    assert [(word.start, word.end) for word in words] == [
        (2 * FRAME_SECONDS, 5 * FRAME_SECONDS),
        (9 * FRAME_SECONDS, 11 * FRAME_SECONDS),
    ]


def test_piece_words_begin_at_the_piece_with_the_word_start():
    symbols = [BLANK, "▁he", BLANK, "l", "lo", BLANK, "▁wor", BLANK, "ld"]
    words = decode(PIECES, sure(PIECES, symbols)).words
    assert [word.text for word in words] == ["hello", "world"]
    assert [(word.start, word.end) for word in words] == [
        (1 * FRAME_SECONDS, 5 * FRAME_SECONDS),
        (6 * FRAME_SECONDS, 9 * FRAME_SECONDS),
    ]


@pytest.mark.parametrize(
    ("tokens", "symbols"),
    [(CHARACTERS, ["▁", "d", "o", "n", "'", "t"]), (PIECES, ["▁don", "'", "t"])],
    ids=["characters", "pieces"],
)
def test_apostrophes_stay_inside_their_word(tokens, symbols):
    assert [word.text for word in decode(tokens, sure(tokens, symbols)).words] == ["don't"]


def test_a_word_without_a_word_start_at_the_very_beginning_is_kept():
    assert decode(PIECES, sure(PIECES, ["lo", BLANK, "▁he"])).text == "lo he"


def test_confidence_is_the_geometric_mean_of_each_tokens_best_frame():
    log_probs = spoken(PIECES, [("▁he", 0.5), ("▁he", 0.9), ("▁he", 0.7), (BLANK, 0.99), ("lo", 0.4)])
    (word,) = decode(PIECES, log_probs).words
    assert word.confidence == pytest.approx((0.9 * 0.4) ** 0.5, rel=1e-5)


def test_a_lone_word_start_does_not_lower_the_confidence():
    (word,) = decode(CHARACTERS, spoken(CHARACTERS, [("▁", 0.3), ("a", 0.8)])).words
    assert word.confidence == pytest.approx(0.8, rel=1e-5)


def test_score_is_the_log_prob_of_the_best_path():
    log_probs = spoken(PIECES, [("▁he", 0.5), (BLANK, 0.9)])
    assert decode(PIECES, log_probs).score == pytest.approx(np.log(0.5 * 0.9), rel=1e-5)


def test_a_token_across_a_chunk_boundary_is_one_token_that_grows():
    decoder = GreedyDecoder(PIECES, FRAME_SECONDS)
    state = decoder.reset()
    decoder.advance(state, spoken(PIECES, [(BLANK, 0.9), ("▁he", 0.5)]))
    (before,) = decoder.partial(state).words
    decoder.advance(state, spoken(PIECES, [("▁he", 0.8), (BLANK, 0.9)]))
    (after,) = decoder.partial(state).words
    assert (before.start, before.end) == (FRAME_SECONDS, 2 * FRAME_SECONDS)
    assert (after.start, after.end) == (FRAME_SECONDS, 3 * FRAME_SECONDS)
    assert before.confidence == pytest.approx(0.5, rel=1e-5)
    assert after.confidence == pytest.approx(0.8, rel=1e-5)


def test_a_blank_at_a_chunk_boundary_still_doubles_the_letter():
    first, second = sure(PIECES, ["▁he", "l", BLANK]), sure(PIECES, ["l"])
    assert decode(PIECES, first, second).text == "hell"


@given(st.data())
def test_any_way_to_cut_chunks_gives_the_equal_hypothesis(data):
    frames = data.draw(st.integers(0, 40), label="frames")
    seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=8), label="cuts"))
    rng = np.random.default_rng(seed)
    likely = rng.choice(4, size=frames)  # few symbols, so that runs cross the cuts
    log_probs = np.log(rng.dirichlet(np.ones(len(PIECES)), size=frames)).astype(np.float32)
    log_probs[np.arange(frames), likely] += 3
    assert decode(PIECES, *np.split(log_probs, cuts)) == decode(PIECES, log_probs)


@pytest.mark.parametrize("symbols", [[], [BLANK] * 3, ["▁", BLANK, "▁"]], ids=["no frames", "blanks", "no letters"])
def test_nothing_heard_gives_no_words(symbols):
    hypothesis = decode(CHARACTERS, sure(CHARACTERS, symbols))
    assert hypothesis.words == ()
    assert hypothesis.text == ""
    assert BLANK_ID not in hypothesis.tokens


@pytest.mark.parametrize("shape", [(3,), (3, len(PIECES) + 1), (1, 3, len(PIECES))])
def test_a_wrong_shape_is_refused(shape):
    decoder = GreedyDecoder(PIECES, FRAME_SECONDS)
    with pytest.raises(ValueError, match=r"log_probs must have shape \(frames, 9\)"):
        decoder.advance(decoder.reset(), np.zeros(shape, dtype=np.float32))


def test_nan_is_refused():
    decoder = GreedyDecoder(PIECES, FRAME_SECONDS)
    with pytest.raises(ValueError, match="NaN"):
        decoder.advance(decoder.reset(), np.full((1, len(PIECES)), np.nan, dtype=np.float32))
