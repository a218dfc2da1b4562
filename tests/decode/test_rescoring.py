"""N-best rescoring: the order that brute force gives, parts at pauses, joined as one reading, whatever the chunks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_model import CHARACTERS, write_model

from asr.decode.base import Decoder, Hypothesis
from asr.decode.beam import BeamDecoder
from asr.decode.rescoring import (
    PAUSE_SECONDS,
    LanguageModelScorer,
    RescoringDecoder,
    RescoringWeights,
    WeightedRescorer,
)
from asr.errors import LanguageModelError
from asr.lm.neural import NeuralModel
from asr.model.tokens import BLANK, BLANK_ID, WORD_START, Tokens

FRAME_SECONDS = 0.04
PAUSE = round(PAUSE_SECONDS / FRAME_SECONDS)
WEIGHTS = RescoringWeights(lm_weight=0.7, word_bonus=0.3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> NeuralModel:
    pytest.importorskip("torch", reason="makes the model: pip install 'recurrent-asr[train]'")
    return NeuralModel.load(write_model(tmp_path_factory.mktemp("lm") / "characters", "characters"))


def speech(text: str, seed: int = 0) -> np.ndarray:
    """Log-probs (2 frames a letter, tokens) that spell the text, with other letters nearly as likely."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, (2 * len(text), len(CHARACTERS)))
    for place, letter in enumerate(text):
        logits[2 * place, CHARACTERS.ids[letter.replace(" ", WORD_START)]] += 4
        logits[2 * place + 1, BLANK_ID] += 8
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def silence(frames: int) -> np.ndarray:
    return np.log(np.eye(len(CHARACTERS))[[BLANK_ID] * frames] * 0.99 + 1e-4).astype(np.float32)


def decode(decoder: Decoder, log_probs: np.ndarray, sizes: tuple[int, ...] = ()) -> list[Hypothesis]:
    state, at = decoder.reset(), 0
    for size in sizes:
        decoder.advance(state, log_probs[at : at + size])
        at += size
    decoder.advance(state, log_probs[at:])
    return decoder.finish(state)


def rescoring(model: NeuralModel, nbest: int = 8, weights: RescoringWeights = WEIGHTS) -> RescoringDecoder:
    beam = BeamDecoder(CHARACTERS, FRAME_SECONDS, 8, nbest=8)
    scorer = LanguageModelScorer(model, CHARACTERS.letters)
    return RescoringDecoder(beam, WeightedRescorer([(scorer, weights)]), nbest)


@pytest.mark.parametrize("seed", range(4))
def test_hypotheses_are_in_the_order_of_their_sums(model: NeuralModel, seed: int):
    log_probs = speech("a cat sat", seed)
    plain = decode(BeamDecoder(CHARACTERS, FRAME_SECONDS, 8, nbest=8), log_probs)
    assert len(plain) > 4
    gains = {
        item.text: 0.7 * model.score([model.encode(item.text)])[0] + 0.3 * len(item.text.split()) for item in plain
    }
    expected = sorted(plain, key=lambda item: -item.score - gains[item.text])
    found = decode(rescoring(model), log_probs)
    assert [item.text for item in found] == [item.text for item in expected]
    for item, before in zip(found, expected, strict=True):
        assert (item.tokens, item.words, item.acoustic) == (before.tokens, before.words, before.acoustic)
        assert item.rescoring == pytest.approx(gains[item.text], abs=1e-3)
        assert item.score == pytest.approx(before.score + item.rescoring)
    assert decode(rescoring(model, nbest=3), log_probs) == found[:3]


def test_the_recurrent_model_decides_what_the_sound_leaves_open(model: NeuralModel):
    log_probs = speech("a cat sat")
    plain = decode(BeamDecoder(CHARACTERS, FRAME_SECONDS, 8, nbest=8), log_probs)
    best = max(plain, key=lambda item: model.score([model.encode(item.text)])[0])
    assert best.text != plain[0].text
    (found,) = decode(rescoring(model, 1, RescoringWeights(lm_weight=100.0, word_bonus=0.0)), log_probs)
    assert found.text == best.text


def test_without_weight_it_is_the_beam(model: NeuralModel):
    log_probs = speech("a cat sat")
    plain = decode(BeamDecoder(CHARACTERS, FRAME_SECONDS, 8, nbest=8), log_probs)
    assert decode(rescoring(model, 8, RescoringWeights(0.0, 0.0)), log_probs) == plain


def test_a_part_ends_at_a_pause_and_is_read_as_if_alone(model: NeuralModel):
    spoken = [speech("the cat", 1), silence(PAUSE + 5), speech("a dog", 2)]
    cut = len(spoken[0]) - 1 + PAUSE  # its last frame is blank too
    (whole,) = decode(rescoring(model, 1), np.concatenate(spoken))
    parts = [decode(rescoring(model, 1), rows)[0] for rows in np.split(np.concatenate(spoken), [cut])]
    assert whole.text == " ".join(part.text for part in parts)
    assert whole.score == pytest.approx(sum(part.score for part in parts))
    assert whole.rescoring == pytest.approx(sum(part.rescoring for part in parts))
    assert CHARACTERS.text(whole.tokens) == whole.text
    assert [word.start for word in whole.words[-len(parts[1].words) :]] == pytest.approx(
        [word.start + cut * FRAME_SECONDS for word in parts[1].words]
    )


def test_a_silent_end_leaves_the_alternatives_of_the_last_words(model: NeuralModel):
    log_probs = np.concatenate([speech("the cat", 1), silence(PAUSE), speech("a dog", 2)])
    alone = decode(rescoring(model, 4), log_probs)
    followed = decode(rescoring(model, 4), np.concatenate([log_probs, silence(3 * PAUSE)]))
    assert len({item.text for item in alone}) == 4
    assert [item.text for item in followed] == [item.text for item in alone]


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=6).map(tuple), pause=st.integers(0, 2 * PAUSE))
def test_chunks_change_nothing(model: NeuralModel, sizes: tuple[int, ...], pause: int):
    log_probs = np.concatenate([silence(20), speech("the cat", 3), silence(pause), speech("a dog", 4), silence(pause)])
    assert decode(rescoring(model), log_probs, sizes) == decode(rescoring(model), log_probs)


def test_partials_keep_the_parts_that_ended_and_say_so(model: NeuralModel):
    decoder = rescoring(model)
    state = decoder.reset()
    decoder.advance(state, np.concatenate([speech("the cat", 1), silence(PAUSE)]))
    before = decoder.partial(state)
    assert before.stable == len(before.words) > 0
    decoder.advance(state, speech("a dog", 2))
    after = decoder.partial(state)
    assert after.words[: len(before.words)] == before.words
    assert len(after.words) > len(before.words) <= after.stable
    assert decoder.finish(state)[0].words[: len(before.words)] == before.words


def test_silence_and_nothing_are_no_words(model: NeuralModel):
    for log_probs in (silence(0), silence(5), silence(4 * PAUSE)):
        assert decode(rescoring(model), log_probs)[0].words == ()


def test_a_model_without_the_letters_is_told_before_the_work(model: NeuralModel):
    accented = Tokens([BLANK, WORD_START, "é"])
    with pytest.raises(LanguageModelError, match="tiny has no token for 'é'"):
        LanguageModelScorer(model, accented.letters)
