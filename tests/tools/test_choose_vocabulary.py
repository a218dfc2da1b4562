"""Which words a vocabulary takes."""

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from developer_tools import load_tool

pytest.importorskip("num2words", reason="needs num2words")


@pytest.fixture
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    load_tool("spoken_text")
    load_tool("language_model_text")
    module = load_tool("vocabulary")
    monkeypatch.setattr(module, "BLOCK", 1)  # a line
    monkeypatch.setattr(module, "MIN_BLOCKS", 2)
    monkeypatch.setattr(module, "MIN_BLOCKS_OF_ONE_KIND", 4)
    return module


def test_words_of_one_block_or_of_one_kind_are_no_candidates(vocabulary: ModuleType, tmp_path: Path):
    books, talks = tmp_path / "books.txt", tmp_path / "talks.txt"
    books.write_text("THE HERO AND HERO AND HERO\n" + 2 * "THE TLIE BERLIN OF IT\n" + 4 * "THE HEROINE OF THEM\n")
    talks.write_text("THE API IS HERE NOW\n" + 3 * "THE OTHER API OF IT\n")
    kinds = [vocabulary.block_counts([path]) for path in (books, talks)]
    assert kinds[0]["HERO"] == 1
    assert kinds[0]["TLIE"] == 2
    # TLIE, of one kind, in two blocks; API and HEROINE, of one kind, in four.
    assert vocabulary.candidates(kinds, {"BERLIN", "HERO"}) == sorted(
        ["API", "BERLIN", "HEROINE", "IT", "OF", "THE", "THEM"]
    )


def test_kinds_count_equally_whatever_their_length(vocabulary: ModuleType):
    kinds = [Counter(THE=800, THEE=150, THOU=50), Counter(THE=8, API=2)]
    assert vocabulary.ranked(["API", "THE", "THEE", "THOU"], kinds) == ["THE", "API", "THEE", "THOU"]


def test_a_vocabulary_is_written_and_measured(
    vocabulary: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.txt").write_text(5 * "THE RIVER IS HERE NOW\n")
    (tmp_path / "b.txt").write_text(5 * "THE RIVER OF IT IS\n")
    (tmp_path / "talk.jsonl").write_text('{"text": "The river is new", "source": "talk"}\n')
    arguments = [f"{tmp_path}/a.txt,{tmp_path}/b.txt", "--words", "3", "--output", f"{tmp_path}/words.txt"]
    monkeypatch.setattr(sys, "argv", ["vocabulary.py", *arguments, "--measure", f"{tmp_path}/talk.jsonl"])
    vocabulary.main()
    assert sorted((tmp_path / "words.txt").read_text().split()) == ["IS", "RIVER", "THE"]
    assert "talk: 25.00% of 4 words unknown" in capsys.readouterr().out
