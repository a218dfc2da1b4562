"""Stable words: whatever is heard later, the first `stable` words of a partial hypothesis stay as they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decode.base import Decoder, Hypothesis
from asr.decode.beam import COMMIT_FRAMES, BeamDecoder
from asr.decode.greedy import GreedyDecoder
from asr.model.tokens import BLANK, BLANK_ID, WORD_START, Tokens

FRAME_SECONDS = 0.04
CHARACTERS = Tokens([BLANK, WORD_START, *"ab'"])
PIECES = Tokens([BLANK, "▁a", "b", "▁", "▁cd"])
DECODERS = {
    "greedy": GreedyDecoder,
    "beam 1": lambda *about: BeamDecoder(*about, beam_width=1),
    "beam 2": lambda *about: BeamDecoder(*about, beam_width=2),
    "beam 32": BeamDecoder,
    # All is decided at once wherever the decoder commits.
    "beam 8, hasty": lambda *about: BeamDecoder(*about, beam_width=8, commit_seconds=0.0),
}

every_decoder = pytest.mark.parametrize("name", DECODERS)


def random_log_probs(frames: int, sharpness: float, seed: int) -> np.ndarray:
    """From flat (many rivals that swap places) to sharp (one symbol a frame); every other frame rather a blank."""
    logits = np.random.default_rng(seed).normal(0, sharpness, (frames, len(CHARACTERS)))
    logits[::2, BLANK_ID] += 2 * sharpness
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def spoken(*symbols: str) -> np.ndarray:
    """Peaky frames of `CHARACTERS`, which must be read as these symbols."""
    probs = np.full((len(symbols), len(CHARACTERS)), 1e-9)
    probs[np.arange(len(symbols)), [CHARACTERS.symbols.index(symbol) for symbol in symbols]] = 1
    return np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


def listen(decoder: Decoder, chunks: list[np.ndarray]) -> list[Hypothesis]:
    """A partial hypothesis after each chunk, and the final one."""
    state, heard = decoder.reset(), []
    for chunk in chunks:
        decoder.advance(state, chunk)
        heard.append(decoder.partial(state))
    return [*heard, decoder.finish(state)[0]]


def words_of(hypothesis: Hypothesis) -> list[str]:
    return [word.text for word in hypothesis.words]


@every_decoder
@settings(deadline=None, max_examples=40)
@given(
    tokens=st.sampled_from([CHARACTERS, PIECES]),
    frames=st.sampled_from([10, 60, COMMIT_FRAMES + 60, 3 * COMMIT_FRAMES + 1]),
    sharpness=st.sampled_from([0.3, 1.0, 3.0]),
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.floats(0, 1), max_size=40),
)
def test_what_is_stable_begins_everything_later(
    name: str, tokens: Tokens, frames: int, sharpness: float, seed: int, cuts: list[float]
):
    at = [round(cut * frames) for cut in sorted(cuts)]
    heard = listen(DECODERS[name](tokens, FRAME_SECONDS), np.split(random_log_probs(frames, sharpness, seed), at))
    stable: list[str] = []
    for hypothesis in heard:
        words = words_of(hypothesis)
        assert words[: len(stable)] == stable
        assert 0 <= hypothesis.stable <= len(words)
        stable = max(stable, words[: hypothesis.stable], key=len)


@every_decoder
def test_clear_words_become_stable_as_soon_as_the_next_one_begins(name: str):
    decoder = DECODERS[name](CHARACTERS, FRAME_SECONDS)
    log_probs = spoken("a", "b", WORD_START, BLANK, "b", WORD_START, "a", BLANK)
    partials = listen(decoder, list(log_probs[:, None]))[:-1]
    stable = [" ".join(words_of(partial)[: partial.stable]) for partial in partials]
    assert stable == ["", "", "", "", "ab", "ab", "ab b", "ab b"]


@every_decoder
def test_the_last_word_is_not_stable_however_long_the_silence_after_it(name: str):
    *_, partial, final = listen(DECODERS[name](CHARACTERS, FRAME_SECONDS), [spoken("a", *[BLANK] * 500)])
    assert (words_of(partial), partial.stable) == (["a"], 0)
    assert (words_of(final), final.stable) == (["a"], 0)


def test_words_become_stable_in_a_beam_that_never_agrees():
    # Two readings of the first word stay equally likely for ever; after a while one of them is decided.
    doubt = spoken(*[BLANK] * 1000)
    doubt[0] = np.log([0.001, 0.001, 0.498, 0.499, 0.001])
    doubt[2:600:4] = spoken(WORD_START)
    doubt[4:600:4] = spoken("a")
    decoder = BeamDecoder(CHARACTERS, FRAME_SECONDS, nbest=2)
    early, late = listen(decoder, np.split(doubt, [COMMIT_FRAMES]))[:2]
    assert early.stable == 0
    assert late.stable > 20
    # Where only one hypothesis is wanted the worse one goes at once.
    early, *_ = listen(BeamDecoder(CHARACTERS, FRAME_SECONDS), np.split(doubt, [COMMIT_FRAMES]))
    assert early.stable > 20


@every_decoder
@pytest.mark.parametrize("frames", [0, 3])
def test_nothing_heard_is_not_stable(name: str, frames: int):
    (partial, _) = listen(DECODERS[name](CHARACTERS, FRAME_SECONDS), [spoken(*[BLANK] * frames)])
    assert (partial.text, partial.stable) == ("", 0)
