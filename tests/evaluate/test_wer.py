import json
import subprocess
import sys
import unicodedata
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.evaluate.wer import REPORT_COLUMNS, Evaluation, Utterance, bootstrap_interval, evaluate, oracle, report
from asr.normalize import normalize

WORDS = st.lists(st.sampled_from(["a", "b", "c", "don't", "eel", "fish"]), max_size=12)


def utterance(reference: str, hypothesis: str, id: str = "u", seconds: float = 1.0) -> Utterance:
    return Utterance(id, reference, hypothesis, seconds)


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein distance by the textbook table (Wagner & Fischer 1974), independent of jiwer."""
    row = list(range(len(hypothesis) + 1))
    for i, said in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (said != heard))
    return row[-1]


def noisy_set(count: int, seed: int = 0) -> list[Utterance]:
    """Utterances of 5 to 20 words, each word wrong with probability 0.2."""
    generator = np.random.default_rng(seed)
    utterances = []
    for number in range(count):
        reference = [f"w{word}" for word in generator.integers(1000, size=generator.integers(5, 21))]
        hypothesis = [word if generator.random() > 0.2 else "wrong" for word in reference]
        utterances.append(utterance(" ".join(reference), " ".join(hypothesis), id=str(number)))
    return utterances


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("Don’t  stop — it‘s ʼtis", "don't stop it's tis"),
        ("the dogs' 'quoted' rock'n'roll", "the dogs quoted rock'n'roll"),
        ("twenty-one well–known under_score", "twenty one well known under score"),
        ("ﬁne ＡＢＣ", "fine abc"),
        ("cafe\u0301", "café"),
        ("H\u0331", "ẖ"),
        ("İl I\u0307l", "il il"),
        ("daŉ", "da'n"),
        ("co\u00adoperate", "cooperate"),
        ("س\u0640\u0640لام", "سلام"),  # made wider by tatweel
        ("नमस्ते", "नमस्ते"),
        ("3.5 % & 7", "3 5 7"),
        (" \t\n ", ""),
        ("... ' -- ´ ¨", ""),
    ],
)
def test_normalize(text: str, expected: str):
    assert normalize(text) == expected


@given(st.text(max_size=40))
def test_normalize_is_idempotent_and_leaves_single_spaces(text: str):
    once = normalize(text)
    assert normalize(once) == once
    assert once == " ".join(once.split())
    assert unicodedata.is_normalized("NFKC", once)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("the cat sat", "the cat sat", (0, 0, 0)),
        ("the cat sat", "the bat sat", (1, 0, 0)),
        ("the cat sat", "the sat", (0, 1, 0)),
        ("the cat sat", "the big cat sat", (0, 0, 1)),
        ("the cat sat", "", (0, 3, 0)),
        ("one two three four", "two three for five", (1, 1, 1)),
        ("The CAT, sat.", "the cat sat", (0, 0, 0)),
    ],
)
def test_counts_of_known_cases(reference: str, hypothesis: str, counts: tuple[int, int, int]):
    result = evaluate([utterance(reference, hypothesis)])
    assert (result.substitutions, result.deletions, result.insertions) == counts
    assert result.reference_words == len(reference.split())
    assert result.wer == sum(counts) / len(reference.split())


def test_rates_of_a_set_are_sums_over_sums_not_means():
    result = evaluate([utterance("a", "b", seconds=1.5), utterance("a b c d e f g h i", "a b c d e f g h i")])
    assert result.wer == pytest.approx(1 / 10)
    assert (result.utterances, result.reference_words, result.seconds) == (2, 10, 2.5)


def test_character_error_rate_counts_spaces_between_words():
    assert evaluate([utterance("ab cd", "abcd")]).cer == pytest.approx(1 / 5)
    assert evaluate([utterance("kitten", "sitting")]).cer == pytest.approx(3 / 6)


def test_words_are_never_aligned_across_utterances():
    assert evaluate([utterance("a", ""), utterance("b", "a b")]).wer == 1.0


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_rates_equal_an_independent_implementation(pairs: list[tuple[list[str], list[str]]]):
    words = sum(len(reference) for reference, _ in pairs)
    utterances = [utterance(" ".join(reference), " ".join(hypothesis)) for reference, hypothesis in pairs]
    if not words:
        with pytest.raises(AsrError):
            evaluate(utterances)
        return
    result = evaluate(utterances)
    assert result.wer == pytest.approx(sum(edit_distance(*pair) for pair in pairs) / words)
    assert result.substitutions + result.deletions + result.insertions == pytest.approx(result.wer * words)
    assert result.deletions - result.insertions == words - sum(len(hypothesis) for _, hypothesis in pairs)
    spelled = [(list(" ".join(reference)), list(" ".join(hypothesis))) for reference, hypothesis in pairs]
    errors = sum(edit_distance(*pair) for pair in spelled)
    assert result.cer == pytest.approx(errors / sum(len(reference) for reference, _ in spelled))


def test_rates_equal_torchaudio():
    functional = pytest.importorskip("torchaudio.functional", reason="torchaudio is not installed")
    utterances = [*noisy_set(50), utterance("a b c", "b c d a")]
    pairs = [(u.reference.split(), u.hypothesis.split()) for u in utterances]
    errors = sum(functional.edit_distance(*pair) for pair in pairs)
    assert evaluate(utterances).wer == pytest.approx(errors / sum(len(reference) for reference, _ in pairs))


def test_empty_reference_counts_insertions():
    result = evaluate([utterance("", "uh huh"), utterance("yes", "yes")])
    assert (result.insertions, result.reference_words, result.wer) == (2, 1, 2.0)
    assert result.cer == pytest.approx(len("uh huh") / len("yes"))


def test_reference_and_hypothesis_both_empty_are_right():
    result = evaluate([utterance("", ""), utterance("yes", "yes")])
    assert (result.wer, result.cer, result.interval) == (0.0, 0.0, (0.0, 0.0))


@pytest.mark.parametrize("utterances", [[], [utterance("", "")], [utterance("...", "uh")]])
def test_no_reference_word_at_all_is_a_clear_error(utterances: list[Utterance]):
    with pytest.raises(AsrError, match=r"^none of the \d utterances has a reference word; add [^\n]*$"):
        evaluate(utterances)


def test_interval_contains_the_estimate_and_shrinks_as_the_root_of_the_data():
    widths = []
    for count in (500, 5000):
        result = evaluate(noisy_set(count))
        low, high = result.interval
        assert low < result.wer < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(10**0.5, rel=0.15)


def test_interval_agrees_with_the_normal_approximation_for_one_word_utterances():
    errors = np.repeat([0, 1], [800, 200])
    low, high = bootstrap_interval(errors, np.ones(1000, dtype=int))
    half_width = 1.96 * (0.2 * 0.8 / 1000) ** 0.5
    assert (low, high) == pytest.approx((0.2 - half_width, 0.2 + half_width), abs=0.003)


def test_interval_covers_the_true_rate_in_most_repetitions():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_interval(generator.binomial(10, 0.2, size=100), np.full(100, 10))
        covered += low <= 0.2 <= high
    assert covered >= 88  # 95 expected; three standard deviations below


def test_interval_of_one_utterance_is_its_rate():
    assert evaluate([utterance("a b", "a c")]).interval == (0.5, 0.5)


def test_draws_without_a_reference_word_leave_a_finite_interval():
    low, high = evaluate([utterance("", "")] * 9 + [utterance("a", "b")]).interval
    assert (low, high) == (1.0, 1.0)


def test_evaluation_is_deterministic_and_takes_any_iterable():
    utterances = noisy_set(30)
    assert evaluate(utterances) == evaluate(iter(utterances))


def test_the_fields_are_plain_values():
    result = evaluate(noisy_set(10))
    fields = json.loads(json.dumps(asdict(result)))
    assert fields["interval"] == list(result.interval)
    assert fields["rtf"] is None
    assert Evaluation(**(fields | {"interval": tuple(fields["interval"])})) == result
    assert asdict(replace(result, rtf=0.05))["rtf"] == 0.05


def test_evaluation_prints_per_cent_on_one_line():
    shown = str(replace(evaluate([utterance("a b c d", "a b c x", seconds=3600)]), rtf=0.05))
    assert shown == (
        "WER 25.00% (95% interval 25.00% to 25.00%), CER 14.29%: 1 substitutions, 0 deletions, 0 insertions "
        "in 4 words, 1 utterances, 1.00 h, RTF 0.050"
    )


def test_report_aligns_and_marks_errors():
    text = report([utterance("the quick brown fox", "a the quick crown", id="clip 1")])
    assert text == (
        "clip 1: WER 75.00%, 1 substitutions, 1 deletions, 1 insertions, 4 reference words\n"
        "REF: * the quick brown fox\n"
        "HYP: a the quick crown ***\n"
        "     I               S   D\n"
    )


def test_report_puts_most_errors_first_then_the_highest_rate_then_the_id():
    text = report(
        [
            utterance("a b", "a b", id="right"),
            utterance("a b c d", "a b c x", id="one in four"),
            utterance("a b c d e f", "x y c d e f", id="two in six"),
            utterance("a b", "a x", id="one in two b"),
            utterance("a b", "a x", id="one in two a"),
            utterance("", "uh", id="one in none"),
        ]
    )
    assert [block.split(":")[0] for block in text.split("\n\n")] == [
        "two in six",
        "one in none",
        "one in two a",
        "one in two b",
        "one in four",
        "right",
    ]


def test_report_of_an_empty_reference_has_no_rate():
    text = report([utterance("", "uh", id="cough")])
    assert text.startswith("cough: WER undefined, 0 substitutions, 0 deletions, 1 insertions")
    assert "REF: **\nHYP: uh\n      I\n" in text


@given(WORDS, WORDS)
def test_report_columns_line_up_and_hold_every_word(reference: list[str], hypothesis: list[str]):
    _, *lines = report([utterance(" ".join(reference), " ".join(hypothesis))]).removesuffix("\n").split("\n")
    said, heard = ([line for line in lines if line.startswith(label)] for label in ("REF:", "HYP:"))
    assert all(len(line) <= REPORT_COLUMNS for line in lines)
    for texts, words in ((said, reference), (heard, hypothesis)):
        assert [word for line in texts for word in line.split()[1:] if word.strip("*")] == words
    for above, below in zip(said, heard, strict=True):
        ends = [
            [i for i, (one, next) in enumerate(pairwise(f"{line} ")) if one != " " == next] for line in (above, below)
        ]
        assert ends[0] == ends[1]


def test_report_folds_long_utterances_between_words():
    lines = report([utterance("word " * 100, "word " * 100)]).split("\n")[1:]
    assert len([line for line in lines if line.startswith("REF:")]) == 6
    assert max(map(len, lines)) <= REPORT_COLUMNS


def test_importing_evaluate_loads_neither_jiwer_nor_torch():
    program = "import sys, asr.evaluate.wer; print([name for name in ('jiwer', 'torch') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_oracle_takes_the_best_text_of_each_utterance():
    utterances = [Utterance("a", "the cat sat", "a cat sat", 1.0), Utterance("b", "on the mat", "on a map", 1.0)]
    result = oracle(utterances, [["a cat sat", "the cat sat", "the cat"], ["on a map", "on the map"]])
    assert result.wer == pytest.approx(1 / 6)
    assert oracle(utterances, [[], []]).wer == evaluate(utterances).wer == pytest.approx(3 / 6)
