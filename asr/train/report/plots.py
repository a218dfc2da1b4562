"""Figures of a run's report, each as a data URI."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import librosa
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr.evaluate.attention import NEAR_SECONDS, AttendedText
from asr.model.tokens import BLANK_ID, Tokens
from asr.nn.frontend import DFT_LENGTH, HOP_LENGTH, SAMPLE_RATE, WINDOW_LENGTH
from asr.train.runs import STEPS
from asr.train.task import Epoch

POINTS = 500  # of a curve, at most; neighboring updates are averaged
SHOWN_POSTERIOR = 0.2  # a token that is never this likely is not drawn
# Nothing random and no date: the same run gives the same page.
STYLE: dict[Any, Any] = {"svg.hashsalt": "asr", "svg.fonttype": "none", "font.size": 8, "axes.grid": True}


def data_uri(figure: Figure, format: str) -> str:
    buffer = io.BytesIO()
    nothing = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
    figure.savefig(buffer, format=format, metadata=nothing, dpi=90)
    kind = {"svg": "image/svg+xml", "png": "image/png"}[format]
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_steps(folder: Path) -> dict[str, np.ndarray]:
    """The series of `steps.jsonl` by name, each averaged to shape (at most POINTS,); empty without such a file."""
    path = folder / STEPS
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        values = json.loads(line)
        layers = {f"layers.{name}": norm for name, norm in values.pop("layer_norm", {}).items()}
        rows.append({name: float(value) for name, value in (values | layers).items()})
    series = {name: np.array([row.get(name, np.nan) for row in rows]) for name in (rows[0] if rows else ())}
    parts = min(POINTS, len(rows))
    return {name: np.array([part.mean() for part in np.array_split(values, parts)]) for name, values in series.items()}


def curves(epochs: Sequence[Epoch], steps: dict[str, np.ndarray]) -> str:
    """Losses, the dev measure, learning rate, gradient norms and speed over the updates of a run.

    steps: from `read_steps`; where they were not recorded, the epochs' figures are drawn instead.
    """
    at = [epoch.step for epoch in epochs]

    def draw(axes: Axes, title: str, name: str, update: str = "", color: str | None = None) -> None:
        axes.set_title(title)
        if update in steps:
            axes.plot(steps["step"], steps[update], color="0.7", label="updates")
        style = "." if update in steps and name == update else ".-"
        axes.plot(at, [getattr(epoch, name) for epoch in epochs], style, color=color, label=name.removesuffix("_loss"))

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 5.4), layout="constrained")
        loss, result, rate, norm, layers, speed = figure.subplots(2, 3).flat
        draw(loss, "loss, nats per token", "train_loss", "loss")
        draw(loss, "loss, nats per token", "dev_loss")
        loss.legend(loc="upper right")
        draw(result, epochs[0].title, epochs[0].measure, color="C1")
        if any(getattr(epoch, "train_wer", None) is not None for epoch in epochs):
            draw(result, epochs[0].title, "train_wer", color="C0")
            result.legend(loc="upper right")
        draw(rate, "learning rate", "learning_rate", "learning_rate")
        clipped = f", {steps['clipped'].mean():.0%} clipped" if "clipped" in steps else ""
        draw(norm, f"gradient norm{clipped}", "gradient_norm", "gradient_norm")
        norm.set_yscale("log")
        draw(speed, f"speed, {epochs[0].unit} per second", "speed", color="C2")
        for axes in (result, speed):
            axes.set_ylim(bottom=0)
        names = [name for name in steps if name.startswith("layers.")]
        layers.set_title("gradient norm of each layer")
        for name, color in zip(names, matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(names))), strict=True):
            layers.plot(steps["step"], steps[name], color=color, label=name.removeprefix("layers."), linewidth=0.8)
        if names:
            layers.set_yscale("log")
            layers.legend(loc="upper right", fontsize=6)
        else:
            layers.text(0.5, 0.5, "not recorded", ha="center", transform=layers.transAxes)
        for axes in figure.axes:
            axes.set_xlabel("updates")
        return data_uri(figure, "svg")


def utterance(samples: np.ndarray, log_probs: np.ndarray, tokens: Tokens, frame_seconds: float) -> str:
    """Log-mel spectrogram, and below it the model's probabilities of the tokens in each frame.

    samples: float32 (n,), 16 kHz. log_probs: (frames, tokens), natural log. Tokens are in the order of the first frames
    in which they are likely, so that the text runs down a diagonal.
    """
    mel = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE, n_fft=DFT_LENGTH, win_length=WINDOW_LENGTH, hop_length=HOP_LENGTH, n_mels=80
    )
    seconds = len(samples) / SAMPLE_RATE
    rows = likely_tokens(log_probs)
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "font.size": 7}):
        heights = [1.6, 0.5 + 0.11 * len(rows)]
        figure = Figure(figsize=(11, sum(heights) + 0.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        above.imshow(
            librosa.power_to_db(mel, ref=np.max),
            origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(mel)),
        )  # fmt: skip
        above.set_ylabel("mel band")
        _draw_matrix(below, np.exp(log_probs[:, rows]), [tokens.symbols[token] for token in rows], frame_seconds)
        below.set_xlim(0, seconds)
        return data_uri(figure, "png")


def likely_tokens(log_probs: np.ndarray) -> list[int]:
    """Those that are likely in some frame, in the order of the first such frames, the blank before all."""
    likely = np.exp(log_probs) >= SHOWN_POSTERIOR
    found = np.flatnonzero(likely.any(axis=0)).tolist()
    return sorted(found, key=lambda token: (token != BLANK_ID, likely[:, token].argmax()))


def attention(log_probs: np.ndarray, tokens: Tokens, attended: AttendedText, frame_seconds: float) -> Figure:
    """The probabilities of the CTC tokens in each frame, and below them where each letter token had its attention.

    log_probs: (frames, tokens), natural log. A gray line marks half a second before and after the word by CTC.
    """
    rows, words = likely_tokens(log_probs), attended.words
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "font.size": 7}):
        heights = [0.5 + 0.11 * len(rows), 0.5 + 0.11 * len(attended.pieces)]
        figure = Figure(figsize=(11, sum(heights) + 0.8), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        above.set_title("CTC")
        _draw_matrix(above, np.exp(log_probs[:, rows]), [tokens.symbols[token] for token in rows], frame_seconds)
        below.set_title(f"attention, {attended.share:.1%} within {NEAR_SECONDS:g} s of the word by CTC")
        _draw_matrix(below, attended.weights.T, attended.pieces, frame_seconds)
        for times in ([word.start - NEAR_SECONDS for word in words], [word.end + NEAR_SECONDS for word in words]):
            below.step([*times, times[-1]], range(len(words) + 1), color="0.6", linewidth=0.8)
        below.set_xlim(0, len(log_probs) * frame_seconds)
        return figure


def _draw_matrix(axes: Axes, columns: np.ndarray, names: Sequence[str], frame_seconds: float) -> None:
    """(frames, names), 0…1: time from left to right, names from top to bottom."""
    axes.imshow(
        columns.T,
        aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest",
        extent=(0, len(columns) * frame_seconds, max(1, len(names)), 0),
    )  # fmt: skip
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=6)
    axes.set_xlabel("seconds")
