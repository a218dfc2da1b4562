"""The search for weights, the calibration and its error, behind `asr tune`."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asr.evaluate.tune import RESCORING_STEPS, Tuner, calibration_error, climb, fit, held_out, sigmoid
from asr.model.bundle import DecoderConfig
from asr.model.tokens import BLANK, WORD_START, Tokens


def test_the_line_that_made_the_data_is_found():
    generator = np.random.default_rng(0)
    odds = generator.normal(0, 2, 40_000)
    correct = (generator.random(len(odds)) < sigmoid(0.5 * odds - 0.3)).astype(float)
    assert fit(odds, correct) == pytest.approx((0.5, -0.3), abs=0.04)


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_a_line_far_from_the_start_is_found_too(slope: float):
    generator = np.random.default_rng(0)
    odds = generator.normal(8, 4, 5_000).clip(-14, 14)  # confidences that are far too high
    correct = (generator.random(len(odds)) < sigmoid(slope * (odds - 8))).astype(float)
    assert fit(odds, correct) == pytest.approx((slope, -8 * slope), rel=0.1)


def test_calibration_error_is_the_distance_between_claim_and_truth():
    honest = np.array([0.25] * 4 + [0.85] * 20)
    correct = np.array([1] + [0] * 3 + [1] * 17 + [0] * 3, dtype=float)
    assert calibration_error(honest, correct) == pytest.approx(0)
    assert calibration_error(np.array([0.95, 0.95]), np.array([0.0, 0.0])) == pytest.approx(0.95)
    assert calibration_error(np.append(honest, 1.0), np.append(correct, 0.0)) == pytest.approx(1 / 25)


def test_a_speaker_is_judged_by_a_line_of_the_others():
    generator = np.random.default_rng(1)
    speakers = np.array(list("aabbcc" * 50))
    odds = generator.normal(0, 2, len(speakers))
    correct = (generator.random(len(odds)) < sigmoid(odds)).astype(float)
    own = speakers == "a"
    before, after = held_out(speakers, odds, correct), held_out(speakers, odds, np.where(own, 1 - correct, correct))
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_the_search_goes_on_to_the_best_neighbor_and_measures_none_twice():
    measured = []

    def wer(config: DecoderConfig) -> float:
        measured.append(config)
        return (config.rescoring_weight - 0.15) ** 2 + (config.rescoring_bonus + 0.5) ** 2

    least, config = climb(DecoderConfig(), wer, RESCORING_STEPS)
    assert (config.rescoring_weight, config.rescoring_bonus) == pytest.approx((0.15, -0.5))
    assert least == pytest.approx(0)
    assert len(set(measured)) == len(measured)


@pytest.mark.parametrize("letters", ["abc", "ABC"])
def test_starts_of_words_are_measured_with_a_model_of_either_case(letters: str):
    spoken = [3, 0, 0, 1, 2]  # "b a" in "b", blanks, a space, "a"
    log_probs = np.log(np.full((5, 5), 0.01) + 0.95 * np.eye(5)[spoken], dtype=np.float32)
    config = SimpleNamespace(spelling="letters", frame_seconds=0.04)
    bundle = SimpleNamespace(
        tokens=Tokens([BLANK, WORD_START, *letters]), config=config, case="upper" if letters == "ABC" else "lower"
    )
    sample = SimpleNamespace(text="B A", frames=SimpleNamespace(log_probs=log_probs))
    tuner: Any = SimpleNamespace(bundle=bundle, lexicon=None, samples=[sample])
    best = SimpleNamespace(words=[SimpleNamespace(start=0.0), SimpleNamespace(start=0.2)])
    measured: Any = SimpleNamespace(hypotheses=[best], matches=[{0: 0, 1: 1}])
    assert Tuner.start_errors(tuner, measured) == pytest.approx([0.0, 0.04])  # "a" at 0.16 s
