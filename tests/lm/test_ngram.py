"""Scores and states against the definition and against KenLM; files of both forms, whole and damaged."""

import gzip
import math
import mmap
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from arpa_files import WORDS, Arpa, arpas
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_score import score_text

from asr.errors import LanguageModelError
from asr.lm.binary import MAGIC, load_model, save_model
from asr.lm.ngram import MISSING, ROOT, NgramModel

TOLERANCE = 1e-5
LN10 = math.log(10)
SENTENCES = st.lists(st.sampled_from((*WORDS, "unheard")), max_size=6)
ORDERS = st.integers(1, 4)
SMALL = Arpa(
    3,
    {
        ("<s>",): (-99.0, -0.5),
        ("</s>",): (-1.0, 0.0),
        ("<unk>",): (-3.0, 0.0),
        ("a",): (-0.5, -0.3),
        ("b",): (-0.7, 0.0),
        ("<s>", "a"): (-0.2, -0.1),
        ("a", "b"): (-0.4, 0.0),
        ("<s>", "a", "b"): (-0.1, 0.0),
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples of hypothesis."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def small(tmp_path: Path) -> NgramModel:
    return load_model(SMALL.write(tmp_path / "small.arpa"))


def state_after(model: NgramModel, words: tuple[str, ...]) -> int:
    """Of the sentence that starts so."""
    state = model.start()
    for word in words:
        _, state = model.score(state, model.vocabulary.id(word))
    return state


@settings(deadline=None, max_examples=40)
@given(arpas(ORDERS), SENTENCES)
def test_scores_are_those_of_the_definition(folder: Path, arpa: Arpa, sentence: list[str]) -> None:
    model = load_model(arpa.write(folder / "any.arpa"))
    history: tuple[str, ...] = ("<s>",)
    expected = []
    for word in (*(word if word in WORDS else "<unk>" for word in sentence), "</s>"):
        expected.append(arpa.score(history, word))
        history += (word,)
    scored = [log_prob for _, log_prob in model.score_words(" ".join(sentence))]
    assert scored == pytest.approx(expected, abs=TOLERANCE)
    assert score_text(model, " ".join(sentence)) == pytest.approx(sum(expected), abs=TOLERANCE)


@settings(deadline=None, max_examples=40)
@given(arpas(st.integers(2, 4)), st.lists(SENTENCES, min_size=2, max_size=8))
def test_scores_and_states_are_those_of_kenlm(folder: Path, arpa: Arpa, sentences: list[list[str]]) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed: pip install kenlm, which needs a C++ compiler")
    # KenLM adds missing suffixes, for which its table needs room: that of n-grams which nothing here uses.
    spare = {
        ngram: (-1.0, 0.0) for n in range(60) for ngram in [(f"x{n}",) * length for length in range(1, arpa.order + 1)]
    }
    path = replace(arpa, ngrams=arpa.ngrams | spare).write(folder / "kenlm.arpa")
    model, reference = load_model(path), kenlm.Model(str(path))
    states = []
    for sentence in sentences:
        text = " ".join(sentence)
        for bos, eos in product((True, False), repeat=2):
            expected = reference.score(text, bos=bos, eos=eos) * LN10
            assert score_text(model, text, bos=bos, eos=eos) == pytest.approx(expected, abs=TOLERANCE)
        theirs = kenlm.State()
        reference.BeginSentenceWrite(theirs)
        for word in sentence:
            before, theirs = theirs, kenlm.State()
            reference.BaseScore(before, word, theirs)
        if sentence:  # KenLM keeps <s> even where it makes no difference
            states.append((state_after(model, tuple(sentence)), theirs))
    for (ours, theirs), (our_other, their_other) in product(states, repeat=2):
        assert ours == our_other or theirs != their_other
        # A suffix that KenLM added keeps its context, though it makes no difference.
        assert (
            ours != our_other
            or theirs == their_other
            or any(ngram[1:] not in arpa.ngrams for ngram in arpa.ngrams if ngram[1:])
        )


@settings(deadline=None, max_examples=40)
@given(arpas(ORDERS))
def test_every_form_gives_the_same_scores(folder: Path, arpa: Arpa) -> None:
    model = load_model(arpa.write(folder / "plain.arpa"))
    (folder / "compressed").write_bytes(gzip.compress(arpa.text().encode()))
    save_model(model, folder / "binary")
    save_model(model.packed(), folder / "packed")  # exact: so few numbers have a code each
    save_model(model, folder / "written.arpa")
    save_model(load_model(folder / "packed"), folder / "written.arpa.gz")
    assert (folder / "written.arpa.gz").read_bytes().startswith(b"\x1f\x8b")
    for name in ("compressed", "binary", "packed", "written.arpa", "written.arpa.gz"):
        other = load_model(folder / name)
        assert other.counts == model.counts
        for level, expected in zip(other.levels(), model.levels(), strict=True):
            assert level.context.tolist() == expected.context.tolist()
            assert level.word.tolist() == expected.word.tolist()
            assert level.log_prob == pytest.approx(expected.log_prob, abs=TOLERANCE)
            assert level.backoff == pytest.approx(expected.backoff, abs=TOLERANCE)
        assert other.arrays["suffixes"].tolist() == model.arrays["suffixes"].tolist()


@settings(deadline=None, max_examples=40)
@given(arpas(ORDERS), SENTENCES)
def test_other_words_have_their_log_probs_from_the_shorter_context(folder: Path, arpa: Arpa, sentence: list[str]):
    plain = load_model(arpa.write(folder / "plain.arpa"))
    for model in (plain, plain.packed()):
        if (state := state_after(model, tuple(sentence))) == ROOT:
            continue
        words, log_probs = model.continuations(state)
        own = dict(zip(words.tolist(), log_probs.tolist(), strict=True))
        backoff, shorter = model.back_off(state)
        for word in range(len(model.vocabulary)):
            log_prob = own.get(word, backoff + model.score(shorter, word)[0])
            assert model.score(state, word)[0] == pytest.approx(log_prob, abs=TOLERANCE)


def best_by_definition(arpa: Arpa, context: tuple[str, ...], words: list[str]) -> float:
    """The highest log10 prob of the words after the context and after each of its suffixes, back-off weights paid."""
    best, paid = -math.inf, 0.0
    for begin in range(len(context) + 1):
        suffix = context[begin:]
        following = [arpa.ngrams[*suffix, word][0] for word in words if (*suffix, word) in arpa.ngrams]
        best = max([best, *(paid + log_prob for log_prob in following)])
        paid += arpa.ngrams.get(suffix, (0.0, 0.0))[1]
    return best


@settings(deadline=None, max_examples=40)
@given(arpas(ORDERS), st.lists(st.sampled_from(WORDS), max_size=3))
def test_the_best_of_a_range_is_what_its_words_and_the_contexts_suffixes_allow(
    folder: Path, arpa: Arpa, heard: list[str]
) -> None:
    model = load_model(arpa.write(folder / "best.arpa"))
    state, context = state_after(model, tuple(heard)), ("<s>", *heard)
    context = context[max(0, len(context) - arpa.order + 1) :]
    vocabulary = model.vocabulary
    for begin, end in combinations(range(len(vocabulary) + 1), 2):
        words = [vocabulary.word(word) for word in range(begin, end)]
        best = model.best(state, begin, end)
        assert best == pytest.approx(best_by_definition(arpa, context, words) * LN10, abs=TOLERANCE)
        highest = max(model.score(state, word)[0] for word in range(begin, end))
        assert best >= highest - TOLERANCE
        if not any((*context[suffix:], word) in arpa.ngrams for word in words for suffix in range(len(context))):
            assert best == pytest.approx(highest, abs=TOLERANCE)  # no word has an n-gram of its own


@settings(deadline=None, max_examples=40)
@given(arpas(ORDERS), st.lists(st.sampled_from(WORDS), max_size=3))
def test_a_shortened_context_differs_by_one_number_for_all_the_words_it_is_for(
    folder: Path, arpa: Arpa, heard: list[str]
) -> None:
    model = load_model(arpa.write(folder / "shorten.arpa"))
    state, unknown = state_after(model, tuple(heard)), model.vocabulary.unknown
    for begin, end in combinations(range(len(model.vocabulary) + 1), 2):
        paid, shorter = model.shorten(state, begin, end)
        for word in (*range(begin, end), unknown):
            (expected, after), (log_prob, same) = model.score(state, word), model.score(shorter, word)
            assert paid + log_prob == pytest.approx(expected, abs=TOLERANCE)
            assert same == after
        assert model.shorten(shorter, begin, end) == (0.0, shorter)
        if shorter != ROOT:  # no shorter one would do: one of the words has an n-gram with it
            assert any(model._child(shorter, word) != MISSING for word in (*range(begin, end), unknown))


@settings(deadline=None, max_examples=20)
@given(arpas(ORDERS))
def test_the_best_of_a_range_bounds_the_scores_of_a_coarsely_quantized_model_too(folder: Path, arpa: Arpa) -> None:
    model = load_model(arpa.write(folder / "coarse.arpa"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.lm.ngram.SMALL_CODES", 8)
        quantized = model.packed()
    ranges = list(combinations(range(len(quantized.vocabulary) + 1), 2))
    for state in {state_after(quantized, words) for length in range(3) for words in product(WORDS, repeat=length)}:
        for begin, end in ranges:
            highest = max(quantized.score(state, word)[0] for word in range(begin, end))
            assert quantized.best(state, begin, end) >= highest - TOLERANCE
            if state == ROOT:
                assert quantized.best(state, begin, end) == highest
        assert quantized.best(state, 2, 2) == -math.inf  # no word at all


def test_a_context_that_makes_no_difference_is_forgotten(small: NgramModel) -> None:
    assert state_after(small, ("a",)) not in (state_after(small, ("b", "a")), small.start())
    assert state_after(small, ("a", "b")) == state_after(small, ("b",)) == state_after(small, ("unheard",))
    assert state_after(small, ("b", "a")) == state_after(small, ("b", "b", "a"))


def test_a_model_without_unk_gets_kenlms(tmp_path: Path) -> None:
    known = {ngram: numbers for ngram, numbers in SMALL.ngrams.items() if ngram != ("<unk>",)}
    model = load_model(Arpa(3, known).write(tmp_path / "closed.arpa"))
    assert score_text(model, "unheard", bos=False, eos=False) == pytest.approx(-100 * LN10)


def test_capital_unk_is_unk(tmp_path: Path) -> None:
    path = tmp_path / "capital.arpa"
    path.write_text(SMALL.text().replace("<unk>", "<UNK>"))
    assert score_text(load_model(path), "unheard", bos=False, eos=False) == pytest.approx(-3 * LN10)


def test_a_model_with_more_words_than_16_bits_can_name(tmp_path: Path) -> None:
    words = [f"w{number:06}" for number in range(70_000)]
    ngrams = {(word,): (-5.0, -0.5) for word in ("<unk>", "<s>", "</s>", *words)}
    arpa = Arpa(2, ngrams | {("w000007", "w069999"): (-0.25, 0.0)})
    save_model(load_model(arpa.write(tmp_path / "large.arpa")), tmp_path / "large.lm")
    model = load_model(tmp_path / "large.lm")
    assert score_text(model, "w000007 w069999", bos=False, eos=False) == pytest.approx(-5.25 * LN10)
    assert score_text(model, "w000008 w069999", bos=False, eos=False) == pytest.approx(-10.5 * LN10)
    assert model.vocabulary.word(model.vocabulary.id("w069999")) == "w069999"


def test_the_file_is_mapped_for_reading_and_not_copied(small: NgramModel, tmp_path: Path) -> None:
    save_model(small, tmp_path / "small.lm")
    for array in load_model(tmp_path / "small.lm").arrays.values():
        assert not array.flags.writeable
        base = array
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        assert isinstance(base, mmap.mmap)


def test_an_older_file_stays_while_an_open_model_uses_it(small: NgramModel, tmp_path: Path) -> None:
    save_model(small, tmp_path / "small.lm")
    opened = load_model(tmp_path / "small.lm")
    save_model(small.packed(), tmp_path / "small.lm")
    assert score_text(opened, "a b") == score_text(small, "a b")
    assert [path.name for path in tmp_path.glob("small.lm*")] == ["small.lm"]


def test_a_file_cut_anywhere_is_one_line(small: NgramModel, tmp_path: Path) -> None:
    save_model(small, tmp_path / "whole.lm")
    save_model(small.packed(), tmp_path / "packed.lm")
    path = tmp_path / "cut.lm"
    binary = ((tmp_path / name).read_bytes() for name in ("whole.lm", "packed.lm"))
    for whole in (*binary, SMALL.text().rstrip().encode(), gzip.compress(b"a" * 9)):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(LanguageModelError) as error:
                load_model(path)
            assert str(error.value).startswith(f"{path}: ")
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"hello\n", bytes(range(256)), MAGIC, MAGIC + b"{}\n", MAGIC + b"\xff\n"]
)
def test_what_is_no_model_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none"
    path.write_bytes(content)
    with pytest.raises(LanguageModelError, match=rf"^{path}: [^\n]+$"):
        load_model(path)


@pytest.mark.parametrize("name", ["missing.lm", "."])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(LanguageModelError, match="cannot be read"):
        load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("ngram 2=2", "ngram 2=3", "promises 3 2-grams, here are 2"),
        ("ngram 2=2", "ngram 2=1", r"line 1[0-9]: expected “\\3-grams:”"),
        ("ngram 2=2", "ngram 4=2", "expected “ngram 2=…”"),
        ("-0.4\ta b", "0.4\ta b", "line 15: not a 2-gram with its log10 probability: “0.4 a b”"),
        ("-0.4\ta b", "nan\ta b", "line 15: not a 2-gram"),
        ("-0.4\ta b", "-0.4\ta b\tinf", "line 15: not a 2-gram"),
        ("-0.4\ta b", "-0.4\ta", "line 15: not a 2-gram"),
        ("-0.4\ta b", "-0.4\ta c", "line 15: “c” is not among the 1-grams"),
        ("-0.4\ta b", "-0.4\t<s> a", "“<s> a” is there twice"),
        ("-0.1\t<s> a b", "-0.1\tb a b", "“b a b” is there, but not the 2-gram that it starts with"),
        ("\tb\n", "\ta\n", "“a” is among the 1-grams twice"),
        ("</s>", "end", "no </s> among the 1-grams"),
    ],
)
def test_a_bad_arpa_file_names_line_and_problem(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "bad.arpa"
    assert SMALL.text().count(old) == 1
    path.write_text(SMALL.text().replace(old, new))
    with pytest.raises(LanguageModelError, match=problem) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ")


def test_words_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.arpa"
    path.write_bytes(SMALL.text().replace("b", "\xe9").encode("latin-1"))
    with pytest.raises(LanguageModelError, match="not UTF-8"):
        load_model(path)
