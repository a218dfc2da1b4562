"""Estimation against a slow reference written from the paper, and against what any model must fulfil."""

import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sentence_score import score_text

from asr.errors import LanguageModelError
from asr.lm.binary import load_model, save_model
from asr.lm.estimate import MEMORY, estimate
from asr.lm.ngram import ROOT, NgramModel

FEW = 30_000  # bytes of memory: some hundred n-grams at a time
REAL_TEXT = Path(__file__).parents[2] / "../shared/data/lm/train.txt.xz"
TOLERANCE = 1e-5
Ngram = tuple[str, ...]


def generated(sentences: int, seed: int) -> list[str]:
    """Text of a made-up language: some words are rare, and what follows depends on the word before."""
    language, generator = np.random.default_rng(0), np.random.default_rng(seed)
    common = 1 / np.arange(1, 151) ** 1.3
    following = [language.permutation(common) + 3 * common for _ in common]
    text = []
    for _ in range(sentences):
        words = [0]
        for _ in range(int(generator.integers(1, 9))):
            chances = following[words[-1]]
            words.append(int(generator.choice(len(chances), p=chances / chances.sum())))
        text.append(" ".join(f"w{word}" for word in words[1:]))
    return text


TEXT = generated(300, seed=1)


class Reference:
    """Interpolated modified Kneser-Ney, n-gram by n-gram, as Chen & Goodman 1998 (section 3) and lmplz define it."""

    def __init__(self, text: Sequence[str], order: int, cutoffs: Sequence[int]):
        sentences = [("<s>", *sentence.split(), "</s>") for sentence in text]
        self.vocabulary = sorted({word for sentence in sentences for word in sentence} - {"<s>"} | {"<unk>"})
        self.cutoffs = cutoffs
        self.raw = [Counter[Ngram]() for _ in range(order)]
        for sentence in sentences:
            for length, counter in enumerate(self.raw, start=1):
                counter.update(sentence[i : i + length] for i in range(len(sentence) - length + 1))
        self.adjusted = []
        for length, counter in enumerate(self.raw, start=1):
            adjusted = dict(counter)
            if length < order:
                left = Counter(ngram[1:] for ngram in self.raw[length])
                adjusted = {ngram: left[ngram] if ngram[0] != "<s>" else counter[ngram] for ngram in counter}
            adjusted.pop(("<s>",), None)
            self.adjusted.append(adjusted)
        self.after = defaultdict(list)
        for ngram in (ngram for adjusted in self.adjusted for ngram in adjusted):
            self.after[ngram[:-1]].append(ngram[-1])
        self.discounts = [self.estimate_discounts(list(adjusted.values())) for adjusted in self.adjusted]
        self.prob = cache(self._prob)

    @staticmethod
    def estimate_discounts(counts: list[int]) -> list[float]:
        n = [counts.count(number) for number in range(5)]
        y = n[1] / (n[1] + 2 * n[2])
        return [0.0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]

    def _prob(self, context: Ngram, word: str) -> float:
        lower = self.prob(context[1:], word) if context else 1 / len(self.vocabulary)
        raw, adjusted, discounts = (kind[len(context)] for kind in (self.raw, self.adjusted, self.discounts))
        cutoff = self.cutoffs[len(context)]
        seen = {(*context, other): adjusted[*context, other] for other in self.after[context]}
        taken = {n: discounts[min(number, 3)] if raw[n] > cutoff else number for n, number in seen.items()}
        if not seen:
            return lower
        left = seen.get((*context, word), 0) - taken.get((*context, word), 0)
        return (left + sum(taken.values()) * lower) / sum(seen.values())


def state_after(model: NgramModel, words: Ngram) -> int:
    state = ROOT
    for word in words:
        state = model.start() if word == "<s>" else model.score(state, model.vocabulary.id(word))[1]
    return state


def log_probs_after(model: NgramModel, state: int, words: np.ndarray) -> np.ndarray:
    return np.array([model.score(state, word)[0] for word in words.tolist()])


