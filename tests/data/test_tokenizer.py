"""Text to tokens and back, and what happens to text outside the alphabet."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.config import TokenizerConfig
from asr.data.tokenizer import (
    BpeTokenizer,
    CharacterTokenizer,
    TextRule,
    Tokenizer,
    make_tokenizer,
    read_tokenizer,
    train_bpe,
)
from asr.errors import RecipeError
from asr.model.phones import LETTERS
from asr.model.tokens import BLANK_ID

ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
WORDS = ["the", "then", "there", "that", "cat", "can't", "hat", "in", "inn", "ring", "ringing", "sing", "song"]
some_words = st.lists(st.text(ALPHABET, min_size=1, max_size=8), max_size=6)


def sentences(count: int = 200) -> list[str]:
    draw = Random(1)
    return [" ".join(draw.choices(WORDS, k=5)) for _ in range(count)]


@pytest.fixture(scope="module")
def bpe() -> BpeTokenizer:
    return BpeTokenizer(train_bpe(TokenizerConfig(vocabulary=48), sentences()))


@pytest.fixture(scope="module")
def phone_bpe() -> BpeTokenizer:
    config = TokenizerConfig(kind="phone_bpe", vocabulary=60)
    return BpeTokenizer(train_bpe(config, ["Du rjd bUk", "DAt iz Der", "siN u soN"] * 20), config.spelling)


def round_trip(tokenizer: Tokenizer, words: list[str]) -> None:
    text = " ".join(words)
    ids = tokenizer.encode(text)
    assert BLANK_ID not in ids
    assert all(0 < token < len(tokenizer.tokens) for token in ids)
    assert tokenizer.tokens.text(ids) == text


@given(words=some_words)
@settings(deadline=None)
def test_characters_spell_what_was_encoded(words: list[str]):
    round_trip(CharacterTokenizer(TokenizerConfig()), words)


@given(words=some_words)
@settings(deadline=None)
def test_bpe_spells_what_was_encoded_also_words_it_was_not_trained_on(bpe: BpeTokenizer, words: list[str]):
    round_trip(bpe, words)


@given(words=st.lists(st.text(LETTERS, min_size=1, max_size=8), max_size=6))
@settings(deadline=None)
def test_phones_spell_what_was_encoded_and_no_token_is_a_mark_alone(words: list[str]):
    tokenizer = CharacterTokenizer(TokenizerConfig(kind="phones"))
    round_trip(tokenizer, words)
    ids = tokenizer.encode(" ".join(words))
    assert len(ids) == sum(map(len, words))
    assert sum(map(tokenizer.tokens.starts_word, ids)) == len(words)


@given(words=st.lists(st.text(LETTERS, min_size=1, max_size=8), max_size=6))
@settings(deadline=None)
def test_bpe_of_phones_spells_what_was_encoded(phone_bpe: BpeTokenizer, words: list[str]):
    round_trip(phone_bpe, words)
    # As the decoder spells a word.
    pieces = [piece for word in words for piece in phone_bpe.tokens.pieces(word)]
    assert [phone_bpe.tokens.symbols[token] for token in phone_bpe.encode(" ".join(words))] == pieces


@pytest.mark.parametrize("kind", ["phones", "phone_bpe"])
def test_a_tokenizer_of_phones_is_read_as_it_was_made(tmp_path: Path, kind: str):
    config = TokenizerConfig(kind=kind, vocabulary=48)  # type: ignore[arg-type]
    made = make_tokenizer(config, ["Du bUk", "red bUks", "rjd"] * 9, tmp_path / "tokenizer.model")
    read = read_tokenizer(tmp_path, vars(config), made.tokens)
    assert (read.spelling, read.encode("red bUk")) == ("phones", made.encode("red bUk"))
    assert len(made.tokens) == {"phones": 79, "phone_bpe": 48}[kind]
    assert set(LETTERS) <= set(made.tokens.symbols)


@pytest.mark.parametrize("text", ["In 1999", "naïve, no?", "книга"])
def test_phones_have_no_alphabet_of_letters_unless_others_are_dropped(text: str):
    config = TokenizerConfig(kind="phones")
    assert TextRule(config)(text, "here") == text.lower()
    assert TextRule(replace(config, unknown="drop"))("naïve, no?", "here") == "nave no"


def test_one_token_a_character():
    tokenizer = CharacterTokenizer(TokenizerConfig(alphabet="ab"))
    assert tokenizer.tokens.symbols == ("<blank>", "▁", "a", "b")
    assert tokenizer.encode("ab a") == [2, 3, 1, 2]
    assert tokenizer.encode("") == []


def test_bpe_has_the_vocabulary_asked_for_and_every_letter(bpe: BpeTokenizer):
    assert len(bpe.tokens) == 48
    assert set(ALPHABET) <= set(bpe.tokens.symbols)  # also letters that no training text holds
    assert len(bpe.encode("ringing")) < len("ringing")


def test_bpe_text_has_no_other_ids_than_tokens_txt(bpe: BpeTokenizer, tmp_path: Path):
    bpe.tokens.save(tmp_path / "tokens.txt")
    assert type(bpe.tokens).load(tmp_path / "tokens.txt").symbols == bpe.tokens.symbols


@pytest.mark.parametrize(("case", "expected"), [("lower", "good day"), ("upper", "GOOD DAY"), ("keep", "Good DAY")])
def test_the_case_is_folded_and_spaces_are_made_single(case: str, expected: str):
    rule = TextRule(TokenizerConfig(case=case, alphabet=ALPHABET + ALPHABET.upper()))
    assert rule(" Good \t DAY\n", "here") == expected


@pytest.mark.parametrize(("text", "character"), [("it costs 5", "5"), ("naïve", "ï"), ("a-b, c", "-"), ("x_", "_")])
def test_an_unknown_character_is_an_error_with_place_text_and_character(text: str, character: str):
    with pytest.raises(RecipeError) as caught:
        TextRule(TokenizerConfig())(text, "train.jsonl: 'one'")
    message = str(caught.value)
    assert message.startswith(f"train.jsonl: 'one': '{character}' in “{text}” is not in the alphabet")
    assert "tokenizer.unknown=drop" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["İSTANBUL", "I\u0307stanbul"])
def test_a_dotted_capital_i_is_one_letter_in_lower_case(text: str):
    assert TextRule(TokenizerConfig())(text, "here") == "istanbul"


def test_an_alphabet_of_letters_and_accents_has_the_composed_letters():
    config = TokenizerConfig(alphabet="o\u0308l")
    assert TextRule(config)("Öl", "here") == "öl"
    assert {"ö", "l"} <= set(CharacterTokenizer(config).tokens.symbols)


def test_the_case_is_folded_before_the_alphabet_is_asked():
    with pytest.raises(RecipeError, match="'A' in “A”"):
        TextRule(TokenizerConfig(case="keep"))("A", "here")
    assert TextRule(TokenizerConfig())("A", "here") == "a"


def test_dropped_characters_are_counted():
    rule = TextRule(TokenizerConfig(unknown="drop"))
    assert [rule(text, "here") for text in ("Well, well!", "a — b", "1234", "fine")] == ["well well", "a b", "", "fine"]
    assert rule.dropped == {",": 1, "!": 1, "—": 1, "1": 1, "2": 1, "3": 1, "4": 1}


@pytest.mark.parametrize(
    ("vocabulary", "texts"),
    [(5_000, sentences), (5, sentences), (40, list)],
    ids=["larger than the text allows", "smaller than the alphabet", "no text"],
)
def test_a_vocabulary_that_does_not_suit_the_text_is_one_line(vocabulary: int, texts: Callable[[], list[str]]):
    with pytest.raises(RecipeError) as caught:
        train_bpe(TokenizerConfig(vocabulary=vocabulary), texts())
    assert str(caught.value).startswith(f"tokenizer.vocabulary={vocabulary} does not suit the training text")
    assert "\n" not in str(caught.value)


def test_a_bpe_model_is_trained_once_and_used_again_on_resume(tmp_path: Path):
    config, path = TokenizerConfig(vocabulary=48), tmp_path / "tokenizer.model"
    first = make_tokenizer(config, sentences(), path)
    kept = path.read_bytes()
    again = make_tokenizer(config, ["other words entirely"] * 50, path)
    assert path.read_bytes() == kept
    assert again.tokens.symbols == first.tokens.symbols
    assert again.encode("ringing there") == first.encode("ringing there")


def test_characters_keep_no_model(tmp_path: Path):
    make_tokenizer(TokenizerConfig(kind="characters"), [], tmp_path / "tokenizer.model")
    assert not (tmp_path / "tokenizer.model").exists()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Twenty-one, don’t!", "twenty one don't"),
        ("yes—no", "yes no"),
        ("hello,world", "hello world"),
        ("Café", "caf"),
        ("In 1999 he paid", ""),
    ],
)
def test_dropped_punctuation_parts_words_and_digits_drop_the_text(text: str, kept: str):
    assert TextRule(TokenizerConfig(unknown="drop"))(text, "here") == kept


def test_a_letter_and_its_accent_are_the_letter_of_the_alphabet():
    rule = TextRule(TokenizerConfig(alphabet="caféxyz"))
    assert rule("cafe\u0301", "here") == "café"


def test_a_letter_that_the_bpe_model_never_saw_is_an_error_not_a_blank():
    config = TokenizerConfig(vocabulary=30, alphabet="abcdefgh")
    tokenizer = BpeTokenizer(train_bpe(config, ["abc def gh", "bad cab"] * 9))
    with pytest.raises(RecipeError, match="cannot spell “zebra”"):
        tokenizer.encode("zebra")
