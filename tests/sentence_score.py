"""Scores of whole sentences by an n-gram model."""

from asr.lm.ngram import ROOT, NgramModel


def score_text(model: NgramModel, text: str, bos: bool = True, eos: bool = True) -> float:
    """Natural log of the probability of a sentence, as KenLM's `score` (log10 there) with the same arguments."""
    total, state = 0.0, model.start() if bos else ROOT
    for word in text.split() + ["</s>"] * eos:
        log_prob, state = model.score(state, model.vocabulary.id(word))
        total += log_prob
    return total
