"""The beam with a language model and hotwords: against brute force, and on what people use them for."""

import math

import numpy as np
import pytest
from fused import ALPHABETS, Parts, parts, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beam import FRAME_SECONDS, PIECES, TOLERANCE, brute_force, decode, model_like_log_probs, unpruned

from asr.decode.beam import BeamDecoder
from asr.decode.fusion import Fusion, FusionWeights
from asr.lm.estimate import estimate
from asr.model.tokens import BLANK, WORD_START, Tokens

SMALL_ALPHABETS = ALPHABETS[:2]  # of 4 tokens
LETTERS = Tokens([BLANK, WORD_START, *"abcdefghijklmnopqrstuvwxyz"])


def with_fusion(decoder: BeamDecoder, parts: Parts) -> BeamDecoder:
    decoder.fusion = parts.fusion()
    return decoder


def fused_brute_force(log_probs: np.ndarray, parts: Parts) -> dict[str, float]:
    """The highest score that a text has, over the token sequences that spell it: acoustics and documented sum."""
    best: dict[str, float] = {}
    for tokens, acoustic in brute_force(log_probs).items():
        text = parts.tokens.text(tokens)
        best[text] = max(best.get(text, -math.inf), acoustic + parts.sum(text))
    return best


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, Parts]:
    """log_softmax of random floats, some of them -inf, and something to fuse."""
    logit = st.floats(-6, 6) | st.just(-math.inf)
    rows = st.lists(st.lists(logit, min_size=4, max_size=4).filter(lambda row: max(row) > -math.inf), max_size=5)
    logits = np.array(draw(rows)).reshape(-1, 4)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), draw(parts(SMALL_ALPHABETS))


def random_problem(seed: int) -> tuple[np.ndarray, Parts]:
    generator = np.random.default_rng(seed)
    log_probs = np.log(generator.dirichlet(np.full(4, generator.choice([0.1, 0.3, 1.0])), size=5) + 1e-9)
    weights = FusionWeights(lm_weight=0.5, word_bonus=1.0, unknown_score=-5.0)
    hotwords = {"b": 3.0, "ab a": 4.0} if seed % 2 else {}
    return log_probs, Parts(SMALL_ALPHABETS[seed % 2], random_model(1 + seed % 3, seed), weights, hotwords)


@settings(deadline=None, max_examples=100)
@given(problems())
def test_without_pruning_the_whole_ranking_equals_brute_force(problem: tuple[np.ndarray, Parts]):
    log_probs, parts = problem
    expected = fused_brute_force(log_probs, parts)
    hypotheses = decode(with_fusion(unpruned(parts.tokens), parts), log_probs)
    assert {hypothesis.text for hypothesis in hypotheses} == set(expected)
    assert len(hypotheses) == len(expected)  # texts are distinct
    for hypothesis in hypotheses:
        assert hypothesis.score == pytest.approx(expected[hypothesis.text], abs=TOLERANCE)
        assert hypothesis.score - hypothesis.acoustic == pytest.approx(parts.sum(hypothesis.text), abs=TOLERANCE)
    scores = [hypothesis.score for hypothesis in hypotheses]
    assert scores == sorted(scores, reverse=True)


@settings(deadline=None, max_examples=60)
@given(problems(), st.integers(1, 6), st.integers(1, 3))
def test_a_narrow_beam_never_claims_more_than_the_truth(problem: tuple[np.ndarray, Parts], width: int, nbest: int):
    log_probs, parts = problem
    expected = fused_brute_force(log_probs, parts)
    hypotheses = decode(with_fusion(unpruned(parts.tokens, width, nbest), parts), log_probs)
    assert 1 <= len(hypotheses) <= nbest
    assert hypotheses[0].score <= expected[hypotheses[0].text] + TOLERANCE  # that of others is estimated
    assert len({hypothesis.text for hypothesis in hypotheses}) == len(hypotheses)
    for hypothesis in hypotheses:
        assert hypothesis.score - hypothesis.acoustic == pytest.approx(parts.sum(hypothesis.text), abs=TOLERANCE)


