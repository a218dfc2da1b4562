"""How fast training is, where its time goes, and whether its memory grows: the part `train` of tools/benchmark.py."""

import json
import os
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from socket import socket
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

from asr.data.batch import Batch, Targets
from asr.data.manifest import read_manifest
from asr.nn.ctc_model import SAMPLES_PER_FRAME, output_lengths
from asr.nn.frontend import SAMPLE_RATE
from asr.train import distributed, optim
from asr.train.acoustic import AcousticEpoch, AcousticTask
from asr.train.config import AcousticRecipe, load_recipe
from asr.train.process import prepare_process
from asr.train.trainer import Trainer

MATRIX = 2048  # rows and columns of the plain product
REPEATS = 5
ALONE_BATCHES = 60
DEV_UTTERANCES = 20  # measuring on dev is not what is timed here
PARTS = ("loader", "forward", "backward", "exchange", "optimiser", "rest")
PRECISIONS = ("float32", "bfloat16")
PRODUCTS = [name for precision in PRECISIONS for name in (f"{precision} product before, after", "share of their mean")]
COLUMNS = ("training", "s audio/s", *PARTS, "GFLOP/s", *PRODUCTS, "peak memory of each epoch, MB")
Row = tuple[list[str], float, str]  # seconds of audio in a second and shares of the parts; GFLOP/s; peaks of memory


class TimedTask(AcousticTask):
    """Learns from the first `batches` of an epoch. `clock` has the seconds of the parts and what they did.

    Without the first epoch, which only warms up, and without the first batch, before which the loader orders all
    utterances.
    """

    def __init__(self, batches: int, *arguments: Any):
        super().__init__(*arguments)
        self.batches = batches
        self.clock: dict[str, float] = defaultdict(float)
        self.memory: list[float] = []  # peak of each epoch, MB

    def start_epoch(self, curve: list[AcousticEpoch], done: int) -> Iterator[Batch]:
        if len(curve) == 1:
            self.clock.clear()
        batches = islice(super().start_epoch(curve, done), self.batches)
        batch = next(batches, None)
        with timed(self.clock, "all"):
            while batch is not None:
                self.clock["audio"] += batch.amount
                self.clock["frames"] += len(batch.ids) * int(output_lengths(batch.lengths.max()))
                yield batch
                with timed(self.clock, "loader"):
                    batch = next(batches, None)

    def loss(self, batch: Batch) -> Tensor:
        with timed(self.clock, "forward"):
            return super().loss(batch)

    def validate(self, model: nn.Module) -> dict[str, Any]:
        measured = super().validate(model)
        self.memory.append(peak_memory())
        return measured


class PackedStack(nn.Module):
    """In the place of `RecurrentStack` the layers of SeanNaren/deepspeech.pytorch (model.py, BatchRNN), of one size."""

    def __init__(self, size: int, layers: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for _ in range(layers))  # one for each layer's output
        self.layers = nn.ModuleList(nn.LSTM(size, size, bidirectional=True) for _ in range(layers))
        self.norm = nn.Identity()  # after the last layer

    def outputs(self, x: Tensor, mirror: Tensor, _layer: None) -> list[Tensor]:
        """As of `RecurrentStack`, of the last layer alone."""
        x = x.transpose(0, 1)
        frames, batch, size = x.shape
        # From a row's first frame to the one that `reversed_frames` changes it with.
        lengths = mirror[::frames] - torch.arange(batch) * frames + 1
        for norm, layer in zip(self.norms, self.layers, strict=True):
            packed, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
            x, _ = pad_packed_sequence(packed, total_length=frames)
            x = norm(x.view(frames, batch, 2, size).sum(2).view(frames * batch, size)).view(frames, batch, size)
        return [x.transpose(0, 1)]


