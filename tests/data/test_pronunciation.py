"""Texts spelled by pronunciation: what the manifest says, what the lexicon says, and words that neither knows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asr.data.config import PhonesConfig, TokenizerConfig
from asr.data.manifest import Entry
from asr.data.pronunciation import Pronunciation, make_pronunciation
from asr.errors import LanguageModelError, RecipeError
from asr.model.bundle import PACKAGED
from asr.model.phones import LETTERS, parse

WORDS = "read\tR IY1 D\nread\tR EH1 D\nred\tR EH1 D\nthe\tDH AH0\nbook\tB UH1 K\n"
Spell = Callable[..., str]


@pytest.fixture
def pronunciation(tmp_path: Path) -> Pronunciation:
    """A dictionary of some words, of a language without letter-to-phone rules."""
    (tmp_path / "words.txt").write_text(WORDS, encoding="utf-8")
    return Pronunciation(str(tmp_path / "words.txt"), language="xx")


def entry(text: str, phones: str | None = None) -> Entry:
    return Entry("one", Path("one.wav"), text, None, None, phones=phones)


def test_a_word_has_its_first_pronunciation(pronunciation: Pronunciation):
    assert pronunciation(entry("read the red book")) == " ".join(map(parse, ("R IY D", "DH AH", "R EH D", "B UH K")))


def test_phones_of_the_manifest_go_first(pronunciation: Pronunciation):
    assert pronunciation(entry("read", phones="red")) == "red"


def test_phones_of_the_manifest_need_no_lexicon():
    nowhere = Pronunciation("no/such/file.txt", language="xx")
    assert nowhere(entry("read", phones="red")) == "red"
    with pytest.raises(LanguageModelError, match=r"no/such/file\.txt") as caught:
        nowhere(entry("read"))
    assert "\n" not in str(caught.value)


def test_phones_that_are_no_letters_of_phones_are_one_line(pronunciation: Pronunciation):
    with pytest.raises(RecipeError, match=r"'one': 'q' in its \"phones\"") as caught:
        pronunciation(entry("read", phones="rqd"))
    assert "\n" not in str(caught.value)


def test_an_empty_text_is_said_by_nothing(pronunciation: Pronunciation):
    assert pronunciation(entry("")) == pronunciation(entry("", phones="red")) == ""


@pytest.mark.parametrize("text", ["the 39 books", "книга", "read the zyx"])
def test_a_text_with_a_word_that_cannot_be_pronounced_has_no_phones(pronunciation: Pronunciation, text: str):
    assert pronunciation(entry(text)) == ""


def test_words_without_pronunciation_are_reported_once_most_frequent_first(pronunciation: Pronunciation):
    for text in ("the 39 books", "39", "read the book", "книга"):
        pronunciation(entry(text))
    (line,) = pronunciation.report()
    assert line == "left out are the texts with words that cannot be pronounced: 39, books, книга"


def test_nothing_is_reported_of_a_lexicon_that_has_all_words(pronunciation: Pronunciation):
    pronunciation(entry("read the book"))
    assert list(pronunciation.report()) == []


@pytest.mark.skipif(not (PACKAGED / "en-lexicon").is_dir(), reason="en-lexicon is not packaged")
def test_english_words_that_no_dictionary_has_are_pronounced_by_their_letters():
    pronunciation = Pronunciation("en-lexicon", language="en")
    assert pronunciation(entry("the blorkman's")).startswith("Du bl")
    (line,) = pronunciation.report()
    assert line == "50.0% of the words are not in en-lexicon and pronounced by their letters: blorkman's"
    assert pronunciation(entry("39")) == pronunciation(entry("книга")) == ""


@pytest.mark.parametrize(
    ("kind", "weight", "alphabet", "language", "needed"),
    [
        ("bpe", 0.0, LETTERS, "en", False),
        ("bpe", 0.3, LETTERS, "en", True),
        ("bpe", 0.3, "abc", "en", False),  # phones of one's own
        ("bpe", 0.3, LETTERS, "de", False),
        ("phones", 0.0, LETTERS, "en", True),
        ("phone_bpe", 0.0, LETTERS, "en-GB", True),
    ],
)
def test_pronunciations_are_for_phones_only(kind: str, weight: float, alphabet: str, language: str, needed: bool):
    config = TokenizerConfig(kind=kind)  # type: ignore[arg-type]
    made = make_pronunciation(config, PhonesConfig(weight=weight, alphabet=alphabet), language)
    assert (made is not None) == needed