def test_recombination_loses_the_best_text_of_hardly_any_problem_and_then_by_little():
    losses = []
    for seed in range(SEEDS := 60):
        log_probs, parts = random_problem(seed)
        expected = fused_brute_force(log_probs, parts)
        (best,) = decode(with_fusion(unpruned(parts.tokens, nbest=1), parts), log_probs)
        assert best.score <= expected[best.text] + TOLERANCE
        losses.append(max(expected.values()) - expected[best.text])
    assert sum(loss > TOLERANCE for loss in losses) <= 0.08 * SEEDS
    assert max(losses) < 0.3  # nats


@pytest.fixture(scope="module")
def peaky() -> Parts:
    """To fuse with `model_like_log_probs`: texts that such output holds; most words of another are unknown."""
    decoder = BeamDecoder(PIECES, FRAME_SECONDS)
    texts = [decode(decoder, model_like_log_probs(80, seed))[0].text for seed in range(15, 30)]
    weights = FusionWeights(lm_weight=0.5, word_bonus=1.5, unknown_score=-5.0)
    return Parts(PIECES, estimate(texts, 2)[0], weights, {texts[0].split()[1]: 3.0, "3x4 6x7": 5.0})


@pytest.mark.parametrize("seed", [1, 3, 7, 20])  # texts with unknown words, and a known one
def test_on_peaky_output_the_beam_scores_as_high_as_one_six_times_wider(seed: int, peaky: Parts):
    log_probs = model_like_log_probs(80, seed)
    (best,) = decode(with_fusion(BeamDecoder(PIECES, FRAME_SECONDS), peaky), log_probs)
    wide = decode(with_fusion(BeamDecoder(PIECES, FRAME_SECONDS, 96, score_prune=math.inf, nbest=2), peaky), log_probs)
    assert best.score > wide[0].score - 0.5  # nats


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("score_prune", [1.0, 2.0, 4.0, 8.0])
def test_what_comes_within_the_score_prune_of_the_best_is_kept_and_nothing_else(
    seed: int, score_prune: float, peaky: Parts
):
    row = np.log(np.random.default_rng(seed).dirichlet(np.ones(len(PIECES))))
    fusion = peaky.fusion()
    # What is far behind by its sound alone is not looked at.
    heard = [token for token in range(1, len(PIECES)) if row[token] > row.max() - score_prune]
    ranks = {0: row[0]} | {token: row[token] + fusion.step(fusion.start(), token)[0] for token in heard}
    decoder = unpruned(PIECES)
    decoder.score_prune, decoder.fusion = score_prune, peaky.fusion()
    state = decoder.reset()
    decoder.advance(state, row[None])
    kept = {token for token, rank in ranks.items() if rank > max(ranks.values()) - score_prune}
    assert {prefix.token for prefix in state.beam} == kept


@settings(deadline=None, max_examples=10)
@given(st.data())
def test_any_way_to_cut_chunks_gives_bit_equal_hypotheses(peaky: Parts, data: st.DataObject):
    frames = data.draw(st.sampled_from([1, 30, 300]), label="frames")
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=12), label="cuts"))
    log_probs = model_like_log_probs(frames, seed=data.draw(st.integers(0, 1000), label="seed"))
    decoder = with_fusion(BeamDecoder(PIECES, FRAME_SECONDS, nbest=data.draw(st.sampled_from([1, 4]))), peaky)
    whole = decode(decoder, log_probs)
    assert decode(decoder, *np.split(log_probs, cuts)) == whole  # with all steps known
    decoder.fusion = peaky.fusion()
    assert decode(decoder, *np.split(log_probs, cuts)) == whole