@contextmanager
def timed(clock: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    clock[part] += time.perf_counter() - started


@contextmanager
def timing(clock: dict[str, float], part: str, owner: Any, name: str) -> Iterator[None]:
    """All calls of owner.name count as the part."""
    called = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        with timed(clock, part):
            return called(*arguments, **named)

    with patch.object(owner, name, call):
        yield


def peak_memory() -> float:
    """Of this process since the last call, in MB."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1000


def training(path: Path, overrides: list[str], batches: int, epochs: int) -> None:
    """Print the tables. So many of the recipe's batches make an epoch."""
    # torch speaks of GPUs.
    warnings.filterwarnings("ignore", category=UserWarning)
    cores = sorted(os.sched_getaffinity(0))[:2]
    for count in range(len(cores), 0, -1):
        os.sched_setaffinity(0, cores[:count])
        prepare_process(count)
        print(f"\n{count} core{'s' * (count > 1)}\n")
        print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|")
        ways = {"": partial(timed_run, path)}
        if count > 1:
            ways[f", {count} processes"] = partial(timed_processes, cores[:count], path)
        for note, way in ways.items():
            for precision in PRECISIONS:
                before = [matrix_product(name) for name in PRECISIONS]
                cells, rate, memory = way(precision, batches, epochs, *overrides)
                after = [matrix_product(name) for name in PRECISIONS]
                cells.append(f"{rate:.0f}")
                for one, other in zip(before, after, strict=True):
                    cells += [f"{one:.0f}, {other:.0f}", f"{2 * rate / (one + other):.0%}"]
                cells.append(memory)
                print(f"| {precision}{note} | {' | '.join(cells)} |", flush=True)
        title, rows = timed_batch(path, *overrides)
        print(f"\n| {title} | parameters | float32, s | bfloat16, s |\n| --- | --- | --- | --- |")
        for name, cells in rows.items():
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def matrix_product(precision: str) -> float:
    """GFLOP/s of a square one, the fastest of some."""
    a, b = (torch.randn(MATRIX, MATRIX).to(getattr(torch, precision)) for _ in range(2))
    return 2 * MATRIX**3 / min(repeated(lambda: a @ b)) / 1e9


def repeated(work: Callable[[], object]) -> list[float]:
    """Seconds of each time but the first, which prepares."""
    clocks: list[dict[str, float]] = [defaultdict(float) for _ in range(REPEATS + 1)]
    for clock in clocks:
        with timed(clock, "work"):
            work()
    return [clock["work"] for clock in clocks[1:]]


def small_recipe(path: Path, folder: str, *overrides: str) -> AcousticRecipe:
    """The recipe with a folder of its own for the run, and few dev utterances."""
    recipe = load_recipe(path, [f"output={folder}", "threads=0", "checkpoint_minutes=1000", *overrides])
    assert isinstance(recipe, AcousticRecipe)
    dev = read_manifest(Path(recipe.data.dev))[:DEV_UTTERANCES]
    recipe.data.dev = f"{folder}/dev.jsonl"
    if distributed.is_main():  # which is the first to read it, too
        lines = [json.dumps({"audio": str(entry.audio.resolve()), "text": entry.text}) for entry in dev]
        Path(recipe.data.dev).write_text("\n".join(lines), encoding="utf-8")
    return recipe


def timed_run(path: Path, precision: str, batches: int, epochs: int, *overrides: str) -> Row:
    """A row of the training table: the real loop over some epochs, with clocks in it; of several processes all work."""
    with tempfile.TemporaryDirectory() as own:
        folder = distributed.from_main(own)
        settings = (f"precision={precision}", f"epochs={epochs}", *overrides)
        task = partial(TimedTask, batches)
        trainer = Trainer(task, small_recipe(path, folder, *settings), Console(quiet=True))
        assert isinstance(trainer.task, TimedTask)
        clock, memory = trainer.task.clock, trainer.task.memory
        per_frame = operations_per_frame(trainer.task)
        with (
            timing(clock, "backward", Tensor, "backward"),
            timing(clock, "exchange", torch.distributed, "all_reduce"),
            timing(clock, "optimiser", trainer.optimizer, "step"),
            timing(clock, "optimiser", optim, "clip_gradients"),
        ):
            trainer.run()
        seconds, measured = clock["all"], {part: clock[part] for part in PARTS}
        measured["rest"] = seconds - sum(measured.values())
        frames, audio = distributed.totals(clock["frames"], clock["audio"])
    rate = frames * per_frame / seconds / 1e9
    shares = [f"{measured[part] / seconds:.1%}" for part in PARTS]
    return [f"{audio / seconds:.0f}", *shares], rate, ", ".join(f"{peak:.0f}" for peak in memory)


def timed_processes(cores: list[int], path: Path, precision: str, batches: int, epochs: int, *overrides: str) -> Row:
    """`timed_run` of a process on each core, as `torchrun` starts them, with the same audio in an update."""
    recipe = load_recipe(path, list(overrides))
    assert isinstance(recipe, AcousticRecipe)
    share = f"data.batch_seconds={recipe.data.batch_seconds / len(cores)}"
    with socket() as free:
        free.bind(("localhost", 0))
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "row.json"
        arguments = (cores, address, result, (path, precision, batches, epochs, *overrides, share))
        torch.multiprocessing.spawn(one_process, arguments, nprocs=len(cores))
        return json.loads(result.read_text())


def one_process(rank: int, cores: list[int], address: dict[str, str], result: Path, arguments: tuple[Any, ...]) -> None:
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(len(cores)))
    warnings.filterwarnings("ignore", category=UserWarning)
    os.sched_setaffinity(0, cores[rank : rank + 1])
    prepare_process(1)
    with distributed.processes():
        row = timed_run(*arguments)
        if distributed.is_main():
            result.write_text(json.dumps(row))


