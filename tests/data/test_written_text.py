"""Written sentences become labels of spoken words; runs, errors and pauses are drawn from them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import WRITTEN

from asr.data.config import WrittenConfig
from asr.data.written import LabeledText, Speech, TaggedText, drop_words, label_words, listed_forms
from asr.errors import RecipeError
from asr.model.tagger import CASES, MARKS


def shown(written: str, spoken: str) -> str:
    """The labels as text: ^ before a capital, ^^ before capitals, * before a listed word."""
    signs = dict(zip(CASES, ("", "^", "^^", "*"), strict=True))
    return " ".join(f"{signs[CASES[case]]}{word}{MARKS[mark]}" for word, mark, case in label_words(written, spoken))


@pytest.mark.parametrize(
    ("written", "spoken", "expected"),
    [
        ("Well, it's over.", "WELL IT'S OVER", "^well, it's over."),
        ('"Did you?" he asked.', "DID YOU HE ASKED", "^did you? he asked."),
        ("Dr. Smith left.", "DOCTOR SMITH LEFT", "^doctor ^smith left."),
        ("J. R. Smith of the U.S. Navy.", "J R SMITH OF THE U S NAVY", "^j ^r ^smith of the ^u ^s ^navy."),
        ("It cost $3.50, then.", "IT COST THREE DOLLARS FIFTY THEN", "^it cost three dollars fifty, then."),
        ("NASA's 1,000 men; all gone!", "NASA'S ONE THOUSAND MEN ALL GONE", "^^nasa's one thousand men; all gone!"),
        ("I said -- wait", "I SAID WAIT", "^i said– wait"),
        ("well-known men – mostly", "WELL KNOWN MEN MOSTLY", "well known men– mostly"),
        ("McDonald paused... then sang...", "MCDONALD PAUSED THEN SANG", "*mcdonald paused, then sang."),
        (
            "In World War II Henry VIII left.",
            "IN WORLD WAR TWO HENRY THE EIGHTH LEFT",
            "^in ^world ^war ^two ^henry the ^eighth left.",
        ),
        ("$3 million; gone.", "THREE MILLION DOLLARS GONE", "three million dollars; gone."),
        (
            "So Node.js, at 10:30, was ours.",
            "SO NODE JS AT TEN THIRTY WAS OURS",
            "^so ^node js, at ten thirty, was ours.",
        ),
        (
            "At 10 a.m., in the U.S., etc., and so",
            "AT TEN A M IN THE U S ET CETERA AND SO",
            "^at ten a m, in the ^u ^s, et cetera, and so",
        ),
        (
            "On Jan. 5, he left Inc., a firm.",
            "ON JANUARY FIVE HE LEFT INC A FIRM",
            "^on ^january five, he left ^inc, a firm.",
        ),
        (
            "In 1990, Mr. Smith left.",
            "IN NINETEEN NINETY MISTER SMITH LEFT",
            "^in nineteen ninety, ^mister ^smith left.",
        ),
        ("He called 'em 'boys'.", "HE CALLED EM BOYS", "^he called em boys."),
    ],
)
def test_a_sentence_is_labeled_as_it_is_written(written: str, spoken: str, expected: str):
    assert shown(written, spoken) == expected


def test_a_sentence_whose_words_are_others_is_left_out():
    assert label_words("Something else entirely.", "NOT THE SAME WORDS AT ALL") == []


@given(st.text("ab.,;:-'\"A 1$", max_size=30), st.lists(st.sampled_from(["a", "ab", "ba", "one"]), max_size=6))
def test_every_spoken_word_has_a_label_whatever_is_written(written: str, words: list[str]):
    labeled = label_words(written, " ".join(words).upper())
    assert [word for word, _, _ in labeled] in ([], words)
    assert all(mark < len(MARKS) and case < len(CASES) for _, mark, case in labeled)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "written.txt"
    path.write_text("".join(f"{one}\t{other}\n" if one else "\n" for one, other in WRITTEN), encoding="utf-8")
    return path


def test_a_corpus_holds_sentences_and_where_documents_end(text: Path):
    corpus = LabeledText.read([str(text), str(text)])
    sentences = [" ".join(corpus.vocabulary[word] for word in part) for part in np.split(corpus.words, corpus.ends)]
    spoken = [spoken.lower() for _, spoken in WRITTEN if spoken]
    assert sentences == [*spoken, *spoken, ""]
    assert corpus.last.tolist() == [False, True, False, True] * 2


def test_runs_are_of_all_lengths():
    nothing = np.zeros(0, dtype=np.uint8)
    ends = np.arange(5, 100_001, 5)
    runs = LabeledText([], nothing, nothing, nothing, ends, np.zeros(len(ends), dtype=bool)).runs(160, 1)
    lengths = runs[:, 1] - runs[:, 0]
    assert 15 < np.median(lengths) < 40
    assert 0.3 < lengths[lengths > 60].sum() / lengths.sum() < 0.8
    assert lengths.max() > 140


@pytest.mark.parametrize(
    ("written", "lost", "expected"),
    [
        ("Well, yes. He left.", "yes", "^well. ^he left."),
        ("I saw it. Well, he left.", "well", "^i saw it. ^he left."),
        ("Well, he left it.", "well", "^he left it."),
        ("He left, then.", "then", "^he left."),
        ("Is it?", "is it", ""),
    ],
)
def test_marks_and_capitals_of_lost_words_go_to_their_neighbors(written: str, lost: str, expected: str):
    labeled = label_words(written, "".join(c for c in written if c.isalpha() or c == " ").upper())
    kept = np.array([word not in lost.split() for word, *_ in labeled])
    marks, cases = drop_words(
        kept, *(np.array(column) for column in zip(*((m, c) for _, m, c in labeled), strict=False))
    )
    words = [word for word, *_ in labeled if word not in lost.split()]
    assert " ".join("^" * bool(c) + w + MARKS[m] for w, m, c in zip(words, marks, cases, strict=False)) == expected


@given(st.integers(4, 40), st.integers(0, 9))
def test_runs_stay_in_their_document_and_hold_all_but_what_is_too_long(most: int, seed: int):
    lengths = np.array([3, 5, 2, 50, 1, 7])
    last = np.array([False, True, False, False, True, True])
    nothing = np.zeros(0, dtype=np.uint8)
    corpus = LabeledText([], nothing, nothing, nothing, lengths.cumsum(), last)
    documents = [(0, 8), (8, 61), (61, 68)]
    runs = corpus.runs(most, seed).tolist()
    assert all(0 < end - begin <= most for begin, end in runs)
    assert all(any(first <= begin and end <= past for first, past in documents) for begin, end in runs)
    starts = {0, 3, 8, 10, 60, 61}
    assert {begin for begin, _ in runs} <= starts
    covered = {word for begin, end in runs for word in range(begin, end)}
    assert {0, 1, 2, 8, 9, 60, 61} <= covered
    assert len(covered) == sum(end - begin for begin, end in runs)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    values = {
        "pauses": {mark: [0.0, 0.1] if mark == "" else [0.5, 1.0] for mark in MARKS},
        "confidences": {"right": [0.9, 1.0], "wrong": [0.0, 0.1]},
        "confusions": {"left": {"": 1}, "money": {"monday": 1}, "no": {"no": 1}},
    }
    path = tmp_path / "speech.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_lost_words_leave_their_mark_and_wrong_ones_sound_so(text: Path, speech: Path):
    corpus = LabeledText.read([str(text)])
    config = WrittenConfig(speech=str(speech), misheard_runs=1.0, misheard_share=1.0, unknown_share=0.0)
    words = TaggedText(corpus, config, rows=100, seed=1)
    batch = next(words.batches(0, 1000))
    heard = {tuple(row.tolist()): place for place, row in enumerate(words.table)}
    found = []
    for row, length in enumerate(batch.lengths.tolist()):
        for place in range(length):
            word = words.speech.vocabulary[heard[tuple(batch.features[row, place].tolist())]]
            pause, known_pause, sure, known = batch.extras[row, place].tolist()
            assert known_pause == known == 1
            assert (pause > 1.5) == (batch.marks[row, place] > 0)
            assert (sure < 0.5) == (word == "monday")
            found.append(word + MARKS[batch.marks[row, place]])
    assert "monday!" in found
    assert "and." in found  # "left" was lost
    assert "money!" not in found


def test_plain_batches_know_words_alone(text: Path, speech: Path):
    words = TaggedText(LabeledText.read([str(text)]), WrittenConfig(speech=str(speech)), rows=100, seed=1)
    for batch in words.batches(3, 1000, plain=True):
        assert not batch.extras.any()
        assert ((batch.marks >= 0).sum(dim=1) == batch.lengths).all()


def test_batches_are_the_same_every_time_also_after_a_start_in_the_middle(text: Path, speech: Path):
    config = WrittenConfig(speech=str(speech), batch_words=8, max_words=6)
    words = TaggedText(LabeledText.read([str(text)]), config, rows=100, seed=1)
    whole = list(words.batches(2, 1000))
    assert len(whole) > 2
    for one, other in zip(whole[2:], words.batches(2, 1000, skip=2), strict=True):
        assert one.ids == other.ids
        assert (one.extras == other.extras).all()
        assert (one.features == other.features).all()


def test_words_with_capitals_inside_are_listed(tmp_path: Path):
    path = tmp_path / "text.txt"
    path.write_text(
        "McDonald and the BBC met Mcdonald.\tX\n" + "McDonald's iPhone McDonald.\tX\n" * 5, encoding="utf-8"
    )
    assert listed_forms([str(path)]) == ["McDonald", "McDonald's", "iPhone"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no tab\n", "written.txt:1: no tab"),
        (b"\n\n", "no sentences"),
        (b"\xff\tA\n", "not UTF-8"),
    ],
)
def test_other_files_are_refused_in_a_line(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "written.txt").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        LabeledText.read([str(tmp_path / "written.txt")])


GOOD = {"pauses": {".": [0.0, 1.0]}, "confidences": {"right": [0, 1], "wrong": [0, 1]}, "confusions": {}}


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", '{"pauses": {}}', '{"pauses": {".": ["x"]}}'),
        *(json.dumps(GOOD | {"pauses": {".": value}}) for value in (0.5, [], [0.1], [0.0, float("nan")])),
        json.dumps(GOOD | {"confidences": {"right": [0, 1], "wrong": [0]}}),
        json.dumps(GOOD | {"confusions": []}),
        *(json.dumps(GOOD | {"confusions": {"cat": c}}) for c in (["x"], {}, {"x": "many"}, {"x": -1, "y": 2})),
    ],
)
def test_other_statistics_are_refused_in_a_line(tmp_path: Path, content: str):
    path = tmp_path / "speech.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match="no statistics of speech"):
        Speech(str(path), ["cat"])
