"""Prefix beam search against brute force, against greedy, and on log-probs that look like a model's."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.decode.base import Hypothesis
from asr.decode.beam import BEAM_WIDTH, BeamDecoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.prefix import Prefix
from asr.model.tokens import BLANK, BLANK_ID, WORD_START, Tokens

FRAME_SECONDS = 0.04
TOLERANCE = 1e-6
WORDS = Tokens([BLANK, "▁a", "▁b", "▁c"])  # every token is a word, so that word times show token times
CHARACTERS = Tokens([BLANK, WORD_START, *"'adehlnort"])
EVERYTHING = 10_000  # more prefixes than any problem here has

# A model's output alphabet, and what its output looks like: most frames are nearly certain blanks.
VOCABULARY = 129
PIECES = Tokens([BLANK, *(f"▁{i}" if i % 3 == 0 else f"x{i}" for i in range(1, VOCABULARY))])


def unpruned(tokens: Tokens, beam_width: int = EVERYTHING, nbest: int = EVERYTHING) -> BeamDecoder:
    off = {"token_prune": math.inf, "score_prune": math.inf, "commit_seconds": math.inf}
    return BeamDecoder(tokens, FRAME_SECONDS, beam_width, tokens_per_frame=len(tokens), nbest=nbest, **off)


def decode(decoder: BeamDecoder | GreedyDecoder, *chunks: np.ndarray) -> list[Hypothesis]:
    state = decoder.reset()
    for chunk in chunks:
        decoder.advance(state, chunk)
    return decoder.finish(state)


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in groupby(path) if symbol != BLANK_ID)


@cache
def all_paths(frames: int, vocabulary: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(path, collapse(path)) for path in product(range(vocabulary), repeat=frames)]


def brute_force(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Log-prob of every possible token sequence, summed over all alignments."""
    total: dict[tuple[int, ...], float] = defaultdict(float)
    rows = log_probs.tolist()
    for path, tokens in all_paths(*log_probs.shape):
        total[tokens] += math.exp(sum(row[symbol] for row, symbol in zip(rows, path, strict=True)))
    return {tokens: math.log(probability) for tokens, probability in total.items() if probability > 0}


def best_word_runs(log_probs: np.ndarray, tokens: tuple[int, ...]) -> list[list[tuple[float, float, float]]]:
    """(start, end, confidence) of each token in the best alignment of `tokens`; all of the best where they tie."""
    rows = log_probs.tolist()
    scored = []
    for path, spelled in all_paths(*log_probs.shape):
        if spelled == tokens:
            runs, frame = [], 0
            for symbol, group in groupby(path):
                last = frame + len(list(group))
                if symbol != BLANK_ID:
                    peak = max(rows[t][symbol] for t in range(frame, last))
                    runs.append((frame * FRAME_SECONDS, last * FRAME_SECONDS, math.exp(peak)))
                frame = last
            scored.append((sum(row[symbol] for row, symbol in zip(rows, path, strict=True)), runs))
    best = max(score for score, _ in scored)
    return [runs for score, runs in scored if score > best - 1e-9]


@st.composite
def small_log_probs(draw: st.DrawFn) -> np.ndarray:
    """log_softmax of random floats, some of them -inf, with at least one possible symbol per frame."""
    frames, vocabulary = draw(st.integers(0, 6)), draw(st.integers(2, 4))
    logit = st.floats(-6, 6) | st.just(-math.inf)
    row = st.lists(logit, min_size=vocabulary, max_size=vocabulary).filter(lambda r: max(r) > -math.inf)
    logits = np.array(draw(st.lists(row, min_size=frames, max_size=frames))).reshape(frames, vocabulary)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def vocabulary_of(log_probs: np.ndarray) -> Tokens:
    return Tokens(WORDS.symbols[: log_probs.shape[1]])


