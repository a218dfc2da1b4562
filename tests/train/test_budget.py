"""A run with a budget of minutes: it ends in time, its schedule goes by the clock, and another run goes on from it."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_corpus import write_audio, write_manifest
from tiny_runs import acoustic_recipe, make_trainer, said, start_two

from asr.errors import AsrError, RecipeError
from asr.model.bundle import load_bundle
from asr.train.budget import FIRST_RESERVE, MARGIN, Budget, Utilization
from asr.train.checkpoint import BEST, CONSTANT, LAST, WINDOW, save_half
from asr.train.config import AcousticRecipe, LanguageRecipe, save_recipe
from asr.train.optim import FINAL_LEARNING_RATE
from asr.train.pretrained import load_trained
from asr.train.run import export_checkpoint, run_recipe
from asr.train.runs import read_curve
from asr.train.trainer import Trainer

MANY = 10**6  # epochs, none of which is the last


class Clock:
    """Stands for the module `time` of a run: an update and a measurement take what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, update: Callable[[int], float], measure: float = 0.0):
        """update: seconds that the update of this number takes, from 0; measure: seconds of a measurement."""
        from asr.train.acoustic import AcousticTask

        self.now, self.updates, self.rates, self.moments = 100.0, 0, [], []
        for module in ("trainer", "budget", "checkpoint"):
            monkeypatch.setattr(f"asr.train.{module}.time", self)
        learn, validate = Trainer.update, AcousticTask.validate

        def timed_update(trainer: Trainer, batches: list, rate: float) -> Any:
            self.rates.append(rate)
            self.moments.append(self.now)
            self.now += update(self.updates)
            self.updates += 1
            return learn(trainer, batches, rate)

        def timed_validate(task: AcousticTask, *arguments: Any) -> Any:
            self.now += measure
            return validate(task, *arguments)

        monkeypatch.setattr(Trainer, "update", timed_update)
        monkeypatch.setattr(AcousticTask, "validate", timed_validate)

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now


