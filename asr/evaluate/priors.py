"""The tokens' average posteriors (priors), for `asr.decode.priors`."""

import random
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import AudioFile, Excerpt, read
from asr.errors import AsrError, AudioError
from asr.recognize.offline import Recognizer

PRIOR_SECONDS = 1800  # of audio; the rarest of some hundred tokens are then seen a few times
LEAST = 1e-10  # of a prior: its log stays finite


def measure_priors(recognizer: Recognizer, recordings: Sequence[AudioFile | Excerpt]) -> tuple[float, ...]:
    """ln of each token's posterior, averaged over the frames of the recordings: (vocabulary,).

    Args:
        recognizer: gives the log-probs; its decoder is not used.
        recordings: a random choice of them, always the same, is read until there are `PRIOR_SECONDS` of audio. Damaged
            ones are left out.

    Raises AsrError if none can be read.
    """
    total, frames = np.zeros(len(recognizer.bundle.tokens)), 0
    for recording in random.Random(0).sample(recordings, len(recordings)):
        with suppress(AudioError):
            posteriors = np.exp(recognizer.log_probs(read(recording), SAMPLE_RATE), dtype=np.float64)
            total, frames = total + posteriors.sum(axis=0), frames + len(posteriors)
        if frames * recognizer.bundle.config.frame_seconds >= PRIOR_SECONDS:
            break
    if not frames:
        raise AsrError(f"priors: none of the {len(recordings)} recordings can be read; check the manifest's paths")
    return tuple(np.log(np.maximum(total / frames, LEAST)).round(4).tolist())
