"""The texts that a beam merged, taken apart again: n-best from the word graph that recombination leaves.

Of prefixes with the same future the beam keeps the best one, which remembers what was merged into it. Each way back
through these memories is a text. As in Schwartz & Austin 1991, "A comparison of several approximate algorithms for
finding multiple (N-best) sentence hypotheses", what a text lost where it was merged is taken to be all that it lost.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count

from asr.decode.prefix import Emission, Prefix
from asr.decode.word_times import AlignedToken


@dataclass(frozen=True)
class Reading:
    """A token sequence with its alignment, score in nats, and the part of that which the log-probs give alone."""

    score: float
    acoustic: float
    aligned: list[AlignedToken]


@dataclass(frozen=True)
class Way:
    """A way back from the end of a text to somewhere before `prefix`, whose runs are `emission`.

    after: the runs after it, the last one innermost. first: the frame in which they begin.
    """

    score: float
    acoustic: float
    prefix: Prefix
    emission: Emission | None
    first: int
    after: tuple[AlignedToken, "tuple | None"] | None = None
    turns: int = 0  # into something that was merged

    def reading(self) -> Reading:
        aligned = self.emission.alignment() if self.emission is not None else []
        after = self.after
        while after is not None:
            run, after = after
            aligned.append(run)
        return Reading(self.score, self.acoustic, aligned)

    def further(self) -> Iterator["Way"]:
        """One token further back: what the prefix itself goes back to first, then what was merged into it."""
        prefix, emission = self.prefix, self.emission
        assert prefix.parent is not None
        assert emission is not None
        run = AlignedToken(emission.token, emission.first, emission.last, emission.log_prob)
        yield replace(self, prefix=prefix.parent, emission=emission.previous, first=run.first, after=(run, self.after))
        for other, loss in prefix.others.values():
            if other.frame < self.first:  # what was merged later is no past of this text
                first = max(run.first, other.frame)
                late = run._replace(first=first, last=max(first, run.last))
                yield Way(
                    self.score - loss.rank,
                    self.acoustic - loss.rank + loss.gain,
                    other.parent,
                    other.before,
                    first,
                    (late, self.after),
                    self.turns + 1,
                )


def readings(ended: Iterable[tuple[float, Prefix]], frames: int) -> Iterator[Reading]:
    """Every text of the prefixes after `frames` frames, with the scores that they end with, best first.

    No text comes twice, but several may spell the same. One that was merged scores as much less than the text it was
    merged into as it ranked below it then.
    """
    numbers = count()
    ways = [
        (-score, 0, next(numbers), Way(score, prefix.total, prefix, prefix.path(frames)[1], frames))
        for score, prefix in ended
    ]
    heapify(ways)
    while ways:
        *_, way = heappop(ways)
        if way.prefix.parent is None:
            yield way.reading()
        else:
            for further in way.further():
                heappush(ways, (-further.score, further.turns, next(numbers), further))


def forget(prefixes: Iterable[Prefix], decided: Prefix) -> None:
    """Let go of all that was merged into the prefixes, which come from `decided`, but does not."""
    left = list(prefixes)
    comes = dict.fromkeys([decided, *left], True)
    decided.others.clear()
    while left:
        prefix = left.pop()
        for number, (other, _) in list(prefix.others.items()):
            lineage: list[Prefix] = []
            node: Prefix | None = other.parent
            while node is not None and node not in comes:
                lineage.append(node)
                node = node.parent
            there = node is not None and comes[node]
            comes |= dict.fromkeys(lineage, there)
            if there:
                left += lineage
            else:
                del prefix.others[number]
