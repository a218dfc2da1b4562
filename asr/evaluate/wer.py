"""Word and character error rates, with alignments and confidence intervals.

Rates are fractions of the reference (0.123 is 12.3 %) and may exceed 1; only printed text is in per cent.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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


def evaluate(utterances: Iterable[Utterance]) -> Evaluation:
    """Score utterances after `normalize`, each aligned by itself with the fewest word errors (Levenshtein).

    The words of a hypothesis without a reference are insertions. AsrError if no utterance has a reference word.
    """
    import jiwer

    utterances = list(utterances)
    words = _align(utterances)
    counts = np.array([*map(_word_counts, words.alignments)])
    lengths = np.array([*map(len, words.references)])
    if lengths.sum() == 0:
        raise AsrError(f"none of the {len(utterances)} utterances has a reference word; add reference texts to score")
    characters = jiwer.process_characters([*map(" ".join, words.references)], [*map(" ".join, words.hypotheses)])
    substitutions, deletions, insertions = counts.sum(axis=0).tolist()
    return Evaluation(
        wer=float(counts.sum() / lengths.sum()),
        cer=float(characters.cer),
        interval=bootstrap_interval(counts.sum(axis=1), lengths),
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        reference_words=int(lengths.sum()),
        utterances=len(utterances),
        seconds=float(sum(utterance.seconds for utterance in utterances)),
    )


def word_errors(utterances: Iterable[Utterance]) -> tuple[np.ndarray, np.ndarray]:
    """Word errors and reference words of each utterance, two arrays of shape (utterances,)."""
    words = _align(utterances)
    errors = [sum(_word_counts(chunks)) for chunks in words.alignments]
    return np.array(errors), np.array([*map(len, words.references)])


def correct_words(utterances: Iterable[Utterance]) -> list[dict[int, int]]:
    """For each utterance, correct words: position in the hypothesis → position in the reference."""
    return [
        {
            chunk.hyp_start_idx + offset: chunk.ref_start_idx + offset
            for chunk in chunks
            if chunk.type == "equal"
            for offset in range(chunk.hyp_end_idx - chunk.hyp_start_idx)
        }
        for chunks in _align(utterances).alignments
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
    """Every utterance aligned as by sclite, the most word errors first, then the highest rate, then the id.

    Errors are in upper case, `***` stands for a missing word; a long alignment is folded.
    """
    utterances = list(utterances)
    words = _align(utterances)
    blocks = []
    for utterance, reference, hypothesis, chunks in zip(
        utterances, words.references, words.hypotheses, words.alignments, strict=True
    ):
        substitutions, deletions, insertions = counts = _word_counts(chunks)
        rate = sum(counts) / len(reference) if reference else float("inf") if hypothesis else 0.0
        shown = f"WER {rate:.2%}" if reference else "WER undefined"
        header = (
            f"{utterance.id}: {shown}, {substitutions} substitutions, {deletions} deletions, "
            f"{insertions} insertions, {len(reference)} reference words"
        )
        lines = [header, *_aligned_lines(_columns(reference, hypothesis, chunks))]
        blocks.append(((-sum(counts), -rate, utterance.id), "\n".join(lines) + "\n"))
    return "\n".join(block for _, block in sorted(blocks))


def _align(utterances: Iterable[Utterance]) -> "jiwer.WordOutput":
    import jiwer

    pairs = [(normalize(utterance.reference), normalize(utterance.hypothesis)) for utterance in utterances]
    return jiwer.process_words([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs])


def _word_counts(chunks: "Sequence[jiwer.AlignmentChunk]") -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of one alignment."""
    counts = {"substitute": 0, "delete": 0, "insert": 0, "equal": 0}
    for chunk in chunks:
        counts[chunk.type] += chunk.ref_end_idx - chunk.ref_start_idx or chunk.hyp_end_idx - chunk.hyp_start_idx
    return counts["substitute"], counts["delete"], counts["insert"]


def _columns(
    reference: Sequence[str], hypothesis: Sequence[str], chunks: "Iterable[jiwer.AlignmentChunk]"
) -> Iterator[tuple[str, str]]:
    """The alignment as pairs of a reference and a hypothesis word, errors in upper case, `***` for a gap."""
    for chunk in chunks:
        above = list(reference[chunk.ref_start_idx : chunk.ref_end_idx])
        below = list(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx])
        if chunk.type != "equal":
            above = [word.upper() for word in above] or ["***"] * len(below)
            below = [word.upper() for word in below] or ["***"] * len(above)
        yield from zip(above, below, strict=True)


def _aligned_lines(columns: Iterable[tuple[str, str]]) -> list[str]:
    lines = [["REF:"], ["HYP:"]]
    used = len("REF:")
    for above, below in columns:
        width = max(len(above), len(below))
        if used + 1 + width > REPORT_COLUMNS and len(lines[-1]) > 1:
            lines += [["REF:"], ["HYP:"]]
            used = len("REF:")
        lines[-2].append(above.ljust(width))
        lines[-1].append(below.ljust(width))
        used += 1 + width
    return [" ".join(line).rstrip() for line in lines]
