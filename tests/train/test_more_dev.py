"""Further dev sets: each epoch is measured on all of them, and the best one has the lowest mean word error rate."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_corpus import TEXTS, write_audio, write_manifest
from tiny_runs import make_trainer, said

from asr.errors import RecipeError
from asr.train.acoustic import AcousticEpoch, AcousticTask
from asr.train.config import AcousticRecipe, load_recipe, save_recipe
from asr.train.run import run_recipe
from asr.train.runs import read_curve
from asr.train.task import best_epoch


def make_epoch(epoch: int, dev_wer: float, more: dict[str, float], dev_loss: float = 1.0) -> AcousticEpoch:
    return AcousticEpoch(
        epoch=epoch,
        step=epoch,
        train_loss=1.0,
        dev_loss=dev_loss,
        dev_wer=dev_wer,
        more_wer=more,
        gradient_norm=1.0,
        learning_rate=1e-3,
        too_short=0,
        speed=1.0,
        minutes=1.0,
    )


@pytest.fixture
def more(tmp_path: Path) -> list[str]:
    """Two further dev sets; some of their ids are those of the first, which is also the training data."""
    manifests = []
    for name, texts in (("harder", TEXTS[:4]), ("easier", TEXTS[4:7])):
        (tmp_path / name).mkdir()
        entries = [
            (write_audio(tmp_path / name / f"u{index}.wav", 0.7, seed=index + 9), text)
            for index, text in enumerate(texts)
        ]
        manifests.append(str(write_manifest(tmp_path / f"{name}.jsonl", entries)))
    return manifests


def test_the_best_epoch_is_that_of_the_lowest_mean():
    curve = [
        make_epoch(1, 0.30, {"a": 0.60, "b": 0.60}),
        make_epoch(2, 0.40, {"a": 0.50, "b": 0.45}),
        make_epoch(3, 0.20, {"a": 0.70, "b": 0.70}),
    ]
    assert best_epoch(curve).epoch == 2


def test_among_equal_means_the_loss_on_the_first_set_decides():
    assert best_epoch([make_epoch(1, 0.5, {"a": 0.7}, 2.0), make_epoch(2, 0.7, {"a": 0.5}, 1.0)]).epoch == 2


def test_the_curve_has_the_word_error_rate_of_each_set(recipe: AcousticRecipe, more: list[str]):
    recipe.data.more_dev = more
    trainer = make_trainer(recipe)
    curve = trainer.run()
    for epoch in curve:
        assert list(epoch.more_wer) == more
        assert all(wer >= 0 for wer in epoch.more_wer.values())
        assert epoch.train_wer == epoch.dev_wer  # the first dev set is the training data
    assert read_curve(recipe.folder) == json.loads(json.dumps([asdict(epoch) for epoch in curve]))
    last = [line for line in said(trainer).splitlines() if line.startswith("epoch ")][-1]
    assert all(name in last for name in ("harder", "easier", f"on training data {curve[-1].train_wer:6.2%}"))
    recipe.epochs = 4
    resumed = make_trainer(recipe, resume=True).run()
    assert resumed[:3] == curve
    assert list(resumed[3].more_wer) == more


def test_dev_loss_and_word_errors_are_those_of_the_first_set_whatever_more_there_are(
    recipe: AcousticRecipe, more: list[str]
):
    measured = []
    for name, sets in (("alone", []), ("more", more)):
        recipe.name, recipe.data.more_dev = name, sets
        trainer = make_trainer(recipe)
        measured.append(trainer.task.validate(trainer.model))
    for field in ("dev_loss", "dev_wer", "loss_by_seconds"):
        assert measured[0][field] == measured[1][field]
    for manifest in more:  # and each further one is what it would be as the first
        recipe.name, recipe.data.dev, recipe.data.more_dev = Path(manifest).stem, manifest, []
        trainer = make_trainer(recipe)
        assert trainer.task.validate(trainer.model)["dev_wer"] == measured[1]["more_wer"][manifest]


def test_the_checkpoint_kept_as_the_best_is_that_of_the_best_mean(
    recipe: AcousticRecipe, more: list[str], monkeypatch: pytest.MonkeyPatch
):
    validate, rates = AcousticTask.validate, iter([(0.5, 0.9), (0.6, 0.3), (0.2, 0.8)])

    def told(task: AcousticTask, model: torch.nn.Module) -> dict:
        first, second = next(rates)
        return validate(task, model) | {"dev_wer": first, "more_wer": dict.fromkeys(more, second)}

    monkeypatch.setattr(AcousticTask, "validate", told)
    recipe.data.more_dev = more
    make_trainer(recipe).run()
    with safe_open(recipe.folder / "best.safetensors", "pt") as file:
        assert len(json.loads(file.metadata()["progress"])["curve"]) == 2


def test_a_whole_run_with_its_report(recipe: AcousticRecipe, more: list[str], tmp_path: Path):
    recipe.data.more_dev, recipe.epochs, recipe.augment.mask_below_wer = more, 1, 1.0
    save_recipe(recipe, tmp_path / "recipe.yaml")
    run_recipe(tmp_path / "recipe.yaml", [])
    assert (recipe.folder / "report.html").is_file()
    assert (recipe.folder / "bundle/model.onnx").is_file()


def test_one_further_set_need_not_be_a_list(corpus: Path, tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(f"data: {{train: {corpus}, dev: {corpus}, more_dev: a.jsonl}}")
    recipe = load_recipe(tmp_path / "recipe.yaml", [])
    assert isinstance(recipe, AcousticRecipe)
    assert recipe.data.more_dev == ["a.jsonl"]


def test_a_further_set_that_is_missing_or_of_no_use_is_one_line(recipe: AcousticRecipe, tmp_path: Path):
    recipe.data.more_dev = [str(tmp_path / "missing.jsonl")]
    with pytest.raises(RecipeError, match=r"missing\.jsonl: cannot read the manifest"):
        make_trainer(recipe)
    recipe.data.more_dev = [
        str(write_manifest(tmp_path / "short.jsonl", [(write_audio(tmp_path / "s.wav", 0.05), "ab")]))
    ]
    with pytest.raises(RecipeError, match="no utterance of the dev data can be used"):
        make_trainer(recipe)
