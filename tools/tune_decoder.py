"""Find how a bundle is decoded best, on dev data, and write it into the bundle.

    python tools/tune_decoder.py asr/pretrained/en-bilstm ../shared/data/dev.jsonl --lm en-lm [--lm other.lm]
        [--rescore runs/en-lm/bundle]

The language model's weight, the word bonus and the unknown-word score are those with the fewest word errors, by a
search that goes on to the best neighbour as long as there is a better one, for each language model given; the best of
them is taken. With a recurrent language model likewise the weights of rescoring, with that n-gram model and without.
Then the line that turns confidences into probabilities is fitted for the greedy decoder and for the
beam. config.json and the part "Decoding" of MODEL_CARD.md are written anew, a language model's file is copied beside
them. Log-probabilities are computed once.
"""

import argparse
import dataclasses
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jiwer
import numpy as np

from asr.data.manifest import Entry, read_manifest
from asr.decode.base import Decoder, Hypothesis
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import NO_LM, DecoderOptions, make_decoder
from asr.decode.calibration import log_odds
from asr.decode.rescoring import RescoringDecoder
from asr.decode.word_times import spell_words
from asr.evaluate.wer import Evaluation, Utterance, evaluate
from asr.model.bundle import (
    Bundle,
    DecoderConfig,
    find_language_model,
    load_bundle,
    packaged_language_models,
    write_config,
)
from asr.normalize import normalize
from asr.recognize.align import forced_align, spell
from asr.recognize.offline import Recognizer

STEPS = {"lm_weight": 0.1, "word_bonus": 0.5, "unknown_score": 3.0}
RESCORING_STEPS = {"rescoring_weight": 0.05, "rescoring_bonus": 0.25}
BINS = 10  # of the reliability table
HEADING = "## Decoding"
IDENTITY = (1.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--lm", action="append", default=[], help="a packaged name or a file; may be given repeatedly")
    parser.add_argument("--rescore", type=Path, help="a recurrent language model's folder")
    options = parser.parse_args()
    bundle, entries = load_bundle(options.bundle), read_manifest(options.manifest)
    recognizer = Recognizer(bundle, "greedy")
    data = Data(entries, [recognizer.log_probs(entry.audio) for entry in entries])

    configs = [search(bundle, data, dataclasses.replace(DecoderConfig(), lm=lm)) for lm in options.lm]
    config = min(configs, key=lambda found: found[0])[1] if configs else DecoderConfig()
    wide = f"beam {BEAM_WIDTH}"
    ways = {"greedy": DecoderOptions("greedy"), f"{wide}, no language model": DecoderOptions("beam", lm=NO_LM)}
    if config.lm:
        ways[f"{wide}, {config.lm}"] = DecoderOptions("beam", lm=config.lm)
    rows = [(name, *data.measure(with_config(bundle, config), way)) for name, way in ways.items()]
    beam = rows[-1][0]
    if options.rescore:
        for lm in dict.fromkeys((NO_LM, config.lm or NO_LM)):
            weighing = DecoderOptions("beam", lm=lm, rescore=options.rescore)
            config = search_rescoring(bundle, data, config, weighing)
            name = f"{wide}, {'no n-grams' if lm == NO_LM else lm}, rescored: {rescoring_weights(config)}"
            rows.append((name, *data.measure(with_config(bundle, config), weighing)))
    words = {name: labelled(entries, hypotheses) for name, _, hypotheses in rows}
    lines = {name: fit(*columns(labels)) for name, labels in words.items()}
    config = dataclasses.replace(config, greedy_confidence=lines["greedy"], beam_confidence=lines[beam])
    if options.rescore:
        config = dataclasses.replace(config, rescored_confidence=lines[rows[-1][0]])
    config = dataclasses.replace(config, lm=within(bundle, config.lm))
    write_config(options.bundle, dataclasses.replace(bundle.config, decoder=config))
    command = " ".join(["python tools/tune_decoder.py", str(options.bundle), str(options.manifest)])
    late = start_errors(bundle, data, rows[-1][2])
    command += "".join(f" --lm {lm}" for lm in options.lm) + (
        f" --rescore {options.rescore}" if options.rescore else ""
    )
    section = card(config, rows, words, late, command)
    path = options.bundle / "MODEL_CARD.md"
    path.write_text(path.read_text(encoding="utf-8").split(HEADING)[0].rstrip() + f"\n\n{section}", encoding="utf-8")
    print(section)


def within(bundle: Bundle, lm: str) -> str:
    """The language model as the bundle's config names it: a file is copied into the bundle, which can then be moved."""
    if lm and lm not in packaged_language_models():
        source = Path(lm) if Path(lm).is_file() else find_language_model(lm, bundle)
        if source.resolve().parent != bundle.path.resolve():
            shutil.copyfile(source, bundle.path / source.name)
        return source.name
    return lm


class Data:
    """Utterances and their log-probs."""

    def __init__(self, entries: list[Entry], log_probs: list[np.ndarray]):
        self.entries = entries
        self.log_probs = log_probs

    def measure(self, bundle: Bundle, options: DecoderOptions) -> tuple[Evaluation, list[Hypothesis]]:
        decoder = make_decoder(options, bundle)
        hypotheses = [decode(decoder, log_probs) for log_probs in self.log_probs]
        seconds = [len(log_probs) * bundle.config.frame_seconds for log_probs in self.log_probs]
        pairs = zip(self.entries, hypotheses, seconds, strict=True)
        return evaluate(Utterance(entry.id, entry.text, best.text, length) for entry, best, length in pairs), hypotheses


def decode(decoder: Decoder, log_probs: np.ndarray) -> Hypothesis:
    state = decoder.reset()
    decoder.advance(state, log_probs)
    return decoder.finish(state)[0]


def with_config(bundle: Bundle, config: DecoderConfig) -> Bundle:
    """The bundle decoded so, its confidences as they come."""
    plain = dataclasses.replace(
        config, greedy_confidence=IDENTITY, beam_confidence=IDENTITY, rescored_confidence=IDENTITY
    )
    return dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, decoder=plain))


