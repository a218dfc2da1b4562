"""Word and character error rates, with alignments and confidence intervals.

Rates are fractions of the reference (0.123 is 12.3 %) and may exceed 1; per cent appears only in printed text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import AsrError
from asr.normalize import normalize

if TYPE_CHECKING:  # jiwer costs as much start-up time as numpy; `asr` imports it only when it scores
    import jiwer


BOOTSTRAP_RESAMPLES = 1000
CONFIDENCE_LEVEL = 0.95
REPORT_COLUMNS = 100  # an aligned line longer than this is folded


@dataclass(frozen=True)
class Utterance:
    """What was said (`reference`), what was recognised (`hypothesis`), and the length of the audio in seconds."""

    id: str
    reference: str
    hypothesis: str
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Error rates of a set of utterances.

    `wer` and `cer` are fractions: all errors over all reference words (characters, spaces between words
    included). `interval` is the 95 % confidence interval of the WER. `rtf`, processing time over audio time,
    is for the caller who measured it: `dataclasses.replace(evaluation, rtf=…)`.
    """

    wer: float
    cer: float
    interval: tuple[float, float]
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    utterances: int
    seconds: float
    rtf: float | None = None

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"WER {self.wer:.2%} (95% interval {low:.2%} to {high:.2%}), CER {self.cer:.2%}: "
            f"{self.substitutions} substitutions, {self.deletions} deletions, {self.insertions} insertions "
            f"in {self.reference_words} words, {self.utterances} utterances, {self.seconds / 3600:.2f} h"
            + ("" if self.rtf is None else f", RTF {self.rtf:.3f}")
        )

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values; the interval is a list, `rtf` is null when it was not measured."""
        return asdict(self) | {"interval": list(self.interval)}


def evaluate(utterances: Iterable[Utterance]) -> Evaluation:
    """Score utterances after `normalize`. Each is aligned by itself with the fewest word errors (Levenshtein).

    The words of a hypothesis without a reference count as insertions.

    Raises AsrError when no utterance has a reference word: there is then nothing to divide by.
    """
    import jiwer

    utterances = list(utterances)
    words = _align(utterances)
    counts = np.array([_word_counts(chunks) for chunks in words.alignments], dtype=np.int64).reshape(-1, 3)
    errors = counts.sum(axis=1)
    lengths = np.array([len(reference) for reference in words.references], dtype=np.int64)
    if lengths.sum() == 0:
        raise AsrError(f"none of the {len(utterances)} utterances has a reference word; add reference texts to score")
    characters = jiwer.process_characters(
        [" ".join(reference) for reference in words.references],
        [" ".join(hypothesis) for hypothesis in words.hypotheses],
    )
    substitutions, deletions, insertions = (int(count) for count in counts.sum(axis=0))
    return Evaluation(
        wer=float(errors.sum() / lengths.sum()),
        cer=float(characters.cer),
        interval=bootstrap_interval(errors, lengths),
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        reference_words=int(lengths.sum()),
        utterances=len(utterances),
        seconds=float(sum(utterance.seconds for utterance in utterances)),
    )


def word_errors(utterances: Iterable[Utterance]) -> tuple[np.ndarray, np.ndarray]:
    """Word errors and reference words of each utterance, two arrays of shape (utterances,)."""
    words = _align(list(utterances))
    errors = [sum(_word_counts(chunks)) for chunks in words.alignments]
    lengths = [len(reference) for reference in words.references]
    return np.array(errors, dtype=np.int64), np.array(lengths, dtype=np.int64)


def bootstrap_interval(
    errors: np.ndarray, lengths: np.ndarray, resamples: int = BOOTSTRAP_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the error rate, resampling whole utterances (Bisani & Ney 2004, section 3).

    errors, lengths: word errors and reference words per utterance, each of shape (utterances,). Words inside an
    utterance err together, which is why utterances and not words are drawn. Utterances of one speaker do too,
    so on a test set of few speakers the true uncertainty is larger.
    """
    generator = np.random.default_rng(seed)
    sums = np.empty((resamples, 2))
    counts = np.stack([errors, lengths], axis=1)
    for resample in sums:  # one at a time: all index rows together would be gigabytes for a large corpus
        resample[:] = counts[generator.integers(len(counts), size=len(counts))].sum(axis=0)
    sums = sums[sums[:, 1] > 0]  # a draw of nothing but empty references has no rate
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [tail, 1 - tail])
    return float(low), float(high)


def report(utterances: Iterable[Utterance]) -> str:
    """Every utterance aligned in sclite's manner, the most word errors first, then the highest rate, then the id.

    Errors are in upper case, `***` stands where a word is missing; a long alignment is folded.
    """
    utterances = list(utterances)
    if not utterances:
        return ""
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


def _align(utterances: Sequence[Utterance]) -> "jiwer.WordOutput":
    import jiwer

    return jiwer.process_words(
        [normalize(utterance.reference) for utterance in utterances],
        [normalize(utterance.hypothesis) for utterance in utterances],
    )


def correct_words(utterances: Iterable[Utterance]) -> list[dict[int, int]]:
    """Of each utterance, the place of every correct word in the hypothesis, with its place in the reference."""
    return [
        {
            chunk.hyp_start_idx + place: chunk.ref_start_idx + place
            for chunk in chunks
            if chunk.type == "equal"
            for place in range(chunk.hyp_end_idx - chunk.hyp_start_idx)
        }
        for chunks in _align(list(utterances)).alignments
    ]


def _word_counts(chunks: "Sequence[jiwer.AlignmentChunk]") -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of one alignment."""
    counts = {"substitute": 0, "delete": 0, "insert": 0, "equal": 0}
    for chunk in chunks:
        reference_words = chunk.ref_end_idx - chunk.ref_start_idx
        counts[chunk.type] += reference_words or chunk.hyp_end_idx - chunk.hyp_start_idx
    return counts["substitute"], counts["delete"], counts["insert"]


def _columns(
    reference: Sequence[str], hypothesis: Sequence[str], chunks: "Iterable[jiwer.AlignmentChunk]"
) -> list[tuple[str, str]]:
    """The alignment as (reference word, hypothesis word) pairs, errors in upper case, `***` for a gap."""
    columns: list[tuple[str, str]] = []
    for chunk in chunks:
        said = list(reference[chunk.ref_start_idx : chunk.ref_end_idx])
        heard = list(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx])
        if chunk.type != "equal":
            said = [word.upper() for word in said] or ["***"] * len(heard)
            heard = [word.upper() for word in heard] or ["***"] * len(said)
        columns += zip(said, heard, strict=True)
    return columns


def _aligned_lines(columns: Iterable[tuple[str, str]]) -> list[str]:
    lines = [["REF:"], ["HYP:"]]
    used = len("REF:")
    for said, heard in columns:
        width = max(len(said), len(heard))
        if used + 1 + width > REPORT_COLUMNS and len(lines[-1]) > 1:
            lines += [["REF:"], ["HYP:"]]
            used = len("REF:")
        lines[-2].append(said.ljust(width))
        lines[-1].append(heard.ljust(width))
        used += 1 + width
    return [" ".join(line).rstrip() for line in lines]