def contexts_of(text: Sequence[str], longest: int) -> list[Ngram]:
    """Some that occur, and some that do not."""
    sentences = [("<s>", *sentence.split()) for sentence in text[:40]]
    occurring = {
        sentence[max(0, end - length) : end]
        for sentence in sentences
        for length in range(longest + 1)
        for end in range(1, len(sentence) + 1)
    }
    return [*sorted(occurring)[::3], ("w3", "w39", "w3"), ("w1", "unheard"), ("<s>", "unheard", "w2")]


@pytest.mark.parametrize(("order", "cutoffs"), [(1, [0]), (2, [0]), (3, [0]), (4, [0]), (3, [0, 1, 1]), (3, [0, 0, 2])])
@pytest.mark.parametrize("memory", [MEMORY, FEW])
def test_probabilities_are_those_of_the_paper(order: int, cutoffs: list[int], memory: int) -> None:
    model, fallbacks = estimate(TEXT, order, cutoffs=cutoffs, memory=memory)
    assert fallbacks == []
    reference = Reference(TEXT, order, [*cutoffs, *cutoffs[-1:] * (order - len(cutoffs))])
    assert len(model.vocabulary) == len(reference.vocabulary) + 1
    for context in contexts_of(TEXT, order - 1):
        known = tuple(word if (word,) in reference.raw[0] else "<unk>" for word in context)[-(order - 1) :]
        state = state_after(model, context)
        for word in reference.vocabulary:
            expected = math.log(reference.prob(known if order > 1 else (), word))
            assert model.score(state, model.vocabulary.id(word))[0] == pytest.approx(expected, abs=TOLERANCE)


def test_a_cutoff_leaves_out_what_occurs_so_often_or_less() -> None:
    reference = Reference(TEXT, 3, [0, 1, 2])
    expected = [
        sum(number > cutoff for number in raw.values()) for raw, cutoff in zip(reference.raw, [0, 1, 2], strict=True)
    ]
    model, _ = estimate(TEXT, 3, cutoffs=[0, 1, 2])
    assert model.counts == (expected[0] + 1, *expected[1:])  # <unk>
    assert estimate(TEXT, 3, cutoffs=[0, 1])[0].counts == estimate(TEXT, 3, cutoffs=[0, 1, 1])[0].counts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": 1},
        {"order": 4},
        {"cutoffs": [0, 1, 1]},
        {"threshold": 1e-5},
        {"vocabulary": 80},
        {"cutoffs": [0, 0, 1], "threshold": 1e-4, "vocabulary": 30},
    ],
)
def test_probabilities_sum_to_one_after_any_context(settings: dict) -> None:
    model, _ = estimate(TEXT, **settings)
    words = np.delete(np.arange(len(model.vocabulary)), model.vocabulary.sentence_start)
    for context in contexts_of(TEXT, 3):
        log_probs = log_probs_after(model, state_after(model, context), words)
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=TOLERANCE)


def test_the_most_frequent_words_are_kept_and_the_others_are_unknown() -> None:
    text = ["b b b a a c", "b a c d", "e"]
    model, _ = estimate(text, 2, vocabulary=3)
    assert [model.vocabulary.word(number) for number in range(6)] == ["</s>", "<s>", "<unk>", "a", "b", "c"]
    assert score_text(model, "d") == score_text(model, "e") == score_text(model, "<unk>")
    assert score_text(model, "d") > score_text(model, "c c")
    first_of_equals, _ = estimate(["y x", "z"], 2, vocabulary=1)
    assert first_of_equals.vocabulary.get("x") is not None


def test_given_words_are_kept_and_the_others_are_unknown() -> None:
    text = ["b b b a a c", "b a c d", "e"]
    model, _ = estimate(text, 2, vocabulary={"a", "b", "c"})
    frequent, _ = estimate(text, 2, vocabulary=3)
    assert all(np.array_equal(model.arrays[name], frequent.arrays[name]) for name in model.arrays)
    longer, _ = estimate(text, 2, vocabulary={"a", "b", "c", "never", "nowhere"})
    words = np.delete(np.arange(len(longer.vocabulary)), longer.vocabulary.sentence_start)
    assert score_text(longer, "never") == score_text(longer, "nowhere") < score_text(longer, "d")
    for context in contexts_of(text, 1):
        assert np.exp(log_probs_after(longer, state_after(longer, context), words)).sum() == pytest.approx(1)