def operations_per_frame(task: AcousticTask) -> float:
    """Of forward and backward for a frame of 40 ms, as torch counts them where its recurrent kernels are not fused."""
    frames = 50
    waveform, lengths = torch.randn(1, frames * SAMPLES_PER_FRAME), torch.tensor([frames * SAMPLES_PER_FRAME])
    batch = Batch([""], [""], waveform, lengths, Targets.pad([[1]]))
    task.model.train()
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        task.loss(batch).backward()
    return counter.get_total_flops() / frames


def timed_batch(path: Path, *overrides: str) -> tuple[str, dict[str, list[str]]]:
    """What it was, and parameters and seconds: the recipe's model on one batch, and the same of packed LSTMs."""
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        recipe = small_recipe(path, folder, *overrides)
        recipe.folder.mkdir()
        task = AcousticTask(recipe, torch.device("cpu"), lambda _: None)
        task.begin()
        batch = next(task.data.train(2, 0))  # the first epoch goes by length
        longest = int(batch.lengths.max()) / SAMPLE_RATE
        title = f"forward and backward of {len(batch.ids)} utterances of up to {longest:.1f} s"
        packed = PackedStack(recipe.model.hidden_size, recipe.model.layers)
        for name, stack in (("this model", task.model.recurrent), ("packed nn.LSTM, batch norm", packed)):
            task.model.recurrent = stack  # type: ignore[assignment]
            task.model.train()
            rows[name] = [f"{sum(parameter.numel() for parameter in task.model.parameters()):,}"]
            for precision in PRECISIONS:

                def step(enabled: bool = precision == "bfloat16") -> None:
                    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                        loss = task.loss(batch)
                    loss.backward()

                seconds = repeated(step)
                rows[name].append(f"{statistics.median(seconds):.2f} ({min(seconds):.2f} – {max(seconds):.2f})")
    return title, rows


def loader(path: Path, overrides: list[str]) -> None:
    """Print how fast batches are made on one core, without a model."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    prepare_process(1)
    print(f"\nbatches alone, one core: {batches_alone(path, overrides):,.0f} s of audio per second\n")


def batches_alone(path: Path, overrides: list[str]) -> float:
    """Seconds of audio per second of a pass over the decoded data, with all that the recipe changes."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = small_recipe(path, folder, *overrides)
        recipe.folder.mkdir()
        task = AcousticTask(recipe, torch.device("cpu"), lambda _: None)
        started = time.perf_counter()
        audio = sum(batch.amount for batch in islice(task.data.train(2, 0), ALONE_BATCHES))
        return audio / (time.perf_counter() - started)