@pytest.fixture
def budget_recipe(corpus: Path) -> AcousticRecipe:
    """One minute, warm-up, constant, decay; an epoch has a few updates."""
    recipe = acoustic_recipe(corpus)
    recipe.budget_minutes, recipe.epochs, recipe.data.passes, recipe.ema_decay = 1.0, MANY, 2, 0.9
    recipe.optimizer = replace(recipe.optimizer, schedule="constant", warmup=0.1, decay=0.25)
    recipe.augment.gain_db = [-20.0, 6.0]
    return recipe


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint, their moving average where it has one."""
    tensors = load_file(path)
    for prefix in ("carried.average.module.", "model."):
        if found := {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}:
            return found
    raise AssertionError(path)


class Stopped(BaseException):
    """Stands for a kill: nothing in the trainer catches it."""


# --- the budget alone -----------------------------------------------------------------------------------------------


def test_at_first_a_share_of_the_budget_is_kept_then_what_measuring_takes(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, lambda number: 0.0)
    budget = Budget(2.0)
    assert budget.done == 0.0
    clock.now += 60 * (1 - FIRST_RESERVE)
    assert budget.done == pytest.approx(0.5)
    for seconds in (10.0, 4.0):  # the longest counts
        with budget.timing("measuring"):
            clock.now += seconds
    assert budget.done == pytest.approx((60 * (1 - FIRST_RESERVE) + 14) / (120 - MARGIN * 10.0))
    clock.now += 1_000
    assert budget.done == 1.0


def test_what_was_spent_before_counts(monkeypatch: pytest.MonkeyPatch):
    Clock(monkeypatch, lambda number: 0.0)
    assert Budget(1.0, spent=30.0).done == pytest.approx(0.5 / (1 - FIRST_RESERVE))
    assert Budget(1.0, spent=60.0).done == 1.0


def test_the_share_of_the_time_that_a_processor_computes(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, lambda number: 0.0)
    utilization = Utilization(torch.device("cpu"))
    monkeypatch.setattr(clock, "process_time", lambda: 100.0 + (clock.now - 100.0) * 0.5 * torch.get_num_threads())
    utilization.restart()
    clock.now += 10.0
    assert utilization.mean() == pytest.approx(0.5)


# --- runs by a clock of the test's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.6, 1.0, 3.0])
def test_the_schedule_has_the_same_shape_however_long_an_update_takes(
    budget_recipe: AcousticRecipe, seconds: float, monkeypatch: pytest.MonkeyPatch
):
    """Even if that is not always the same: every third one takes twice as long."""
    clock = Clock(monkeypatch, lambda number: seconds * (2 if number % 3 == 2 else 1))
    curve = make_trainer(budget_recipe).run()
    peak, training = budget_recipe.optimizer.learning_rate, 60 * (1 - FIRST_RESERVE)
    for moment, rate in zip(clock.moments, clock.rates, strict=True):
        done = (moment - 100.0) / training
        expected = done / 0.1 if done < 0.1 else 1.0 if done <= 0.75 else 1 - math.sqrt((done - 0.75) / 0.25)
        floor = FINAL_LEARNING_RATE if done > 0.75 else 0.0
        assert rate == pytest.approx(peak * max(floor + (1 - floor) * expected, 0.01))
    assert max(clock.rates) == pytest.approx(peak)
    assert curve[-1].learning_rate == pytest.approx(peak * FINAL_LEARNING_RATE)
    assert len(curve) < MANY
    assert training <= clock.now - 100.0 < training + 2 * seconds + 1e-6
    assert len(read_curve(budget_recipe.folder)) == len(curve)


def test_the_run_ends_in_time_with_what_it_is_for(budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch):
    """Measuring takes 4 s each time: before the first update, after each epoch, at the end."""
    clock = Clock(monkeypatch, lambda number: 0.5, measure=4.0)
    curve = make_trainer(budget_recipe).run()
    assert 60 - 2 * MARGIN * 4.0 < clock.now - 100.0 <= 60
    assert curve[-1].minutes <= 1.0
    for name in (LAST, BEST, CONSTANT):
        assert (budget_recipe.folder / name).is_file()


def test_an_epoch_that_has_no_end_is_cut_off_measured_and_kept(
    budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    budget_recipe.data.passes = 10_000
    clock = Clock(monkeypatch, lambda number: 1.0)
    (epoch,) = make_trainer(budget_recipe).run()
    assert epoch.step == clock.updates == 57
    assert (budget_recipe.folder / BEST).is_file()


def test_epochs_may_be_over_before_the_time_is(budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch):
    budget_recipe.epochs = 2
    Clock(monkeypatch, lambda number: 0.01)
    assert len(make_trainer(budget_recipe).run()) == 2


@pytest.mark.parametrize("decay", [0.6, 0.2])
def test_weights_from_before_the_decay_are_kept(
    budget_recipe: AcousticRecipe, decay: float, monkeypatch: pytest.MonkeyPatch
):
    budget_recipe.optimizer.decay = decay
    clock = Clock(monkeypatch, lambda number: 1.0)
    trainer = make_trainer(budget_recipe)
    record, averages = trainer.record, []

    def watched(*arguments: Any) -> float:
        result = record(*arguments)
        averages.append({name: value.half() for name, value in trainer.best_weights.state_dict().items()})
        return result

    monkeypatch.setattr(trainer, "record", watched)
    trainer.run()
    constant, final = load_file(budget_recipe.folder / CONSTANT), weights_of(budget_recipe.folder / LAST)
    assert all(value.dtype == torch.float16 for value in constant.values())
    found = [
        number
        for number, average in enumerate(averages)
        if all(torch.equal(value, constant[f"model.{name}"]) for name, value in average.items())
    ]
    peak = budget_recipe.optimizer.learning_rate
    assert found == [max(number for number, rate in enumerate(clock.rates) if rate == peak)]
    assert not torch.equal(constant["model.head.weight"], final["head.weight"].half())


def test_weights_from_before_the_decay_are_kept_without_a_budget_too(budget_recipe: AcousticRecipe):
    budget_recipe.budget_minutes, budget_recipe.epochs = 0.0, 6
    make_trainer(budget_recipe).run()
    assert (budget_recipe.folder / CONSTANT).is_file()


def test_weights_from_before_the_decay_of_an_attempt_that_left_no_checkpoint_are_replaced(
    budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    """It was killed while its first epoch decayed: the run begins anew."""
    budget_recipe.folder.mkdir(parents=True)
    (budget_recipe.folder / CONSTANT).write_bytes(b"of the first attempt")
    Clock(monkeypatch, lambda number: 1.0)
    make_trainer(budget_recipe).run()
    assert load_file(budget_recipe.folder / CONSTANT)


def test_weights_that_may_leave_the_machine_are_never_older_than_a_minute(
    budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    budget_recipe.budget_minutes = 5.0
    clock = Clock(monkeypatch, lambda number: 7.0, measure=1.0)
    saved = []

    def watched(path: Path, *rest: Any) -> None:
        if path.name == WINDOW:
            saved.append(clock.now)
        save_half(path, *rest)

    monkeypatch.setattr("asr.train.checkpoint.save_half", watched)
    make_trainer(budget_recipe).run()
    moments = [100.0, *saved, clock.now]
    assert len(saved) >= 4
    assert max(later - sooner for sooner, later in pairwise(moments)) <= 60 + 7 + 1
    assert all(value.dtype == torch.float16 for value in load_file(budget_recipe.folder / WINDOW).values())


def test_at_the_end_of_a_short_budget_there_are_weights_that_may_leave_the_machine(
    budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    budget_recipe.budget_minutes = 0.5
    Clock(monkeypatch, lambda number: 1.0)
    make_trainer(budget_recipe).run()
    assert (budget_recipe.folder / WINDOW).is_file()


@pytest.fixture
def windowed(budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch) -> AcousticRecipe:
    """A run with all its files."""
    budget_recipe.augment.mask_below_wer = 1.0  # which a recipe's file may hold
    with monkeypatch.context() as patch:
        Clock(patch, lambda number: 2.0)
        patch.setattr("asr.train.checkpoint.WINDOW_SECONDS", 4.0)
        make_trainer(budget_recipe).run()
    return budget_recipe


@pytest.mark.parametrize("name", [CONSTANT, WINDOW])
def test_what_may_leave_the_machine_can_be_loaded_and_exported(windowed: AcousticRecipe, name: str):
    half = load_file(windowed.folder / name)
    trained = load_trained(str(windowed.folder / name))
    assert trained.path == windowed.folder
    assert trained.model().state_dict().keys() == {key.removeprefix("model.") for key in half}
    for key, value in trained.model().state_dict().items():
        assert torch.equal(value, half[f"model.{key}"].float())
    export_checkpoint(windowed.folder / name, None)
    bundle = load_bundle(str(windowed.folder / f"bundle-{Path(name).stem}"))
    assert bundle.tokens.symbols == trained.tokenizer.tokens.symbols


@pytest.mark.parametrize("name", [CONSTANT, WINDOW])
def test_another_run_goes_on_from_there_with_a_short_warm_up(
    windowed: AcousticRecipe, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    half = load_file(windowed.folder / name)
    further = replace(windowed, name="further", init_from=str(windowed.folder / name))
    further.optimizer = replace(windowed.optimizer, warmup=0.05)
    clock = Clock(monkeypatch, lambda number: 1.0)
    trainer = make_trainer(further)
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, half[f"model.{key}"].float())
    assert f"begins with the weights of {windowed.folder}" in said(trainer)
    assert trainer.optimizer.state_dict()["state"] == {}
    trainer.run()
    peak = further.optimizer.learning_rate
    assert clock.rates[0] == pytest.approx(peak * 0.01)
    assert all(later > sooner for sooner, later in zip(clock.rates[:3], clock.rates[1:4], strict=True))
    assert clock.rates[4] == pytest.approx(peak)


def test_the_tokens_come_along(budget_recipe: AcousticRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    budget_recipe.tokenizer.kind, budget_recipe.tokenizer.vocabulary = "bpe", 6
    budget_recipe.augment.mask_below_wer = 1.0
    Clock(monkeypatch, lambda number: 3.0)
    make_trainer(budget_recipe).run()
    others = [(write_audio(tmp_path / f"o{text}.wav", 1.0), text) for text in ("bbbb", "aaaa", "bbaa", "aabb")]
    further = replace(budget_recipe, name="further", init_from=str(budget_recipe.folder / CONSTANT))
    further.data = replace(further.data, train=[str(write_manifest(tmp_path / "other.jsonl", others))])
    trainer = make_trainer(further)
    tokenizers = [(run.folder / "tokenizer.model").read_bytes() for run in (budget_recipe, further)]
    assert tokenizers[0] == tokenizers[1]
    assert "a new output layer" not in said(trainer)


# --- stopped and resumed --------------------------------------------------------------------------------------------


def test_a_run_whose_time_is_up_resumed_trains_no_more(windowed: AcousticRecipe, monkeypatch: pytest.MonkeyPatch):
    before = (windowed.folder / LAST).read_bytes()
    curve = read_curve(windowed.folder)
    clock = Clock(monkeypatch, lambda number: 1.0)
    assert [epoch.epoch for epoch in make_trainer(windowed, resume=True).run()] == [line["epoch"] for line in curve]
    assert clock.updates == 0
    assert (windowed.folder / LAST).read_bytes() == before
    assert len(read_curve(windowed.folder)) == len(curve)


def test_a_run_that_was_killed_goes_on_for_the_rest_of_its_time(
    budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    budget_recipe.checkpoint_minutes = 0.0

    def until_half(number: int) -> float:
        if number == 30:
            raise Stopped
        return 1.0

    with monkeypatch.context() as patch:
        Clock(patch, until_half)
        with pytest.raises(Stopped):
            make_trainer(budget_recipe).run()
    clock = Clock(monkeypatch, lambda number: 1.0)
    curve = make_trainer(budget_recipe, resume=True).run()
    assert 57 - 30 <= clock.updates <= 57 - 30 + 2
    peak = budget_recipe.optimizer.learning_rate
    assert clock.rates[0] == pytest.approx(peak)  # no second warm-up
    assert curve[-1].learning_rate == pytest.approx(peak * FINAL_LEARNING_RATE)
    steps = [json.loads(line)["step"] for line in (budget_recipe.folder / "steps.jsonl").read_text().splitlines()]
    assert steps == list(range(1, curve[-1].step + 1))


def test_a_run_that_was_killed_while_it_measured_at_the_end_is_measured_when_resumed(
    budget_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    budget_recipe.data.passes = 10_000  # one epoch, which ends with the time

    def in_the_end(number: int) -> float:
        return 1.0

    with monkeypatch.context() as patch:
        Clock(patch, in_the_end)
        trainer = make_trainer(budget_recipe)
        measure, measured = trainer.task.validate, []

        def stop_at_the_second(model: Any) -> Any:
            measured.append(1)
            if len(measured) == 2:
                raise Stopped
            return measure(model)

        patch.setattr(trainer.task, "validate", stop_at_the_second)
        with pytest.raises(Stopped):
            trainer.run()
    assert (budget_recipe.folder / LAST).is_file()
    clock = Clock(monkeypatch, lambda number: 1.0)
    curve = make_trainer(budget_recipe, resume=True).run()
    assert clock.updates == 0
    assert len(curve) == 1
    assert (budget_recipe.folder / BEST).is_file()


def test_resuming_keeps_the_count_of_utterances_too_short_for_their_text(
    budget_recipe: AcousticRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Measuring before the first update, which begins the count of an epoch anew, must not begin it amid one."""
    budget_recipe.augment.speeds, budget_recipe.checkpoint_minutes, budget_recipe.data.passes = [1.3], 0.0, 10_000
    entries = [(write_audio(tmp_path / f"v{index}.wav", 0.8, seed=index), "ab") for index in range(4)]
    entries.append((write_audio(tmp_path / "tight.wav", 0.4), "ababababab"))  # ten frames; eight after the speed-up
    budget_recipe.data.train = [str(write_manifest(tmp_path / "train.jsonl", entries))]

    def until_half(number: int) -> float:
        if number == 20:
            raise Stopped
        return 1.0

    with monkeypatch.context() as patch:
        Clock(patch, until_half)
        with pytest.raises(Stopped):
            make_trainer(budget_recipe).run()
    Clock(monkeypatch, lambda number: 1.0)
    trainer = make_trainer(budget_recipe, resume=True)
    assert trainer.stats.too_short > 0
    (epoch,) = trainer.run()
    batches = list(islice(trainer.task.data.train(1, 0), epoch.step))
    assert epoch.too_short == sum(name.startswith("tight@") for batch in batches for name in batch.ids)