@pytest.mark.parametrize("text", [["a"], ["a", "a"], ["a a a a"], ["a b", "b a"] * 5])
@pytest.mark.parametrize("settings", [{}, {"threshold": 1e-3}, {"cutoffs": [0, 1]}])
def test_a_text_too_small_for_its_own_discounts_takes_fixed_ones(text: list[str], settings: dict) -> None:
    model, fallbacks = estimate(text, 3, **settings)
    assert fallbacks == [1, 2, 3]
    words = np.delete(np.arange(len(model.vocabulary)), model.vocabulary.sentence_start)
    for context in product(("<s>", "a", "b"), ("a", "b")):
        log_probs = log_probs_after(model, state_after(model, context), words)
        assert np.isfinite(log_probs).all()
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("text", "settings", "problem"),
    [
        ([], {}, "no words"),
        (["a <s> b"], {}, "has <s> or </s> in it"),
        (["a </s>"], {}, "has <s> or </s> in it"),
        (["a", "b c"], {"order": 5}, "no sentence is long enough for 5-grams"),
        (["a"], {"cutoffs": [1]}, "prune 1: "),
        (["a"], {"cutoffs": []}, "prune : "),
        (["a"], {"cutoffs": [0, 2, 1]}, "prune 0,2,1: "),
        (["a"], {"cutoffs": [0, 0, 0, 0]}, "at most 3 numbers"),
    ],
)
def test_what_cannot_be_estimated_is_one_line(text: list[str], settings: dict, problem: str) -> None:
    with pytest.raises(LanguageModelError, match=problem) as error:
        estimate(text, **settings)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def real_text() -> list[str]:
    if not REAL_TEXT.is_file():
        pytest.skip(f"no real text here: {REAL_TEXT} is missing")
    with lzma.open(REAL_TEXT, "rt") as file:
        return [line.lower() for number, line in zip(range(200_000), file, strict=False) if number % 20 == 0]


def test_a_model_of_real_text_scores_as_in_kenlm_in_all_forms(real_text: list[str], tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed: pip install kenlm, which needs a C++ compiler")
    model, fallbacks = estimate(real_text[::2], 3, vocabulary=5000)
    assert fallbacks == []
    save_model(model, tmp_path / "real.arpa")
    save_model(model, tmp_path / "real.lm")
    reference = kenlm.Model(str(tmp_path / "real.arpa"))
    for form in (load_model(tmp_path / "real.arpa"), load_model(tmp_path / "real.lm")):
        for sentence in real_text[1::50]:
            scores = [log_prob / math.log(10) for _, log_prob in form.score_words(sentence)]
            expected = [score for score, _, _ in reference.full_scores(sentence)]
            assert scores == pytest.approx(expected, abs=1e-4)


def test_a_model_of_real_text_has_kenlms_states(real_text: list[str], tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed: pip install kenlm, which needs a C++ compiler")
    model, _ = estimate(real_text[::2], 3, vocabulary=5000)
    save_model(model, tmp_path / "real.arpa")
    reference = kenlm.Model(str(tmp_path / "real.arpa"))
    pairs = set()
    for sentence in real_text[1::20]:
        ours, theirs = model.start(), kenlm.State()
        reference.BeginSentenceWrite(theirs)
        for word in sentence.split():
            _, ours = model.score(ours, model.vocabulary.id(word))
            before, theirs = theirs, kenlm.State()
            reference.BaseScore(before, word, theirs)
            pairs.add((ours, theirs))
    assert len(pairs) == len({ours for ours, _ in pairs}) == len({theirs for _, theirs in pairs})
