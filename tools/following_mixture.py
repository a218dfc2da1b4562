"""Would a mixture of language models whose weights follow the words recognise better than one with fixed weights?

    python tools/following_mixture.py BUNDLE MANIFEST... --part MODEL.lm=WEIGHT ... [--factor F ...]

The beam's 32 best hypotheses, decoded with the bundle's own language model, get the log-prob of a mixture in its place
and are ordered anew. Fixed: the weights given. Following: after each word a weight is multiplied by the probability
that its part gave to the word (Bayes) and drawn back to the one given, to the power of `forgetting`; within a sentence,
or over all sentences of one recording (the id up to its last hyphen).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.data.manifest import Entry, read_manifest
from asr.decode.base import Hypothesis
from asr.decode.build import DecoderOptions, make_decoder
from asr.evaluate.wer import Utterance, evaluate
from asr.lm.binary import load_model
from asr.lm.ngram import NgramModel
from asr.model.bundle import find_language_model, load_bundle
from asr.recognize.offline import Recognizer

BEAM = 32
FORGETTING = (0.8, 0.9, 0.95, 0.98)
UNKNOWN = -14.0  # natural log of the probability of a word that a part does not know


def score(text: str, parts: Sequence[NgramModel]) -> np.ndarray:
    """Log-probs (words and the end of the sentence, parts)."""
    columns = [[value if word != part.vocabulary.unknown else UNKNOWN for word, value in part.score_words(text)]
               for part in parts]  # fmt: skip
    return np.array(columns).T


def follow(scores: np.ndarray, start: np.ndarray, prior: np.ndarray, forgetting: float) -> tuple[float, np.ndarray]:
    """Log-prob of a sentence, and the log weights after it."""
    total, weights = 0.0, start
    for row in scores:
        joint = weights + row
        log_prob = float(np.logaddexp.reduce(joint))
        total += log_prob
        weights = forgetting * (joint - log_prob) + (1 - forgetting) * prior
        weights = weights - np.logaddexp.reduce(weights)
    return total, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--part", action="append", required=True, metavar="MODEL.lm=WEIGHT")
    parser.add_argument("--factor", action="append", type=float, help="of the mixture's log-probs; the bundle's own")
    options = parser.parse_args()
    named = [part.rpartition("=") for part in options.part]
    parts, prior = [load_model(name) for name, _, _ in named], np.log([float(weight) for _, _, weight in named])
    prior -= np.logaddexp.reduce(prior)
    bundle = load_bundle(options.bundle)
    own, weight = load_model(find_language_model(bundle.config.decoder.lm)), bundle.config.decoder.lm_weight
    decoder = make_decoder(DecoderOptions("beam", BEAM, nbest=BEAM), bundle)
    recognizer = Recognizer(bundle, DecoderOptions("greedy"), threads=1)

    for manifest in options.manifests:
        entries, best = read_manifest(manifest), []
        for entry in entries:
            state = decoder.reset()
            decoder.advance(state, recognizer.log_probs(entry.source))
            best.append(decoder.finish(state))
        # Each hypothesis' score without its language model.
        rest = [[item.score - weight * sum(prob for _, prob in own.score_words(item.text)) for item in items]
                for items in best]  # fmt: skip
        report(manifest, entries, best, rest, parts, prior, options.factor or [weight])


def report(
    manifest: Path,
    entries: Sequence[Entry],
    best: Sequence[Sequence[Hypothesis]],
    rest: Sequence[Sequence[float]],
    parts: Sequence[NgramModel],
    prior: np.ndarray,
    factors: Sequence[float],
) -> None:
    scores = [[score(item.text, parts) for item in items] for items in best]

    def errors(chosen: Sequence[int]) -> str:
        pairs = zip(entries, best, chosen, strict=True)
        said = [Utterance(entry.id, entry.text, items[place].text, 0.0) for entry, items, place in pairs]
        return f"{100 * evaluate(said).wer:.2f} %"

    print(f"{manifest}: {errors([0] * len(best))} before")
    for factor in factors:
        for forgetting in (0.0, *FORGETTING):
            inside, across, weights = [], [], {}
            for entry, others, rows in zip(entries, rest, scores, strict=True):
                recording = entry.id.rpartition("-")[0] or entry.id
                alone = [follow(each, prior, prior, forgetting)[0] for each in rows]
                going = [follow(each, weights.get(recording, prior), prior, forgetting) for each in rows]
                inside.append(int(np.argmax(np.add(others, np.multiply(factor, alone)))))
                across.append(int(np.argmax(np.add(others, [factor * log_prob for log_prob, _ in going]))))
                weights[recording] = going[across[-1]][1]
            name = f"forgetting {forgetting:g}" if forgetting else "fixed weights"
            print(f"  factor {factor:g}, {name}: {errors(inside)}, over a recording {errors(across)}")


if __name__ == "__main__":
    main()