def search(bundle: Bundle, data: Data, config: DecoderConfig) -> tuple[float, DecoderConfig]:
    """WER and config of the n-gram model's best weights."""

    def wer(config: DecoderConfig) -> float:
        result = data.measure(with_config(bundle, config), DecoderOptions("beam", lm=config.lm))[0].wer
        weights = f"lm_weight {config.lm_weight}, word_bonus {config.word_bonus}, unknown {config.unknown_score}"
        print(f"{config.lm}: {weights}: WER {result:.2%}", flush=True)
        return result

    return climb(config, wer, STEPS)


def search_rescoring(bundle: Bundle, data: Data, config: DecoderConfig, options: DecoderOptions) -> DecoderConfig:
    """The config with the best weights of rescoring. Beam and recurrent model run once: these change neither."""
    plain = dataclasses.replace(config, rescoring_weight=1.0, rescoring_bonus=0.0)
    decoder = make_decoder(dataclasses.replace(options, nbest=BEAM_WIDTH), with_config(bundle, plain))
    assert isinstance(decoder, RescoringDecoder)
    utterances = []
    for log_probs in data.log_probs:
        state = decoder.reset()
        decoder.advance(state, log_probs)
        utterances.append(decoder.parts(state))

    def wer(config: DecoderConfig) -> float:
        def score(item: Hypothesis) -> float:
            factor = config.rescoring_weight - 1
            return item.score + factor * item.rescoring + config.rescoring_bonus * len(item.words)

        texts = [" ".join(max(part, key=score).text for part in parts) for parts in utterances]
        pairs = zip(data.entries, texts, strict=True)
        result = evaluate(Utterance(entry.id, entry.text, text, 0.0) for entry, text in pairs).wer
        print(f"{options.lm}, rescored: {rescoring_weights(config)}: WER {result:.2%}", flush=True)
        return result

    return climb(config, wer, RESCORING_STEPS)[1]


def rescoring_weights(config: DecoderConfig) -> str:
    return f"weight {config.rescoring_weight:g}, {config.rescoring_bonus:g} a word"


def climb(
    config: DecoderConfig, wer: Callable[[DecoderConfig], float], steps: Mapping[str, float]
) -> tuple[float, DecoderConfig]:
    """WER and config of a local optimum."""
    known: dict[DecoderConfig, float] = {}

    def looked_up(config: DecoderConfig) -> float:
        if config not in known:
            known[config] = wer(config)
        return known[config]

    best = config
    while (better := min([best, *neighbours(best, steps)], key=looked_up)) != best:
        best = better
    return looked_up(best), best


def neighbours(config: DecoderConfig, steps: Mapping[str, float]) -> Iterator[DecoderConfig]:
    for field, step in steps.items():
        for change in (-step, step):
            value = round(getattr(config, field) + change, 3)
            if not field.endswith("weight") or value > 0:
                yield dataclasses.replace(config, **{field: value})


Labels = list[tuple[str, float, bool]]  # speaker, confidence, whether the word is right


def matches(entries: Sequence[Entry], hypotheses: Sequence[Hypothesis]) -> list[dict[int, int]]:
    """Of each utterance, which recognised word is which spoken one, by the alignment with the fewest errors."""
    aligned = jiwer.process_words(
        [normalize(entry.text) for entry in entries], [normalize(hypothesis.text) for hypothesis in hypotheses]
    )
    return [
        {
            chunk.hyp_start_idx + place: chunk.ref_start_idx + place
            for chunk in chunks
            if chunk.type == "equal"
            for place in range(chunk.hyp_end_idx - chunk.hyp_start_idx)
        }
        for chunks in aligned.alignments
    ]


