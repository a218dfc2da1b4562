"""Lexicons against a plain dict; dictionaries as text; whole and damaged files."""

import gzip
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ArgumentError, LanguageModelError
from asr.lm.lexicon import DTYPES, MAGIC, Lexicon
from asr.model.phones import LETTERS

PRONUNCIATIONS = st.text("aAuz", min_size=1, max_size=3)
ENTRIES = st.lists(st.tuples(st.text("abä'日", min_size=1, max_size=2), PRONUNCIATIONS), max_size=30)
TEXT = "read\tR IY D\nred\tR EH1 D\nread\tR EH D\nreads\tr iy1 d z\n"
READ = [("read", "rjd"), ("read", "red"), ("red", "red"), ("reads", "rjdz")]


@given(ENTRIES, PRONUNCIATIONS, st.text("aAuz", max_size=2))
def test_words_and_pronunciations_are_those_that_were_given(
    entries: list[tuple[str, str]], prefix: str, more: str
) -> None:
    by_word: dict[str, list[str]] = {}
    for word, pronunciation in dict.fromkeys(entries):
        by_word.setdefault(word, []).append(pronunciation)
    expected = [(word, pronunciation) for word in by_word for pronunciation in by_word[word]]
    lexicon = Lexicon.of(entries)
    assert [*lexicon] == expected
    assert len(lexicon) == len(expected)
    for word in (*by_word, "nowhere", ""):
        assert lexicon.pronunciations(word) == by_word.get(word, [])
    for pronunciation in (prefix, prefix + more, *(pronunciation for _, pronunciation in expected)):
        homophones = [word for word, spoken in expected if spoken == pronunciation]
        assert lexicon.words(pronunciation) == homophones
    ordered = [(lexicon.word(entry), lexicon.pronunciation(entry)) for entry in range(len(lexicon))]
    assert ordered == sorted(expected, key=lambda entry: entry[1])
    matching = lexicon.narrow(prefix)
    assert ordered[matching.start : matching.stop] == [entry for entry in ordered if entry[1].startswith(prefix)]
    assert list(lexicon.narrow(prefix + more, matching)) == list(lexicon.narrow(prefix + more))


@given(entries=ENTRIES)
def test_a_saved_lexicon_is_the_same(tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.lex"
    lexicon = Lexicon.of(entries)
    lexicon.save(path)
    opened = Lexicon.load(path)
    assert [*opened] == [*lexicon]
    assert all((opened.arrays[name] == lexicon.arrays[name]).all() for name in DTYPES)
    assert [*Lexicon.of(lexicon)] == [*lexicon]


@pytest.mark.parametrize("word", ["", "two words", " a"])
def test_what_is_no_word_is_an_error(word: str) -> None:
    with pytest.raises(ArgumentError, match="is not a word"):
        Lexicon.of([(word, "a")])


@pytest.mark.parametrize("pronunciation", ["", "q", "a b", "AQ"])
def test_what_is_no_pronunciation_is_an_error(pronunciation: str) -> None:
    with pytest.raises(ArgumentError, match=f"is not a pronunciation of 'word' in {LETTERS}"):
        Lexicon.of([("word", pronunciation)])


def test_a_dictionary_is_read_in_every_form(tmp_path: Path) -> None:
    annotated = ";;; a comment\nread  R IY1 D\nread(2)  R EH1 D # past\n\nred R EH1 D\nreads R IY1 D Z\n(1) W AH N\n"
    forms = {
        "plain": TEXT.encode(),
        "gz": gzip.compress(TEXT.encode()),
        "xz": lzma.compress(TEXT.encode()),
        "windows": f"\ufeff{TEXT}".replace("\n", "\r\n").encode(),
        "no end": TEXT.rstrip().encode(),
        "cmudict": annotated.encode(),
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        entries = [*Lexicon.load(tmp_path / name)]
        assert entries == READ + [("(1)", "Wun")] * (name == "cmudict")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"red\tR EH D\nread\tR XX D\n", ":2: 'XX' is not a phone"),
        (b"red\tR EH D\nread\n", ":2: not a word, a tab and its phones: 'read'"),
        (b"red\t# R EH D\n", ":1: not a word, a tab and its phones"),
        (b"New York\tN UW Y AO R K\n", ":1: not a word, a tab and its phones"),
        (b"caf\xe9\tK AE F EY\n", ":1: not UTF-8"),
        (gzip.compress(b"red\tR EH D\n" * 99, mtime=0)[:-9], ": truncated or damaged"),
    ],
)
def test_faults_of_a_dictionary_are_named_with_their_line(tmp_path: Path, text: bytes, problem: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(text)
    with pytest.raises(LanguageModelError) as raised:
        Lexicon.load(path)
    assert str(raised.value).startswith(f"{path}{problem}")


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "words.lex"
    Lexicon.of(READ).save(path)
    whole = path.read_bytes()
    for size in (*range(len(MAGIC), len(whole), 37), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(LanguageModelError, match="truncated or damaged"):
            Lexicon.load(path)
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(LanguageModelError, match="not compressed"):
        Lexicon.load(path)
    path.write_bytes(whole.replace(b"lexicon 1", b"lexicon 2"))
    with pytest.raises(LanguageModelError, match=r":1: 'LEXICON' is not a phone"):
        Lexicon.load(path)
    with pytest.raises(LanguageModelError, match="cannot be read"):
        Lexicon.load(tmp_path / "missing.lex")
    with pytest.raises(LanguageModelError, match="cannot be written"):
        Lexicon.of(READ).save(tmp_path / "none" / "words.lex")
