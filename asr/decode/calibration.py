"""From a decoder's confidences to probabilities that words are right."""

import math
from typing import NamedTuple


class Calibration(NamedTuple):
    """A straight line through the log-odds of a confidence (Platt 1999), fitted on dev data by `asr tune`."""

    slope: float = 1.0
    offset: float = 0.0

    def probability(self, confidence: float) -> float:
        """Both 0…1; the line of slope 1 and offset 0 changes nothing."""
        if self == UNCALIBRATED:
            return confidence
        return 1 / (1 + math.exp(-self.slope * log_odds(confidence) - self.offset))


UNCALIBRATED = Calibration()


def log_odds(confidence: float) -> float:
    """ln(p / (1 − p)), between ±14 so that certainty stays a number."""
    confidence = min(max(confidence, 1e-6), 1 - 1e-6)
    return math.log(confidence / (1 - confidence))
