"""Nothing is lost: processes that are killed at any moment, told to stop, or without room on the disk, and resumed,
end up where an uninterrupted one does, bit for bit.
"""

import json
import os
import random
import signal
import time
from contextlib import suppress
from copy import deepcopy
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event

import pytest
import torch
from tiny_corpus import write_corpus
from tiny_runs import (
    acoustic_recipe,
    assert_equal_checkpoints,
    language_recipe,
    make_trainer,
    repeatable,
    said,
    start,
    tagger_recipe,
)

from asr.signals import ended_by_signals
from asr.train.config import AcousticRecipe, AnyRecipe, ObjectiveConfig

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals and limits of a POSIX system"),
]
MAKERS = {"language": language_recipe, "tagger": tagger_recipe}


@pytest.fixture(scope="module", params=["acoustic", "language", "tagger"])
def straight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AnyRecipe:
    """The recipe of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    make = MAKERS.get(request.param)
    chosen = make(folder) if make else acoustic_recipe(write_corpus(folder))
    chosen.ema_decay, chosen.keep_last = 0.9, 2
    chosen.optimizer.algorithm = "muon" if request.param == "language" else "adamw"
    if isinstance(chosen, AcousticRecipe):  # with all that draws or is carried on
        chosen.model.layers, chosen.model.variational_dropout, chosen.model.weight_dropout = 2, True, 0.2
        chosen.objective = ObjectiveConfig(crf=0.5, intermediate=0.3, consistency=0.2, smoothing=0.01)
    threads = torch.get_num_threads()
    make_trainer(chosen).run()
    torch.set_num_threads(threads)
    return chosen


@pytest.fixture
def repeated(straight: AnyRecipe, tmp_path: Path) -> AnyRecipe:
    """The same to be run again, with a checkpoint after every update."""
    recipe = deepcopy(straight)
    recipe.output, recipe.checkpoint_minutes = str(tmp_path / "runs"), 0.0
    return recipe


def assert_equal_runs(straight: AnyRecipe, repeated: AnyRecipe) -> None:
    folders = straight.folder, repeated.folder
    steps = [(folder / "steps.jsonl").read_text(encoding="utf-8") for folder in folders]
    assert steps[0] == steps[1]
    checkpoints = [sorted(path.name for path in folder.glob("*.safetensors")) for folder in folders]
    assert checkpoints[0] == ["best.safetensors", *(f"epoch-000{n}.safetensors" for n in (2, 3)), "last.safetensors"]
    assert checkpoints[0] == checkpoints[1]
    for name in checkpoints[0]:
        assert_equal_checkpoints(*(folder / name for folder in folders))
    curves = [
        repeatable([json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()])
        for folder in folders
    ]
    assert len(curves[0]) == straight.epochs
    assert curves[0] == curves[1]
    assert [json.loads(line)["step"] for line in steps[0].splitlines()] == list(range(1, curves[0][-1]["step"] + 1))


def finish(process: BaseProcess) -> int | None:
    process.join(120)
    return process.exitcode


def interrupt(process: BaseProcess, last: Path, number: int, delay: float) -> int | None:
    """Send the signal `delay` seconds after the next checkpoint, if it has not ended by then."""
    before = last.stat().st_mtime_ns if last.exists() else 0
    while process.is_alive() and (not last.exists() or last.stat().st_mtime_ns == before):
        time.sleep(0.002)
    time.sleep(delay)
    with suppress(ProcessLookupError):
        os.kill(process.pid or 0, number)
    return finish(process)


def test_killed_again_and_again_at_random_moments(straight: AnyRecipe, repeated: AnyRecipe, tmp_path: Path):
    moments, last = random.Random(7), repeated.folder / "last.safetensors"
    codes = []
    for _ in range(3):
        process = start(repeated, tmp_path / "log")
        codes.append(interrupt(process, last, signal.SIGKILL, moments.uniform(0, 0.1)))
    assert set(codes) <= {-signal.SIGKILL, 0}
    assert -signal.SIGKILL in codes
    assert finish(start(repeated, tmp_path / "log")) == 0
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert_equal_runs(straight, repeated)


@pytest.mark.parametrize("fault", ["half written", "not yet renamed"])
def test_killed_while_a_checkpoint_is_written(straight: AnyRecipe, repeated: AnyRecipe, tmp_path: Path, fault: str):
    assert finish(start(repeated, tmp_path / "log", fault)) == -signal.SIGKILL
    assert finish(start(repeated, tmp_path / "log")) == 0
    assert_equal_runs(straight, repeated)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_and_says_how_to_go_on(
    straight: AnyRecipe, repeated: AnyRecipe, tmp_path: Path, number: int
):
    repeated.checkpoint_minutes = 60.0  # so that what is there was saved on being told
    trainer = make_trainer(repeated)
    learn, updates = trainer.update, []

    def signalled(*arguments: object) -> object:
        updates.append(1)
        if len(updates) == 2:
            os.kill(os.getpid(), number)
        return learn(*arguments)

    trainer.update = signalled
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    stop = Event()
    with pytest.raises(KeyboardInterrupt), ended_by_signals(stop.set):
        trainer.run(stop)
    assert len(updates) == 2
    assert f"stopped after 0 of 3 epochs and 2 batches; asr train --resume {repeated.folder} goes on there" in said(
        trainer
    )
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    resumed = make_trainer(repeated, resume=True)
    assert resumed.stats.updates == 2
    resumed.run()
    assert_equal_runs(straight, repeated)


def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_stays(
    straight: AnyRecipe, repeated: AnyRecipe, tmp_path: Path
):
    last = repeated.folder / "last.safetensors"
    interrupt(start(repeated, tmp_path / "first"), last, signal.SIGKILL, 0.0)
    before = last.read_bytes()
    assert finish(start(repeated, tmp_path / "log", file_size=len(before) // 2)) == 1
    problem = (tmp_path / "log").read_text(encoding="utf-8").splitlines()[-1]
    assert problem.startswith(f"{last}: cannot be written (")
    assert problem.endswith(f"the one before is kept; go on with asr train --resume {repeated.folder}")
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert last.read_bytes() == before
    assert not list(repeated.folder.glob("*.partial"))
    assert finish(start(repeated, tmp_path / "log")) == 0
    assert_equal_runs(straight, repeated)
