"""Alignment against all alignments, one by one."""

from collections import Counter
from collections.abc import Iterator
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.lm.align_pairs import ITERATIONS, NAMES, PENALTY, SIZES, align
from asr.lm.lexicon import Lexicon
from asr.model.bundle import PACKAGED

ENTRIES = st.lists(
    st.tuples(st.text("abc", min_size=2, max_size=4), st.text("AEn", min_size=1, max_size=4)), min_size=1, max_size=6
)


def alignments(word: str, pronunciation: str) -> Iterator[tuple[str, ...]]:
    if not word and not pronunciation:
        yield ()
    for letters, phones in SIZES:
        if letters <= len(word) and phones <= len(pronunciation):
            for rest in alignments(word[letters:], pronunciation[phones:]):
                yield (f"{word[:letters]}|{pronunciation[:phones]}", *rest)


def penalty(pair: str) -> float:
    return PENALTY if len(pair) > 3 else 1.0


def probs_by_definition(entries: list[tuple[str, str]]) -> dict[str, float]:
    """Of each pair after `ITERATIONS` of expectation maximization; all pairs are equally likely at first."""
    letters, phones = (len({*"".join(side)}) for side in zip(*entries, strict=True))
    every = [[*alignments(*entry)] for entry in entries]
    uniform = 1 / sum(letters**n * phones**m for n, m in SIZES)
    probs = {pair: uniform * penalty(pair) for ways in every for way in ways for pair in way}
    for _ in range(ITERATIONS):
        counts: Counter[str] = Counter()
        for ways in every:
            weights = [prod(probs[pair] for pair in way) for way in ways]
            for way, weight in zip(ways, weights, strict=True):
                for pair in way if weight > 0 else ():
                    counts[pair] += weight / sum(weights)
        total = sum(counts.values())
        probs = {pair: counts[pair] / total * penalty(pair) for pair in probs}
    return probs


@settings(deadline=None, max_examples=30)
@given(ENTRIES.filter(lambda entries: any([*alignments(*entry)] for entry in entries)))
def test_the_alignments_are_the_likeliest_by_definition(entries: list[tuple[str, str]]) -> None:
    probs = probs_by_definition(entries)
    possible = sorted(
        (entry for entry in entries if [*alignments(*entry)]),
        key=lambda entry: (*map(len, entry), entries.index(entry)),
    )
    found = align(entries)
    spelled = [
        tuple("".join(side) for side in zip(*(pair.split("|") for pair in sentence.split(" ")), strict=True))
        for sentence in found
    ]
    assert sorted(spelled) == sorted(possible)
    for sentence, entry in zip(found, spelled, strict=True):
        best = max(prod(probs[pair] for pair in way) for way in alignments(*entry))
        assert prod(probs[pair] for pair in sentence.split(" ")) == pytest.approx(best, rel=1e-6)


def test_pairs_are_those_that_a_reader_would_choose() -> None:
    entries = [entry for entry in Lexicon.load(PACKAGED / "en-lexicon" / "lexicon.lex") if len(entry[0]) > 1]
    found = align([*entries[:3000], ("phone", "fOn"), ("box", "baks")])
    assert {"ph|f o|O n|n e|", "b|b o|a x|ks"} <= {*found}


def test_one_letter_is_one_pair_and_what_cannot_be_aligned_is_left_out() -> None:
    entries = [("w", "dubulyx"), ("tv", "tjvj"), ("ww", "dubulyx"), ("a|b", "Ab")]
    assert align(entries) == ["w|dubulyx"] * NAMES + ["t|tj v|vj"]
    assert align([]) == []
