"""The learning rate: up in a line, down in half a cosine."""

import math

import pytest

from asr.train.config import OptimizerConfig
from asr.train.schedule import FINAL_LEARNING_RATE, FIRST_LEARNING_RATE, learning_rate


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
