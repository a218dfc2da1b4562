"""When an utterance ends: rules on silence, by the model's blanks and the level of the signal."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from asr.errors import ArgumentError

# Levels are in dB of full scale.
FLOOR_RANGE = (-70.0, -50.0)  # the noise floor is at least the first; it is taken to be the second at the start
PEAK_START = -30.0
FLOOR_RISE = 1.0  # dB/s: how fast the noise may get louder before it counts as sound
PEAK_FALL = 3.0  # dB/s: how fast the level of a loud voice is forgotten
QUIET = 1 / 3  # a frame is quiet below this part of the way from floor to peak
FLAT = 9.0  # dB between floor and peak; with less there is no speech
# Speech never keeps one level for so long: what does is noise, which an automatic gain may turn up in a pause.
STEADY = 4.0  # dB between the lowest and the highest level
STEADY_SECONDS = 0.4
DIGITAL_SILENCE = -90.0  # dB; below what a microphone gives, so it says nothing about the noise

# Quiet counts as silence only after so much of nothing but blanks: the token of the last sound may still come.
MIN_BLANK = 0.2  # s
# How long to wait for a blank beyond `max_utterance`: a token that is cut in two is written twice.
GRACE = 1.0  # s
LOUD_BLANK = 0.5  # weight of blanks while the signal is loud, a less certain sign of silence
# Over the last part of the longest utterance the silence that ends it shrinks to nothing, to find a good place to cut.
SHRINK = 0.2  # of `max_utterance`


@dataclass(frozen=True)
class Endpoint:
    """Rules that end an utterance, in seconds.

    after_speech: silence after words. It is the time that the signal is quiet while the model gives only blanks, so it
        runs during the model's look-ahead too. If the signal is never quiet, a run of blanks twice as long does.
    before_speech: silence without any words; the decoder then starts again.
    max_utterance: length of speech without such a silence. Over its last fifth shorter and shorter silences are
        enough, and at the end the next blank, which may lie within a word.
    """

    after_speech: float = 0.8
    before_speech: float = 5.0
    max_utterance: float = 20.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float | np.number) and 0 < value < np.inf):
                raise ArgumentError(f"{name}: {value!r:.40}; give seconds, above 0")


def level(frame: np.ndarray) -> float:
    """Level of samples (n,) in dB of full scale, at least −100. A constant offset, as of cheap microphones, is none."""
    samples = frame.astype(np.float64)
    variance = samples @ samples / len(samples) - (samples.sum() / len(samples)) ** 2  # thrice as fast as np.var
    return 10 * math.log10(max(0.0, variance) + 1e-10)


class EndpointDetector:
    """Follows one stream frame by frame; the endpoints do not depend on how the stream is cut into chunks."""

    def __init__(self, rules: Endpoint, frame_seconds: float):
        self.rules = rules
        self.frame_seconds = frame_seconds
        self.ahead = 0  # frames whose level came and whose log-probabilities did not
        self._floor, self._peak = FLOOR_RANGE[1], PEAK_START
        self._quiet = 0  # frames of audio, up to the last one
        self._recent: deque[float] = deque(maxlen=round(STEADY_SECONDS / frame_seconds))  # levels
        self.restart()

    def restart(self) -> None:
        """A new utterance begins with the next frame of log-probabilities."""
        self._frames = 0  # since then; once there is speech, since that
        self._blanks = 0  # the last ones of them that were blank
        self._speech = False

    def accept_level(self, decibels: float) -> None:
        """Take the level of the next frame of audio. Audio is ahead of the log-probabilities by the look-ahead."""
        self.ahead += 1
        if decibels < DIGITAL_SILENCE:
            self._quiet += 1
            self._recent.clear()
            return
        self._floor = max(FLOOR_RANGE[0], min(decibels, self._floor + FLOOR_RISE * self.frame_seconds))
        self._peak = max(decibels, self._peak - PEAK_FALL * self.frame_seconds)
        self._recent.append(decibels)
        span = self._peak - self._floor
        quiet = span < FLAT or decibels < self._floor + QUIET * span
        if len(self._recent) == self._recent.maxlen and max(self._recent) - min(self._recent) < STEADY:
            quiet, self._quiet = True, max(self._quiet, len(self._recent) - 1)
        self._quiet = self._quiet + 1 if quiet else 0

    def accept_frame(self, blank: bool) -> bool:
        """Take whether the blank is the most likely token of the next frame; True if the utterance ends with it."""
        self.ahead -= 1
        if not blank and not self._speech:
            self._speech, self._frames = True, 0
        self._frames += 1
        self._blanks = self._blanks + 1 if blank else 0
        seconds = self._frames * self.frame_seconds
        if not self._speech:
            return seconds >= self.rules.before_speech
        if not blank and seconds < self.rules.max_utterance + GRACE:
            return False
        left = max(0.0, (self.rules.max_utterance - seconds) / (SHRINK * self.rules.max_utterance))
        return self._silence() >= min(1.0, left) * self.rules.after_speech

    def _silence(self) -> float:
        """Seconds of silence up to now."""
        blank = self._blanks * self.frame_seconds
        if blank < MIN_BLANK:
            return blank * LOUD_BLANK
        quiet = self._quiet * self.frame_seconds
        # The level may miss a soft voice, so silence is hardly older than the blanks. It is a little older, since a
        # token may come after its sound.
        oldest = blank + self.ahead * self.frame_seconds + MIN_BLANK
        return max(min(quiet, oldest), blank * LOUD_BLANK)
