"""Runs over the tiny corpora: in this process, or in one of their own that can be killed."""

import io
import multiprocessing
import os
import resource
import socket
import sys
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny_corpus import SENTENCES, write_augment

from asr.data.config import AugmentConfig, DataConfig, TextConfig, TokenizerConfig, WrittenConfig
from asr.errors import RecipeError
from asr.nn.config import AcousticConfig, LanguageConfig, TaggerConfig
from asr.signals import ended_by_signals
from asr.train.acoustic import AcousticTask
from asr.train.config import AcousticRecipe, AnyRecipe, LanguageRecipe, TaggerRecipe
from asr.train.distributed import processes
from asr.train.language import LanguageTask
from asr.train.tagging import TaggingTask
from asr.train.task import Epoch
from asr.train.trainer import Trainer

# A server that has imported what takes long (torch._dynamo: the first step of an optimiser does) forks the processes:
# each is there in an instant, and a real one.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["asr.train.run", "torch._dynamo"])


def acoustic_recipe(corpus: Path) -> AcousticRecipe:
    """A run of some seconds that uses everything a long one does: speeds, gain, masks, dropout."""
    return AcousticRecipe(
        name="tiny",
        output=str(corpus.parent / "runs"),
        epochs=3,
        precision="float32",
        threads=1,
        data=DataConfig(train=[str(corpus)], dev=str(corpus), batch_seconds=3.0),
        tokenizer=TokenizerConfig(kind="characters", alphabet="ab"),
        model=AcousticConfig(layers=1, hidden_size=16, n_mels=20),
        augment=AugmentConfig(mask_below_wer=100.0, time_width=5, frequency_width=4),
    )


def noisy_recipe(corpus: Path) -> AcousticRecipe:
    """The same with every change to the audio, two passes an epoch and a moving average."""
    recipe = acoustic_recipe(corpus)
    recipe.data.passes, recipe.ema_decay = 2, 0.9
    recipe.augment = write_augment(corpus.parent)
    recipe.augment.gain_db = [-20.0, 6.0]
    return recipe


def language_recipe(folder: Path) -> LanguageRecipe:
    """A run of some seconds over a few sentences, three passes of them."""
    text = folder / "text.txt"
    text.write_text("".join(f"{sentence}\n" for sentence in SENTENCES), encoding="utf-8")
    return LanguageRecipe(
        name="tiny",
        output=str(folder / "runs"),
        epochs=3,
        precision="float32",
        threads=1,
        data=TextConfig(train=[str(text)], dev=str(text), batch_size=2, bptt_length=8, epoch_batches=5),
        tokenizer=TokenizerConfig(vocabulary=48),
        model=LanguageConfig(layers=1, hidden_size=16),
    )


WRITTEN = (  # a sentence as written and as spoken
    ("Dr. Smith paid $25 in May, didn't he?", "DOCTOR SMITH PAID TWENTY FIVE DOLLARS IN MAY DIDN'T HE"),
    ("No, it was NASA's money!", "NO IT WAS NASA'S MONEY"),
    ("", ""),
    ("He said: so be it.", "HE SAID SO BE IT"),
    ("McDonald laughed -- and left.", "MCDONALD LAUGHED AND LEFT"),
)


def tagger_recipe(folder: Path) -> TaggerRecipe:
    """A run of some seconds over a few sentences."""
    text = folder / "written.txt"
    lines = (f"{written}\t{spoken}" if written else "" for written, spoken in WRITTEN)
    text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return TaggerRecipe(
        name="tiny",
        output=str(folder / "runs"),
        epochs=3,
        precision="float32",
        threads=1,
        data=WrittenConfig(train=[str(text)], dev=[str(text)], epoch_words=60, batch_words=10, max_words=12),
        model=TaggerConfig(layers=1, hidden_size=16, rows=500, embedding_size=8),
    )


