"""What the beam merges and takes apart again, against a beam so wide that it merges nothing, and against the 1-best."""

import gc
import itertools
import math

import numpy as np
import pytest

from asr.decode.base import Hypothesis
from asr.decode.beam import BeamDecoder
from asr.decode.fusion import Fusion
from asr.decode.nbest import drop_strangers
from asr.decode.prefix import MergedPath, Prefix
from asr.model.tokens import BLANK, WORD_START, Tokens

FRAME_SECONDS = 0.04
LETTERS = Tokens([BLANK, WORD_START, *"abcdefgh"])
DOUBTFUL = "▁ab▁ab▁ab"  # with "c" or "d" perhaps where there are "a" and "b"
PERHAPS = {"a": ("c", 0.3), "b": ("d", 0.2)}


def heard(text: str, sure_from: int) -> np.ndarray:
    """Log-probs (frames, tokens) of a text, each letter between blanks; those before `sure_from` are doubtful."""
    rows = []
    for place, letter in enumerate(text):
        row = np.full(len(LETTERS), 1e-6)
        other, probability = PERHAPS.get(letter, ("", 0.0)) if place < sure_from else ("", 0.0)
        row[LETTERS.ids[letter]] = 1 - probability
        if other:
            row[LETTERS.ids[other]] = probability
        blank = np.full(len(LETTERS), 1e-6)
        blank[0] = 1.0
        rows += [row, blank]
    return np.log(np.array(rows) / np.sum(rows, axis=1, keepdims=True))


def decode(beam_width: int, log_probs: np.ndarray, nbest: int, commit_seconds: float = math.inf) -> list[Hypothesis]:
    decoder = BeamDecoder(
        LETTERS, FRAME_SECONDS, beam_width, score_prune=math.inf, nbest=nbest, commit_seconds=commit_seconds
    )
    state = decoder.reset()
    decoder.advance(state, log_probs)
    return decoder.finish(state)


def test_readings_that_a_narrow_beam_merged_come_back_with_their_scores_and_times():
    log_probs = heard(DOUBTFUL + "▁ef▁gh▁ef▁gh", sure_from=len(DOUBTFUL))
    wide = decode(4000, log_probs, nbest=24)
    narrow = decode(6, log_probs, nbest=24)
    assert len({hypothesis.text for hypothesis in narrow}) == 24
    assert [hypothesis.text for hypothesis in narrow[:7]] == [hypothesis.text for hypothesis in wide[:7]]
    there = {hypothesis.text: hypothesis for hypothesis in wide}
    for hypothesis in narrow[:7]:
        same = there[hypothesis.text]
        assert hypothesis.score == pytest.approx(same.score, abs=1e-3)
        assert hypothesis.acoustic == pytest.approx(hypothesis.score)
        assert hypothesis.words == same.words


@pytest.mark.parametrize("seed", range(8))
def test_the_first_of_several_is_the_only_one_and_all_are_in_order(seed: int):
    generator = np.random.default_rng(seed)
    log_probs = np.log(generator.dirichlet(np.full(len(LETTERS), 0.15), size=120) + 1e-9).astype(np.float32)
    (only,) = decode(8, log_probs, nbest=1)
    several = decode(8, log_probs, nbest=30)
    assert several[0] == only
    assert len({hypothesis.text for hypothesis in several}) == 30  # far more than the beam is wide
    assert all(one.score >= other.score for one, other in itertools.pairwise(several))
    for hypothesis in several:
        times = [time for word in hypothesis.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert " ".join(word.text for word in hypothesis.words) == " ".join(LETTERS.text(hypothesis.tokens).split())


def test_alternatives_of_what_is_decided_are_gone_and_so_is_their_memory():
    log_probs = np.concatenate([heard(DOUBTFUL * 2 + "▁ef▁gh", sure_from=2 * len(DOUBTFUL))] * 40)
    decoder = BeamDecoder(LETTERS, FRAME_SECONDS, 6, score_prune=math.inf, nbest=10, commit_seconds=2.0)
    state = decoder.reset()
    alive = []
    for part in np.array_split(log_probs, 8):
        decoder.advance(state, part)
        gc.collect()
        alive.append(sum(type(thing) in (MergedPath, Prefix) for thing in gc.get_objects()))
    assert max(alive[2:]) < 2 * alive[1]
    several = decoder.finish(state)
    assert len(several) == 10
    tail = 2 * len(log_probs) // 40  # what may differ: the commit time, and what came before the last commit
    shared = {
        tuple(word.text for word in hypothesis.words if word.end < (len(log_probs) - tail - 128) * FRAME_SECONDS)
        for hypothesis in several
    }
    assert len(shared) == 1


def test_what_comes_from_another_root_is_forgotten():
    def prefix(parent: Prefix | None, number: int) -> Prefix:
        return Prefix(parent, 2, number, number, Fusion(LETTERS).start(), 0.0, future="")

    decided, stranger = prefix(None, 0), prefix(None, 1)
    kin, alien = prefix(decided, 2), prefix(stranger, 3)
    child = prefix(decided, 4)
    child.score = kin.score = 0.0
    child.merge(MergedPath(kin, None, 1, -1.0, 0.0))
    child.merge(MergedPath(alien, None, 1, -1.0, 0.0))
    kin.merge(MergedPath(alien, None, 1, -1.0, 0.0))
    drop_strangers([child], decided)
    assert list(child.merged) == [kin.number]
    assert not kin.merged