def test_a_budget_too_short_to_train_is_one_line(budget_recipe: AcousticRecipe, tmp_path: Path):
    budget_recipe.budget_minutes, budget_recipe.augment.mask_below_wer = 1e-6, 1.0
    save_recipe(budget_recipe, tmp_path / "recipe.yaml")
    with pytest.raises(AsrError, match="budget_minutes") as caught:
        run_recipe(tmp_path / "recipe.yaml", [])
    assert "\n" not in str(caught.value)


# --- by the real clock ----------------------------------------------------------------------------------------------


def test_a_budget_of_seconds_ends_a_run_that_has_no_other_end(budget_recipe: AcousticRecipe):
    budget_recipe.budget_minutes = 0.04
    curve = make_trainer(budget_recipe).run()
    assert 0 < len(curve) < MANY
    rates = [json.loads(line)["learning_rate"] for line in (budget_recipe.folder / "steps.jsonl").open()]
    peak = budget_recipe.optimizer.learning_rate
    assert curve[-1].learning_rate < 0.5 * peak
    assert rates[-1] < 0.6 * peak
    assert max(rates) == pytest.approx(peak)
    assert curve[-1].train_loss < curve[0].train_loss


def test_a_language_model_may_have_a_budget_too(language_recipe: LanguageRecipe):
    language_recipe.budget_minutes, language_recipe.epochs = 0.02, MANY
    curve = make_trainer(language_recipe).run()
    assert 0 < len(curve) < MANY
    assert curve[-1].learning_rate < 0.5 * language_recipe.optimizer.learning_rate


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_keep_to_one_clock(budget_recipe: AcousticRecipe, tmp_path: Path):
    budget_recipe.budget_minutes = 0.03
    pair = start_two(budget_recipe, tmp_path / "log")
    for process in pair:
        process.join(40)
    codes = [process.exitcode for process in pair]
    for process in pair:
        process.kill()
        process.join()
    assert codes == [0, 0], (tmp_path / "log").read_text()
    assert (budget_recipe.folder / CONSTANT).is_file()
    curve = read_curve(budget_recipe.folder)
    assert curve[-1]["learning_rate"] < 0.5 * budget_recipe.optimizer.learning_rate


def test_a_resumed_run_keeps_its_schedule(windowed: AcousticRecipe):
    with pytest.raises(RecipeError, match=r"optimizer\.schedule was constant, not cosine"):
        make_trainer(replace(windowed, optimizer=replace(windowed.optimizer, schedule="cosine")), resume=True)


def test_more_time_may_be_given_to_a_run(windowed: AcousticRecipe, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, lambda number: 2.0)
    before = len(read_curve(windowed.folder))
    assert len(make_trainer(replace(windowed, budget_minutes=2.0), resume=True).run()) > before
    assert clock.updates > 10
