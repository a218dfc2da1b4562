"""report.html, the page about a finished run: one file, which needs nothing else and no network."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.sources import read
from asr.data.manifest import Entry, read_manifest
from asr.errors import AudioError
from asr.evaluate.perplexity import Perplexity
from asr.evaluate.wer import Utterance, report, word_errors
from asr.files import replacing
from asr.nn.frontend import SAMPLE_RATE
from asr.recognize.offline import Recognizer
from asr.train.export import Measured, Trained
from asr.train.report import plots
from asr.train.report.breakdown import LENGTHS, SNRS, estimate_snr, group, group_by_value
from asr.train.report.card import data_files, digest, render, size
from asr.train.runs import RECIPE
from asr.train.task import best_epoch

PAGE = "report.html"
WORST = 10  # utterances that are shown
SHOWN_SECONDS = 20.0  # of their audio
SPEAKERS = 30  # those with the highest error rates are listed
PACKAGES = ("recurrent-asr", "torch", "torchaudio", "lhotse", "librosa", "numpy", "onnxruntime", "sentencepiece")


def write_acoustic_page(run: Trained, measured: Measured, bundle: Path) -> Path:
    """Write RUN/report.html of an acoustic model; `bundle` is measured on the recipe's dev data."""
    entries = read_manifest(run.recipe.data.dev)
    errors, words = word_errors(measured.utterances)
    seconds = np.array([utterance.seconds for utterance in measured.utterances])
    speakers = group([entry.speaker or "unknown" for entry in entries], errors, words)
    speakers.sort(key=lambda speaker: (-np.nan_to_num(speaker.wer), speaker.name))
    excess = errors - words * errors.sum() / words.sum()  # by the count alone the longest would be the worst
    worst = sorted(np.flatnonzero(errors), key=lambda index: (-excess[index], entries[index].id))[:WORST]
    recognizer = Recognizer(bundle, "greedy")
    return _write(
        run,
        rates=measured.rates,
        breakdown={
            "speaker": speakers[:SPEAKERS],
            "length": group_by_value(seconds, LENGTHS, "s", errors, words),
            "signal-to-noise ratio": group_by_value(np.array([*map(_snr, entries)]), SNRS, "dB", errors, words),
        },
        more_speakers=max(0, len(speakers) - SPEAKERS),
        worst=[_example(measured.utterances[i], entries[i], recognizer) for i in worst],
    )


def write_language_page(run: Trained, perplexities: Mapping[str, Perplexity], bundle: Path) -> Path:
    return _write(run, perplexities=perplexities)


def write_tagger_page(run: Trained, scores: Mapping[str, Mapping[str, float]], bundle: Path) -> Path:
    return _write(run, scores=scores)


def _write(run: Trained, **parts: Any) -> Path:
    """The parts of every page, and those of one kind of model."""
    recipe, curve = run.recipe, run.curve
    with replacing(recipe.folder / PAGE) as part:
        render(
            "page.html",
            part,
            **vars(run),
            best=best_epoch(curve).epoch,
            picture=plots.curves(curve, plots.read_steps(recipe.folder)),
            versions={name: _version(name) for name in PACKAGES},
            data=[(role, path, size(path), digest(path)) for role, path in data_files(recipe)],
            written_recipe=(recipe.folder / RECIPE).read_text(encoding="utf-8"),
            **parts,
        )
    return recipe.folder / PAGE


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _snr(entry: Entry) -> float:
    try:
        return estimate_snr(read(entry.source))
    except AudioError:
        return np.nan


def _example(utterance: Utterance, entry: Entry, recognizer: Recognizer) -> dict[str, str]:
    """A badly recognized utterance: its words aligned, and its picture, or a note why there is none."""
    picture = note = ""
    try:
        samples = read(entry.source)[: round(SHOWN_SECONDS * SAMPLE_RATE)]
        bundle = recognizer.bundle
        log_probs = recognizer.log_probs(samples, SAMPLE_RATE)
        picture = plots.utterance(samples, log_probs, bundle.tokens, bundle.config.frame_seconds)
        if utterance.seconds > SHOWN_SECONDS:
            note = f"the picture shows the first {SHOWN_SECONDS:.0f} of {utterance.seconds:.0f} s"
    except AudioError as error:
        note = f"no picture: {error}"
    return {"aligned": report([utterance]), "picture": picture, "note": note}
