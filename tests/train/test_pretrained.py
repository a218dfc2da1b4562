"""Fine-tuning: a run begins with the weights, the normalisation and the tokens of a trained model, or says why not."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_corpus import write_audio, write_manifest
from tiny_runs import make_trainer, said

from asr.data.config import TokenizerConfig
from asr.errors import AsrError, RecipeError
from asr.model.bundle import PACKAGED
from asr.nn.config import AcousticConfig
from asr.train.config import AcousticRecipe
from asr.train.pretrained import load_trained


def one_line(recipe: AcousticRecipe) -> str:
    with pytest.raises(AsrError) as caught:
        make_trainer(recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def run(recipe: AcousticRecipe) -> Path:
    """A run of one epoch over BPE; `recipe` is then that of another one that begins with it."""
    recipe.epochs, recipe.augment.mask_below_wer = 1, 1.0  # which a recipe's file may hold
    recipe.tokenizer.kind, recipe.tokenizer.vocabulary = "bpe", 6
    make_trainer(recipe).run()
    folder = recipe.folder
    recipe.name, recipe.init_from = "tuned", str(folder)
    return folder


def test_a_run_begins_with_all_that_another_run_learned(run: Path, recipe: AcousticRecipe, tmp_path: Path):
    other = [(write_audio(tmp_path / f"o{text}.wav", 1.0), text) for text in ("bbbb", "aaaa", "bbaa", "aabb")]
    recipe.data.train = [str(write_manifest(tmp_path / "other.jsonl", other))]  # would make another tokenizer
    recipe.model.dropout, recipe.model.variational_dropout = 0.3, True  # no weight depends on them
    trainer = make_trainer(recipe)
    best = load_file(run / "best.safetensors")
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in trainer.model.state_dict().items())
    assert (recipe.folder / "tokenizer.model").read_bytes() == (run / "tokenizer.model").read_bytes()
    assert said(trainer).rstrip().endswith(f"begins with the weights of {run}")
    trainer.run()
    resumed = make_trainer(recipe, resume=True)
    assert "begins with" not in said(resumed)


def test_a_resumed_run_needs_no_longer_what_it_began_with(run: Path, recipe: AcousticRecipe):
    make_trainer(recipe).run()
    run.rename(run.parent / "gone")
    recipe.epochs = 2
    assert len(make_trainer(recipe, resume=True).run()) == 2


@pytest.mark.parametrize("tokenizer", [{"vocabulary": 5}, {"kind": "characters"}, {"alphabet": "abc"}])
def test_other_tokens_have_a_new_output_layer_and_it_is_said(run: Path, recipe: AcousticRecipe, tokenizer: dict):
    recipe.tokenizer = replace(recipe.tokenizer, **tokenizer)
    trainer = make_trainer(recipe)
    best = load_file(run / "best.safetensors")
    kept = {name for name, value in trainer.model.state_dict().items() if torch.equal(value, best[f"model.{name}"])}
    assert set(trainer.model.state_dict()) - kept == {"head.weight", "head.bias"}
    assert len(trainer.model.head.bias) == len(trainer.task.tokens)
    assert said(trainer).rstrip().endswith("but a new output layer: the recipe's tokenizer has other tokens")
    assert len(trainer.run()) == 1


def test_a_packaged_model_comes_with_its_weights_and_tokens():
    trained = load_trained("en-gru")
    assert trained.path == PACKAGED / "en-gru"
    assert {value.dtype for value in trained.weights.values()} == {torch.float32}
    assert trained.model().head.weight.shape == (128, 256)
    assert trained.has_tokenizer(TokenizerConfig(kind="phone_bpe"))
    assert not trained.has_tokenizer(TokenizerConfig())


@pytest.mark.parametrize(
    ("field", "value", "theirs"),
    [("hidden_size", 20, 16), ("cell", "gru", "lstm"), ("n_mels", 24, 20)],
)
def test_a_model_of_another_shape_names_the_field(
    run: Path, recipe: AcousticRecipe, field: str, value: object, theirs: object
):
    recipe.model = replace(recipe.model, **{field: value})
    assert one_line(recipe) == (
        f"init_from: model.{field} is {theirs} in {run} and {value} here; set model.{field}={theirs}, "
        "or leave init_from out"
    )


@pytest.mark.parametrize(("cell", "bidirectional"), [("lstm", True), ("gru", False), ("rnn", False)])
@pytest.mark.parametrize(("layers", "copied"), [(3, [0, 1, 1]), (4, [0, 1, 0, 1]), (5, [0, 1, 0, 1, 0])])
def test_the_layers_that_a_deeper_model_has_more_begin_as_copies_of_the_uppermost(
    recipe: AcousticRecipe, cell: str, bidirectional: bool, layers: int, copied: list[int]
):
    recipe.epochs, recipe.augment.mask_below_wer = 1, 1.0
    recipe.model.cell, recipe.model.bidirectional, recipe.model.layers = cell, bidirectional, 2
    make_trainer(recipe).run()
    trained = load_trained(str(recipe.folder)).model()
    recipe.name, recipe.init_from, recipe.model.layers = "deeper", str(recipe.folder), layers
    trainer = make_trainer(recipe)
    for layer, source in zip(trainer.model.recurrent.layers, copied, strict=True):
        expected = trained.recurrent.layers[source].state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in layer.state_dict().items())
    assert torch.equal(trainer.model.head.weight, trained.head.weight)
    assert len(trainer.run()) == 1


def test_a_model_of_fewer_layers_names_the_field():
    trained = load_trained("en-bilstm")
    with pytest.raises(RecipeError, match=r"init_from: model.layers is \d in .* and 1 here; set model.layers=\d"):
        trained.check_model(replace(trained.config, layers=1))


def test_what_is_missing_or_damaged_is_one_line(run: Path, recipe: AcousticRecipe, tmp_path: Path):
    (run / "best.safetensors").write_bytes(b"no weights")
    assert f"{run}/best.safetensors: cannot read the checkpoint" in one_line(recipe)
    (run / "tokenizer.model").unlink()
    assert f"{run}: its tokenizer cannot be used" in one_line(recipe)
    recipe.init_from = "en-latin"
    assert one_line(recipe).startswith("no model 'en-latin': neither a folder nor one of ")
    for name in ("config.json", "tokens.txt", "tokenizer.model", "model.onnx"):
        shutil.copy(PACKAGED / "en-bilstm" / name, tmp_path)
    recipe.init_from, recipe.model = str(tmp_path), AcousticConfig(hidden_size=256)
    assert f"{tmp_path}: incomplete, weights.safetensors is missing" in one_line(recipe)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(
        (PACKAGED / "en-bilstm/config.json").read_text(encoding="utf-8").replace('"cell"', '"celll"')
    )
    assert f"{tmp_path}: of another version of asr" in one_line(recipe)


def test_a_run_of_a_language_model_has_no_ears(run: Path, recipe: AcousticRecipe):
    (run / "recipe.yaml").write_text("kind: language\ndata: {train: [a.txt], dev: a.txt}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"a run of kind language; choose one of an acoustic model"):
        load_trained(str(run))
