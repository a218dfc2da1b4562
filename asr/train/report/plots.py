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


def curves(epochs: Sequence[Epoch], steps: dict[str, np.ndarray], measure: str, label: str, unit: str) -> str:
    """Losses, the dev measure, learning rate, gradient norms and speed over the updates of a run.

    steps: from `read_steps`; where they were not recorded, the epochs' figures are drawn instead. measure: the field of
    the epochs that says how good the model is; label: its title. unit: of the speed.
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
        loss.legend()
        draw(result, label, measure, color="C1")
        draw(rate, "learning rate", "learning_rate", "learning_rate")
        clipped = f", {steps['clipped'].mean():.0%} clipped" if "clipped" in steps else ""
        draw(norm, f"gradient norm{clipped}", "gradient_norm", "gradient_norm")
        norm.set_yscale("log")
        draw(speed, f"speed, {unit} per second", "speed", color="C2")
        for axes in (result, speed):
            axes.set_ylim(bottom=0)
        names = [name for name in steps if name.startswith("layers.")]
        layers.set_title("gradient norm of each layer")
        for name, color in zip(names, matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(names))), strict=True):
            layers.plot(steps["step"], steps[name], color=color, label=name.removeprefix("layers."), linewidth=0.8)
        if names:
            layers.set_yscale("log")
            layers.legend(fontsize=6)
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
    posteriors = np.exp(log_probs)
    likely = np.flatnonzero(posteriors.max(axis=0, initial=0) >= SHOWN_POSTERIOR)
    rows = sorted(likely, key=lambda token: (token != BLANK_ID, (posteriors[:, token] >= SHOWN_POSTERIOR).argmax()))
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "font.size": 7}):
        heights = [1.6, 0.5 + 0.11 * len(rows)]
        figure = Figure(figsize=(11, sum(heights) + 0.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        above.imshow(
            librosa.power_to_db(mel, ref=np.max),
            origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(mel)),
        )  # fmt: skip
        above.set_ylabel("mel band")
        below.imshow(
            posteriors[:, rows].T,
            aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest",
            extent=(0, len(posteriors) * frame_seconds, max(1, len(rows)), 0),
        )  # fmt: skip
        below.set_yticks(np.arange(len(rows)) + 0.5, [tokens.symbols[token] for token in rows], fontsize=6)
        below.set_xlim(0, seconds)
        below.set_xlabel("seconds")
        return data_uri(figure, "png")
