"""The learning rate over a run."""

import math

from asr.train.config import OptimizerConfig

FIRST_LEARNING_RATE = 0.01  # of the peak, at the first step
FINAL_LEARNING_RATE = 0.01  # of the peak, at the last step


def learning_rate(optimizer: OptimizerConfig, done: float) -> float:
    """Linear warm-up, then half a cosine. `done`, 0…1, is the share of the run's data that has been seen."""
    if done < optimizer.warmup or optimizer.warmup == 1:
        return optimizer.learning_rate * max(done / optimizer.warmup, FIRST_LEARNING_RATE)
    progress = (done - optimizer.warmup) / (1 - optimizer.warmup)
    share = FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * (1 + math.cos(math.pi * progress)) / 2
    return optimizer.learning_rate * share
