"""Decoding weights with the fewest word errors on dev data, and calibrated confidences.

Hill climbing from the bundle's own weights finds the language model's weight, the word bonus, the unknown-word score
and, where the bundle has priors, their power, for each language model given, and the weights of rescoring, with the
best n-gram model and without. Then the line from confidences to probabilities (Platt 1999) is fitted. Log-probabilities
are computed once, by the caller.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from asr.decode.base import Decoder, Hypothesis
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import NO_LM, DecoderOptions, make_decoder, open_attention, open_pronunciations
from asr.decode.calibration import UNCALIBRATED, log_odds
from asr.decode.rescoring import RescoringDecoder
from asr.decode.word_times import spell_words
from asr.errors import AsrError
from asr.evaluate.wer import Evaluation, Utterance, correct_words, evaluate
from asr.model.bundle import Bundle, DecoderConfig
from asr.model.engine import Frames
from asr.normalize import normalize
from asr.recognize.align import best_spellings, forced_align, spellings

STEPS = {"lm_weight": 0.1, "word_bonus": 0.5, "unknown_score": 3.0}
PRIOR_STEPS = {"prior_scale": 0.1}  # for a bundle with priors
RESCORING_STEPS = {"rescoring_weight": 0.05, "rescoring_bonus": 0.25}
ATTENTION_STEPS = {"attention_weight": 0.1, "attention_bonus": 0.25}
BINS = 10  # of the expected calibration error
CLOSE = 0.06  # seconds between two starts of a word that count as equal


@dataclass(frozen=True)
class Sample:
    id: str
    text: str  # what was said
    speaker: str
    frames: Frames  # of the acoustic model


@dataclass(frozen=True)
class Measured:
    """A decoder on the samples."""

    name: str
    result: Evaluation
    hypotheses: list[Hypothesis]
    matches: list[dict[int, int]]  # of each sample, recognized word → spoken word
    speakers: np.ndarray  # of every recognized word,
    odds: np.ndarray  # log-odds of its confidence,
    correct: np.ndarray  # and whether it was spoken there


@dataclass(frozen=True)
class Tuned:
    config: DecoderConfig  # the best one
    wer: float  # of the decoder that then runs by default
    card: str  # the results, in Markdown


@dataclass(frozen=True)
class Tuner:
    bundle: Bundle
    samples: Sequence[Sample]
    say: Callable[[str], object]  # called with a line for each step
    lexicon: Path | None = None  # added to the bundle's own
    keep_weights: bool = False  # measure and calibrate only

    def tune(self, lms: Sequence[str], rescore: str | None = None) -> Tuned:
        """lms: language models to choose from, names or files. rescore: the folder of a recurrent one."""
        found = [self.search_weights(replace(self.bundle.config.decoder, lm=lm)) for lm in lms]
        config = min(found, key=lambda item: item[0])[1] if found else replace(self.bundle.config.decoder, lm="")
        beam, lm = f"beam {BEAM_WIDTH}", config.lm or NO_LM
        first_pass = DecoderOptions("beam", lm=lm, second_pass=False)
        decoders = {
            "greedy": DecoderOptions("greedy"),
            f"{beam}, no language model": DecoderOptions("beam", lm=NO_LM, second_pass=False),
        }
        if config.lm:
            decoders[f"{beam}, {lm}"] = first_pass
        rows = [self.measure(config, options, name) for name, options in decoders.items()]
        calibrated = {"greedy_confidence": rows[0], "beam_confidence": rows[-1]}
        attention = open_attention(self.bundle) is not None
        if attention:
            config = self.search_second_pass(config, replace(first_pass, second_pass=True), ATTENTION_STEPS)
            rows.append(self.measure(config, replace(first_pass, second_pass=True), f"{beam}, {lm}, attention"))
            calibrated["attention_confidence"] = rows[-1]
        default = rows[-1]
        for ngrams in dict.fromkeys((NO_LM, lm)) if rescore else ():
            options = DecoderOptions("beam", lm=ngrams, rescore=rescore)
            config = self.search_second_pass(config, options, RESCORING_STEPS)
            name = f"{beam}, {'no n-grams' if ngrams == NO_LM else ngrams}, {'attention, ' * attention}rescored"
            rows.append(self.measure(config, options, f"{name}: {second_pass_weights(config, RESCORING_STEPS)}"))
        calibrated |= {"rescored_confidence": rows[-1]} if rescore else {}
        lines: dict[str, Any] = {name: fit(row.odds, row.correct) for name, row in calibrated.items()}
        card = describe(config, rows, self.start_errors(rows[-1]), attention, not self.keep_weights)
        return Tuned(replace(config, **lines), default.result.wer, card)

    def decoder(self, config: DecoderConfig, options: DecoderOptions) -> Decoder:
        """A decoder with this config, its confidences as they come."""
        fields = ("greedy_confidence", "beam_confidence", "rescored_confidence", "attention_confidence")
        confidences: dict[str, Any] = dict.fromkeys(fields, UNCALIBRATED)
        config = replace(config, **confidences)
        options = replace(options, lexicon=self.lexicon)
        return make_decoder(options, replace(self.bundle, config=replace(self.bundle.config, decoder=config)))

    def states(self, decoder: Decoder) -> Iterator[Any]:
        for sample in self.samples:
            state = decoder.reset()
            decoder.advance(state, *sample.frames)
            yield state

    def measure(self, config: DecoderConfig, options: DecoderOptions, name: str) -> Measured:
        decoder = self.decoder(config, options)
        hypotheses = [decoder.finish(state)[0] for state in self.states(decoder)]
        utterances = self.utterances([best.text for best in hypotheses])
        matches = correct_words(utterances)
        words = [
            (sample.speaker, log_odds(word.confidence), float(position in right))
            for sample, best, right in zip(self.samples, hypotheses, matches, strict=True)
            for position, word in enumerate(best.words)
        ]
        speakers, odds, correct = (np.array([word[column] for word in words]) for column in range(3))
        return Measured(name, evaluate(utterances), hypotheses, matches, speakers, odds, correct)

    def utterances(self, texts: Sequence[str]) -> list[Utterance]:
        seconds = self.bundle.config.frame_seconds
        return [
            Utterance(sample.id, sample.text, text, len(sample.frames.log_probs) * seconds)
            for sample, text in zip(self.samples, texts, strict=True)
        ]

    def search_weights(self, config: DecoderConfig) -> tuple[float, DecoderConfig]:
        """WER and config of the n-gram model's best weights."""

        def wer(config: DecoderConfig) -> float:
            result = self.measure(config, DecoderOptions("beam", lm=config.lm, second_pass=False), "").result.wer
            weights = f"lm_weight {config.lm_weight}, word_bonus {config.word_bonus}, unknown {config.unknown_score}"
            self.say(f"{config.lm}: {weights}, prior_scale {config.prior_scale}: WER {result:.2%}")
            return result

        steps = STEPS | (PRIOR_STEPS if self.bundle.config.log_priors else {})
        return climb(config, wer, {} if self.keep_weights else steps)

    def search_second_pass(
        self, config: DecoderConfig, options: DecoderOptions, steps: Mapping[str, float]
    ) -> DecoderConfig:
        """The config with the best weights of the second pass's last model: `steps` are of its weight and its bonus.

        Beam and models run once: the weights change neither.
        """
        decoder = self.decoder(config, replace(options, nbest=BEAM_WIDTH))
        assert isinstance(decoder, RescoringDecoder)
        parts = [decoder.parts(state) for state in self.states(decoder)]
        weight, bonus = steps
        before = getattr(config, weight), getattr(config, bonus)

        def wer(config: DecoderConfig) -> float:
            factor, each = getattr(config, weight) - before[0], getattr(config, bonus) - before[1]

            def score(item: Hypothesis) -> float:
                return item.score + factor * (item.second_pass or (0.0,))[-1] + each * len(item.words)

            texts = [" ".join(max(part, key=score).text for part in each_part) for each_part in parts]
            result = evaluate(self.utterances(texts)).wer
            self.say(f"{options.lm}, rescored: {second_pass_weights(config, steps)}: WER {result:.2%}")
            return result

        return climb(config, wer, {} if self.keep_weights else steps)[1]

    def start_errors(self, measured: Measured) -> np.ndarray:
        """Seconds between the start of each correct word and that of forced alignment of the spoken text."""
        errors = []
        tokens, seconds = self.bundle.tokens, self.bundle.config.frame_seconds
        pronunciations, upper = open_pronunciations(self.bundle, self.lexicon), self.bundle.case == "upper"
        for sample, best, matches in zip(self.samples, measured.hypotheses, measured.matches, strict=True):
            if not matches:
                continue
            with suppress(AsrError):  # a text that cannot be spelled, or is too long for its audio
                ways = spellings(normalize(sample.text).split(), tokens, upper, pronunciations)
                spelled = best_spellings(sample.frames.log_probs, ways)
                aligned = forced_align(sample.frames.log_probs, [token for ids in spelled for token in ids])
                starts = [word.start for word in spell_words(aligned, tokens, seconds)]
                errors += [abs(best.words[recognized].start - starts[spoken]) for recognized, spoken in matches.items()]
        return np.array(errors)