def model_like_log_probs(frames: int, seed: int) -> np.ndarray:
    """Peaky CTC output: about 2/3 sure blanks, between them bursts of 1 or 2 frames with 1 to 6 rival symbols."""
    rng = np.random.default_rng(seed)
    probs = np.full((frames, VOCABULARY), 1e-7)
    frame = 0
    while frame < frames:
        silence = min(int(rng.geometric(0.35)), frames - frame)
        for row in probs[frame : frame + silence]:
            row[1:] += rng.dirichlet(np.full(VOCABULARY - 1, 0.02)) * 10 ** rng.uniform(-4, -2.05)
            row[BLANK_ID] = 1
        frame += silence
        rivals = int(rng.integers(1, 7))
        symbols = np.append(rng.choice(np.arange(1, VOCABULARY), rivals, replace=False), BLANK_ID)
        shares = -np.sort(-rng.dirichlet(np.full(rivals + 1, 0.5)))
        burst = int(rng.integers(1, 3))
        for row in probs[frame : frame + burst]:
            row[symbols] += shares * rng.uniform(0.5, 1.5, rivals + 1)
        frame += burst
    return np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


def model_like_tokens(count: int, seed: int) -> np.ndarray:
    """Peaky output without doubt: every frame gives one symbol 0.99 or more."""
    rng = np.random.default_rng(seed)
    symbols = np.where(rng.random(count) < 0.6, BLANK_ID, rng.integers(1, 6, count))
    probs = np.full((count, VOCABULARY), 0.01 / (VOCABULARY - 1))
    probs[np.arange(count), symbols] = 0.99
    return np.log(probs).astype(np.float32)


# A beam of 4 finds the best text with another score if it keeps alternatives.
CROWDED = np.log(
    [[0.21, 0.58, 0, 0.21], [0, 0, 0, 1], [0.73, 0, 0, 0.27], [0.3, 0.3, 0.1, 0.3], [0, 0, 1, 0]],
    where=np.array([[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]], dtype=bool),
    out=np.full((5, 4), -np.inf),
)
OVERTAKEN = np.log([[0.26, 0.74], [1, 1e-300], [0.5, 0.5], [1, 1e-300], [0.5, 0.5]])  # [1, 1] overtakes [1], its prefix


@settings(deadline=None, max_examples=150)
@given(small_log_probs())
@example(OVERTAKEN)
def test_without_pruning_the_whole_ranking_equals_brute_force(log_probs):
    expected = brute_force(log_probs)
    hypotheses = decode(unpruned(vocabulary_of(log_probs)), log_probs)
    assert {hypothesis.tokens for hypothesis in hypotheses} == set(expected)
    for hypothesis in hypotheses:
        assert hypothesis.score == pytest.approx(expected[hypothesis.tokens], abs=TOLERANCE)
    assert len(hypotheses) == len(expected)
    scores = [hypothesis.score for hypothesis in hypotheses]
    assert scores == sorted(scores, reverse=True)


@settings(deadline=None, max_examples=100)
@given(small_log_probs())
def test_times_and_confidences_are_those_of_the_best_single_alignment(log_probs):
    for hypothesis in decode(unpruned(vocabulary_of(log_probs), nbest=3), log_probs):
        found = [(word.start, word.end, word.confidence) for word in hypothesis.words]
        candidates = best_word_runs(log_probs, hypothesis.tokens)
        assert any(np.allclose(found, runs, atol=TOLERANCE) for runs in candidates if len(runs) == len(found))


@settings(deadline=None)
@given(small_log_probs(), st.integers(1, 6))
@example(OVERTAKEN, 6)
@example(CROWDED, 4)
def test_a_narrow_beam_never_claims_more_than_the_true_probability(log_probs, beam_width):
    expected = brute_force(log_probs)
    tokens = vocabulary_of(log_probs)
    (best,) = decode(unpruned(tokens, beam_width, nbest=1), log_probs)
    assert best.score <= expected[best.tokens] + TOLERANCE
    hypotheses = decode(unpruned(tokens, beam_width, nbest=20), log_probs)
    # It merges later (`_recombine`), so a narrow one keeps other prefixes; where there is room for all none is lost.
    assert hypotheses[0].score <= expected[hypotheses[0].tokens] + TOLERANCE
    (widest,), alternatives = (decode(unpruned(tokens, nbest=count), log_probs) for count in (1, 20))
    assert alternatives[0].score == pytest.approx(widest.score, abs=TOLERANCE)
    assert len({hypothesis.tokens for hypothesis in hypotheses}) == len(hypotheses)  # equal prefixes were merged


def test_a_prefix_that_was_dropped_and_comes_back_is_merged_with_what_grew_from_it():
    decoder = unpruned(Tokens(WORDS.symbols[:3]), beam_width=8, nbest=1)
    for seed in range(40):  # about every sixth of these has a prefix that comes back beside its own child
        state = decoder.reset()
        for row in np.log(np.random.default_rng(seed).dirichlet(np.full(3, 0.3), size=30)):
            decoder.advance(state, row[None])
            assert len({tuple(spelled(prefix)) for prefix in state.beam}) == len(state.beam)


