"""Nothing is lost: processes that are killed at any moment, told to stop, or without room on the disk, and resumed,
end up where an uninterrupted one does, bit for bit.
"""

import json
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from tiny_runs import assert_equal_checkpoints, make_trainer, repeatable, said, start

from asr.train.config import AcousticRecipe, LanguageRecipe, ObjectiveConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using Dynamic", "ignore:We have exceeded the max_duration"),
    pytest.mark.skipif(os.name != "posix", reason="signals and limits of a POSIX system"),
]
Runs = AcousticRecipe | LanguageRecipe


@pytest.fixture(params=["acoustic", "language"])
def straight(request: pytest.FixtureRequest, tmp_path: Path) -> Runs:
    """The recipe of a run that was not interrupted and is to be repeated under another name."""
    chosen: Runs = request.getfixturevalue("recipe" if request.param == "acoustic" else "language_recipe")
    chosen.ema_decay = 0.9
    if isinstance(chosen, AcousticRecipe):  # with all that draws or is carried on
        chosen.data.workers = 1
        chosen.model.layers, chosen.model.variational, chosen.model.weight_dropout = 2, True, 0.2
        chosen.objective = ObjectiveConfig(intermediate=0.3, consistency=0.2, smoothing=0.01)
    make_trainer(chosen).run()
    chosen.name, chosen.checkpoint_minutes = "stopped", 0.0  # a checkpoint after every update
    return chosen


def assert_equal_runs(recipe: Runs) -> None:
    folders = [Path(recipe.output) / name for name in ("tiny", recipe.name)]
    steps = [(folder / "steps.jsonl").read_text(encoding="utf-8") for folder in folders]
    assert steps[0] == steps[1]
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal_checkpoints(*(folder / name for folder in folders))
    curves = [
        repeatable([json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()])
        for folder in folders
    ]
    assert len(curves[0]) == recipe.epochs
    assert curves[0] == curves[1]
    assert [json.loads(line)["step"] for line in steps[0].splitlines()] == list(range(1, curves[0][-1]["step"] + 1))


def finish(process: BaseProcess) -> int | None:
    process.join(120)
    return process.exitcode


def interrupt(process: BaseProcess, last: Path, number: int, delay: float) -> int | None:
    """Send the signal `delay` seconds after the next checkpoint."""
    before = last.stat().st_mtime_ns if last.exists() else 0
    while process.is_alive() and (not last.exists() or last.stat().st_mtime_ns == before):
        time.sleep(0.002)
    time.sleep(delay)
    os.kill(process.pid or 0, number)
    return finish(process)


def test_killed_again_and_again_at_random_moments(straight: Runs, tmp_path: Path):
    moments, last = random.Random(7), straight.folder / "last.safetensors"
    for _ in range(3):
        process = start(straight, tmp_path / "log")
        assert interrupt(process, last, signal.SIGKILL, moments.uniform(0, 0.1)) in (-signal.SIGKILL, 0)
    assert finish(start(straight, tmp_path / "log")) == 0
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert_equal_runs(straight)


@pytest.mark.parametrize("fault", ["half written", "not yet renamed"])
def test_killed_while_a_checkpoint_is_written(straight: Runs, tmp_path: Path, fault: str):
    assert finish(start(straight, tmp_path / "log", fault)) == -signal.SIGKILL
    assert finish(start(straight, tmp_path / "log")) == 0
    assert_equal_runs(straight)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_and_says_how_to_go_on(straight: Runs, tmp_path: Path, number: int):
    straight.checkpoint_minutes = 60.0  # so that what is there was saved on being told
    trainer = make_trainer(straight)
    learn, updates = trainer.update, []

    def signalled(*arguments: object) -> object:
        updates.append(1)
        if len(updates) == 2:
            os.kill(os.getpid(), number)
        return learn(*arguments)

    trainer.update = signalled
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert len(updates) == 2
    assert "stopped after 0 of 3 epochs and 2 batches; --resume goes on there" in said(trainer)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    resumed = make_trainer(straight, resume=True)
    assert resumed.running.updates == 2
    resumed.run()
    assert_equal_runs(straight)


def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_stays(straight: Runs, tmp_path: Path):
    if isinstance(straight, AcousticRecipe):
        straight.data.workers = 0  # the limit stands for the disk: loaders would be denied shared memory by it
    last = straight.folder / "last.safetensors"
    interrupt(start(straight, tmp_path / "first"), last, signal.SIGKILL, 0.0)
    before = last.read_bytes()
    assert finish(start(straight, tmp_path / "log", file_size=len(before) // 2)) == 1
    problem = (tmp_path / "log").read_text(encoding="utf-8").splitlines()[-1]
    assert problem.startswith(f"{last}: cannot be written (")
    assert problem.endswith("the one before is kept; make room and go on with --resume")
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert last.read_bytes() == before
    assert not list(straight.folder.glob("*.partial"))
    assert finish(start(straight, tmp_path / "log")) == 0
    assert_equal_runs(straight)
