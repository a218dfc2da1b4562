"""CTC prefix beam search: the most likely text, summed over all alignments that spell it.

After Graves 2012, "Sequence transduction with recurrent neural networks", and Hannun et al. 2014, "First-pass large
vocabulary continuous speech recognition using bi-directional recurrent DNNs", algorithm 1, in the log domain. Without
pruning the result is exact.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heappush, heapreplace
from itertools import islice, pairwise
from operator import attrgetter, itemgetter

import numpy as np

from asr.decode.base import Hypothesis, check_log_probs
from asr.decode.calibration import UNCALIBRATED, Calibration
from asr.decode.fusion import Fusion
from asr.decode.homophones import HomophoneWriter
from asr.decode.nbest import complete_paths, drop_strangers
from asr.decode.prefix import (
    IMPOSSIBLE,
    Future,
    MergedPath,
    Prefix,
    alignment,
    future_of,
    log_add,
    related,
    unstable_tokens,
)
from asr.decode.priors import divide_by_priors
from asr.decode.word_times import AlignedToken, spell_words
from asr.model.tokens import BLANK_ID, Tokens

BEAM_WIDTH = 32  # prefixes kept after each frame, not counting those that others grew from
# Pruning is relative, in nats (natural log units), so that flat frames keep more than peaky ones.
TOKEN_PRUNE = 6.0  # nats: a token 1/400 as likely as its frame's best symbol extends no prefix
TOKENS_PER_FRAME = 12  # at most so many tokens extend the prefixes, the most likely (and ties)
SCORE_PRUNE = 8.0  # nats: a prefix 1/3,000 as likely as the best one is dropped; by a beam below 16 sooner
SPELLINGS = 8  # token sequences looked at for each of several hypotheses; some spell the same text
BLOCK_FRAMES = 256  # frames turned into Python floats at once: an hour at once would take 400 MB
# Two hypotheses that differ in an old word keep their distance for ever; such ties would fill the beam and the memory.
COMMIT_SECONDS = 10.0  # s: what is older is committed as the best prefix has it
COMMIT_FRAMES = 128  # frames between two commits

Extensions = dict[int, float]  # number of the prefix × vocabulary + token → score; no tuples, see `Future`
Ranked = tuple[float, Prefix, int]  # score, prefix, the token that extends it, or the blank if it stays
Arrival = tuple[Prefix, Prefix, float]  # live prefix, its parent, log-prob of what passes from the parent to it


class Recombination:
    """For one frame: scores of the best prefix with each future, and what is merged into that prefix."""

    def __init__(self) -> None:
        self.blank: dict[Future, float] = {}
        self.nonblank: dict[Future, float] = {}
        self.merged: defaultdict[Future, list[MergedPath]] = defaultdict(list)

    def not_dominated(self, prefix: Prefix) -> bool:
        """Whether no prefix asked about before has the same future and is better in every way."""
        blank, nonblank = prefix.blank + prefix.fusion_score, prefix.nonblank + prefix.fusion_score
        best_blank = self.blank.setdefault(prefix.future, blank)
        best_nonblank = self.nonblank.setdefault(prefix.future, nonblank)
        return best_blank < blank or best_nonblank < nonblank or (best_blank == blank and best_nonblank == nonblank)


@dataclass
class BeamState:
    """The search after some frames.

    `children` holds live prefixes and their ancestors. It makes a prefix that was dropped and comes back the same
    object that its children have as a parent.
    """

    beam: list[Prefix]  # live prefixes, best first
    children: dict[int, Prefix]  # by number of the parent × vocabulary + token
    writer: HomophoneWriter | None = None  # where tokens spell pronunciations
    frames: int = 0
    created: int = 1  # prefixes made so far: the number of the next one


class BeamDecoder:
    """Prefix beam search decoder.

    A hypothesis' score is the log-prob of its tokens over all alignments that were kept, and what `fusion` adds. Times
    come from the single best alignment; a token's confidence is its highest probability in its run there. `finish`
    gives up to `nbest` hypotheses, which differ only in about the last `commit_seconds`; score and times of those that
    were merged into better ones on the way (recombination) are estimates.

    The limits are those at the top of the module. Without a `score_prune` the width chooses it; `math.inf` for both
    prunes and `commit_seconds`, and `len(tokens)` for `tokens_per_frame`, turn pruning off.
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
        calibration: Calibration = UNCALIBRATED,
        log_priors: np.ndarray | None = None,
    ):
        if score_prune is None:
            # Below a width of 16 less of it makes a beam faster at fewer errors than an even smaller width does.
            score_prune = min(SCORE_PRUNE, SCORE_PRUNE / 2 + beam_width / 4)
        self.tokens = tokens
        self.vocabulary = len(tokens)
        self.frame_seconds = frame_seconds
        self.beam_width = beam_width
        self.token_prune = token_prune
        self.tokens_per_frame = tokens_per_frame
        self.score_prune = score_prune
        self.homophone_prune = score_prune / 2  # as exact in practice, and words become stable earlier
        self.history_frames = commit_seconds / frame_seconds
        self.nbest = nbest
        self.fusion = fusion or Fusion(tokens)
        self.calibration = calibration
        self.log_priors = log_priors

    def reset(self) -> BeamState:
        self.fusion.trim()
        fusion_state = self.fusion.start()
        empty = Prefix(None, BLANK_ID, 0, -1, fusion_state, 0.0, future_of(fusion_state, BLANK_ID))
        empty.blank = empty.acoustic = empty.score = empty.blank_path = 0.0
        spoken = self.fusion.pronunciations is not None
        return BeamState([empty], {}, HomophoneWriter(self.fusion, self.homophone_prune) if spoken else None)

    def advance(self, state: BeamState, log_probs: np.ndarray, encoded: np.ndarray | None = None) -> None:
        check_log_probs(log_probs, self.tokens)
        for start in range(0, len(log_probs), BLOCK_FRAMES):
            block = log_probs[start : start + BLOCK_FRAMES]
            if self.log_priors is not None:
                block = divide_by_priors(block, self.log_priors)
            best = block.max(axis=1)
            for row, top, extending in zip(block.tolist(), best.tolist(), self._extending(block, best), strict=True):
                self._step(state, row, top, extending)
                state.frames += 1
                if state.frames % COMMIT_FRAMES == 0:
                    self._commit_history(state)

    def partial(self, state: BeamState) -> Hypothesis:
        best = state.beam[0]
        aligned = alignment(best.best_path(state.frames)[1])
        hypothesis = self._hypothesis(state, best.score, best.acoustic, aligned, growing=True)
        shared = hypothesis.tokens[: len(hypothesis.tokens) - unstable_tokens(state.beam)]
        words = self.tokens.text(shared).split()  # the last of them may get more tokens
        stable = max(0, len(words) - 1)
        return replace(hypothesis, stable=state.writer.settled(stable) if state.writer is not None else stable)

    def finish(self, state: BeamState) -> list[Hypothesis]:
        ended = [(prefix.score + self.fusion.end(prefix.fusion_state), prefix) for prefix in state.beam]
        hypotheses: dict[str, Hypothesis] = {}
        for path in islice(complete_paths(ended, state.frames), SPELLINGS * self.nbest):
            hypothesis = self._hypothesis(state, path.score, path.acoustic, path.alignment())
            other = hypotheses.setdefault(hypothesis.text, hypothesis)  # other tokens may spell the same text
            if other.score < hypothesis.score:
                hypotheses[hypothesis.text] = hypothesis
            if len(hypotheses) == self.nbest:
                break
        return sorted(hypotheses.values(), key=attrgetter("score"), reverse=True)  # homophones may change the order

    def _hypothesis(
        self, state: BeamState, score: float, acoustic: float, aligned: Sequence[AlignedToken], growing: bool = False
    ) -> Hypothesis:
        words = spell_words(aligned, self.tokens, self.frame_seconds, self.calibration)
        if state.writer is not None:
            words, gain = state.writer.write(words, growing)
            score = acoustic + gain
        return Hypothesis(tuple(item.token for item in aligned), words, score, acoustic)

    def _extending(self, block: np.ndarray, best: np.ndarray) -> list[list[int]]:
        """For each frame, the tokens that may extend a prefix."""
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
        """One frame: every prefix stays, or is extended by a token; the best of the results go on.

        row: log-probs (vocabulary). top: the highest of them. extending: tokens that may extend a prefix.
        """
        beam = state.beam
        floor = beam[0].score + top - self.score_prune
        extensions, arrivals = self._extend(state, row, floor, extending)
        for prefix in beam:
            prefix.blank = prefix.acoustic + row[BLANK_ID]
            prefix.nonblank += row[prefix.token]
        for child, _, log_prob in arrivals:
            child.nonblank = log_add(child.nonblank, log_prob)
        for prefix in beam:
            prefix.acoustic = log_add(prefix.blank, prefix.nonblank)
            prefix.score = prefix.acoustic + prefix.fusion_score
        beam.sort(key=attrgetter("score"), reverse=True)

        recombination = Recombination()
        staying, growing = self._select(state, extensions, recombination)
        # Alignments of this frame need those of the last one: collect what moves before anything is overwritten.
        offers = [parent.best_path(state.frames, child.token == parent.token) for child, parent, _ in arrivals]
        grown = [self._grow(state, parent, token, score, row[token]) for score, parent, token in growing]
        for prefix in staying:
            log_prob = row[prefix.token]
            if prefix.token_path > prefix.blank_path:
                prefix.blank_path, prefix.blank_runs = prefix.best_path(state.frames)
            prefix.blank_path += row[BLANK_ID]
            prefix.token_path += log_prob
            if log_prob > prefix.peak:
                prefix.peak = log_prob
        for (child, _, _), (path, runs) in zip(arrivals, offers, strict=True):
            if path + row[child.token] > child.token_path:
                child.begin_run(path, runs, state.frames, row[child.token])
        state.beam = staying + grown
        state.beam.sort(key=attrgetter("score"), reverse=True)
        if recombination.merged:
            for prefix in state.beam:
                for merged in recombination.merged.pop(prefix.future, ()):
                    prefix.merge(merged)

    def _extend(
        self, state: BeamState, row: list[float], floor: float, extending: list[int]
    ) -> tuple[Extensions, list[Arrival]]:
        """Extend each prefix by each token, to prefixes that are new or that are in the beam already."""
        extensions: Extensions = {}
        arrivals: list[Arrival] = []
        children, vocabulary = state.children, self.vocabulary
        for token in extending:
            log_prob = row[token]
            for prefix in state.beam:
                score = prefix.score + log_prob
                if score <= floor:
                    break  # the beam is sorted: the others score lower
                if token == prefix.token:  # a doubled letter needs a blank in between
                    score = prefix.blank + prefix.fusion_score + log_prob
                    if score <= floor:
                        continue
                key = prefix.number * vocabulary + token
                child = children.get(key)
                if child is not None and child.live:
                    arrivals.append((child, prefix, score - prefix.fusion_score))
                else:
                    extensions[key] = score
        return extensions, arrivals

    def _select(
        self, state: BeamState, extensions: Extensions, recombination: Recombination
    ) -> tuple[list[Prefix], list[Ranked]]:
        """The best of the prefixes that stay and of the extensions, each best first."""
        beam = state.beam
        crowded = len(beam) + len(extensions) > self.beam_width
        staying = self._recombine(state, crowded, recombination)
        growing = self._rank_extensions(state, extensions, staying, crowded, recombination) if extensions else []
        if len(staying) + len(growing) > self.beam_width:
            ranked = [(prefix.score, prefix, BLANK_ID) for prefix in staying] + growing
            ranked.sort(key=itemgetter(0), reverse=True)
            del ranked[self._beam_cutoff(ranked) :]
            staying = [prefix for _, prefix, token in ranked if token == BLANK_ID]
            growing = [result for result in ranked if result[2] != BLANK_ID]
        best = max(staying[0].score if staying else IMPOSSIBLE, growing[0][0] if growing else IMPOSSIBLE)
        floor = best - self.score_prune
        staying = [prefix for prefix in staying if prefix.score > floor]
        if best == IMPOSSIBLE:  # the frame allows no symbol at all: keep a hypothesis, of probability 0
            staying = beam[:1]
        if len(staying) < len(beam):
            for prefix in beam:
                prefix.live = False
            for prefix in staying:
                prefix.live = True
        return staying, [result for result in growing if result[0] > floor]

    def _recombine(self, state: BeamState, crowded: bool, recombination: Recombination) -> list[Prefix]:
        """The prefixes of the beam that are not merged into a better one with the same future, best first.

        If several hypotheses are wanted, prefixes are merged only where there is no room for all results, and are
        remembered. If one is, they are merged even if there is room, so that words become stable; but then not those
        with relatives in the beam: alignments may still pass between these, which would be lost.
        """
        several = self.nbest > 1
        if several and not crowded:
            return state.beam
        staying = []
        relatives: set[int] | None = None
        for prefix in state.beam:
            if recombination.not_dominated(prefix):
                staying.append(prefix)
            elif several:
                recombination.merged[prefix.future] += prefix.as_merged_paths(state.frames)
            elif not crowded:
                if relatives is None:
                    relatives = related(state.beam)
                if prefix.number in relatives:
                    staying.append(prefix)
        return staying

    def _rank_extensions(
        self,
        state: BeamState,
        extensions: Extensions,
        staying: Sequence[Prefix],
        crowded: bool,
        recombination: Recombination,
    ) -> list[Ranked]:
        """The extensions that may enter the beam, with the gain of their token in the score, best first.

        The gain is computed only where it may lift an extension into the beam.
        """
        best = [prefix.score for prefix in reversed(staying)]  # a heap of the `beam_width` best, lowest first
        least = staying[0].score - self.score_prune
        ranked = []
        parents = {prefix.number: prefix for prefix in state.beam}
        for key in sorted(extensions, key=extensions.__getitem__, reverse=True):
            score = extensions[key]
            full = len(best) >= self.beam_width
            if full and best[0] > least:
                least = best[0]
            if score + self.fusion.highest_gain <= least:
                break
            number, token = divmod(key, self.vocabulary)
            prefix = parents[number]
            step = prefix.fusion_state.steps.get(token)
            if step is None:
                if not self.fusion.may_gain(prefix.fusion_state, token, least - score):
                    continue
                step = self.fusion.step(prefix.fusion_state, token)
            gain, after = step
            score += gain
            if score <= least:
                continue
            future = future_of(after, token)
            if crowded and recombination.nonblank.setdefault(future, score) > score:
                if self.nbest > 1:
                    _, runs = prefix.best_path(state.frames, token == prefix.token)
                    path = MergedPath(prefix, runs, state.frames, score, prefix.fusion_score + gain)
                    recombination.merged[future].append(path)
                continue
            (heapreplace if full else heappush)(best, score)
            ranked.append((score, prefix, token))
        ranked.sort(key=itemgetter(0), reverse=True)
        return ranked

    def _beam_cutoff(self, ranked: Sequence[Ranked]) -> int:
        """How many of the results, best first, go on: `beam_width`, not counting those that others grew from.

        While a token lasts, the prefix with it and the prefix without it are one hypothesis, whose alignments pass from
        the second to the first; counted twice, it would take the place of another one. At most twice the width go on.
        """
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

    def _grow(self, state: BeamState, parent: Prefix, token: int, score: float, log_prob: float) -> Prefix:
        """The live prefix `parent` + `token`, newly made or come back."""
        key = parent.number * self.vocabulary + token
        prefix = state.children.get(key)
        if prefix is None:
            gain, fusion_state = self.fusion.step(parent.fusion_state, token)
            fusion_score, future = parent.fusion_score + gain, future_of(fusion_state, token)
            prefix = Prefix(parent, token, state.created, key, fusion_state, fusion_score, future)
            state.children[key] = prefix
            state.created += 1
        prefix.live = True
        prefix.blank = prefix.blank_path = IMPOSSIBLE
        prefix.score = score
        prefix.nonblank = prefix.acoustic = score - prefix.fusion_score
        prefix.begin_run(*parent.best_path(state.frames, token == parent.token), state.frames, log_prob)
        return prefix

    def _commit_history(self, state: BeamState) -> None:
        """Commit what is older than `commit_seconds`; drop prefixes that disagree with it, and what none needs."""
        committed = state.beam[0]
        while committed.parent is not None and committed.first >= state.frames - self.history_frames:
            committed = committed.parent
        agreeing: list[Prefix] = []
        children: dict[int, Prefix] = {}
        for prefix in state.beam:
            lineage: dict[int, Prefix] = {}
            node: Prefix | None = prefix
            while node is not None and node is not committed and node.key not in children:
                lineage[node.key] = node
                node = node.parent
            prefix.live = node is not None
            if prefix.live:
                agreeing.append(prefix)
                children |= lineage
        committed.parent = None
        if self.nbest > 1:
            drop_strangers(children.values(), committed)
        self.fusion.trim()
        state.beam, state.children = agreeing, children
