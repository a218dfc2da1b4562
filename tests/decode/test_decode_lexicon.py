"""Language models whose words are not written as the recogniser writes them."""

import math

import pytest
from sentence_score import score_text

from asr.decode.lexicon import spellable
from asr.errors import LanguageModelError
from asr.lm.estimate import estimate
from asr.lm.ngram import NgramModel
from asr.model.tokens import BLANK, WORD_START, Tokens

LOWER = Tokens([BLANK, WORD_START, *"abcdefghijklmnopqrstuvwxyz'"])
UPPER = Tokens([BLANK, WORD_START, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"])
GERMAN = Tokens([BLANK, WORD_START, *"abcdefghijklmnopqrstuvwxyzäöüß'"])
SENTENCES = ["the cat's here", "the cat sat", "a cat sat here", "the dog sat"] * 2


def model(sentences: list[str], order: int = 3) -> NgramModel:
    return estimate(sentences, order)[0]


def words(model: NgramModel) -> set[str]:
    return {model.vocabulary.word(word) for word in range(len(model.vocabulary))} - {"<unk>", "<s>", "</s>"}


def test_a_model_in_the_recognisers_letters_is_used_as_it_is():
    lower = model(SENTENCES)
    assert spellable(lower, LOWER.letters, "x.lm") is lower


@pytest.mark.parametrize(
    "changed", [str.upper, lambda text: text.replace("'", "’"), lambda text: text.replace("a", "á")]
)
def test_case_quotes_and_marks_are_changed_and_every_score_stays(changed):
    lower, other = model(SENTENCES), model([changed(text) for text in SENTENCES])
    folded = spellable(other, LOWER.letters, "x.lm")
    assert words(folded) == words(lower)
    for text in [*SENTENCES, "a dog here", "the unheard of cat"]:
        assert score_text(folded, text) == pytest.approx(score_text(lower, text), abs=1e-5)


def test_a_recogniser_that_writes_capitals_gets_capitals():
    assert "THE" in words(spellable(model(SENTENCES), UPPER.letters, "x.lm"))


def test_marks_that_the_recogniser_writes_stay():
    assert {"käse", "cafe"} <= words(spellable(model(["Käse im Café", "der Käse"]), GERMAN.letters, "x.lm"))


def test_of_words_that_become_one_the_likelier_counts():
    mixed = model(["The cat sat", "the cat sat", "the cat ran", "see the cat", "THE end"], 2)
    folded = spellable(mixed, LOWER.letters, "x.lm")
    assert words(folded) == {"the", "cat", "sat", "ran", "see", "end"}
    assert math.isfinite(score_text(folded, "the cat sat"))
    score = {word: score_text(mixed, word, bos=False, eos=False) for word in ("The", "the", "THE")}
    assert score_text(folded, "the", bos=False, eos=False) == pytest.approx(max(score.values()), abs=1e-6)
    assert score_text(folded, "the cat") >= max(score_text(mixed, "The cat"), score_text(mixed, "the cat")) - 0.5


def test_a_few_words_that_cannot_be_spelled_do_no_harm():
    mixed = model([*SENTENCES, "route 66"])
    assert spellable(mixed, LOWER.letters, "x.lm") is mixed


def test_a_model_in_another_script_is_one_clear_line():
    russian = model(["кот сидел здесь", "собака сидела", "a cat"])
    with pytest.raises(LanguageModelError) as caught:
        spellable(russian, LOWER.letters, "ru.lm")
    message = str(caught.value)
    assert message.startswith("ru.lm: the recogniser cannot spell 71% of this language model's words, such as '")
    assert "build one from text in its letters, 'abc" in message
    assert "\n" not in message