def labelled(entries: Sequence[Entry], hypotheses: Sequence[Hypothesis]) -> Labels:
    """Every recognised word, and whether it was spoken there."""
    return [
        (entry.speaker or "-", word.confidence, place in right)
        for entry, hypothesis, right in zip(entries, hypotheses, matches(entries, hypotheses), strict=True)
        for place, word in enumerate(hypothesis.words)
    ]


def start_errors(bundle: Bundle, data: Data, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
    """Seconds between the start of each right word and that which forced alignment of the spoken text gives it."""
    errors = []
    right = matches(data.entries, hypotheses)
    for entry, log_probs, hypothesis, pairs in zip(data.entries, data.log_probs, hypotheses, right, strict=True):
        spelled = spell(normalize(entry.text).split(), bundle.tokens)
        aligned = forced_align(log_probs, [token for ids in spelled for token in ids])
        starts = [word.start for word in spell_words(aligned, bundle.tokens, bundle.config.frame_seconds)]
        errors += [abs(hypothesis.words[heard].start - starts[said]) for heard, said in pairs.items()]
    return np.array(errors)


def columns(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    return np.array([log_odds(label[1]) for label in labels]), np.array([label[2] for label in labels], dtype=float)


def fit(odds: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic regression of `right` on `odds`, by Newton's method."""
    features = np.stack([odds, np.ones_like(odds)], axis=1)
    line = np.array(IDENTITY)
    for _ in range(50):
        probability = 1 / (1 + np.exp(-features @ line))
        curvature = features.T @ (features * (probability * (1 - probability))[:, None])
        line += np.linalg.solve(curvature + 1e-6 * np.eye(2), features.T @ (right - probability))
    return round(float(line[0]), 4), round(float(line[1]), 4)


def held_out(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of each word by a line fitted on the other speakers, and which words are right."""
    speakers = np.array([label[0] for label in labels])
    odds, right = columns(labels)
    probability = np.zeros_like(odds)
    for speaker in set(speakers.tolist()):
        its = speakers == speaker
        slope, offset = fit(odds[~its], right[~its])
        probability[its] = 1 / (1 + np.exp(-slope * odds[its] - offset))
    return probability, right


def reliability(probability: np.ndarray, right: np.ndarray) -> tuple[float, list[tuple[str, int, float, float]]]:
    """Expected calibration error (Naeini et al. 2015); of each bin its bounds, words, mean probability and share."""
    places = np.minimum((probability * BINS).astype(int), BINS - 1)
    rows, error = [], 0.0
    for place in range(BINS):
        its = places == place
        if its.any():
            mean, share = float(probability[its].mean()), float(right[its].mean())
            error += its.mean() * abs(mean - share)
            rows.append((f"{place / BINS:.1f} – {(place + 1) / BINS:.1f}", int(its.sum()), mean, share))
    return error, rows


def card(config: DecoderConfig, rows: list, words: dict[str, Labels], late: np.ndarray, command: str) -> str:
    weights = (
        f"`{config.lm}`: weight {config.lm_weight:g}; in nats {config.word_bonus:g} for a word, "
        f"{config.unknown_score:g} for an unknown one."
        if config.lm
        else "No language model."
    )
    table = defaultdict(list)
    lines = []
    for name, result, _ in rows:
        error, bins = reliability(*held_out(words[name]))
        low, high = result.interval
        lines.append(f"| {name} | {result.wer:.2%} | {low:.2%} – {high:.2%} | {result.cer:.2%} | {error:.3f} |")
        table[name] = bins
    name = rows[-1][0]
    bins_table = "\n".join(
        f"| {bounds} | {count} | {mean:.2f} | {share:.2f} |" for bounds, count, mean, share in table[name]
    )
    measured = "\n".join(lines)
    return f"""{HEADING}

    {command}

{weights} The weights were chosen on the same data, so the figures with
a language model flatter it a little.

| decoder | WER | 95 % interval | CER | calibration error |
| --- | --- | --- | --- | --- |
{measured}

The expected calibration error is that of speakers whom the line from confidence to probability was not fitted on.
Reliability of confidences, {name}, likewise:

| confidence | words | mean confidence | right |
| --- | --- | --- | --- |
{bins_table}

Starts of the {len(late):,} words that are right, against forced alignment of the spoken text by the same model: mean
absolute difference {late.mean() * 1000:.0f} ms, {(late < 0.06).mean():.1%} within 60 ms.
"""


if __name__ == "__main__":
    main()
