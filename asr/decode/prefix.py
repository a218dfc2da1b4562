"""What prefix beam search keeps: token sequences as linked prefixes, alignments as linked runs.

Links point to the past only: no cycles, so Python frees a branch as soon as nothing alive came from it. Not so what was
merged into a prefix, kept only where several hypotheses are wanted: it may have grown from that prefix itself (“very
very” into “very”). `asr.decode.nbest` follows it back in time, and lets go of it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from asr.decode.fusion import FusionState
from asr.decode.word_times import AlignedToken

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


class Other(NamedTuple):
    """A text that was merged into a prefix: the same last token and the same future, another past.

    parent: the prefix before that token. before: its runs. frame: when they were merged. rank, gain: its own then.
    """

    parent: "Prefix"
    before: Emission | None
    frame: int
    rank: float
    gain: float


class Loss(NamedTuple):
    """How much lower a text that was merged into a prefix ranks, in nats, and how much of that is due to its gain."""

    rank: float
    gain: float


class Prefix:
    """A token sequence, as its last token and the prefix before it, with its scores.

    parent, token, number, key: who it is; equal sequences are one object, `BeamState.children[key]`.
    live: whether it is in the beam. A dead one may be on the way to live ones, and may come back.
    blank, nonblank, total: log-prob of all alignments that end in a blank, in the token, in either.
    fusion, gain: where the language model and the hotwords are after it, and what they add; rank: total + gain.
    blank_path, token_path: log-prob of the single best of them (Viterbi), which gives the times.
    closed: the runs of `blank_path`. before, first, peak: the runs of `token_path` before its last one,
    and the first frame and highest log-prob of that last one, which is still open.
    others: what was merged into it and what that lost, by the number of the parent.
    """

    __slots__ = (
        *("parent", "token", "number", "key", "live"),
        *("blank", "nonblank", "total"),
        *("fusion", "gain", "rank"),
        *("blank_path", "token_path", "closed", "before", "first", "peak"),
        "others",
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
        self.others: dict[int, tuple[Other, Loss]] = {}

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

    def as_others(self, frame: int) -> list[Other]:
        """What a prefix that it is merged into has to keep of it: itself, and what was merged into it before."""
        if self.parent is None:
            return []
        _, emission = self.path(frame)
        merged = (
            other._replace(rank=self.rank - loss.rank, gain=self.gain - loss.gain)
            for other, loss in self.others.values()
        )
        return [Other(self.parent, emission and emission.previous, frame, self.rank, self.gain), *merged]

    def merge(self, other: Other) -> None:
        """Keep what is merged into it; of several with one parent the one that loses least."""
        loss = Loss(max(0.0, self.rank - other.rank), self.gain - other.gain)
        number = other.parent.number
        if number not in self.others or loss.rank < self.others[number][1].rank:
            self.others[number] = other, loss


def log_add(a: float, b: float) -> float:
    """ln(e^a + e^b), also of impossible ones."""
    if a < b:
        a, b = b, a
    if b == IMPOSSIBLE:
        return a
    return a + math.log1p(math.exp(b - a))


def undecided(beam: Sequence[Prefix]) -> int:
    """How many of the best prefix's last tokens are not shared by the whole beam, so that they may still change.

    Only live prefixes make children: what all of them share stays.
    """
    depth: dict[int, int] = {}  # of the best prefix's ancestors, by number
    node: Prefix | None = beam[0]
    while node is not None:
        depth[node.number] = len(depth)
        node = node.parent
    deepest = 0
    for prefix in beam[1:]:
        node = prefix
        while node is not None and node.number not in depth:
            node = node.parent
        deepest = max(deepest, depth[node.number] if node is not None else len(depth))
    return deepest


def relatives(beam: Sequence[Prefix]) -> set[int]:
    """Numbers of the prefixes that grew from another one in the beam, or from which another one grew."""
    numbers: set[int] = set()
    above: dict[int, Prefix | None] = {}  # of dead prefixes, by number: the nearest one above that is in the beam
    for prefix in beam:
        passed: list[int] = []
        node = prefix.parent
        while node is not None and not node.live and node.number not in above:
            passed.append(node.number)
            node = node.parent
        if node is not None and not node.live:
            node = above[node.number]
        above.update(dict.fromkeys(passed, node))
        if node is not None:
            numbers |= {prefix.number, node.number}
    return numbers
