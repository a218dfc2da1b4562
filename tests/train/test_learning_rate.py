"""The learning rate: up in a line, down in half a cosine; or constant, then down with the square root of the time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.train.config import OptimizerConfig
from asr.train.optim import FINAL_LEARNING_RATE, FIRST_LEARNING_RATE, decay_done, learning_rate


def test_the_learning_rate_warms_up_in_a_line_and_falls_in_half_a_cosine():
    optimizer = OptimizerConfig(learning_rate=0.01, warmup=0.1)
    rates = [learning_rate(optimizer, percent / 100) for percent in range(101)]
    assert rates[0] == pytest.approx(0.01 * FIRST_LEARNING_RATE)  # not 0: the first step is to do something
    assert rates[1:11] == pytest.approx([0.01 * percent / 10 for percent in range(1, 11)])
    assert max(rates) == rates[10]
    floor = 0.01 * FINAL_LEARNING_RATE
    assert rates[55] == pytest.approx((0.01 + floor) / 2)  # half way down
    cosine = [floor + (0.01 - floor) * (1 + math.cos(math.pi * (percent - 10) / 90)) / 2 for percent in range(10, 101)]
    assert rates[10:] == pytest.approx(cosine)
    assert rates[100] == pytest.approx(floor)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_a_schedule_of_no_warm_up_or_nothing_else_stays_within_the_peak(warmup: float):
    optimizer = OptimizerConfig(warmup=warmup)
    rates = [learning_rate(optimizer, percent / 100) for percent in range(101)]
    assert all(0 < rate <= optimizer.learning_rate * (1 + 1e-9) for rate in rates)
    assert rates[0 if warmup == 0 else 100] == optimizer.learning_rate


def test_the_constant_schedule_warms_up_stays_and_decays_with_one_less_the_square_root():
    """Hägele et al. 2024, "1-sqrt"."""
    optimizer = OptimizerConfig(learning_rate=0.01, schedule="constant", warmup=0.1, decay=0.25)
    rates = [learning_rate(optimizer, percent / 100) for percent in range(101)]
    assert rates[0] == pytest.approx(0.01 * FIRST_LEARNING_RATE)
    assert rates[1:11] == pytest.approx([0.01 * percent / 10 for percent in range(1, 11)])
    assert rates[10:76] == [0.01] * 66
    floor = 0.01 * FINAL_LEARNING_RATE
    decay = [floor + (0.01 - floor) * (1 - math.sqrt((percent - 75) / 25)) for percent in range(75, 101)]
    assert rates[75:] == pytest.approx(decay)
    assert rates[100] == pytest.approx(floor)


def test_the_decay_is_a_share_of_the_run():
    optimizer = OptimizerConfig(schedule="constant", decay=0.2)
    assert [decay_done(optimizer, done) for done in (0.0, 0.5, 0.8)] == [0, 0, 0]
    assert [decay_done(optimizer, done) for done in (0.85, 0.9, 1.0)] == pytest.approx([0.25, 0.5, 1.0])


def test_a_constant_schedule_may_have_no_decay():
    optimizer = OptimizerConfig(schedule="constant", warmup=0.0, decay=0.0)
    assert {learning_rate(optimizer, percent / 100) for percent in range(101)} == {optimizer.learning_rate}


@given(warmup=st.floats(0, 1), share=st.floats(0, 1), done=st.floats(0, 1))
def test_a_constant_schedule_stays_between_its_ends(warmup: float, share: float, done: float):
    optimizer = OptimizerConfig(schedule="constant", warmup=warmup, decay=share * (1 - warmup))
    rate = learning_rate(optimizer, done)
    lowest = min(FIRST_LEARNING_RATE, FINAL_LEARNING_RATE) * optimizer.learning_rate
    assert lowest * (1 - 1e-9) <= rate <= optimizer.learning_rate * (1 + 1e-9)


def test_the_decay_is_of_no_account_to_the_cosine():
    rates = [
        [learning_rate(OptimizerConfig(decay=decay), percent / 100) for percent in range(101)] for decay in (0.1, 0.9)
    ]
    assert rates[0] == rates[1]
