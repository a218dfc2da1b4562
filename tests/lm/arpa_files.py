"""ARPA files by hand, and what they mean by the definition of a back-off model."""

import math
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

Ngram = tuple[str, ...]
WORDS = ("a", "ab", "ä", "'tis", "zebra")
SPECIAL = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class Arpa:
    """For each n-gram, log10 of its probability and of its back-off weight."""

    order: int
    ngrams: dict[Ngram, tuple[float, float]]

    def text(self) -> str:
        orders = range(1, self.order + 1)
        sections = [[(ngram, *numbers) for ngram, numbers in self.ngrams.items() if len(ngram) == n] for n in orders]
        lines = ["\\data\\", *(f"ngram {n}={len(section)}" for n, section in zip(orders, sections, strict=True))]
        for n, section in zip(orders, sections, strict=True):
            lines += ["", f"\\{n}-grams:"]
            for ngram, prob, backoff in section:
                lines.append(f"{prob}\t{' '.join(ngram)}" + (f"\t{backoff}" if backoff and n < self.order else ""))
        return "\n".join([*lines, "", "\\end\\", ""])

    def write(self, path: Path) -> Path:
        path.write_text(self.text(), encoding="utf-8")
        return path

    def score(self, context: Ngram, word: str) -> float:
        """Natural log of the probability: of the longest n-gram there is, with the weights of the contexts left."""
        context = context[max(0, len(context) - self.order + 1) :]
        if (ngram := (*context, word)) in self.ngrams:
            return self.ngrams[ngram][0] * math.log(10)
        return self.ngrams.get(context, (0.0, 0.0))[1] * math.log(10) + self.score(context[1:], word)


@st.composite
def arpas(draw: st.DrawFn, orders: st.SearchStrategy[int]) -> Arpa:
    """Any n-grams whose contexts are there; their suffixes need not be, as after entropy pruning."""
    order = draw(orders)
    # Back-off weights above 1 are fine, but a probability above 1 after them is not for KenLM.
    probs = st.integers(-50_000, -5_000).map(lambda number: number / 10_000)
    backoffs = st.just(0.0) | st.integers(-20_000, 1_000).map(lambda number: number / 10_000)
    numbers = st.tuples(probs, backoffs)
    ngrams = {(word,): draw(numbers) for word in draw(st.permutations(SPECIAL + WORDS))}
    contexts: list[Ngram] = list(ngrams)
    for _ in range(1, order):
        longer = [(*context, word) for context in contexts for word in SPECIAL + WORDS if word != "<s>"]
        longer = [ngram for ngram in longer if "</s>" not in ngram[:-1]]
        # Always one that can be a context itself.
        contexts = sorted({longer[0], *draw(st.lists(st.sampled_from(longer), max_size=12))})
        ngrams |= {ngram: draw(numbers) for ngram in contexts}
    return Arpa(order, ngrams)