@pytest.mark.parametrize("nbest", [1, 4])
def test_what_is_forgotten_on_the_way_changes_nothing_and_bounds_the_memory(
    peaky: Parts, nbest: int, monkeypatch: pytest.MonkeyPatch
):
    log_probs = model_like_log_probs(1500, seed=5)
    decoder = with_fusion(BeamDecoder(PIECES, FRAME_SECONDS, nbest=nbest), peaky)
    monkeypatch.setattr("asr.decode.fusion.CACHED", math.inf)
    remembered = decode(decoder, log_probs)
    states = len(decoder.fusion.cache.states)
    monkeypatch.setattr("asr.decode.fusion.CACHED", 20)
    decoder.fusion = peaky.fusion()
    assert decode(decoder, log_probs) == remembered
    assert len(decoder.fusion.cache.states) < states / 2


def spoken(symbols: list[str], doubts: dict[int, str], tokens: Tokens) -> np.ndarray:
    """Frames of sure symbols and blanks between them; where there is a doubt, the other symbol is half as likely."""
    probs = np.full((2 * len(symbols), len(tokens)), 1e-4)
    for place, symbol in enumerate(symbols):
        probs[2 * place, tokens.symbols.index(symbol)] = 0.6
        if place in doubts:
            probs[2 * place, tokens.symbols.index(doubts[place])] = 0.3
        probs[2 * place + 1, tokens.symbols.index(BLANK)] = 1
    return np.log(probs / probs.sum(axis=1, keepdims=True))


def letters(text: str) -> list[str]:
    return list(f" {text}".replace(" ", WORD_START))


def read(log_probs: np.ndarray, tokens: Tokens, fusion: Fusion | None = None) -> str:
    return decode(BeamDecoder(tokens, FRAME_SECONDS, fusion=fusion), log_probs)[0].text


def test_what_sounds_alike_is_written_as_the_language_model_knows_it():
    tokens = Tokens([BLANK, "▁i", "▁have", "▁two", "▁too", "▁cats", "▁late"])
    model, _ = estimate(["i have two cats", "two cats", "too late", "i have two", "too late"], 3)
    fusion = Fusion(tokens, model)
    cats = spoken(["▁i", "▁have", "▁too", "▁cats"], {2: "▁two"}, tokens)
    late = spoken(["▁two", "▁late"], {0: "▁too"}, tokens)
    assert (read(cats, tokens), read(late, tokens)) == ("i have too cats", "two late")
    assert (read(cats, tokens, fusion), read(late, tokens, fusion)) == ("i have two cats", "too late")
    (hypothesis,) = decode(BeamDecoder(tokens, FRAME_SECONDS, fusion=fusion), cats)
    assert [round(word.start / FRAME_SECONDS) for word in hypothesis.words] == [0, 2, 4, 6]


def test_a_hotword_that_the_model_does_not_know_is_written_where_it_was_not():
    model, _ = estimate(["the ivan shoe is here", "ivan is here"] * 3, 2)
    heard = spoken(letters("ivanhow is here"), {7: "e"}, LETTERS)
    known = Fusion(LETTERS, model)
    hot = Fusion(LETTERS, model, hotwords={"ivanhoe": 8.0})
    assert read(heard, LETTERS) == read(heard, LETTERS, known) == "ivanhow is here"
    assert read(heard, LETTERS, hot) == "ivanhoe is here"
    assert read(heard, LETTERS, Fusion(LETTERS, hotwords={"ivanhoe": 8.0})) == "ivanhoe is here"
    other = spoken(letters("ivan is here"), {}, LETTERS)
    assert read(other, LETTERS, hot) == "ivan is here"  # and not where nothing sounds like it


def test_a_hot_phrase_is_preferred_as_a_whole_only():
    fusion = Fusion(LETTERS, hotwords={"knee jerk": 6.0})
    phrase, half = spoken(letters("nnee jerk"), {1: "k"}, LETTERS), spoken(letters("nnee park"), {1: "k"}, LETTERS)
    assert (read(phrase, LETTERS), read(half, LETTERS)) == ("nnee jerk", "nnee park")
    assert (read(phrase, LETTERS, fusion), read(half, LETTERS, fusion)) == ("knee jerk", "nnee park")
