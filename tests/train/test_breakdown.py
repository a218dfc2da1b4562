"""Error rates of groups against counting by hand; the estimated signal-to-noise ratio against the mixed one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.nn.frontend import SAMPLE_RATE
from asr.train.report.breakdown import LENGTHS, SNR_LIMIT, estimate_snr, group, group_by_value


def test_groups_have_the_errors_of_their_utterances():
    one, other = group(["a", "b", "a"], np.array([1, 2, 3]), np.array([4, 5, 6]))
    assert (one.name, one.utterances, one.words, one.errors, one.wer) == ("a", 2, 10, 4, 0.4)
    assert (other.name, other.utterances, other.words, other.errors, other.wer) == ("b", 1, 5, 2, 0.4)
    assert one.interval[0] <= one.wer <= one.interval[1]


def test_a_group_without_words_has_no_rate():
    (only,) = group(["a"], np.array([2]), np.array([0]))
    assert np.isnan([only.wer, *only.interval]).all()


@settings(deadline=None, max_examples=10)
@given(values=st.lists(st.one_of(st.just(np.nan), st.floats(0, 60)), min_size=1, max_size=30))
def test_every_value_is_between_the_edges_that_its_group_names(values: list[float]):
    count = np.ones(len(values), dtype=int)
    groups = {one.name: one for one in group_by_value(np.array(values), LENGTHS, "s", count, count)}
    expected = {
        "below 2 s": sum(value < 2 for value in values),
        "2 – 5 s": sum(2 <= value < 5 for value in values),
        "5 – 10 s": sum(5 <= value < 10 for value in values),
        "10 – 15 s": sum(10 <= value < 15 for value in values),
        "15 s and more": sum(value >= 15 for value in values),
        "unknown": sum(np.isnan(value) for value in values),
    }
    assert {name: one.utterances for name, one in groups.items()} == {n: c for n, c in expected.items() if c}
    assert list(groups) == [name for name in expected if name in groups]


@pytest.mark.parametrize("snr", [0, 5, 10, 20, 30])
def test_the_ratio_of_words_with_pauses_in_noise_is_found(snr: float):
    generator = np.random.default_rng(snr)
    times = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    speech = np.sin(2 * np.pi * 220 * times) * (np.sin(2 * np.pi * 0.7 * times) > 0)
    noise = generator.standard_normal(len(times))
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr / 10))
    assert estimate_snr((speech + noise).astype(np.float32)) == pytest.approx(snr, abs=1.0)


def test_what_has_no_ratio_has_none():
    assert np.isnan(estimate_snr(np.zeros(100, dtype=np.float32)))
    assert np.isnan(estimate_snr(np.zeros(SAMPLE_RATE, dtype=np.float32)))
    silent_pauses = np.concatenate([np.zeros(SAMPLE_RATE), np.ones(SAMPLE_RATE)]).astype(np.float32)
    assert estimate_snr(silent_pauses) == SNR_LIMIT
