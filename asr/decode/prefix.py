"""Data of prefix beam search: token sequences as linked prefixes, alignments as linked runs.

Links point to the past, so Python frees a branch as soon as nothing alive came from it. The exception are merged paths,
kept only where several hypotheses are wanted: one may have grown from the prefix that it was merged into (“very very”
into “very”). `asr.decode.nbest` traces them back, and drops them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asr.decode.fusion import FusionState
from asr.decode.word_times import AlignedToken

IMPOSSIBLE = -math.inf

# What the scores of later tokens depend on: key of the fusion state, last token. A string, because tuples, like every
# object that refers to others, make Python search for cyclic garbage more often.
Future = str


@dataclass(slots=True, eq=False)
class Run:
    """A closed run of frames of one token in an alignment, linked to the run before it; else as `AlignedToken`."""

    previous: "Run | None"
    token: int
    first: int
    last: int
    log_prob: float

    def aligned(self) -> AlignedToken:
        return AlignedToken(self.token, self.first, self.last, self.log_prob)


def alignment(run: Run | None) -> list[AlignedToken]:
    """All runs up to this one, in order of time."""
    runs: list[AlignedToken] = []
    while run is not None:
        runs.append(run.aligned())
        run = run.previous
    return runs[::-1]


class MergedPath(NamedTuple):
    """A token sequence that was merged into a prefix: the same future, another past."""

    parent: "Prefix"  # the prefix before its last token
    runs: Run | None  # of `parent`
    frame: int  # when it was merged
    score: float  # its own at that time, as the next; in `Prefix.merged` both minus those of the prefix
    fusion_score: float


def future_of(fusion_state: FusionState, token: int) -> Future:
    return fusion_state.key + chr(token)


@dataclass(slots=True, eq=False)
class Prefix:
    """A token sequence, as its last token and the prefix before it, with its scores; all are natural logs."""

    parent: "Prefix | None"
    token: int
    number: int  # in the order of creation
    key: int  # equal sequences are one object, `BeamState.children[key]`
    fusion_state: FusionState  # of the language model and hotwords after it
    fusion_score: float  # what they add
    future: Future  # prefixes with equal ones can be merged
    live: bool = True  # in the beam; a dead one may be an ancestor of live ones, and may come back
    blank: float = IMPOSSIBLE  # log-prob of all alignments that end in a blank,
    nonblank: float = IMPOSSIBLE  # in the token,
    acoustic: float = IMPOSSIBLE  # in either
    score: float = IMPOSSIBLE  # acoustic + fusion_score
    blank_path: float = IMPOSSIBLE  # log-prob of the best alignment of each kind (Viterbi), which gives the times
    token_path: float = IMPOSSIBLE
    blank_runs: Run | None = None  # of `blank_path`
    token_runs: Run | None = None  # of `token_path`, before its last run, which is still open:
    first: int = 0  # its first frame
    peak: float = IMPOSSIBLE  # its highest log-prob
    closed: Run | None = None  # that run as of the last frame, if it was asked for
    merged: dict[int, MergedPath] | None = None  # by the number of the path's parent

    def best_path(self, frame: int, through_blank: bool = False) -> tuple[float, Run | None]:
        """Log-prob and runs of the best alignment of the frames before `frame`."""
        if through_blank or self.blank_path >= self.token_path:
            return self.blank_path, self.blank_runs
        run = self.closed
        if run is None or run.last != frame - 1:
            run = self.closed = Run(self.token_runs, self.token, self.first, frame - 1, self.peak)
        return self.token_path, run

    def begin_run(self, path: float, runs: Run | None, frame: int, log_prob: float) -> None:
        """Make `path` and `runs`, with a new run at `frame`, the token's best alignment."""
        self.token_path = path + log_prob
        self.token_runs = runs
        self.first = frame
        self.peak = log_prob

    def as_merged_paths(self, frame: int) -> list[MergedPath]:
        """This prefix and what was merged into it, for the prefix that it is merged into."""
        if self.parent is None:
            return []
        _, run = self.best_path(frame)
        earlier = (
            path._replace(score=self.score + path.score, fusion_score=self.fusion_score + path.fusion_score)
            for path in (self.merged or {}).values()
        )
        return [MergedPath(self.parent, run and run.previous, frame, self.score, self.fusion_score), *earlier]

    def merge(self, path: MergedPath) -> None:
        """Keep a merged path; of several with one parent the one that scored least below this prefix."""
        self.merged = self.merged or {}
        score, number = min(0.0, path.score - self.score), path.parent.number
        if number not in self.merged or score > self.merged[number].score:
            self.merged[number] = path._replace(score=score, fusion_score=path.fusion_score - self.fusion_score)


def log_add(a: float, b: float) -> float:
    """ln(e^a + e^b), also of impossible ones."""
    if a < b:
        a, b = b, a
    if b == IMPOSSIBLE:
        return a
    return a + math.log1p(math.exp(b - a))


def unstable_tokens(beam: Sequence[Prefix]) -> int:
    """How many of the best prefix's last tokens are not shared by the whole beam, so that they may still change.

    Only live prefixes get children: what all of them share stays.
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


def related(beam: Sequence[Prefix]) -> set[int]:
    """Numbers of the prefixes that have an ancestor or a descendant in the beam."""
    numbers: set[int] = set()
    above: dict[int, Prefix | None] = {}  # of dead prefixes, by number: the nearest ancestor in the beam
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
