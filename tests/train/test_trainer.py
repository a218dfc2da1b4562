"""The training loop: it learns, it resumes bit for bit, and what goes wrong is one line."""

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from tiny_corpus import write_audio, write_manifest
from tiny_runs import assert_equal_checkpoints, make_trainer, repeatable, said

from asr.errors import RecipeError
from asr.train.acoustic import AcousticEpoch, AcousticTask, loss_by_seconds
from asr.train.config import AcousticRecipe
from asr.train.log import RunLog
from asr.train.optim import FINAL_LEARNING_RATE, choose_precision
from asr.train.task import best_epoch
from asr.train.trainer import Trainer


def one_line(error: pytest.ExceptionInfo[RecipeError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


class Stopped(BaseException):
    """Stands for a kill: nothing in the trainer catches it."""


def stop_in_epoch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Stop after the first update of epoch `number`, when the epoch before has been saved."""
    update = Trainer.update

    def update_or_stop(trainer: Trainer, *arguments: object) -> object:
        result = update(trainer, *arguments)  # type: ignore[arg-type]
        if len(trainer.curve) == number - 1:
            raise Stopped
        return result

    monkeypatch.setattr(Trainer, "update", update_or_stop)


def too_much(*_: object) -> torch.Tensor:
    return torch.empty(1 << 46)


def in_vain(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("where", "fault"),
    [("asr.train.acoustic.AcousticTask.loss", too_much), ("asr.train.loader.CorpusData._load", in_vain)],
)
def test_too_little_memory_is_one_line(
    recipe: AcousticRecipe, where: str, fault: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(where, fault)
    with pytest.raises(RecipeError, match="there is not enough memory; begin a new run with smaller batches") as error:
        make_trainer(recipe).run()
    assert one_line(error).startswith(str(recipe.folder))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_run_stopped_and_resumed_equals_an_uninterrupted_one_bit_for_bit(
    recipe: AcousticRecipe, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe.model.cell = cell
    straight = make_trainer(recipe).run()

    recipe.name = "stopped"
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 2)
        with pytest.raises(Stopped):
            make_trainer(recipe).run()
    torch.manual_seed(99)  # another process has another state of its generator
    resumed = make_trainer(recipe, resume=True)
    assert len(resumed.curve) == 1
    assert repeatable(resumed.run()) == repeatable(straight)
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal_checkpoints(tmp_path / "runs/tiny" / name, recipe.folder / name)
    assert len((recipe.folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_a_run_stopped_before_its_first_checkpoint_starts_again(
    recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    recipe.epochs = 1
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 1)
        with pytest.raises(Stopped):
            make_trainer(recipe).run()
    assert len(make_trainer(recipe, resume=True).run()) == 1


def test_a_finished_run_resumed_trains_no_more(recipe: AcousticRecipe):
    recipe.epochs = 1
    curve = make_trainer(recipe).run()
    before = (recipe.folder / "last.safetensors").read_bytes()
    assert make_trainer(recipe, resume=True).run() == curve
    assert (recipe.folder / "last.safetensors").read_bytes() == before


def test_a_run_that_exists_is_refused_without_resume_and_left_alone(recipe: AcousticRecipe):
    recipe.epochs = 1
    make_trainer(recipe).run()
    before = {file: file.read_bytes() for file in recipe.folder.iterdir() if file.is_file()}
    recipe.epochs = 2
    with pytest.raises(RecipeError) as caught:
        make_trainer(recipe)
    folder = recipe.folder
    advice = f"go on with asr train --resume {folder}, or set name or output"
    assert one_line(caught) == f"{folder} holds a run already; {advice}"
    assert {file: file.read_bytes() for file in recipe.folder.iterdir() if file.is_file()} == before


def test_resuming_with_another_model_is_refused(recipe: AcousticRecipe):
    recipe.epochs = 1
    make_trainer(recipe).run()
    recipe.model.hidden_size = 20
    with pytest.raises(RecipeError, match=r"model\.hidden_size was 16, not 20"):
        make_trainer(recipe, resume=True)


@pytest.mark.parametrize("alphabet", ["abd", "abcd"])
def test_resuming_with_another_alphabet_is_refused_and_changes_nothing(recipe: AcousticRecipe, alphabet: str):
    recipe.epochs = 1
    make_trainer(recipe).run()
    before = (recipe.folder / "tokens.txt").read_bytes()
    recipe.tokenizer.alphabet = alphabet
    with pytest.raises(RecipeError, match=r"tokenizer\.alphabet was"):
        make_trainer(recipe, resume=True)
    assert (recipe.folder / "tokens.txt").read_bytes() == before


def test_the_best_epoch_of_a_plateau_is_the_one_with_the_lowest_loss():
    curve = [make_epoch(epoch, loss, 1.0) for epoch, loss in enumerate((3.0, 2.0, 2.5), start=1)]
    assert best_epoch(curve).epoch == 2


def test_the_best_epoch_is_the_one_with_the_fewest_word_errors():
    assert best_epoch([make_epoch(1, 2.0, 0.5), make_epoch(2, 3.0, 0.4), make_epoch(3, 1.0, 0.6)]).epoch == 2


def make_epoch(epoch: int, dev_loss: float, dev_wer: float) -> AcousticEpoch:
    return AcousticEpoch(
        epoch=epoch,
        step=epoch,
        train_loss=1.0,
        dev_loss=dev_loss,
        dev_wer=dev_wer,
        gradient_norm=1.0,
        learning_rate=1e-3,
        too_short=0,
        speed=1.0,
        minutes=1.0,
    )


def test_a_new_run_does_not_take_the_tokens_of_one_that_never_finished_an_epoch(recipe: AcousticRecipe):
    recipe.tokenizer.kind, recipe.tokenizer.vocabulary = "bpe", 6
    assert len(make_trainer(recipe).task.tokens) == 6
    recipe.tokenizer.vocabulary = 5
    assert len(make_trainer(recipe).task.tokens) == 5


@pytest.mark.parametrize("speeds", [[1.0], [0.7], [1.4]])
def test_the_schedule_is_walked_from_end_to_end_whatever_the_speeds(
    recipe: AcousticRecipe, speeds: list[float], monkeypatch: pytest.MonkeyPatch
):
    rates, update = [], Trainer.update

    def watched(trainer: Trainer, batches: list, learning_rate: float) -> object:
        rates.append(learning_rate)
        return update(trainer, batches, learning_rate)

    monkeypatch.setattr(Trainer, "update", watched)
    recipe.augment.speeds, recipe.optimizer.warmup = speeds, 0.0
    curve = make_trainer(recipe).run()
    assert rates[0] == recipe.optimizer.learning_rate
    assert rates == sorted(rates, reverse=True)
    assert curve[-1].step == len(rates)
    assert curve[-1].learning_rate == pytest.approx(recipe.optimizer.learning_rate * FINAL_LEARNING_RATE)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_too_many_losses_or_gradients_in_a_row_that_are_not_finite_stop_the_run_in_one_line(
    recipe: AcousticRecipe, poison: float
):
    recipe.max_skipped = 2
    trainer = make_trainer(recipe)
    with torch.no_grad():
        trainer.model.head.weight.fill_(poison)
    with pytest.raises(RecipeError) as caught:
        trainer.run()
    message = one_line(caught)
    assert message.startswith("loss or gradient not finite 3 times in a row, ")
    assert "lower optimizer.learning_rate" in message
    assert not (recipe.folder / "last.safetensors").exists()
    skipped = [json.loads(line) for line in (recipe.folder / "skipped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["batches"] for line in skipped] == [1, 2, 3]
    assert all(identifier.endswith("@1.1") for line in skipped for identifier in line["ids"])
    assert str(recipe.folder / "skipped.jsonl") in message


def poison_batches(monkeypatch: pytest.MonkeyPatch, numbers: set[int], poison: float = math.nan) -> None:
    """Make the losses of these batches, counted in each process from 0 on, not finite."""
    loss, seen = AcousticTask.loss, []

    def spoilt(task: AcousticTask, batch: object) -> torch.Tensor:
        seen.append(batch)
        return loss(task, batch) * (poison if len(seen) - 1 in numbers else 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(AcousticTask, "loss", spoilt)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_batch_whose_loss_is_not_finite_is_skipped_named_and_changes_nothing(
    recipe: AcousticRecipe, poison: float, monkeypatch: pytest.MonkeyPatch
):
    poison_batches(monkeypatch, {1, 2}, poison)
    recipe.max_skipped, recipe.epochs, recipe.data.batch_seconds = 2, 1, 1.5
    trainer = make_trainer(recipe)
    update, batches, before = trainer.update, [], []

    def watched(group: list, learning_rate: float) -> object:
        batches.append([name for batch in group for name in batch.ids])
        before.append(trainer.model.head.weight.detach().clone())
        return update(group, learning_rate)

    trainer.update = watched
    (epoch,) = trainer.run()
    assert torch.equal(before[1], before[2])
    assert torch.equal(before[2], before[3])
    assert not torch.equal(before[0], before[1])
    assert (epoch.skipped, epoch.step) == (2, len(batches) - 2)
    assert math.isfinite(epoch.train_loss)
    skipped = [json.loads(line) for line in (recipe.folder / "skipped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["ids"] for line in skipped] == batches[1:3]
    assert batches[1][0] in said(trainer)
    assert "skipped: 2" in said(trainer)


def test_what_was_skipped_after_the_checkpoint_is_not_written_down_twice(
    recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    poison_batches(monkeypatch, {0, 1, 2, 3})
    recipe.checkpoint_minutes, recipe.data.batch_seconds = 0.0, 1.5
    trainer = make_trainer(recipe)
    save, saved = trainer.saver.save, []

    def stop_after_three(*progress: Any) -> None:
        if len(saved) == 3:
            raise Stopped
        saved.append(progress)
        save(*progress)

    trainer.saver.save = stop_after_three
    with pytest.raises(Stopped):
        trainer.run()
    assert len((recipe.folder / "skipped.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    resumed = make_trainer(recipe, resume=True)
    assert (resumed.stats.skipped, resumed.stats.skipped_in_a_row) == (3, 3)
    assert len((recipe.folder / "skipped.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_accumulated_batches_make_the_update_of_one_large_batch(recipe: AcousticRecipe):
    recipe.model.dropout = 0.0
    results = []
    for name in ("whole", "halves"):
        recipe.name, recipe.data.batch_seconds = name, 100.0 if name == "whole" else 3.0
        trainer = make_trainer(recipe)
        batches = list(trainer.task.start_epoch([], 0))
        assert (len(batches) > 1) == (name == "halves")
        trainer.model.train()
        sent = trainer.update(batches, 0.01)
        loss, norm, *_ = sent.values.tolist()
        results.append((loss, sent.tokens, norm, trainer.model.head.weight.grad))
    (one, _, _, gradient), (other, _, _, accumulated) = results
    assert other == pytest.approx(one, rel=1e-5)
    assert results[0][1] == results[1][1]
    assert results[0][2] == pytest.approx(results[1][2], rel=1e-4)
    torch.testing.assert_close(gradient, accumulated, rtol=1e-3, atol=1e-5)


def test_a_run_that_accumulates_makes_fewer_updates(recipe: AcousticRecipe):
    recipe.epochs, recipe.accumulate = 1, 2
    trainer = make_trainer(recipe)
    batches = len(list(trainer.task.start_epoch([], 0)))
    (epoch,) = trainer.run()
    assert epoch.step == (batches + 1) // 2


def test_every_update_is_a_line_and_the_share_that_was_clipped_is_theirs(recipe: AcousticRecipe):
    recipe.epochs, recipe.augment.speeds = 1, [1.0]
    make_trainer(recipe).run()
    norms = sorted(line["gradient_norm"] for line in step_lines(recipe))
    recipe.name, recipe.epochs, recipe.optimizer.clip = "clipped", 2, norms[1]  # the first update is the same
    curve = make_trainer(recipe).run()
    lines = step_lines(recipe)
    assert [line["step"] for line in lines] == list(range(1, curve[-1].step + 1))
    assert 0 < sum(line["clipped"] for line in lines) < len(lines)
    for epoch in curve:
        of_epoch = [line for line in lines if line["epoch"] == epoch.epoch]
        assert all(line["clipped"] == (line["gradient_norm"] > norms[1]) for line in of_epoch)
        assert epoch.clipped == sum(line["clipped"] for line in of_epoch) / len(of_epoch)
        assert epoch.gradient_norm == pytest.approx(sum(line["gradient_norm"] for line in of_epoch) / len(of_epoch))
    for line in lines:
        assert math.hypot(*line["layer_norm"].values()) == pytest.approx(line["gradient_norm"], rel=1e-5)


def step_lines(recipe: AcousticRecipe) -> list[dict]:
    return [json.loads(line) for line in (recipe.folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    "left",
    [
        b'{"step": 3, "epoch": 1, "lo',
        b'{"step": 3}\n{"step": 4}\n',
        b"",
        b"damaged\n",
        b"{}\n",
        b"[1]\n",
        b"\xff\xfe\n",
    ],
)
def test_steps_that_come_again_are_cut_off(tmp_path: Path, left: bytes):
    kept = b'{"step": 1}\n{"step": 2}\n'
    (tmp_path / "steps.jsonl").write_bytes(kept + left)
    log = RunLog(tmp_path, Console(), main=True)
    with log.opened(3):
        assert (tmp_path / "steps.jsonl").read_bytes() == kept
        log.update(3, 1, {"loss": 0.5, "layer_norm": {"head": 2.0}})
    last = (tmp_path / "steps.jsonl").read_text().splitlines()[2:]
    assert [json.loads(line) for line in last] == [{"step": 3, "epoch": 1, "loss": 0.5, "layer_norm": {"head": 2.0}}]
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/layer_norm/head")] == [(3, 2.0)]


def test_losses_are_told_apart_by_the_length_of_the_utterance(recipe: AcousticRecipe, tmp_path: Path):
    measured = [(0.5, 6.0, 3), (1.99, 2.0, 1), (2.0, 9.0, 3), (60.0, 5.0, 1), (5.0, 0.0, 0)]  # the last is too short
    assert loss_by_seconds(measured) == {"0-2": 2.0, "2-4": 3.0, "16-": 5.0}
    entries = [
        (write_audio(tmp_path / f"v{index}.wav", seconds), "ab") for index, seconds in enumerate((1.0, 1.5, 3.0))
    ]
    recipe.data.dev = str(write_manifest(tmp_path / "dev.jsonl", entries))
    task = make_trainer(recipe).task
    measures = task.validate(task.model)
    short, long = measures["loss_by_seconds"]["0-2"], measures["loss_by_seconds"]["2-4"]
    assert (2 * short + long) / 3 == pytest.approx(measures["dev_loss"])  # two tokens each


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is(
    recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    loss, count = AcousticTask.loss, []

    def steep(task: AcousticTask, batch: object) -> torch.Tensor:
        count.append(batch)
        value, bias = loss(task, batch), task.model.head.bias  # type: ignore[arg-type]
        return value + (bias - bias.detach()).sum().sqrt() if len(count) == 2 else value  # √0 has an infinite slope

    monkeypatch.setattr(AcousticTask, "loss", steep)
    recipe.epochs = 1
    trainer = make_trainer(recipe)
    (epoch,) = trainer.run()
    assert epoch.skipped == 1
    (line,) = [json.loads(line) for line in (recipe.folder / "skipped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert math.isfinite(float(line["loss"]))
    assert not math.isfinite(float(line["gradient_norm"]))
    assert [line["step"] for line in step_lines(recipe)] == list(range(1, epoch.step + 1))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "(No space left on device: events.out); make room, then go on with asr train --resume "),
        (errno.EDQUOT, "(Disk quota exceeded: events.out); make room, then go on with asr train --resume "),
        (errno.EACCES, "(Permission denied: events.out); go on with asr train --resume "),
        (errno.EIO, "(Input/output error: events.out); go on with asr train --resume "),
    ],
)
def test_what_the_system_refuses_is_one_line_that_says_it(
    recipe: AcousticRecipe, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def refused(writer: RecordWriter, data: bytes) -> None:
        raise OSError(code, os.strerror(code), "events.out")

    monkeypatch.setattr(RecordWriter, "write", refused)
    with pytest.raises(RecipeError) as caught:
        make_trainer(recipe).run()
    assert one_line(caught) == f"{recipe.folder}: cannot go on {said}{recipe.folder}"
    assert capfd.readouterr().err == ""


def test_utterances_left_out_are_told_and_those_too_short_after_a_speed_up_are_counted(
    recipe: AcousticRecipe, tmp_path: Path
):
    recipe.augment.speeds, recipe.epochs = [1.3], 1
    entries = [(write_audio(tmp_path / f"v{index}.wav", 0.8, seed=index), "ab") for index in range(4)]
    entries += [
        (write_audio(tmp_path / "tight.wav", 0.4), "ababababab"),  # ten frames; eight after the speed-up
        (write_audio(tmp_path / "short.wav", 0.3), "ababababab"),
        (write_audio(tmp_path / "none.wav", 0.3), ""),
    ]
    recipe.data.train = [str(write_manifest(tmp_path / "train.jsonl", entries))]
    trainer = make_trainer(recipe)
    (epoch,) = trainer.run()
    assert "train: 5 utterances, 0.00 h; left out: 1 too short for its text, 1 without text" in said(trainer)
    assert epoch.too_short == 1
    assert math.isfinite(epoch.train_loss)
    assert "too short for their text: 1" in said(trainer)


def test_a_recording_that_breaks_off_is_named_once_and_the_run_goes_on(recipe: AcousticRecipe, tmp_path: Path):
    broken = write_audio(tmp_path / "broken.flac", 1.0)
    broken.write_bytes(broken.read_bytes()[:3_000])
    entries = [(write_audio(tmp_path / f"v{index}.wav", 0.8, seed=index), "ab") for index in range(4)]
    recipe.data.train = [str(write_manifest(tmp_path / "train.jsonl", [*entries, (broken, "ab")]))]
    trainer = make_trainer(recipe)
    assert len(trainer.run()) == 3
    assert said(trainer).count("broken.flac: truncated or damaged") == 1


def test_data_of_which_nothing_can_be_used_is_one_line(recipe: AcousticRecipe):
    recipe.data.max_seconds = 0.2
    with pytest.raises(RecipeError) as caught:
        make_trainer(recipe)
    assert one_line(caught) == "no utterance of the train data can be used; left out: 8 too long"


def test_a_share_of_the_training_data_is_the_same_share_every_time(recipe: AcousticRecipe):
    recipe.data.train_fraction = 0.5
    chosen = [sorted(row.id for row in make_trainer(recipe).task.data.utterances) for _ in range(2)]
    assert len(chosen[0]) == 4
    assert chosen[0] == chosen[1]


def test_features_are_normalised_by_the_training_data_and_the_checkpoint_keeps_that(recipe: AcousticRecipe):
    recipe.epochs = 1
    trainer = make_trainer(recipe)
    mean = trainer.model.features.mean.clone()
    assert mean.ne(0).all()
    trainer.run()
    assert torch.equal(load_file(recipe.folder / "last.safetensors")["model.features.mean"], mean)


def test_float16_is_for_cuda(recipe: AcousticRecipe):
    recipe.precision = "float16"
    with pytest.raises(RecipeError) as caught:
        make_trainer(recipe)
    assert one_line(caught) == "precision=float16 is for CUDA, not for the cpu; set precision=auto"


def test_the_scale_of_a_float16_loss_changes_no_figure_and_is_resumed(
    recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    recipe.epochs, recipe.model.cell = 1, "gru"
    (exact,) = make_trainer(recipe).run()
    monkeypatch.setattr("asr.train.optim.choose_precision", lambda precision, device: "float16")
    recipe.name = "half"
    trainer = make_trainer(recipe)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    (epoch,) = trainer.run()
    assert epoch.skipped == 0
    assert epoch.train_loss == pytest.approx(exact.train_loss, rel=0.02)
    assert epoch.gradient_norm == pytest.approx(exact.gradient_norm, rel=0.1)
    assert trainer.scaler.get_scale() == 8.0 * 2**epoch.step
    assert make_trainer(recipe, resume=True).scaler.get_scale() == trainer.scaler.get_scale()
    assert load_file(recipe.folder / "last.safetensors")["model.head.weight"].dtype == torch.float32


def test_precision_is_what_the_recipe_says_unless_automatic(monkeypatch: pytest.MonkeyPatch):
    device = torch.device("cpu")
    assert choose_precision("float32", device) == "float32"
    assert choose_precision("bfloat16", device) == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision("auto", torch.device("cuda")) == "bfloat16"
    for name, amx, avx, precision in (
        ("AMD EPYC", False, False, "float32"),
        ("AMD EPYC", False, True, "bfloat16"),
        ("Intel Xeon", False, True, "float32"),
        ("Intel Xeon", True, True, "bfloat16"),
    ):
        found = {"cpu_name": name, "amx_bf16": amx, "avx512_bf16": avx}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert choose_precision("auto", device) == precision
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    assert choose_precision("auto", device) == "float32"


def test_validation_is_float32_and_without_dropout(recipe: AcousticRecipe):
    recipe.precision = "bfloat16"
    recipe.model.dropout = 0.5
    trainer = make_trainer(recipe)
    losses = {trainer.task.validate(trainer.model)["dev_loss"] for _ in range(2)}
    trainer.precision = "float32"
    assert losses == {trainer.task.validate(trainer.model)["dev_loss"]}


def test_a_run_says_how_many_updates_it_will_make(recipe: AcousticRecipe):
    recipe.augment.speeds = [1.0]
    recipe.data.batch_seconds, recipe.data.max_batch, recipe.accumulate = 100.0, 2, 2
    trainer = make_trainer(recipe)
    curve = trainer.run()
    assert curve[-1].step == 6
    assert "about 6 updates to make, 2 an epoch" in said(trainer)
    recipe.epochs = 4
    resumed = make_trainer(recipe, resume=True)
    resumed.run()
    assert "about 2 updates to make, 2 an epoch" in said(resumed)


def test_a_run_with_a_budget_says_how_many_minutes_it_has(recipe: AcousticRecipe):
    recipe.budget_minutes, recipe.epochs = 0.5, 1
    trainer = make_trainer(recipe)
    trainer.run()
    assert "0.5 minutes to train, about" in said(trainer)


def test_a_model_that_writes_only_blanks_is_said_to(recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch):
    recipe.epochs = 1
    blank, letters = make_trainer(recipe), make_trainer(recipe)
    with torch.no_grad():
        blank.model.head.bias[0] += 100.0
        letters.model.head.bias[-1] += 100.0
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: None)
    (epoch,) = blank.run()
    assert epoch.only_blanks
    assert epoch.dev_wer == 1.0
    assert said(blank).count("still writes only blanks, which is normal in the first epochs") == 1
    assert "lower optimizer.learning_rate" in replace(epoch, epoch=6).advice
    (recipe.folder / "last.safetensors").unlink()
    (epoch,) = letters.run()
    assert not epoch.only_blanks
    assert "only blanks" not in said(letters)


def test_a_model_larger_than_the_memory_is_one_line(recipe: AcousticRecipe):
    recipe.model.hidden_size = 10**12  # petabytes, which no system promises
    with pytest.raises(RecipeError, match="there is not enough memory"):
        make_trainer(recipe)


@pytest.mark.parametrize(
    ("below", "fine_tuned", "epochs"),
    [(0.0, False, [False, False]), (1.0, False, [True, False]), (1.0, True, [False, False])],
)
def test_noise_waits_for_the_masks_unless_there_are_none_or_the_model_has_learned_already(
    recipe: AcousticRecipe, below: float, fine_tuned: bool, epochs: list[bool], monkeypatch: pytest.MonkeyPatch
):
    recipe.augment.mask_below_wer, recipe.epochs = below, 2
    if fine_tuned:
        make_trainer(recipe).run()
        recipe.init_from, recipe.name = str(recipe.folder), "fine-tuned"
    trainer, clean = make_trainer(recipe), []
    train, validate = trainer.task.data.train, trainer.task.validate

    def watched(epoch: int, done: int, gain_only: bool) -> object:
        clean.append(gain_only)
        return train(epoch, done, gain_only)

    monkeypatch.setattr(trainer.task.data, "train", watched)
    monkeypatch.setattr(trainer.task, "validate", lambda model: validate(model) | {"dev_wer": 0.5})
    trainer.run()
    assert clean == epochs
    assert (trainer.task.augment is None) == (below == 0)
