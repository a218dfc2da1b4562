"""The pictures of a run's report, each as a data URI."""

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

POINTS = 500  # of a curve; neighbouring updates are averaged to so many
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
    """By name, the series of `steps.jsonl`, each of shape (at most POINTS,); nothing where there is no such file."""
    path = folder / STEPS
    if not path.is_file():
        return {}
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        layers = {f"layers.{name}": norm for name, norm in values.pop("layer_norm", {}).items()}
        rows.append({name: float(value) for name, value in (values | layers).items()})
    if not rows:
        return {}
    series = {name: np.array([row.get(name, np.nan) for row in rows]) for name in rows[0]}
    parts = min(POINTS, len(rows))
    return {name: np.array([part.mean() for part in np.array_split(values, parts)]) for name, values in series.items()}


def curves(epochs: Sequence[Epoch], steps: dict[str, np.ndarray], measure: str, label: str, unit: str) -> str:
    """Losses, the dev measure, learning rate, gradient norms and speed over the updates of a run."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 5.4), layout="constrained")
        loss, result, rate, norm, layers, speed = figure.subplots(2, 3).flat
        at = [epoch.step for epoch in epochs]
        x = steps.get("step", np.zeros(0))

        loss.set_title("loss, nats per token")
        if "loss" in steps:
            loss.plot(x, steps["loss"], color="0.75", label="updates")
        loss.plot(at, [epoch.train_loss for epoch in epochs], ".-", label="train")
        loss.plot(at, [epoch.dev_loss for epoch in epochs], ".-", label="dev")
        loss.legend()
        result.set_title(label)
        result.plot(at, [getattr(epoch, measure) for epoch in epochs], ".-", color="C1")
        result.set_ylim(bottom=0)
        _series(rate, "learning rate", x, steps, "learning_rate", at, [epoch.learning_rate for epoch in epochs])
        _series(norm, "gradient norm", x, steps, "gradient_norm", at, [epoch.gradient_norm for epoch in epochs])
        norm.set_yscale("log")
        if "clipped" in steps:
            norm.set_title(f"gradient norm, {steps['clipped'].mean():.0%} clipped")
        names = [name for name in steps if name.startswith("layers.")]
        layers.set_title("gradient norm of each layer")
        for name, color in zip(names, matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(names))), strict=True):
            layers.plot(x, steps[name], color=color, label=name.removeprefix("layers."), linewidth=0.8)
        if names:
            layers.set_yscale("log")
            layers.legend(fontsize=6)
        else:
            layers.text(0.5, 0.5, "not recorded", ha="center", transform=layers.transAxes)
        speed.set_title(f"speed, {unit} per second")
        speed.plot(at, [epoch.speed for epoch in epochs], ".-", color="C2")
        speed.set_ylim(bottom=0)
        for axes in figure.axes:
            axes.set_xlabel("updates")
        return data_uri(figure, "svg")


def _series(
    axes: Axes, title: str, x: np.ndarray, steps: dict[str, np.ndarray], name: str, at: list[int], values: list[float]
) -> None:
    """Every update where that is recorded, else the epochs."""
    axes.set_title(title)
    if name in steps:
        axes.plot(x, steps[name], color="0.6")
    axes.plot(at, values, ".-" if name not in steps else ".")


def utterance(samples: np.ndarray, log_probs: np.ndarray, tokens: Tokens, frame_seconds: float) -> str:
    """Log-mel spectrogram, and below it what the model makes of each frame.

    samples: float32 (n,), 16 kHz. log_probs: (frames, tokens), natural log. Tokens are in the order in which they are
    first heard, so that what is read runs down a diagonal.
    """
    mel = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE, n_fft=DFT_LENGTH, win_length=WINDOW_LENGTH, hop_length=HOP_LENGTH, n_mels=80
    )
    seconds = len(samples) / SAMPLE_RATE
    posteriors = np.exp(log_probs)
    heard = np.flatnonzero(posteriors.max(axis=0, initial=0) >= SHOWN_POSTERIOR)
    rows = sorted(heard, key=lambda token: (token != BLANK_ID, (posteriors[:, token] >= SHOWN_POSTERIOR).argmax()))
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
