from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_model import letter_pieces

from asr.errors import ArgumentError, BundleError
from asr.model.tokens import BLANK, BLANK_ID, WORD_START, Tokens

CHARACTERS = Tokens([BLANK, WORD_START, "a", "b", "'"])
PIECES = Tokens([BLANK, "▁the", "▁", "re", "s", "▁a"])


@pytest.mark.parametrize(
    ("tokens", "ids", "text"),
    [
        (CHARACTERS, [], ""),
        (CHARACTERS, [1], ""),
        (CHARACTERS, [2, 3, 1, 2], "ab a"),
        (CHARACTERS, [1, 2, 1, 1, 3, 1], "a b"),
        (CHARACTERS, [2, 4, 3], "a'b"),
        (CHARACTERS, [0, 2, 0, 3, 0], "ab"),
        (PIECES, [1, 3, 5, 2, 4], "there a s"),
        (PIECES, [3, 4], "res"),
    ],
)
def test_text_that_ids_spell(tokens: Tokens, ids: list[int], text: str) -> None:
    assert tokens.text(ids) == text


def test_a_piece_with_the_mark_starts_a_word() -> None:
    assert [PIECES.starts_word(token) for token in range(len(PIECES))] == [False, True, True, False, False, True]


def test_the_blank_is_id_0() -> None:
    assert CHARACTERS.symbols[BLANK_ID] == BLANK


@given(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S"]), min_size=1), unique=True))
def test_saved_tokens_are_read_back(tmp_path_factory: pytest.TempPathFactory, symbols: list[str]) -> None:
    path = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    tokens = Tokens([BLANK, *(symbol for symbol in symbols if symbol != BLANK)])
    tokens.save(path)
    assert Tokens.load(path).symbols == tokens.symbols


@pytest.mark.parametrize("separator", ["\u2028", "\u2029"])
def test_only_a_line_feed_ends_a_token(tmp_path: Path, separator: str) -> None:
    tokens = Tokens([BLANK, separator, "a"])
    tokens.save(tmp_path / "tokens.txt")
    assert Tokens.load(tmp_path / "tokens.txt").symbols == tokens.symbols


@pytest.mark.parametrize("symbol", ["\x1b[31m", "\x0b", "\x85", "a\x9b2J", "", "x" * 100])
def test_a_token_that_a_terminal_would_obey_is_refused(tmp_path: Path, symbol: str) -> None:
    (tmp_path / "tokens.txt").write_text(f"{BLANK}\na\n{symbol}\n")
    with pytest.raises(BundleError, match="cannot be a token") as caught:
        Tokens.load(tmp_path / "tokens.txt")
    assert str(caught.value).isprintable()


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(f"{BLANK}\r\n▁\r\na\r\n".encode())
    assert Tokens.load(path).symbols == (BLANK, WORD_START, "a")


@pytest.mark.parametrize("symbols", [[], ["a"], [WORD_START, BLANK]])
def test_the_first_token_must_be_the_blank(symbols: list[str]) -> None:
    with pytest.raises(BundleError, match=f"first token must be {BLANK}"):
        Tokens(symbols)


@pytest.mark.parametrize("symbols", [[BLANK, "a", "a"], [BLANK, "a", BLANK]])
def test_a_token_cannot_be_there_twice(symbols: list[str]) -> None:
    with pytest.raises(BundleError, match="twice"):
        Tokens(symbols)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tokens\.txt: cannot read the tokens"):
        Tokens.load(tmp_path / "tokens.txt")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_bytes(b"<blank>\n\xff\n")
    with pytest.raises(BundleError, match=r"tokens\.txt: cannot read the tokens"):
        Tokens.load(tmp_path / "tokens.txt")


@settings(deadline=None)
@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=12), min_size=1))
def test_pieces_are_those_the_model_was_trained_with(words: list[str]) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="the yardstick: pip install 'recurrent-asr[train]'")
    processor = sentencepiece.SentencePieceProcessor(model_proto=letter_pieces())
    tokens = Tokens([BLANK, *(processor.id_to_piece(piece) for piece in range(1, processor.get_piece_size()))])
    assert [piece for word in words for piece in tokens.pieces(word)] == processor.encode(" ".join(words), out_type=str)


def test_a_word_of_very_many_letters_is_refused():
    with pytest.raises(ArgumentError, match=r"has 100,000 letters; a word has at most 1000"):
        Tokens([BLANK, WORD_START, "a", "aa"]).pieces("a" * 100_000)
