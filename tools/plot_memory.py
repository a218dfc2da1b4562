"""Plot what is left of a recurrent layer's state after k frames: the norm of ∂hₜ/∂hₜ₋ₖ, trained and untrained.

    python tools/plot_memory.py MODEL... --manifest dev.jsonl --output memory.svg

A MODEL is a run's folder, a bundle's folder or the name of a packaged bundle. The layer is the uppermost one, the
direction forward. Along real speech the Jacobians of single frames, from autograd, are multiplied; the norm is the
largest singular value, that is how much of the gradient arrives in the direction that fares best (Pascanu et al.
2013, section 2.1). An LSTM carries h and c, so it is shown twice: what h tells h, and what (h, c) tells (h, c).
"""

import argparse
from collections import defaultdict
from itertools import cycle
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn

from asr.audio.sources import read
from asr.data.manifest import read_manifest
from asr.nn.ctc_model import SAMPLES_PER_FRAME, AcousticModel
from asr.nn.frontend import SAMPLE_RATE
from asr.nn.recurrent import RecurrentLayer
from asr.train.pretrained import load_trained

DISTANCES = (1, 2, 3, 5, 8, 12, 18, 25, 37, 50, 75, 100)  # frames of 40 ms
EVERY = 25  # frames from one t to the next
FRAME_SECONDS = SAMPLES_PER_FRAME / SAMPLE_RATE


def untrained(model: AcousticModel) -> AcousticModel:
    """The same model before its first step."""
    torch.manual_seed(1)
    fresh = AcousticModel(model.config, model.head.out_features)
    fresh.features.load_state_dict(model.features.state_dict())
    return fresh


def step(cell: nn.RNNBase, x: Tensor, state: Tensor) -> Tensor:
    """x (N, size), state (N, S) → the next state (N, S): h, or h and c side by side."""
    parts = tuple(part.contiguous() for part in state.unsqueeze(0).split(cell.hidden_size, dim=2))
    _, after = cell(x.unsqueeze(1), parts if len(parts) == 2 else parts[0])
    return torch.cat(after if len(parts) == 2 else [after], dim=2)[0]


def jacobians(cell: nn.RNNBase, x: Tensor) -> Tensor:
    """x (T, size), what the cell hears → ∂sₜ/∂sₜ₋₁ (T, S, S) of the states s that it goes through."""
    states = [x.new_zeros(1, cell.hidden_size * (2 if cell.mode == "LSTM" else 1))]
    with torch.no_grad():
        for frame in x[:-1]:
            states.append(step(cell, frame.unsqueeze(0), states[-1]))
    before = torch.cat(states).requires_grad_()
    after = step(cell, x, before)
    rows = [torch.autograd.grad(unit.sum(), before, retain_graph=True)[0] for unit in after.unbind(1)]
    return torch.stack(rows, dim=1)


def memory(cell: nn.RNNBase, x: Tensor) -> dict[str, Tensor]:
    """x (T, size) → for h, and for (h, c) of an LSTM, ‖∂sₜ/∂sₜ₋ₖ‖ of every distance k and some t, (k, t)."""
    single = jacobians(cell, x)
    ends = torch.arange(max(DISTANCES), len(x), EVERY)
    product = single[ends]
    norms = defaultdict(list)
    for distance in range(1, max(DISTANCES) + 1):
        if distance in DISTANCES:
            size = cell.hidden_size
            norms["h"].append(torch.linalg.matrix_norm(product[:, :size, :size], 2))
            if cell.mode == "LSTM":
                norms["(h, c)"].append(torch.linalg.matrix_norm(product, 2))
        product = product @ single[ends - distance]
    return {state: torch.stack(values) for state, values in norms.items()}


def measure(model: AcousticModel, recordings: list[Path]) -> dict[str, Tensor]:
    """`memory` of the uppermost layer's forward cell on recordings, their t one after the other."""
    model.eval().requires_grad_(False)
    layer = model.recurrent.layers[-1]
    assert isinstance(layer, RecurrentLayer)
    cell = layer.forward_cell
    heard: list[Tensor] = []
    hook = cell.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0][0]))
    for recording in recordings:
        waveform = torch.from_numpy(read(recording))
        model(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    hook.remove()
    each = [memory(cell, x) for x in heard]
    return {state: torch.cat([norms[state] for norms in each], dim=1) for state in each[0]}


def plot(curves: dict[str, tuple[Tensor, Tensor]], output: Path) -> None:
    """curves: by label the norms (k, t) of a trained and of an untrained model."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "memory"  # the same figures give the same file
    figure, axes = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    seconds = [distance * FRAME_SECONDS for distance in DISTANCES]
    for (label, (trained, fresh)), color in zip(curves.items(), cycle(f"C{index}" for index in range(10))):
        low, middle, high = trained.quantile(torch.tensor([0.1, 0.5, 0.9]), dim=1)
        axes.plot(seconds, middle, color=color, label=label)
        axes.fill_between(seconds, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(seconds, fresh.median(dim=1).values, color=color, linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", ylim=(1e-4, 10), xlabel="k, seconds", ylabel="‖∂sₜ / ∂sₜ₋ₖ‖₂")
    axes.set_title("What is left of the state k later (solid: trained, with 10 – 90 %; dashed: untrained)", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=5, help="how many of the manifest's to measure on")
    parser.add_argument("--output", type=Path, required=True, help="the plot: .svg, .png or .pdf")
    arguments = parser.parse_args()
    shortest = (max(DISTANCES) + EVERY) * FRAME_SECONDS
    recordings = [entry.audio for entry in read_manifest(arguments.manifest) if (entry.seconds or 0) > shortest]
    recordings = recordings[:: max(1, len(recordings) // arguments.utterances)][: arguments.utterances]
    if not recordings:
        parser.error(f"{arguments.manifest}: no utterance is longer than {shortest:.0f} s")
    curves = {}
    print(f"| k, frames of {1000 * FRAME_SECONDS:.0f} ms | {' | '.join(map(str, DISTANCES))} |")
    print("| --- " * (len(DISTANCES) + 1) + "|")
    for name in arguments.models:
        model = load_trained(name).model()
        trained, fresh = measure(model, recordings), measure(untrained(model), recordings)
        for state in trained:
            label = f"{Path(name).name}, {state}"
            curves[label] = trained[state], fresh[state]
            for kind, norms in (("", trained[state]), (", untrained", fresh[state])):
                medians = [f"{middle:.2g}" for middle in norms.median(dim=1).values.tolist()]
                print(f"| {label}{kind} | {' | '.join(medians)} |", flush=True)
    plot(curves, arguments.output)


if __name__ == "__main__":
    main()
