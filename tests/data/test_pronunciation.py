"""Texts spelled by pronunciation: what the manifest says, what the lexicon says, and words that neither knows."""

from pathlib import Path

import pytest

from asr.data.config import PhonesConfig, TokenizerConfig
from asr.data.manifest import Entry
from asr.data.pronunciation import PhoneSpeller, make_speller
from asr.errors import LanguageModelError, RecipeError
from asr.model.phones import LETTERS, parse

WORDS = "read\tR IY1 D\nread\tR EH1 D\nred\tR EH1 D\nthe\tDH AH0\nbook\tB UH1 K\n"


@pytest.fixture
def speller(tmp_path: Path) -> PhoneSpeller:
    """A dictionary of some words, of a language without letter-to-phone rules."""
    (tmp_path / "words.txt").write_text(WORDS, encoding="utf-8")
    return PhoneSpeller(str(tmp_path / "words.txt"), language="xx")


def entry(text: str, phones: str | None = None) -> Entry:
    return Entry("one", Path("one.wav"), text, None, None, phones=phones)


def test_a_word_has_its_first_pronunciation(speller: PhoneSpeller):
    assert speller(entry("read the red book")) == " ".join(map(parse, ("R IY D", "DH AH", "R EH D", "B UH K")))


def test_phones_of_the_manifest_go_first(speller: PhoneSpeller):
    assert speller(entry("read", phones="red")) == "red"


def test_phones_of_the_manifest_need_no_lexicon():
    nowhere = PhoneSpeller("no/such/file.txt", language="xx")
    assert nowhere(entry("read", phones="red")) == "red"
    with pytest.raises(LanguageModelError, match=r"no/such/file\.txt") as caught:
        nowhere(entry("read"))
    assert "\n" not in str(caught.value)


def test_phones_that_are_no_letters_of_phones_are_one_line(speller: PhoneSpeller):
    with pytest.raises(RecipeError, match=r"'one': 'q' in its \"phones\"") as caught:
        speller(entry("read", phones="rqd"))
    assert "\n" not in str(caught.value)


def test_an_empty_text_is_said_by_nothing(speller: PhoneSpeller):
    assert speller(entry("")) == speller(entry("", phones="red")) == ""


@pytest.mark.parametrize("text", ["the 39 books", "книга", "read the zyx"])
def test_a_text_with_a_word_that_cannot_be_pronounced_has_no_phones(speller: PhoneSpeller, text: str):
    assert speller(entry(text)) == ""


def test_words_without_pronunciation_are_reported_once_most_frequent_first(speller: PhoneSpeller):
    for text in ("the 39 books", "39", "read the book", "книга"):
        speller(entry(text))
    (line,) = speller.report()
    assert line == "left out are the texts with words that cannot be pronounced: 39, books, книга"


def test_nothing_is_reported_of_a_lexicon_that_has_all_words(speller: PhoneSpeller):
    speller(entry("read the book"))
    assert list(speller.report()) == []


def test_english_words_that_no_dictionary_has_are_pronounced_by_their_letters():
    speller = PhoneSpeller("en-lexicon", language="en")
    assert speller(entry("the blorkman's")).startswith("Du bl")
    (line,) = speller.report()
    assert line == "50.0% of the words are not in en-lexicon and pronounced by their letters: blorkman's"
    assert speller(entry("39")) == speller(entry("книга")) == ""


@pytest.mark.parametrize("language", ["en", "en-GB", "en_US", "EN"])
def test_the_packaged_lexicon_is_found_by_any_code_of_the_language(language: str):
    assert PhoneSpeller("words.txt", language).packaged == PhoneSpeller("en-lexicon", "en").packaged


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
    made = make_speller(config, PhonesConfig(weight=weight, alphabet=alphabet), language)
    assert (made is not None) == needed
