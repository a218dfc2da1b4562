import gzip
import lzma
import time
import tracemalloc
from pathlib import Path

import pytest
from program import Command

from asr.cli.lexicon import ENGLISH, read_words
from asr.lm.lexicon import Lexicon
from asr.model.bundle import LEXICON, find_language_model

TEXT = """pat\tP AE1 T
hat\tHH AE1 T
there\tDH EH1 R
their\tDH EH1 R
top\tT AA1 P
tomato\tT AH M EY T OW
tomato\tT AH M AA T OW
hot\tHH AA1 T
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(TEXT)
    return path


def out_of(run: Command, *arguments: str | Path, stdin: bytes = b"") -> str:
    result = run("lexicon", *arguments, stdin=stdin)
    assert (result.code, result.err) == (0, "")
    return result.out


def test_a_dictionary_becomes_a_lexicon_and_rules_that_say_and_spell(run: Command, text: Path, tmp_path: Path) -> None:
    made, rules = tmp_path / "words.lex", tmp_path / "g2p.lm"
    built = out_of(run, "build", text, "--output", made, "--g2p", rules)
    assert built == f"{made}: 7 words, 0 of them by rules, 8 pronunciations, 0.0 MB\n"
    assert [*Lexicon.load(made)] == [*Lexicon.load(text)]
    files = ("--lexicon", made, "--g2p", rules)
    said = out_of(run, "say", *files, "Tomato", "tot")
    assert said == "tomato\tT AH M EY T OW  # lexicon\ntomato\tT AH M AA T OW  # lexicon\ntot\tT AA T  # rules\n"
    (tmp_path / "said.txt").write_text(said)
    assert Lexicon.load(tmp_path / "said.txt").pronunciations("tot") == ["tat"]
    assert out_of(run, "say", *files, "tot", "--count", "3").count("\n") > 1
    assert out_of(run, "spell", *files, "dh", "eh1", "r") == "there\tDH EH R  # lexicon\ntheir\tDH EH R  # lexicon\n"
    assert out_of(run, "spell", *files, "T AA T").endswith("t\tT AA T  # rules\n")


def test_every_way_in_gives_the_same_lexicon(run: Command, text: Path, tmp_path: Path) -> None:
    lines = TEXT.splitlines(keepends=True)
    (tmp_path / "text.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "text.xz").write_bytes(lzma.compress(TEXT.encode()))
    (tmp_path / "first.txt").write_text("".join(lines[:3]))
    (tmp_path / "second.txt").write_text("".join(lines[3:] + lines[:1]))
    (tmp_path / "cmudict.txt").write_text(
        ";;; of CMU\n" + TEXT.replace("\t", "  ").replace("tomato  T AH M AA", "tomato(2)  T AH M AA")
    )
    out_of(run, "build", text, "--output", tmp_path / "text.lex")
    for texts in (["text.gz"], ["text.xz"], ["-"], ["first.txt", "second.txt"], ["cmudict.txt"], ["text.lex"]):
        paths = [name if name == "-" else tmp_path / name for name in texts]
        out_of(run, "build", *paths, "-o", tmp_path / "again.lex", "--force", stdin=TEXT.encode())
        assert (tmp_path / "again.lex").read_bytes() == (tmp_path / "text.lex").read_bytes()


def test_words_are_normalized_but_do_not_displace_those_that_are_spelled_so(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("'cause\tK AH Z\ncause\tK AO Z\nA.M.\tEY EH M\nZoë\tZ OW IY\n", encoding="utf-8")
    result = run("lexicon", "build", path, "--output", tmp_path / "words.lex")
    assert result.errors == ["asr: left out 1 that are no single words: A.M.; see --as-is"]
    assert [*Lexicon.load(tmp_path / "words.lex")] == [("cause", "koz"), ("cause", "kuz"), ("zoë", "zOj")]
    out_of(run, "build", path, "--as-is", "--output", tmp_path / "as-is.lex")
    assert [*Lexicon.load(tmp_path / "as-is.lex")] == [*Lexicon.load(path)]


def test_a_word_is_said_in_any_case(run: Command, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("BLORQ\tF UW\nMcKay\tM AH K EY\n")
    said = out_of(run, "say", "blorq", "BLORQ", "McKay", "--lexicon", tmp_path / "words.txt")
    assert [line.partition("\t")[2] for line in said.splitlines()] == [*["F UW  # lexicon"] * 2, "M AH K EY  # lexicon"]


def test_words_of_a_list_come_first_and_are_pronounced_by_rules(run: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("Their there,\ntot 日本\n", encoding="utf-8")
    result = run("lexicon", "build", text, "--words", tmp_path / "list.txt", "--output", tmp_path / "words.lex")
    assert result.out.startswith(f"{tmp_path / 'words.lex'}: 8 words, 1 of them by rules, 9 pronunciations")
    assert result.errors == ["asr: 1 words cannot be pronounced and are left out: 日本"]
    made = Lexicon.load(tmp_path / "words.lex")
    assert [word for word, _ in made][:4] == ["their", "there", "tot", "pat"]
    assert made.words("Der") == ["their", "there"]
    assert made.pronunciations("tot") == ["tat"]
    (tmp_path / "text.txt").write_text("hat hat hat hat hat hat\ntop their their their their\n")
    for name in ("list.lm", "list.arpa"):
        assert run("lm", "build", tmp_path / "text.txt", "--order", "1", "--output", tmp_path / name).code == 0
        out_of(run, "build", text, "--words", tmp_path / name, "--force", "--output", tmp_path / "words.lex")
        assert [word for word, _ in Lexicon.load(tmp_path / "words.lex")][:3] == ["hat", "their", "top"]


def test_the_packaged_lexicon_says_and_spells(run: Command) -> None:
    assert out_of(run, "say", "Ivanhoe") == "ivanhoe\tAY V AH N HH OW  # lexicon\n"
    assert out_of(run, "say", "dunstaple") == "dunstaple\tD AH N S T EY P AH L  # rules\n"
    assert {*out_of(run, "spell", "DH EH R").split()} >= {"there", "their", "they're"}
    assert "\nen-lexicon: " in run("models").out


def test_each_word_of_the_packaged_language_model_has_a_pronunciation() -> None:
    made = Lexicon.load(ENGLISH / LEXICON)
    words = read_words(find_language_model("en-lm"), as_is=False)
    assert len(words) == 129_992
    assert [word for word in words if not made.pronunciations(word)] == []


def test_the_lexicon_opens_fast_and_small() -> None:
    path = ENGLISH / LEXICON
    Lexicon.load(path)
    start = time.process_time()
    tracemalloc.start()
    Lexicon.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - start < 0.02
    assert peak < 15e6
    assert path.stat().st_size < 15e6


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["build", "missing.txt", "-o", "out.lex"], "missing.txt: cannot be read"),
        (["build", "empty.txt", "-o", "out.lex"], "empty.txt: no words with pronunciations"),
        (
            ["build", "words.txt", "phone.txt", "-o", "out.lex"],
            "phone.txt:2: 'XX' is not a phone; those of ARPAbet are",
        ),
        (["build", "latin.txt", "-o", "out.lex"], "latin.txt:1: not UTF-8"),
        (["build", "silent.txt", "-o", "out.lex"], "silent.txt:1: not a word, a tab and its phones: 'cat'"),
        (["build", "words.txt", "-o", "words.txt", "--force"], "words.txt: is the same file as words.txt"),
        (["build", "words.txt", "-o", "silent.txt"], "silent.txt: exists; "),
        (["build", "words.txt", "-o", "out.lex", "--g2p", "silent.txt"], "silent.txt: exists; "),
        (["build", "words.txt", "-o", "out.lex", "--g2p", "out.lex"], "out.lex: is the same file as out.lex"),
        (["build", "words.txt", "-o", "none/out.lex"], "none/out.lex: cannot be written"),
        (["build", "words.txt", "-o", "out.lex", "--words", "missing.txt"], "missing.txt: cannot be read"),
        (["build", "words.txt", "-o", "out.lex", "--words", "latin.txt"], "latin.txt:1: not UTF-8"),
        (["say", "cat", "--lexicon", "missing.lex"], "missing.lex: cannot be read"),
        (["say", "cat", "--lexicon", "cut.lex"], "cut.lex: truncated or damaged"),
        (["say", "tot", "--lexicon", "words.txt", "--g2p", "words.txt"], "words.txt: not a language model"),
        (["say", "日本"], "cannot be pronounced: 日本; "),
        (["say", "!"], "cannot be pronounced: !; "),
        (["spell", "DH", "XX"], "'XX' is not a phone; those of ARPAbet are AA, AE"),
    ],
)
def test_failures_are_one_line(
    run: Command, text: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    folder = text.parent
    monkeypatch.chdir(folder)
    (folder / "empty.txt").write_text(";;; nothing\n")
    (folder / "phone.txt").write_text("cat\tK AE T\nrat\tXX AE T\n")
    (folder / "silent.txt").write_text("cat\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9\tK AE F EY\n")
    Lexicon.load(text).save(folder / "cut.lex")
    (folder / "cut.lex").write_bytes((folder / "cut.lex").read_bytes()[:-9])
    result = run("lexicon", *arguments)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert problem in line
    assert not (folder / "out.lex").exists()
    assert text.read_text() == TEXT


@pytest.mark.parametrize("arguments", [["say"], ["spell"], ["spell", " "], ["build"], ["say", "cat", "--count", "0"]])
def test_wrong_usage(run: Command, arguments: list[str]) -> None:
    assert run("lexicon", *arguments).code == 2
