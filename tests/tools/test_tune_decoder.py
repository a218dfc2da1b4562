"""The arithmetic behind the tables that tools/tune_decoder.py writes into model cards."""

import dataclasses
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from developer_tools import load_tool

from asr.model.bundle import DecoderConfig, load_bundle


@pytest.fixture(scope="module")
def tune_decoder() -> ModuleType:
    return load_tool("tune_decoder")


def sigmoid(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def test_the_line_that_made_the_data_is_found(tune_decoder: ModuleType):
    generator = np.random.default_rng(0)
    odds = generator.normal(0, 2, 40_000)
    right = (generator.random(len(odds)) < sigmoid(0.5 * odds - 0.3)).astype(float)
    assert tune_decoder.fit(odds, right) == pytest.approx((0.5, -0.3), abs=0.04)


def test_calibration_error_is_the_distance_between_claim_and_truth(tune_decoder: ModuleType):
    honest = np.array([0.25] * 4 + [0.85] * 20)
    right = np.array([1] + [0] * 3 + [1] * 17 + [0] * 3, dtype=float)
    error, rows = tune_decoder.reliability(honest, right)
    assert error == pytest.approx(0)
    assert [(count, round(share, 2)) for _, count, _, share in rows] == [(4, 0.25), (20, 0.85)]
    error, _ = tune_decoder.reliability(np.array([0.95, 0.95]), np.array([0.0, 0.0]))
    assert error == pytest.approx(0.95)


def test_a_speaker_is_judged_by_a_line_of_the_others(tune_decoder: ModuleType):
    generator = np.random.default_rng(1)
    draws = [(speaker, float(generator.uniform(0.1, 0.9))) for speaker in "aabbcc" * 50]
    labels = [(speaker, confidence, generator.random() < confidence) for speaker, confidence in draws]
    flipped = [(speaker, confidence, right != (speaker == "a")) for speaker, confidence, right in labels]
    before, after = tune_decoder.held_out(labels)[0], tune_decoder.held_out(flipped)[0]
    own = np.array([speaker == "a" for speaker, _, _ in labels])
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_the_search_goes_on_to_the_best_neighbour_and_asks_for_none_twice(tune_decoder: ModuleType):
    asked = []

    def wer(config: DecoderConfig) -> float:
        asked.append(config)
        return (config.rescoring_weight - 0.15) ** 2 + (config.rescoring_bonus + 0.5) ** 2

    least, config = tune_decoder.climb(DecoderConfig(), wer, tune_decoder.RESCORING_STEPS)
    assert (config.rescoring_weight, config.rescoring_bonus) == pytest.approx((0.15, -0.5))
    assert least == pytest.approx(0)
    assert len(set(asked)) == len(asked)


def test_a_language_model_is_copied_into_the_bundle_unless_it_is_packaged(tune_decoder: ModuleType, tmp_path: Path):
    bundle = dataclasses.replace(load_bundle("en-bilstm"), path=tmp_path / "bundle")
    bundle.path.mkdir()
    (tmp_path / "own.lm").write_bytes(b"n-grams")
    assert tune_decoder.within(bundle, str(tmp_path / "own.lm")) == "own.lm"
    assert (bundle.path / "own.lm").read_bytes() == b"n-grams"
    assert tune_decoder.within(bundle, "own.lm") == "own.lm"  # another time
    assert [tune_decoder.within(bundle, name) for name in ("en-lm", "")] == ["en-lm", ""]
    assert [file.name for file in bundle.path.iterdir()] == ["own.lm"]
