"""N-best hypotheses from the word graph that recombination leaves.

Of prefixes with the same future the beam keeps the best one, which remembers what was merged into it. Each way back
through these memories is a token sequence. As in Schwartz & Austin 1991, "A comparison of several approximate
algorithms for finding multiple (N-best) sentence hypotheses", it scores as much less than the one it was merged into as
it did at that time, so the scores of all but the best are estimates.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count

from asr.decode.prefix import Prefix, Run, alignment
from asr.decode.word_times import AlignedToken


@dataclass(frozen=True)
class PartialPath:
    """A token sequence traced back from its end to `prefix`; complete when that has no parent."""

    score: float  # of the whole sequence, in nats, as the next
    acoustic: float
    prefix: Prefix
    run: Run | None  # the last one of `prefix`
    first: int  # the frame in which the tokens after it begin
    after: tuple[AlignedToken, "tuple | None"] | None = None  # their runs, the first one outermost
    turns: int = 0  # how often the path turned to a merged one

    def alignment(self) -> list[AlignedToken]:
        aligned = alignment(self.run)
        after = self.after
        while after is not None:
            token, after = after
            aligned.append(token)
        return aligned

    def predecessors(self) -> Iterator["PartialPath"]:
        """The paths one token further back: through the prefix's own parent, then through merged paths."""
        prefix, run = self.prefix, self.run
        assert prefix.parent is not None
        assert run is not None
        token = run.aligned()
        yield replace(self, prefix=prefix.parent, run=run.previous, first=run.first, after=(token, self.after))
        for path in (prefix.merged or {}).values():
            if path.frame < self.first:  # what was merged later is no past of this sequence
                first = max(run.first, path.frame)
                late = token._replace(first=first, last=max(first, run.last))
                score, acoustic = self.score + path.score, self.acoustic + path.score - path.fusion_score
                yield PartialPath(score, acoustic, path.parent, path.runs, first, (late, self.after), self.turns + 1)


def complete_paths(ended: Iterable[tuple[float, Prefix]], frames: int) -> Iterator[PartialPath]:
    """Every token sequence of the prefixes after `frames` frames, best first (best-first search backwards).

    ended: prefixes and their scores as ends of sentences. No sequence comes twice, but several may spell the same text.
    """
    numbers = count()  # equal scores keep their order
    paths = [
        (-score, 0, next(numbers), PartialPath(score, prefix.acoustic, prefix, prefix.best_path(frames)[1], frames))
        for score, prefix in ended
    ]
    heapify(paths)
    while paths:
        *_, path = heappop(paths)
        if path.prefix.parent is None:
            yield path
        else:
            for longer in path.predecessors():
                heappush(paths, (-longer.score, longer.turns, next(numbers), longer))


def drop_strangers(prefixes: Iterable[Prefix], root: Prefix) -> None:
    """Drop all that was merged into the prefixes, which descend from `root`, but does not descend from it."""
    queue = list(prefixes)
    descends = dict.fromkeys([root, *queue], True)
    root.merged = None
    while queue:
        prefix = queue.pop()
        merged = prefix.merged or {}
        for number, path in list(merged.items()):
            lineage: list[Prefix] = []
            node: Prefix | None = path.parent
            while node is not None and node not in descends:
                lineage.append(node)
                node = node.parent
            kept = node is not None and descends[node]
            descends |= dict.fromkeys(lineage, kept)
            if kept:
                queue += lineage
            else:
                del merged[number]
