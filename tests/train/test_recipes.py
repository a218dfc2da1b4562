"""Every recipe of the project loads as it is, and learns for two steps from generated data."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_corpus import write_audio, write_manifest

from asr.train.config import AcousticRecipe, LanguageRecipe, load_recipe
from asr.train.export import Trained
from asr.train.pretrained import load_trained
from asr.train.run import KINDS, run_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*/*.yaml"))


def names(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def small_acoustic(recipe: AcousticRecipe, folder: Path) -> list[str]:
    """Four utterances of a second, in words of the recipe's alphabet, two of which fit into a batch at any speed."""
    letters = sorted(recipe.tokenizer.alphabet)
    words = ["".join(random.Random(number).choices(letters, k=3)) for number in range(4)]
    entries = [(write_audio(folder / f"{word}.wav", 1.0), f"{word} {words[0]}") for word in words]
    manifest = write_manifest(folder / "manifest.jsonl", entries)
    return [
        f"data.train=[{manifest}]",
        f"data.dev={manifest}",
        "data.train_fraction=1.0",
        "data.max_seconds=20",
        "data.batch_seconds=2.5",
        "model.n_mels=20",
        f"tokenizer.vocabulary={44 if recipe.tokenizer.spelling == 'phones' else len(letters) + 4}",
        *("budget_minutes=0", "data.more_dev=[]", "data.passes=1", "phones.weight=0"),
        *("augment.noises=[white]", "augment.rooms=[]"),  # rooms take seconds
    ]


def small_language(folder: Path) -> list[str]:
    text = folder / "text.txt"
    text.write_text("one two three\nfour five six\n" * 20)
    return [
        f"data.train=[{text}]",
        f"data.dev={text}",
        "data.batch_size=2",
        "data.bptt_length=4",
        "data.epoch_batches=2",
        "tokenizer.vocabulary=45",
    ]


def small_tagger(folder: Path) -> list[str]:
    text = folder / "written.txt"
    text.write_text("One, two?\tONE TWO\nThree four.\tTHREE FOUR\n" * 20)
    return [
        f"data.train=[{text}]",
        f"data.dev=[{text}]",
        f"data.speech={Path(__file__).parents[2] / 'recipes/written/speech.json'}",
        "data.batch_words=80",
        "data.epoch_words=80",
        "model.rows=100",
    ]


def test_there_are_recipes():
    assert {path.parent.name for path in RECIPES} >= {"starter", "librispeech", "digits", "own_data"}


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["init_from=en-gru", "model.cell=gru", "model.bidirectional=false", "model.lookahead=8", "model.layers=8"],
    ],
)
def test_the_template_fits_the_packaged_models(overrides: list[str]):
    """As README.md and recipes/own_data/README.md have it."""
    recipe = load_recipe(RECIPES[0].parents[1] / "own_data/bilstm.yaml", overrides)
    assert isinstance(recipe, AcousticRecipe)
    packaged = load_trained(recipe.init_from)
    assert packaged.config == replace(recipe.model, dropout=packaged.config.dropout)
    assert packaged.has_tokenizer(recipe.tokenizer)


@pytest.mark.parametrize("path", RECIPES, ids=names)
def test_a_recipe_runs_two_steps(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = load_recipe(path, [])
    if isinstance(recipe, AcousticRecipe):
        overrides = small_acoustic(recipe, tmp_path)
    else:
        overrides = small_language(tmp_path) if isinstance(recipe, LanguageRecipe) else small_tagger(tmp_path)
    curves: list[Any] = []

    def no_bundle(run: Trained, *_rest: Any) -> Path:
        curves.append(run.curve)
        return run.checkpoint.parent

    without = replace(KINDS[recipe.kind], make_bundle=no_bundle, write_page=no_bundle)
    monkeypatch.setitem(KINDS, recipe.kind, without)
    overrides += [
        "model.layers=2",
        "model.hidden_size=16",
        "accumulate=1",
        "epochs=1",
        "threads=1",
        "precision=float32",
    ]
    threads = torch.get_num_threads()
    if isinstance(recipe, AcousticRecipe) and recipe.init_from:  # a model of this size to begin with, and to learn from
        alone = ["init_from=''", "objective.teacher=''", "objective.distillation=0"]
        run_recipe(path, [*overrides, f"output={tmp_path}", "name=trained", *alone])
        overrides.append(f"init_from={tmp_path / 'trained'}")
        if recipe.objective.teacher:
            overrides.append(f"objective.teacher={tmp_path / 'trained'}")
    run_recipe(path, [*overrides, f"output={tmp_path / 'runs'}"])
    torch.set_num_threads(threads)
    assert {epoch.step for curve in curves for epoch in curve} == {2}
    (line,) = (tmp_path / "runs" / recipe.name / "curve.jsonl").read_text().splitlines()
    assert 0 < json.loads(line)["train_loss"] < 1000


@pytest.mark.parametrize("path", RECIPES, ids=names)
def test_a_recipe_is_named_in_the_readme_beside_it(path: Path):
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"recipes/{path.parent.name}/{path.name}" in readme
    assert "## Results" in readme
