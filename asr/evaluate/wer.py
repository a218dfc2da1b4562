"""Word and character error rates, with alignments and confidence intervals.

Rates are fractions of the reference (0.123 is 12.3 %) and may exceed 1; only printed text is in per cent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import AsrError
from asr.normalize import normalize

if TYPE_CHECKING:  # jiwer takes as long to import as numpy: only scoring does
    import jiwer

BOOTSTRAP_RESAMPLES = 1000
CONFIDENCE_LEVEL = 0.95
REPORT_COLUMNS = 100  # aligned lines are folded at this width


@dataclass(frozen=True)
class Utterance:
    id: str
    reference: str  # the spoken text
    hypothesis: str  # the recognized text
    seconds: float  # of audio


@dataclass(frozen=True)
class Evaluation:
    """Error rates of a set of utterances."""

    wer: float  # all errors over all reference words
    cer: float  # the same of characters, with the spaces between words
    interval: tuple[float, float]  # the 95 % confidence interval of the WER
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    utterances: int
    seconds: float
    rtf: float | None = None  # processing time over audio time, if the caller measured it

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"WER {self.wer:.2%} (95% interval {low:.2%} to {high:.2%}), CER {self.cer:.2%}: "
            f"{self.substitutions} substitutions, {self.deletions} deletions, {self.insertions} insertions "
            f"in {self.reference_words} words, {self.utterances} utterances, {self.seconds / 3600:.2f} h"
            + ("" if self.rtf is None else f", RTF {self.rtf:.3f}")
        )


def evaluate(utterances: Iterable[Utterance], elapsed: float | None = None) -> Evaluation:
    """Score utterances after `normalize`, each aligned by itself with the fewest word errors (Levenshtein).

    elapsed: seconds that their recognition took. The words of a hypothesis without a reference are insertions.
    AsrError if no utterance has a reference word.
    """
    import jiwer

    utterances = list(utterances)
    aligned = _align(utterances)
    counts = np.array([*map(_word_counts, aligned)])
    lengths = np.array([len(words.references[0]) for words in aligned])
    if lengths.sum() == 0:
        raise AsrError(f"none of the {len(utterances)} utterances has a reference word; add reference texts to score")
    pairs = [(" ".join(words.references[0]), " ".join(words.hypotheses[0])) for words in aligned]
    characters = jiwer.process_characters([reference for reference, _ in pairs], [heard for _, heard in pairs])
    substitutions, deletions, insertions = counts.sum(axis=0).tolist()
    seconds = float(sum(utterance.seconds for utterance in utterances))
    return Evaluation(
        wer=float(counts.sum() / lengths.sum()),
        cer=float(characters.cer),
        interval=bootstrap_interval(counts.sum(axis=1), lengths),
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        reference_words=int(lengths.sum()),
        utterances=len(utterances),
        seconds=seconds,
        rtf=elapsed / seconds if elapsed and seconds else None,
    )


def word_errors(utterances: Iterable[Utterance]) -> tuple[np.ndarray, np.ndarray]:
    """Word errors and reference words of each utterance, two arrays of shape (utterances,)."""
    aligned = _align(utterances)
    errors = [sum(_word_counts(words)) for words in aligned]
    return np.array(errors), np.array([len(words.references[0]) for words in aligned])


def oracle(utterances: Sequence[Utterance], texts: Sequence[Sequence[str]]) -> Evaluation:
    """Error rates if of each utterance's texts, its n best, the one with the fewest errors were chosen every time."""
    chosen = []
    for utterance, its in zip(utterances, texts, strict=True):
        candidates = [replace(utterance, hypothesis=text) for text in its] or [utterance]
        chosen.append(candidates[int(word_errors(candidates)[0].argmin())])
    return evaluate(chosen)


def correct_words(utterances: Iterable[Utterance]) -> list[dict[int, int]]:
    """For each utterance, correct words: position in the hypothesis → position in the reference."""
    return [
        {
            chunk.hyp_start_idx + offset: chunk.ref_start_idx + offset
            for chunk in words.alignments[0]
            if chunk.type == "equal"
            for offset in range(chunk.hyp_end_idx - chunk.hyp_start_idx)
        }
        for words in _align(utterances)
    ]


def bootstrap_interval(errors: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the error rate, resampling whole utterances (Bisani & Ney 2004, section 3).

    errors, lengths: word errors and reference words, both (utterances,). Errors within an utterance depend on each
    other, so utterances are drawn, not words; with few speakers the true uncertainty is larger.
    """
    generator = np.random.default_rng(0)
    sums = np.empty((BOOTSTRAP_RESAMPLES, 2))
    counts = np.stack([errors, lengths], axis=1)
    for resample in sums:  # one at a time: all index rows together would be gigabytes for a large corpus
        resample[:] = counts[generator.integers(len(counts), size=len(counts))].sum(axis=0)
    sums = sums[sums[:, 1] > 0]  # a draw of empty references only has no rate
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [tail, 1 - tail])
    return float(low), float(high)


def report(utterances: Iterable[Utterance]) -> str:
    """Every utterance aligned, the most word errors first, then the highest rate, then the id.

    As jiwer prints it: asterisks stand for a missing word, a line of S, D and I below marks the errors, and a long
    alignment is folded.
    """
    import jiwer

    utterances = list(utterances)
    blocks = []
    for utterance, words in zip(utterances, _align(utterances), strict=True):
        substitutions, deletions, insertions = counts = _word_counts(words)
        reference_words = len(words.references[0])
        rate = sum(counts) / reference_words if reference_words else float("inf") if insertions else 0.0
        header = (
            f"{utterance.id}: {f'WER {rate:.2%}' if reference_words else 'WER undefined'}, {substitutions} "
            f"substitutions, {deletions} deletions, {insertions} insertions, {reference_words} reference words\n"
        )
        shown = jiwer.visualize_alignment(words, show_measures=False, skip_correct=False, line_width=REPORT_COLUMNS)
        lines = [line.rstrip() for line in shown.splitlines()[2:]]  # without jiwer's own header
        blocks.append(((-sum(counts), -rate, utterance.id), header + "\n".join(lines).rstrip() + "\n"))
    return "\n".join(block for _, block in sorted(blocks))


def _align(utterances: Iterable[Utterance]) -> "list[jiwer.WordOutput]":
    """Each utterance by itself."""
    import jiwer

    return [jiwer.process_words(normalize(one.reference), normalize(one.hypothesis)) for one in utterances]


def _word_counts(words: "jiwer.WordOutput") -> tuple[int, int, int]:
    return words.substitutions, words.deletions, words.insertions
