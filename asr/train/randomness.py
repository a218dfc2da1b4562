"""The generators that training draws from: Python's, numpy's and torch's."""

import random

import numpy as np
import torch


def seed_all(*what: object) -> None:
    """What is drawn from here on depends on these alone."""
    seed = random.Random(" ".join(map(str, what))).getrandbits(63)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
