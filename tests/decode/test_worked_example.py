"""The numbers of the worked example in asr/README.md, part "Beam search"."""

import math

import numpy as np
import pytest

from asr.decode.beam import BeamDecoder
from asr.decode.fusion import Fusion, FusionWeights
from asr.decode.greedy import GreedyDecoder
from asr.lm.ngram import Level, NgramModel
from asr.model.tokens import BLANK, WORD_START, Tokens

LETTER = Tokens([BLANK, "a"])
PROBABILITIES = np.array([[0.4, 0.6], [0.7, 0.3], [0.4, 0.6]])  # of the blank and of a, in three frames


def test_prefix_probabilities():
    decoder = BeamDecoder(LETTER, 0.04, nbest=3)
    state, table = decoder.reset(), []
    for row in np.log(PROBABILITIES):
        decoder.advance(state, row[None])
        table.append({prefix.key: (math.exp(prefix.blank), math.exp(prefix.nonblank)) for prefix in state.beam})
    # A prefix's key is the number of its parent × 2 + 1: the empty prefix has -1, "a" has 1, "aa" has 3.
    expected = [
        {-1: (0.4, 0.0), 1: (0.0, 0.6)},
        {-1: (0.28, 0.0), 1: (0.42, 0.30)},
        {-1: (0.112, 0.0), 1: (0.288, 0.348), 3: (0.0, 0.252)},
    ]
    assert [{key: pytest.approx(pair, abs=1e-9) for key, pair in row.items()} for row in expected] == table
    hypotheses = decoder.finish(state)
    assert [hypothesis.text for hypothesis in hypotheses] == ["a", "aa", ""]
    assert [math.exp(hypothesis.score) for hypothesis in hypotheses] == pytest.approx([0.636, 0.252, 0.112])


def test_the_best_path_spells_another_text():
    decoder = GreedyDecoder(LETTER, 0.04)
    state = decoder.reset()
    decoder.advance(state, np.log(PROBABILITIES))
    (hypothesis,) = decoder.finish(state)
    assert hypothesis.text == "aa"
    assert math.exp(hypothesis.score) == pytest.approx(0.252)


def test_look_ahead_pays_for_a_word_as_it_is_spelled():
    words = [b"</s>", b"<s>", b"<unk>", b"car", b"cat", b"dog"]
    log_probs = np.log([1e-3, 1e-3, 1e-3, 0.3, 0.5, 0.2])
    unigrams = Level(np.zeros(6, dtype=int), np.arange(6), log_probs, np.zeros(6))
    tokens = Tokens([BLANK, WORD_START, *"acdgort"])
    fusion = Fusion(tokens, NgramModel.of(words, [unigrams]), FusionWeights(1.0, 0.0, -10.0))

    def gains(word: str) -> list[float]:
        state, found = fusion.start(), []
        for symbol in word:
            gain, state = fusion.step(state, tokens.ids[symbol])
            found.append(gain)
        return [*found, fusion.end(state)]

    assert gains("▁cat") == pytest.approx([0, -0.693, 0, 0, 0], abs=1e-3)
    assert gains("▁car") == pytest.approx([0, -0.693, 0, -0.511, 0], abs=1e-3)
    assert gains("▁dog") == pytest.approx([0, -1.609, 0, 0, 0], abs=1e-3)
    assert gains("▁cog")[1:3] == pytest.approx([-0.693, math.log(1e-3) - 10 + 0.693], abs=1e-3)
