"""Prior correction: against the formula, brute force and any way of cutting, and where a decoder applies it."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beam import FRAME_SECONDS, PIECES, TOLERANCE, VOCABULARY, decode, model_like_log_probs, unpruned
from test_beam_fusion import fused_brute_force, problems, with_fusion

from asr.decode.beam import BeamDecoder
from asr.decode.build import DecoderOptions, make_decoder
from asr.decode.greedy import GreedyDecoder
from asr.decode.priors import divide_by_priors
from asr.model.bundle import Bundle, DecoderConfig, load_bundle

PRIORS = np.log(np.random.default_rng(4).dirichlet(np.full(VOCABULARY, 0.3)) + 1e-6).astype(np.float32)


def test_posteriors_are_divided_and_sum_to_one_again():
    log_probs = model_like_log_probs(40, seed=1).astype(np.float64)
    divided = np.exp(log_probs) / np.exp(PRIORS) ** 0.3
    expected = divided / divided.sum(axis=1, keepdims=True)
    assert np.exp(divide_by_priors(log_probs, 0.3 * PRIORS)) == pytest.approx(expected, rel=1e-6)


def test_what_is_impossible_stays_so_also_for_a_whole_frame():
    log_probs = np.array([[0.0, -math.inf], [-math.inf, -math.inf], [-1.0, math.log(1 - math.exp(-1))]])
    result = divide_by_priors(log_probs, np.log([0.5, 0.5]))
    assert result == pytest.approx(log_probs)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 300), max_size=8), st.integers(0, 10), st.sampled_from(["C", "F"]))
def test_chunks_give_bit_for_bit_what_the_whole_gives(sizes: list[int], seed: int, order: str):
    log_probs = np.asarray(model_like_log_probs(400, seed), order=order)
    decoder = BeamDecoder(PIECES, FRAME_SECONDS, 8, nbest=3, log_priors=0.3 * PRIORS)
    whole = decode(decoder, log_probs)
    assert decode(decoder, *np.split(log_probs, np.minimum(np.cumsum(sizes, dtype=int), 400))) == whole
    assert whole != decode(BeamDecoder(PIECES, FRAME_SECONDS, 8, nbest=3), log_probs)
    assert all(0 < word.confidence <= 1 for hypothesis in whole for word in hypothesis.words)


@settings(deadline=None, max_examples=60)
@given(problems(), st.lists(st.floats(-6, 0), min_size=4, max_size=4))
def test_the_beam_ranks_by_the_corrected_score(problem, priors: list[float]):
    """By brute force: acoustic scores of the divided posteriors, and the language model's sum."""
    log_probs, parts = problem
    corrected = log_probs - np.array(priors)
    corrected -= np.log(np.exp(corrected).sum(axis=1, keepdims=True))
    expected = fused_brute_force(corrected, parts)
    decoder = with_fusion(unpruned(parts.tokens), parts)
    decoder.log_priors = np.array(priors)
    hypotheses = decode(decoder, log_probs)
    assert {hypothesis.text for hypothesis in hypotheses} == set(expected)
    for hypothesis in hypotheses:
        assert hypothesis.score == pytest.approx(expected[hypothesis.text], abs=TOLERANCE)
    assert hypotheses[0].score == pytest.approx(max(expected.values()), abs=TOLERANCE)


def with_priors(folder: Path, scale: float) -> Bundle:
    bundle = load_bundle(folder)
    priors = tuple(np.linspace(-9, -1, len(bundle.tokens)).tolist())
    decoder = DecoderConfig(lm="en-lm", prior_scale=scale)
    return dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, decoder=decoder, log_priors=priors))


def test_a_scale_of_zero_and_a_decoder_without_language_model_leave_posteriors_alone(carrier_bundle: Path):
    assert make_decoder("beam", with_priors(carrier_bundle, 0.0)).log_priors is None
    bundle = with_priors(carrier_bundle, 0.3)
    assert make_decoder(DecoderOptions("beam", lm="NONE", hotwords="map"), bundle).log_priors is None
    assert isinstance(make_decoder("greedy", bundle), GreedyDecoder)
    applied = make_decoder("beam", bundle).log_priors
    assert applied == pytest.approx(0.3 * np.array(bundle.config.log_priors), rel=1e-6)
