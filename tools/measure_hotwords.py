"""Measure what hotwords do: how many of the rare words they bring back, what they invent, and what they cost elsewhere.

    python tools/measure_hotwords.py asr/pretrained/en-bilstm ../shared/data/dev.jsonl --distractors 10 100

As in Le et al. 2021, "Contextualized streaming end-to-end speech recognition with trie-based deep biasing and shallow
fusion", each utterance has a list of its own: its rare words, if it has any, and as many distractors as asked, rare
words of the language model that nobody says in the manifest. Rare is a word of four letters or more that the language
model does not know, or that it holds less likely than `--rare`, whatever comes before it. The log-probabilities are
computed once.
"""

import argparse
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr.data.manifest import Entry, read_manifest
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DecoderOptions, make_decoder
from asr.decode.hotwords import default_boost
from asr.evaluate.wer import Evaluation, Utterance, evaluate
from asr.lm.binary import load_model
from asr.lm.ngram import ROOT, NgramModel
from asr.model.bundle import Bundle, find_language_model, load_bundle
from asr.normalize import normalize
from asr.recognize.offline import Recognizer

RARE = 2e-6
SHORTEST = 4  # letters
SEED = 0


@dataclass(frozen=True)
class Case:
    """An utterance, what is heard of it (frames, tokens), the rare words it has, and the hotwords it is given."""

    entry: Entry
    log_probs: np.ndarray
    rare: Counter[str]
    hotwords: tuple[str, ...]


@dataclass
class Result:
    """Rare words that were spoken, those of them that were written, and hotwords that were written but not spoken."""

    spoken: int = 0
    found: int = 0
    invented: int = 0
    holding: list[Utterance] = field(default_factory=list)  # rare words
    others: list[Utterance] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--boost", type=float, nargs="+", default=[1.5, 2, 2.5, 3], help="nats per letter")
    parser.add_argument("--beam-width", type=int, default=BEAM_WIDTH)
    parser.add_argument("--distractors", type=int, nargs="+", default=[10, 100], help="for each utterance")
    parser.add_argument("--rare", type=float, default=RARE, help="a rare word's highest probability")
    options = parser.parse_args()
    bundle, entries = load_bundle(options.bundle), read_manifest(options.manifest)
    recognizer = Recognizer(bundle, "greedy")
    lm = load_model(find_language_model(bundle.config.decoder.lm, bundle))
    log_probs = [recognizer.log_probs(entry.source) for entry in entries]
    spoken = [case.rare for case in make_cases(entries, log_probs, lm, options.rare, 0)]
    rare = sum(spoken, Counter())
    unknown = sum(lm.vocabulary.get(word) is None for word in rare)
    print(
        f"{len(rare)} rare words, {unknown} of them not in {bundle.config.decoder.lm}, {rare.total()} times in "
        f"{sum(map(bool, spoken))} of {len(spoken)} utterances\n"
    )
    print("| distractors | nats per letter | rare words found | invented | WER with rare words | WER of the others |")
    print("| --- | --- | --- | --- | --- | --- |")
    for distractors in options.distractors:
        cases = make_cases(entries, log_probs, lm, options.rare, distractors)
        for boost in (0.0, *options.boost):
            result = measure(bundle, cases, options.beam_width, boost)
            print(
                f"| {distractors} | {boost:g} | {result.found} of {result.spoken} | {result.invented} | "
                f"{wer(result.holding)} | {wer(result.others)} |",
                flush=True,
            )


def make_cases(
    entries: Sequence[Entry], log_probs: Sequence[np.ndarray], lm: NgramModel, limit: float, distractors: int
) -> list[Case]:
    """The same ones for the same manifest."""

    def is_rare(word: str) -> bool:
        known = lm.vocabulary.get(word)
        return len(word) >= SHORTEST and (known is None or lm.score(ROOT, known)[0] < math.log(limit))

    texts = [normalize(entry.text).split() for entry in entries]
    spoken = {word for text in texts for word in text}
    vocabulary = map(lm.vocabulary.word, range(len(lm.vocabulary)))
    pool = [word for word in vocabulary if word.isalpha() and word not in spoken and is_rare(word)]
    generator = random.Random(SEED)
    cases = []
    for entry, rows, text in zip(entries, log_probs, texts, strict=True):
        rare = Counter(filter(is_rare, text))
        cases.append(Case(entry, rows, rare, (*sorted(rare), *generator.sample(pool, distractors))))
    return cases


def measure(bundle: Bundle, cases: Sequence[Case], beam_width: int, boost: float) -> Result:
    """Each case with its hotwords, with none if the boost, in nats per letter, is 0."""
    result = Result()
    for case in cases:
        hotwords = {word: default_boost(word, boost) for word in case.hotwords} if boost else {}
        decoder = make_decoder(DecoderOptions("beam", beam_width, hotwords=hotwords), bundle)
        state = decoder.reset()
        decoder.advance(state, case.log_probs)
        text = decoder.finish(state)[0].text
        written = Counter(word for word in text.split() if word in case.hotwords)
        result.spoken += case.rare.total()
        result.found += (written & case.rare).total()
        result.invented += (written - case.rare).total()
        seconds = len(case.log_probs) * bundle.config.frame_seconds
        which = result.holding if case.rare else result.others
        which.append(Utterance(case.entry.id, case.entry.text, text, seconds))
    return result


def wer(utterances: Sequence[Utterance]) -> str:
    result: Evaluation = evaluate(utterances)
    low, high = result.interval
    return f"{result.wer:.2%} ({low:.2%} – {high:.2%})"


if __name__ == "__main__":
    main()
