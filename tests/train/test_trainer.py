"""The training loop: it learns, it resumes bit for bit, and what goes wrong is one line."""

import io
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny_corpus import write_audio, write_manifest

from asr.errors import RecipeError
from asr.train.config import Recipe
from asr.train.trainer import FINAL_LEARNING_RATE, FIRST_LEARNING_RATE, Epoch, Trainer, best_epoch, choose_precision

pytestmark = pytest.mark.filterwarnings("ignore:You are using Dynamic", "ignore:We have exceeded the max_duration")


@pytest.fixture(autouse=True)
def threads():
    """`recipe.threads` is set for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make_trainer(recipe: Recipe, resume: bool = False) -> Trainer:
    return Trainer(recipe, Console(file=io.StringIO(), width=1_000), resume)


def said(trainer: Trainer) -> str:
    assert isinstance(trainer.console.file, io.StringIO)
    return trainer.console.file.getvalue()


def one_line(error: pytest.ExceptionInfo[RecipeError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def repeatable(curve: list[Epoch]) -> list[dict]:
    """The curve without the clock."""
    return [{key: value for key, value in asdict(epoch).items() if key not in ("speed", "minutes")} for epoch in curve]


class Stopped(BaseException):
    """Stands for a kill: nothing in the trainer catches it."""


def stop_in_epoch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Stop after the first step of epoch `number`, when the epoch before has been saved."""
    step = Trainer.step

    def step_or_stop(trainer: Trainer, *arguments: object) -> object:
        result = step(trainer, *arguments)  # type: ignore[arg-type]
        if len(trainer.curve) == number - 1:
            raise Stopped
        return result

    monkeypatch.setattr(Trainer, "step", step_or_stop)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_run_stopped_and_resumed_equals_an_uninterrupted_one_bit_for_bit(
    recipe: Recipe, workers: int, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe.data.workers, recipe.model.cell = workers, cell
    straight = make_trainer(recipe).run()
    expected = load_file(recipe.folder / "last.safetensors")

    recipe.name = "stopped"
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 2)
        with pytest.raises(Stopped):
            make_trainer(recipe).run()
    torch.manual_seed(99)  # another process has another state of its generator
    resumed = make_trainer(recipe, resume=True)
    assert len(resumed.curve) == 1
    assert repeatable(resumed.run()) == repeatable(straight)
    tensors = load_file(recipe.folder / "last.safetensors")
    assert tensors.keys() == expected.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []
    best = [load_file(tmp_path / "runs" / name / "best.safetensors") for name in ("tiny", "stopped")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])
    assert len((recipe.folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_a_run_stopped_before_its_first_checkpoint_starts_again(recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    recipe.epochs = 1
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, 1)
        with pytest.raises(Stopped):
            make_trainer(recipe).run()
    assert len(make_trainer(recipe, resume=True).run()) == 1


def test_a_finished_run_resumed_trains_no_more(recipe: Recipe):
    recipe.epochs = 1
    curve = make_trainer(recipe).run()
    before = (recipe.folder / "last.safetensors").read_bytes()
    assert make_trainer(recipe, resume=True).run() == curve
    assert (recipe.folder / "last.safetensors").read_bytes() == before


def test_a_run_that_exists_is_refused_without_resume_and_left_alone(recipe: Recipe):
    recipe.epochs = 1
    make_trainer(recipe).run()
    before = {file: file.read_bytes() for file in recipe.folder.iterdir() if file.is_file()}
    recipe.epochs = 2
    with pytest.raises(RecipeError) as caught:
        make_trainer(recipe)
    assert one_line(caught) == f"{recipe.folder} holds a run already; add --resume to go on, or set name or output"
    assert {file: file.read_bytes() for file in recipe.folder.iterdir() if file.is_file()} == before


def test_resuming_with_another_model_is_refused(recipe: Recipe):
    recipe.epochs = 1
    make_trainer(recipe).run()
    recipe.model.size = 20
    with pytest.raises(RecipeError, match=r"model\.size was 16, not 20"):
        make_trainer(recipe, resume=True)


@pytest.mark.parametrize("alphabet", ["abd", "abcd"])
def test_resuming_with_another_alphabet_is_refused_and_changes_nothing(recipe: Recipe, alphabet: str):
    recipe.epochs = 1
    make_trainer(recipe).run()
    before = (recipe.folder / "tokens.txt").read_bytes()
    recipe.tokenizer.alphabet = alphabet
    with pytest.raises(RecipeError, match=r"tokenizer\.alphabet was"):
        make_trainer(recipe, resume=True)
    assert (recipe.folder / "tokens.txt").read_bytes() == before


def test_the_best_epoch_of_a_plateau_is_the_one_with_the_lowest_loss():
    curve = [Epoch(n, n, 1.0, loss, 1.0, 1.0, 1e-3, 0, 1.0, 1.0) for n, loss in enumerate((3.0, 2.0, 2.5), start=1)]
    assert best_epoch(curve).epoch == 2


def test_a_new_run_does_not_take_the_tokens_of_one_that_never_finished_an_epoch(recipe: Recipe):
    recipe.tokenizer.kind, recipe.tokenizer.vocabulary = "bpe", 6
    assert len(make_trainer(recipe).tokenizer.tokens) == 6
    recipe.tokenizer.vocabulary = 5
    assert len(make_trainer(recipe).tokenizer.tokens) == 5


def test_the_learning_rate_warms_up_in_a_line_and_falls_in_half_a_cosine(recipe: Recipe):
    recipe.optimizer.learning_rate, recipe.optimizer.warmup = 0.01, 0.1
    trainer = make_trainer(recipe)
    rates = [trainer.learning_rate(percent / 100) for percent in range(101)]
    assert rates[0] == pytest.approx(0.01 * FIRST_LEARNING_RATE)  # not 0: the first step is to do something
    assert rates[1:11] == pytest.approx([0.01 * percent / 10 for percent in range(1, 11)])
    assert max(rates) == rates[10]
    floor = 0.01 * FINAL_LEARNING_RATE
    assert rates[55] == pytest.approx((0.01 + floor) / 2)  # half way down
    cosine = [floor + (0.01 - floor) * (1 + math.cos(math.pi * (percent - 10) / 90)) / 2 for percent in range(10, 101)]
    assert rates[10:] == pytest.approx(cosine)
    assert rates[100] == pytest.approx(floor)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_a_schedule_of_no_warm_up_or_nothing_else_stays_within_the_peak(recipe: Recipe, warmup: float):
    recipe.optimizer.warmup = warmup
    trainer = make_trainer(recipe)
    rates = [trainer.learning_rate(percent / 100) for percent in range(101)]
    assert all(0 < rate <= recipe.optimizer.learning_rate * (1 + 1e-9) for rate in rates)
    assert rates[0 if warmup == 0 else 100] == recipe.optimizer.learning_rate


@pytest.mark.parametrize("speeds", [[1.0], [0.7], [1.4]])
def test_the_schedule_is_walked_from_end_to_end_whatever_the_speeds(
    recipe: Recipe, speeds: list[float], monkeypatch: pytest.MonkeyPatch
):
    rates, step = [], Trainer.step

    def watched(trainer: Trainer, batch: object, learning_rate: float, augment: object) -> object:
        rates.append(learning_rate)
        return step(trainer, batch, learning_rate, augment)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", watched)
    recipe.augment.speeds, recipe.optimizer.warmup = speeds, 0.0
    curve = make_trainer(recipe).run()
    assert rates[0] == recipe.optimizer.learning_rate
    assert rates == sorted(rates, reverse=True)
    assert curve[-1].step == len(rates)
    assert curve[-1].learning_rate == pytest.approx(recipe.optimizer.learning_rate * FINAL_LEARNING_RATE)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_the_run_in_one_line_and_saves_nothing(recipe: Recipe, poison: float):
    trainer = make_trainer(recipe)
    with torch.no_grad():
        trainer.model.head.weight.fill_(poison)
    with pytest.raises(RecipeError) as caught:
        trainer.run()
    message = one_line(caught)
    assert message.startswith("the gradient is not finite; lower optimizer.learning_rate")
    assert "u0@" in message  # the batch is named
    assert not (recipe.folder / "last.safetensors").exists()


def test_utterances_left_out_are_told_and_those_too_short_after_a_speed_up_are_counted(recipe: Recipe, tmp_path: Path):
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


def test_a_recording_that_breaks_off_is_named_once_and_the_run_goes_on(recipe: Recipe, tmp_path: Path):
    broken = write_audio(tmp_path / "broken.flac", 1.0)
    broken.write_bytes(broken.read_bytes()[:3_000])
    entries = [(write_audio(tmp_path / f"v{index}.wav", 0.8, seed=index), "ab") for index in range(4)]
    recipe.data.train = [str(write_manifest(tmp_path / "train.jsonl", [*entries, (broken, "ab")]))]
    trainer = make_trainer(recipe)
    assert len(trainer.run()) == 3
    assert said(trainer).count("broken.flac: truncated or damaged") == 1


def test_data_of_which_nothing_can_be_used_is_one_line(recipe: Recipe):
    recipe.data.max_seconds = 0.2
    with pytest.raises(RecipeError) as caught:
        make_trainer(recipe)
    assert one_line(caught) == "no utterance of the train data can be used; left out: 8 too long"


def test_a_share_of_the_training_data_is_the_same_share_every_time(recipe: Recipe):
    recipe.data.train_fraction = 0.5
    chosen = [sorted(cut.id for cut in make_trainer(recipe).train_cuts) for _ in range(2)]
    assert len(chosen[0]) == 4
    assert chosen[0] == chosen[1]


def test_features_are_normalised_by_the_training_data_and_the_checkpoint_keeps_that(recipe: Recipe):
    recipe.epochs = 1
    trainer = make_trainer(recipe)
    mean = trainer.model.features.mean.clone()
    assert mean.ne(0).all()
    trainer.run()
    assert torch.equal(load_file(recipe.folder / "last.safetensors")["model.features.mean"], mean)


def test_precision_is_what_the_recipe_says_unless_automatic(monkeypatch: pytest.MonkeyPatch):
    device = torch.device("cpu")
    assert choose_precision("float32", device) == "float32"
    assert choose_precision("bfloat16", device) == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision("auto", torch.device("cuda")) == "bfloat16"


def test_validation_is_float32_and_without_dropout(recipe: Recipe):
    recipe.precision = "bfloat16"
    recipe.model.dropout = 0.5
    trainer = make_trainer(recipe)
    losses = {trainer.validate()[0] for _ in range(2)}
    trainer.autocast = False
    assert losses == {trainer.validate()[0]}