def second_pass_weights(config: DecoderConfig, steps: Mapping[str, float]) -> str:
    weight, bonus = steps
    return f"weight {getattr(config, weight):g}, {getattr(config, bonus):g} a word"


def climb(
    config: DecoderConfig, wer: Callable[[DecoderConfig], float], steps: Mapping[str, float]
) -> tuple[float, DecoderConfig]:
    """WER and config of a local optimum: go to the best neighbor as long as there is a better one."""
    measured = cache(wer)
    while (better := min([config, *neighbors(config, steps)], key=measured)) != config:
        config = better
    return measured(config), config


def neighbors(config: DecoderConfig, steps: Mapping[str, float]) -> Iterator[DecoderConfig]:
    for name, step in steps.items():
        for change in (-step, step):
            value = round(getattr(config, name) + change, 3)
            if not name.endswith(("weight", "scale")) or value >= 0:
                yield replace(config, **{name: value})


def sigmoid(odds: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(odds / 2)) / 2  # without an overflow


def fit(odds: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic regression of `correct` on `odds`, by Newton's method."""
    features = np.stack([odds, np.ones_like(odds)], axis=1)
    line = np.zeros(2)  # where no probability is close to 0 or 1: from elsewhere a step may go too far
    for _ in range(50):
        probability = sigmoid(features @ line)
        curvature = features.T @ (features * (probability * (1 - probability))[:, None])
        line += np.linalg.solve(curvature + 1e-6 * np.eye(2), features.T @ (correct - probability))
    return round(float(line[0]), 4), round(float(line[1]), 4)


def held_out(speakers: np.ndarray, odds: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Probability of each word, by a line fitted on the other speakers."""
    probability = np.zeros_like(odds)
    for speaker in np.unique(speakers):
        its = speakers == speaker
        slope, offset = fit(odds[~its], correct[~its])
        probability[its] = sigmoid(slope * odds[its] + offset)
    return probability


def calibration_error(probability: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015)."""
    places = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, probability - correct, BINS)
    return float(np.abs(gaps).sum() / max(len(correct), 1))


def describe(config: DecoderConfig, rows: Sequence[Measured], starts: np.ndarray, attention: bool, chosen: bool) -> str:
    """The results in Markdown.

    starts: errors of word starts, in seconds; attention: whether it has a decoder; chosen: whether the weights were
    chosen on these samples.
    """
    weights = "No language model."
    if config.lm:
        weights = f"`{config.lm}`: weight {config.lm_weight:g}; in nats {config.word_bonus:g} for a word, "
        weights += f"{config.unknown_score:g} for an unknown one."
        weights += f" Priors to the power of {config.prior_scale:g}."
    if attention:
        weights += f" Attention: {second_pass_weights(config, ATTENTION_STEPS)}."
    results = ""
    for row in rows:
        error = calibration_error(held_out(row.speakers, row.odds, row.correct), row.correct)
        wer, cer, (low, high) = row.result.wer, row.result.cer, row.result.interval
        results += f"| {row.name} | {wer:.2%} | {low:.2%} – {high:.2%} | {cer:.2%} | {error:.3f} |\n"
    milliseconds, close = (1000 * starts.mean(), (starts < CLOSE).mean()) if len(starts) else (0.0, 0.0)
    origin = "These weights were given, not chosen on this data."
    if chosen:
        origin = "The weights were chosen on the same data, so the figures with a language model flatter it a little."
    return f"""{weights}
{origin}

| decoder | WER | 95 % interval | CER | calibration error |
| --- | --- | --- | --- | --- |
{results}
The expected calibration error is that of speakers whom the line from confidence to probability was not fitted on.

Starts of the {len(starts):,} words that are right, against forced alignment of the spoken text by the same model: mean
absolute difference {milliseconds:.0f} ms, {close:.1%} within {1000 * CLOSE:.0f} ms.
"""