def make_trainer(recipe: AnyRecipe, resume: bool = False, console: Console | None = None) -> Any:
    """As `asr.train.run` does; `threads` of conftest.py puts their number back."""
    torch.set_num_threads(recipe.threads or torch.get_num_threads())
    tasks = {AcousticRecipe: AcousticTask, LanguageRecipe: LanguageTask, TaggerRecipe: TaggingTask}
    return Trainer(tasks[type(recipe)], recipe, console or Console(file=io.StringIO(), width=1_000), resume)


def said(trainer: Trainer) -> str:
    assert isinstance(trainer.log.console.file, io.StringIO)
    return trainer.log.console.file.getvalue()


def repeatable(curve: list[Any]) -> list[dict[str, Any]]:
    """The curve, or its lines, without the clock."""
    lines = [asdict(epoch) if isinstance(epoch, Epoch) else epoch for epoch in curve]
    clock = ("speed", "minutes", "waiting", "utilization")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def assert_equal_checkpoints(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def start(
    recipe: AnyRecipe,
    log: Path,
    fault: str = "",
    file_size: int = -1,
    environment: dict[str, str] | None = None,
) -> BaseProcess:
    """`Trainer.run` with --resume in a process of its own; what it says goes to `log`.

    fault: "half written" or "not yet renamed" kills it at that point of its third checkpoint, "not finite" is the loss
    of one utterance in the first epoch. file_size: bytes that a file may have at most, as where a disk has no more
    room. environment: what torchrun would add to it.
    """
    process = PROCESSES.Process(target=_train, args=(recipe, log, fault, file_size, environment or {}))
    process.start()
    return process


def start_two(recipe: AcousticRecipe, log: Path, fault: str = "") -> list[BaseProcess]:
    """Both processes of a run in parallel, as torchrun starts them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(recipe, log, fault, environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


def decode_in_processes(manifest: Path, folder: Path, count: int = 1, killed: str = "") -> list[int | None]:
    """Exit codes of so many processes that decode a manifest at once.

    killed: "amid the samples" or "before the index", where each is killed.
    """
    started = [PROCESSES.Process(target=_decode, args=(manifest, folder, killed)) for _ in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    return [process.exitcode for process in started]


def _decode(manifest: Path, folder: Path, killed: str) -> None:
    import signal

    from asr.train import corpus

    torch.set_num_threads(1)

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def read_or_die(recording: Path) -> bytes:
        return die() or b"" if "u3" in recording.name else bytes(2)

    if killed == "amid the samples":
        corpus.BLOCK, corpus._read = 1, read_or_die  # type: ignore[assignment]
    elif killed == "before the index":
        corpus.json.dumps = die  # type: ignore[assignment]
    corpus.decode_manifest(manifest, folder)


def _train(
    recipe: AcousticRecipe | LanguageRecipe, log: Path, fault: str, file_size: int, environment: dict[str, str]
) -> None:
    import warnings

    os.environ.update(environment)

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if fault:
        _prepare(fault)
    if file_size >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    with open(log, "a", encoding="utf-8") as file:
        sys.stderr = file  # a traceback would be seen there
        try:
            with processes():
                trainer = make_trainer(recipe, True, Console(file=file, width=1_000))
                stop = Event()
                with ended_by_signals(stop.set):
                    trainer.run(stop)
        except RecipeError as error:
            print(error, file=file)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)


def _prepare(fault: str) -> None:
    import signal

    import asr.train.checkpoint as checkpoint

    if fault == "not finite":
        loss = AcousticTask.loss

        def spoilt(task: AcousticTask, batch: Any) -> torch.Tensor:
            return loss(task, batch) * (torch.nan if "u3@1.1" in batch.ids else 1.0)

        AcousticTask.loss = spoilt  # type: ignore[method-assign]
        return
    save, replace = checkpoint.save_file, os.replace
    count = 0

    def save_or_die(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        nonlocal count
        count += 1
        save(tensors, path, metadata=metadata)
        if count == 3 and fault == "half written":
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def replace_or_die(source: Path, target: Path) -> None:
        if count == 3 and fault == "not yet renamed":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    checkpoint.save_file, os.replace = save_or_die, replace_or_die