def spelled(prefix: Prefix) -> Iterator[int]:
    """Its tokens, the last one first."""
    while prefix.parent is not None:
        yield prefix.token
        prefix = prefix.parent


def test_beam_beats_best_path_where_many_alignments_of_a_outweigh_the_blank():
    # Best path: blank, blank = 0.36. The text "a": a·a + a·blank + blank·a = 0.64.
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    tokens = Tokens(WORDS.symbols[:2])
    (greedy,) = decode(GreedyDecoder(tokens, FRAME_SECONDS), log_probs)
    best, second = decode(unpruned(tokens), log_probs)
    assert greedy.text == ""
    assert (best.text, second.text) == ("a", "")
    assert best.score == pytest.approx(math.log(0.64), abs=TOLERANCE)
    assert second.score == pytest.approx(math.log(0.36), abs=TOLERANCE)


def test_a_text_does_not_compete_with_what_grew_from_it():
    # After the first frame "a" and "b" are likelier than "", from which most of what is still to come of "a" comes.
    log_probs = np.log([[0.25, 0.4, 0.35], [1e-9, 1.0, 1e-9]])
    (best,) = decode(unpruned(Tokens(WORDS.symbols[:3]), beam_width=2, nbest=1), log_probs)
    assert best.text == "a"
    assert best.score == pytest.approx(math.log(0.65), abs=TOLERANCE)


@given(small_log_probs(), st.integers(1, 3))
def test_the_beam_holds_at_most_twice_its_width(log_probs, beam_width):
    decoder = unpruned(vocabulary_of(log_probs), beam_width, nbest=1)
    state = decoder.reset()
    for row in log_probs:
        decoder.advance(state, row[None])
        assert len(state.beam) <= 2 * beam_width


@pytest.mark.parametrize("beam_width", [1, 16])
@pytest.mark.parametrize("seed", range(5))
def test_peaky_output_gives_what_greedy_gives(beam_width, seed):
    log_probs = model_like_tokens(300, seed)
    (greedy,) = decode(GreedyDecoder(PIECES, FRAME_SECONDS), log_probs)
    (beam,) = decode(BeamDecoder(PIECES, FRAME_SECONDS, beam_width), log_probs)
    assert len(greedy.words) > 10
    assert beam.tokens == greedy.tokens
    assert beam.words == greedy.words  # times and confidences too


def test_a_doubled_letter_needs_the_blank_and_characters_spell_words():
    symbols = ["▁", "h", "e", "l", "l", BLANK, "l", "o", BLANK, "▁", "d", "o", "n", "'", "t"]
    probs = np.full((len(symbols), len(CHARACTERS)), 0.01)
    probs[np.arange(len(symbols)), [CHARACTERS.symbols.index(symbol) for symbol in symbols]] = 0.9
    (hypothesis,) = decode(BeamDecoder(CHARACTERS, FRAME_SECONDS), np.log(probs))
    hello, dont = hypothesis.words
    assert (hello.text, dont.text) == ("hello", "don't")
    assert (hello.start, hello.end) == (1 * FRAME_SECONDS, 8 * FRAME_SECONDS)
    assert (dont.start, dont.end) == (10 * FRAME_SECONDS, 15 * FRAME_SECONDS)
    assert hypothesis.text == CHARACTERS.text(hypothesis.tokens)


def test_confidence_is_a_tokens_highest_probability_in_its_run():
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.95, 0.05]])
    (hypothesis,) = decode(BeamDecoder(Tokens(WORDS.symbols[:2]), FRAME_SECONDS), np.log(probs))
    (word,) = hypothesis.words
    assert (word.start, word.end) == (1 * FRAME_SECONDS, 3 * FRAME_SECONDS)
    assert word.confidence == pytest.approx(0.8)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_way_to_cut_chunks_gives_bit_equal_hypotheses(data):
    # Above and below the frames at which the decoder converts blocks and settles prefixes, and past the commit time.
    frames = data.draw(st.sampled_from([0, 1, 30, 300, 600]), label="frames")
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=12), label="cuts"))
    log_probs = model_like_log_probs(frames, seed=data.draw(st.integers(0, 1000), label="seed"))
    decoder = BeamDecoder(PIECES, FRAME_SECONDS, nbest=5)
    assert decode(decoder, *np.split(log_probs, cuts)) == decode(decoder, log_probs)


