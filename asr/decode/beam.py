"""CTC prefix beam search: the most likely text, summed over all alignments that spell it.

After Graves 2012, "Sequence transduction with recurrent neural networks", and Hannun et al. 2014,
"First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs",
algorithm 1, in the log domain. Without pruning the result is exact.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import heapify, heappush, heapreplace
from itertools import islice, pairwise
from operator import attrgetter, itemgetter

import numpy as np

from asr.decode.base import Hypothesis
from asr.decode.fusion import Fusion, StateKey
from asr.decode.nbest import Reading, forget, readings
from asr.decode.prefix import IMPOSSIBLE, Other, Prefix, log_add, relatives, undecided
from asr.decode.word_times import check_log_probs, spell_words
from asr.model.tokens import BLANK_ID, Tokens

BEAM_WIDTH = 32  # prefixes kept after each frame, not counting those that others grew from
# Pruning is relative, in nats (natural log units), so that flat frames keep more than peaky ones.
TOKEN_PRUNE = 6.0  # nats: a token 1/400 as likely as its frame's best symbol extends no prefix
TOKENS_PER_FRAME = 12  # at most so many tokens extend the prefixes, the most likely (and ties)
SCORE_PRUNE = 8.0  # nats: a prefix 1/3,000 as likely as the best one is dropped; by a beam below 16 sooner
SPELLINGS = 8  # token sequences looked at for each of several hypotheses; some spell the same text
BLOCK_FRAMES = 256  # frames turned into Python floats at once: an hour at once would take 400 MB
# Two readings that differ in an old word keep their distance for ever; such ties would fill the beam and the memory.
COMMIT_SECONDS = 10.0  # s: what is older is decided, as the best prefix has it
SETTLE_FRAMES = 128  # frames between two rounds of deciding and of clearing away dead prefixes

Extension = tuple[float, Prefix, int]  # rank, prefix, the token that it grows by
Future = tuple[StateKey, int]  # all that what follows a prefix depends on: where fusion is, and the last token
Merged = dict[Future, list[Other]]  # what gave way to a better prefix with that future
Arrival = tuple[Prefix, Prefix, float]  # live prefix, the parent that grows into it, score


@dataclass
class BeamState:
    """frames: how many were seen. beam: live prefixes, best first.

    children: (number of the parent × vocabulary + token) → prefix, for live prefixes and their
    ancestors. It makes a prefix that was dropped and comes back the same object its children know.
    created: how many prefixes were made, which numbers the next one.
    """

    beam: list[Prefix]
    children: dict[int, Prefix]
    frames: int = 0
    created: int = 1


class BeamDecoder:
    """Prefix beam search decoder; `frame_seconds` is the time from one frame to the next.

    A hypothesis' score is the log-prob of its tokens over all alignments that were kept, and what `fusion` adds. A
    prefix that another one outranks and whose future is the same is merged into it where there is no room for both, or
    where one hypothesis is wanted and it can pass nothing on to a better one; score and times of such a hypothesis,
    which only `nbest` brings back, are estimates. Times come from its single best alignment; a token's confidence is
    its highest probability in its run there, a word's the geometric mean over its lettered tokens. `finish` gives up to
    `nbest` hypotheses; they differ only in about the last `commit_seconds`. Without a `score_prune` the width chooses
    it. `math.inf` for these and the prunes, and `len(tokens)` for `tokens_per_frame`, turn pruning off.
    """

    def __init__(
        self,
        tokens: Tokens,
        frame_seconds: float,
        beam_width: int = BEAM_WIDTH,
        token_prune: float = TOKEN_PRUNE,
        tokens_per_frame: int = TOKENS_PER_FRAME,
        score_prune: float | None = None,
        commit_seconds: float = COMMIT_SECONDS,
        nbest: int = 1,
        fusion: Fusion | None = None,
    ):
        if score_prune is None:
            # Below a width of 16 less of it makes a beam faster at fewer errors than an even smaller width does.
            score_prune = min(SCORE_PRUNE, SCORE_PRUNE / 2 + beam_width / 4)
        if min(beam_width, tokens_per_frame, nbest) < 1:
            raise ValueError("beam_width, tokens_per_frame and nbest must be at least 1")
        if not (token_prune >= 0 and score_prune >= 0 and commit_seconds >= 0):
            raise ValueError("token_prune and score_prune (nats) and commit_seconds must be 0 or more")
        self.tokens = tokens
        self.vocabulary = len(tokens)
        self.frame_seconds = frame_seconds
        self.beam_width = beam_width
        self.token_prune = token_prune
        self.tokens_per_frame = tokens_per_frame
        self.score_prune = score_prune
        self.commit_frames = commit_seconds / frame_seconds
        self.nbest = nbest
        self.fusion = fusion or Fusion(tokens)

    def reset(self) -> BeamState:
        self.fusion.trim()
        empty = Prefix(None, BLANK_ID, number=0, key=-1, fusion=self.fusion.start(), gain=0.0)
        empty.blank = empty.total = empty.rank = empty.blank_path = 0.0
        return BeamState([empty], {})

    def advance(self, state: BeamState, log_probs: np.ndarray) -> None:
        """Take in `log_probs`, shape (frames, tokens); ValueError on another shape or NaN."""
        check_log_probs(log_probs, self.tokens)
        for start in range(0, len(log_probs), BLOCK_FRAMES):
            with collector_paused():
                self._advance(state, log_probs[start : start + BLOCK_FRAMES])

    def _advance(self, state: BeamState, block: np.ndarray) -> None:
        best = block.max(axis=1)
        for row, top, extending in zip(block.tolist(), best.tolist(), self._extending(block, best), strict=True):
            self._step(state, row, top, extending)
            state.frames += 1
            if state.frames % SETTLE_FRAMES == 0:
                self._settle(state)

    def partial(self, state: BeamState) -> Hypothesis:
        best = state.beam[0]
        _, emission = best.path(state.frames)
        aligned = emission.alignment() if emission else []
        hypothesis = self._hypothesis(Reading(best.rank, best.total, aligned))
        shared = hypothesis.tokens[: len(hypothesis.tokens) - undecided(state.beam)]
        words = self.tokens.text(shared).split()  # the last of them may get more tokens
        return replace(hypothesis, stable=max(0, len(words) - 1))

    def finish(self, state: BeamState) -> list[Hypothesis]:
        ended = [(prefix.rank + self.fusion.end(prefix.fusion), prefix) for prefix in state.beam]
        hypotheses: dict[str, Hypothesis] = {}
        for reading in islice(readings(ended, state.frames), SPELLINGS * self.nbest):
            hypothesis = self._hypothesis(reading)
            hypotheses.setdefault(hypothesis.text, hypothesis)  # other tokens may spell the same text
            if len(hypotheses) == self.nbest:
                break
        return list(hypotheses.values())

    def _hypothesis(self, reading: Reading) -> Hypothesis:
        words = spell_words(reading.aligned, self.tokens, self.frame_seconds)
        return Hypothesis(tuple(item.token for item in reading.aligned), words, reading.score, reading.acoustic)

    def _extending(self, block: np.ndarray, best: np.ndarray) -> list[list[int]]:
        """For each frame, the tokens that may extend a prefix; none where the blank dominates."""
        likely = (block >= best[:, None] - self.token_prune) & (block > IMPOSSIBLE)
        likely[:, BLANK_ID] = False
        if self.tokens_per_frame < block.shape[1] - 1:
            least = np.partition(block[:, BLANK_ID + 1 :], -self.tokens_per_frame, axis=1)[:, -self.tokens_per_frame]
            likely &= block >= least[:, None]
        frames, tokens = likely.nonzero()
        bounds = np.searchsorted(frames, np.arange(len(block) + 1)).tolist()
        ids = tokens.tolist()
        return [ids[start:end] for start, end in pairwise(bounds)]

    def _step(self, state: BeamState, row: list[float], top: float, extending: list[int]) -> None:
        """One frame: every prefix stays, or grows by a token; as many of the results as there is room for go on."""
        beam, frame = state.beam, state.frames
        floor = beam[0].rank + top - self.score_prune
        fresh, arrivals = self._extend(state, row, floor, extending)

        for prefix in beam:
            prefix.blank = prefix.total + row[BLANK_ID]
            prefix.nonblank += row[prefix.token]
        for child, _, score in arrivals:
            child.nonblank = log_add(child.nonblank, score)
        for prefix in beam:
            prefix.total = log_add(prefix.blank, prefix.nonblank)
            prefix.rank = prefix.total + prefix.gain

        # Alignments of this frame need those of the last one: collect what moves before anything is overwritten.
        merged: Merged = {}
        fresh, staying = self._select(state, fresh, merged)
        offers = [(child, parent.path(frame, child.token == parent.token)) for child, parent, _ in arrivals]
        grown = [self._grow(state, parent, token, rank, row[token]) for rank, parent, token in fresh]
        for prefix in staying:
            log_prob = row[prefix.token]
            prefix.blank_path, prefix.closed = prefix.path(frame)
            prefix.blank_path += row[BLANK_ID]
            prefix.token_path += log_prob
            if log_prob > prefix.peak:
                prefix.peak = log_prob
        for child, (path_score, before) in offers:
            if path_score + row[child.token] > child.token_path:
                child.begin(path_score, before, frame, row[child.token])
        state.beam = staying + grown
        state.beam.sort(key=attrgetter("rank"), reverse=True)
        if merged:
            for prefix in state.beam:
                for other in merged.pop((prefix.fusion.key, prefix.token), ()):
                    prefix.merge(other)

    def _extend(
        self, state: BeamState, row: list[float], floor: float, extending: list[int]
    ) -> tuple[list[Extension], list[Arrival]]:
        """Grow each prefix by each token, into prefixes that are new or that are in the beam already."""
        fresh: list[Extension] = []
        arrivals: list[Arrival] = []
        children, vocabulary = state.children, self.vocabulary
        for token in extending:
            log_prob = row[token]
            for prefix in state.beam:
                rank = prefix.rank + log_prob
                if rank <= floor:
                    break  # the beam is sorted: the others rank lower
                if token == prefix.token:  # a doubled letter needs a blank in between
                    rank = prefix.blank + prefix.gain + log_prob
                    if rank <= floor:
                        continue
                child = children.get(prefix.number * vocabulary + token)
                if child is not None and child.live:
                    arrivals.append((child, prefix, rank - prefix.gain))
                else:
                    fresh.append((rank, prefix, token))
        return fresh, arrivals

    def _select(self, state: BeamState, fresh: list[Extension], merged: Merged) -> tuple[list[Extension], list[Prefix]]:
        """The best of the extensions and of the prefixes that stay (here: with a blank as token), see `_room`.

        Extensions come without the gain of their token, which is worked out only where it may lift them into the beam.
        If there is no room for all, those whose future a better one has give way; where several hypotheses are wanted
        `merged` gets them. Where one is, they do so even if there is room, so that words become stable, but not while
        they have relatives in the beam: alignments may still flow between these, which would be lost.
        """
        beam, frame, several = state.beam, state.frames, self.nbest > 1
        full = len(beam) + len(fresh) > self.beam_width
        related: set[int] | None = None
        reached: dict[Future, tuple[float, float]] = {}
        ranked = []
        for prefix in sorted(beam, key=attrgetter("rank"), reverse=True):
            if (several and not full) or self._open(prefix, reached):
                ranked.append((prefix.rank, prefix, BLANK_ID))
            elif several:
                merged.setdefault((prefix.fusion.key, prefix.token), []).extend(prefix.as_others(frame))
            elif not full:
                if related is None:
                    related = relatives(beam)
                if prefix.number in related:
                    ranked.append((prefix.rank, prefix, BLANK_ID))
        best = [rank for rank, _, _ in ranked]  # a heap of the `beam_width` best so far, the lowest first
        heapify(best)
        least = ranked[0][0] - self.score_prune
        fresh.sort(key=itemgetter(0), reverse=True)
        for rank, prefix, token in fresh:
            crowded = len(best) >= self.beam_width
            if crowded and best[0] > least:
                least = best[0]
            if rank + self.fusion.highest_gain <= least:
                break
            fusion = prefix.fusion
            step = fusion.steps.get(token)
            if step is None:
                if rank + self.fusion.bound(fusion, token) <= least:
                    continue
                step = self.fusion.step(fusion, token)
            gain, after = step
            rank += gain
            if rank <= least:
                continue
            if full and reached.setdefault((after.key, token), (IMPOSSIBLE, rank))[1] > rank:
                if several:
                    _, before = prefix.path(frame, token == prefix.token)
                    other = Other(prefix, before, frame, rank, prefix.gain + gain)
                    merged.setdefault((after.key, token), []).append(other)
                continue
            (heapreplace if crowded else heappush)(best, rank)
            ranked.append((rank, prefix, token))
        ranked.sort(key=itemgetter(0), reverse=True)
        del ranked[self._room(ranked) :]
        floor = ranked[0][0] - self.score_prune
        staying = [prefix for rank, prefix, token in ranked if token == BLANK_ID and rank > floor]
        if ranked[0][0] == IMPOSSIBLE:  # the frame allows no symbol at all: keep a reading, of probability 0
            staying = beam[:1]
        if len(staying) < len(beam):
            for prefix in beam:
                prefix.live = False
            for prefix in staying:
                prefix.live = True
        return [result for result in ranked if result[2] != BLANK_ID and result[0] > floor], staying

    def _room(self, ranked: Sequence[Extension]) -> int:
        """How many of the results go on, the best first: `beam_width`, not counting those that others grew from.

        While a token is heard, the prefix with it and the prefix without it are one reading, whose alignments pass from
        the second to the first; counted twice, it would take the place of another one. At most twice the width go on.
        """
        if len(ranked) <= self.beam_width:
            return len(ranked)
        tips = 0  # the results so far from which none of them grew
        staying: set[int] = set()
        grown: set[int] = set()
        for place, (_, prefix, token) in enumerate(ranked[: 2 * self.beam_width]):
            if token == BLANK_ID:
                parent = prefix.parent.number if prefix.parent is not None else -1
                tips += prefix.number not in grown
                staying.add(prefix.number)
            else:
                parent = prefix.number
                tips += 1
            if parent in staying and parent not in grown:
                tips -= 1
            grown.add(parent)
            if tips > self.beam_width:
                return place
        return min(len(ranked), 2 * self.beam_width)

    @staticmethod
    def _open(prefix: Prefix, reached: dict[Future, tuple[float, float]]) -> bool:
        """Whether none of the better prefixes with the same future is better in every way."""
        ranks = prefix.blank + prefix.gain, prefix.nonblank + prefix.gain
        blank, nonblank = reached.setdefault((prefix.fusion.key, prefix.token), ranks)
        return blank < ranks[0] or nonblank < ranks[1] or ranks == (blank, nonblank)

    def _grow(self, state: BeamState, parent: Prefix, token: int, rank: float, log_prob: float) -> Prefix:
        """The live prefix `parent` + `token`, newly made or come back."""
        key = parent.number * self.vocabulary + token
        prefix = state.children.get(key)
        if prefix is None:
            gain, fusion = self.fusion.step(parent.fusion, token)
            prefix = Prefix(parent, token, state.created, key, fusion, parent.gain + gain)
            state.children[key] = prefix
            state.created += 1
        prefix.live = True
        prefix.blank = prefix.blank_path = IMPOSSIBLE
        prefix.rank = rank
        prefix.nonblank = prefix.total = rank - prefix.gain
        prefix.begin(*parent.path(state.frames, token == parent.token), state.frames, log_prob)
        return prefix

    def _settle(self, state: BeamState) -> None:
        """Decide what is older than `commit_seconds`, and forget what no live prefix needs.

        Only live prefixes make children, so nothing that is cut off can be asked for again.
        """
        decided = state.beam[0]
        while decided.parent is not None and decided.first >= state.frames - self.commit_frames:
            decided = decided.parent
        agreeing: list[Prefix] = []
        children: dict[int, Prefix] = {}
        for prefix in state.beam:
            lineage: dict[int, Prefix] = {}
            node: Prefix | None = prefix
            while node is not None and node is not decided and node.key not in children:
                lineage[node.key] = node
                node = node.parent
            prefix.live = node is not None
            if prefix.live:
                agreeing.append(prefix)
                children |= lineage
        decided.parent = None
        if self.nbest > 1:
            forget(children.values(), decided)
        self.fusion.trim()
        state.beam, state.children = agreeing, children


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for cycles of garbage: decoding leaves none, but makes so many objects that it would go on and on."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
