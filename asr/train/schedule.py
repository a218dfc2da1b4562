"""The learning rate over a run."""

import math

from asr.train.config import OptimizerConfig

FIRST_LEARNING_RATE = 0.01  # of the peak, at the first step
FINAL_LEARNING_RATE = 0.01  # of the peak, at the last step


def learning_rate(optimizer: OptimizerConfig, done: float) -> float:
    """At `done`, 0…1, the share of the run: of the data that it is to see, or of its time. See `OptimizerConfig`."""
    if done < optimizer.warmup or optimizer.warmup == 1:
        return optimizer.learning_rate * max(done / optimizer.warmup, FIRST_LEARNING_RATE)
    if optimizer.schedule == "constant":
        share = 1 - math.sqrt(decay_done(optimizer, done))
    else:
        progress = (done - optimizer.warmup) / (1 - optimizer.warmup)
        share = (1 + math.cos(math.pi * progress)) / 2
    return optimizer.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * share)


def decay_done(optimizer: OptimizerConfig, done: float) -> float:
    """How much of the constant schedule's decay is done, 0…1."""
    begin = 1 - optimizer.decay
    return (done - begin) / optimizer.decay if done > begin else 0.0
