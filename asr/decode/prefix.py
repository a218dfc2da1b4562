"""What prefix beam search keeps: token sequences as linked prefixes, alignments as linked runs.

Links point to the past only: no cycles, so Python frees a branch as soon as nothing alive came from it.
"""

import math

from asr.decode.alignment import AlignedToken
from asr.decode.fusion import FusionState

IMPOSSIBLE = -math.inf


class Emission:
    """A closed run of one token in an alignment, linked to the run before it."""

    __slots__ = ("first", "last", "log_prob", "previous", "token")

    def __init__(self, previous: "Emission | None", token: int, first: int, last: int, log_prob: float):
        self.previous = previous
        self.token = token
        self.first = first
        self.last = last
        self.log_prob = log_prob

    def alignment(self) -> list[AlignedToken]:
        """All runs up to this one, in order of time."""
        runs: list[AlignedToken] = []
        emission: Emission | None = self
        while emission is not None:
            runs.append(AlignedToken(emission.token, emission.first, emission.last, emission.log_prob))
            emission = emission.previous
        return runs[::-1]


class Prefix:
    """A token sequence, as its last token and the prefix before it, with its scores.

    parent, token, number, key: who it is; equal sequences are one object, `BeamState.children[key]`.
    live: whether it is in the beam. A dead one may be on the way to live ones, and may come back.
    blank, nonblank, total: log-prob of all alignments that end in a blank, in the token, in either.
    fusion, gain: where the language model and the hotwords are after it, and what they add; rank: total + gain.
    blank_path, token_path: log-prob of the single best of them (Viterbi), which gives the times.
    closed: the runs of `blank_path`. before, first, peak: the runs of `token_path` before its last one,
    and the first frame and highest log-prob of that last one, which is still open.
    """

    __slots__ = (
        *("parent", "token", "number", "key", "live"),
        *("blank", "nonblank", "total"),
        *("fusion", "gain", "rank"),
        *("blank_path", "token_path", "closed", "before", "first", "peak"),
    )

    def __init__(self, parent: "Prefix | None", token: int, number: int, key: int, fusion: FusionState, gain: float):
        self.parent = parent
        self.token = token
        self.number = number
        self.key = key
        self.fusion = fusion
        self.gain = gain
        self.live = True
        self.blank = self.nonblank = self.total = self.rank = IMPOSSIBLE
        self.blank_path = self.token_path = IMPOSSIBLE
        self.closed: Emission | None = None
        self.before: Emission | None = None
        self.first = 0
        self.peak = IMPOSSIBLE

    def path(self, frame: int, through_blank: bool = False) -> tuple[float, Emission | None]:
        """Score and runs of the best alignment of the frames before `frame`."""
        if through_blank or self.blank_path >= self.token_path:
            return self.blank_path, self.closed
        return self.token_path, Emission(self.before, self.token, self.first, frame - 1, self.peak)

    def begin(self, path_score: float, before: Emission | None, frame: int, log_prob: float) -> None:
        """Let the token's best alignment start a new run at `frame`."""
        self.token_path = path_score + log_prob
        self.before = before
        self.first = frame
        self.peak = log_prob


def log_add(a: float, b: float) -> float:
    """ln(e^a + e^b), also of impossible ones."""
    if a < b:
        a, b = b, a
    if b == IMPOSSIBLE:
        return a
    return a + math.log1p(math.exp(b - a))