def test_partial_leaves_the_state_alone():
    log_probs = model_like_log_probs(200, seed=1)
    decoder = BeamDecoder(PIECES, FRAME_SECONDS, nbest=4)
    state = decoder.reset()
    for row in log_probs:
        decoder.advance(state, row[None])
        assert decoder.partial(state) == decoder.partial(state)
    assert replace(decoder.partial(state), stable=0) == decoder.finish(state)[0]
    assert decoder.finish(state) == decode(decoder, log_probs)


@pytest.mark.parametrize("seed", range(4))
def test_default_pruning_gives_the_text_of_no_pruning(seed):
    log_probs = model_like_log_probs(400, seed)  # 16 s, beyond the commit time
    (pruned,) = decode(BeamDecoder(PIECES, FRAME_SECONDS), log_probs)
    (full,) = decode(unpruned(PIECES, beam_width=BEAM_WIDTH, nbest=1), log_probs)
    assert len(full.words) > 10
    assert pruned.tokens == full.tokens
    assert pruned.words == full.words


def test_dead_prefixes_are_forgotten_in_a_long_stream():
    decoder = BeamDecoder(PIECES, FRAME_SECONDS)
    state = decoder.reset()
    held = []
    for part in range(10):
        decoder.advance(state, model_like_log_probs(1000, seed=part))
        held.append(len(state.children))
    assert state.created > 10 * max(held)
    assert max(held[5:]) < 2 * max(held[:5])  # it does not grow with the length of the stream


def test_long_silence_after_words_keeps_the_words():
    spoken = model_like_tokens(50, seed=3)
    silence = np.log(np.full((2000, VOCABULARY), 1e-6)).astype(np.float32)
    silence[:, BLANK_ID] = np.log(1 - 1e-6 * (VOCABULARY - 1))
    decoder = BeamDecoder(PIECES, FRAME_SECONDS)
    (alone,) = decode(decoder, spoken)
    (followed,) = decode(decoder, spoken, silence)
    assert alone.words
    assert followed.words == alone.words


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_nothing_heard_gives_one_hypothesis_without_words(frames):
    blanks = np.tile(np.log([0.997, 0.001, 0.001, 0.001]), (frames, 1))
    best = decode(BeamDecoder(WORDS, FRAME_SECONDS), blanks)
    assert [hypothesis.words for hypothesis in best] == [()]
    assert best[0].tokens == ()
    assert best[0].score == pytest.approx(frames * math.log(0.997), abs=TOLERANCE)


def test_a_frame_that_allows_no_symbol_leaves_a_reading_of_probability_zero():
    log_probs = np.log([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]])
    log_probs[1] = -math.inf
    (hypothesis,) = decode(BeamDecoder(Tokens(WORDS.symbols[:2]), FRAME_SECONDS), log_probs)
    assert hypothesis.score == -math.inf
    assert hypothesis.text == "a"


@pytest.mark.parametrize("nbest", [1, 3])
def test_finish_gives_at_most_nbest_best_first(nbest):
    hypotheses = decode(BeamDecoder(WORDS, FRAME_SECONDS, nbest=nbest), np.log(np.full((4, 4), 0.25)))
    assert len(hypotheses) == nbest
    assert len({hypothesis.tokens for hypothesis in hypotheses}) == nbest


@pytest.mark.parametrize("shape", [(4,), (3, 5), (1, 3, 4)])
def test_a_wrong_shape_is_refused(shape):
    decoder = BeamDecoder(WORDS, FRAME_SECONDS)
    with pytest.raises(ValueError, match=r"log_probs must have shape \(frames, 4\)"):
        decoder.advance(decoder.reset(), np.zeros(shape, dtype=np.float32))


def test_a_narrow_beam_drops_sooner_what_is_behind():
    prunes = [BeamDecoder(PIECES, FRAME_SECONDS, width).score_prune for width in (4, 8, 16, 32)]
    assert prunes == [5, 6, 8, 8]
    assert BeamDecoder(PIECES, FRAME_SECONDS, 8, score_prune=7.0).score_prune == 7
