"""Runs with an attention decoder: beside CTC or on an encoder that stays as it is, resumed, exported, taken along."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import assert_equal_checkpoints, make_trainer, repeatable

from asr.data.manifest import read_manifest
from asr.data.tokenizer import ATTENTION_MODEL
from asr.errors import RecipeError
from asr.model.bundle import load_bundle
from asr.model.second_pass import TOKENS, AttentionModel
from asr.nn.attention import attention_loss
from asr.nn.config import AttentionConfig
from asr.nn.ctc_model import AcousticModel
from asr.recognize.offline import Recognizer
from asr.train.config import AcousticRecipe, load_recipe
from asr.train.loss import Objective
from asr.train.pretrained import load_trained
from asr.train.run import export_checkpoint

ATTENTION = AttentionConfig(weight=0.3, vocabulary=6, layers=1, hidden_size=16, heads=2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # `threads` of conftest.py puts it back


@pytest.fixture
def joint(recipe: AcousticRecipe) -> AcousticRecipe:
    return replace(recipe, attention=ATTENTION)


@pytest.fixture
def recipe(recipe: AcousticRecipe) -> AcousticRecipe:
    """As one that is read from a file."""
    return replace(recipe, augment=replace(recipe.augment, mask_below_wer=1.0))


def weights(run: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "best.safetensors")
    return {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}


def test_the_loss_is_weighed_against_that_of_ctc(joint: AcousticRecipe) -> None:
    trainer = make_trainer(joint)
    model, batch = trainer.model.eval(), next(iter(trainer.task.data.dev(0)))
    assert isinstance(model, AcousticModel)
    assert model.attention is not None
    ctc = Objective(joint.objective)(model, batch, None)
    (encoded,), frames = model.encode(batch.waveforms, batch.lengths)
    attention = attention_loss(model.attention, encoded, frames, batch.letters.ids, batch.letters.lengths)
    both = Objective(joint.objective, attention=ATTENTION)(model, batch, None)
    torch.testing.assert_close(both, 0.7 * ctc + 0.3 * attention)
    both.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_run_that_was_stopped_equals_one_that_was_not(joint: AcousticRecipe) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(replace(joint, name="stopped")).run(stop)
    curves = [make_trainer(replace(joint, name=name), resume=True).run() for name in ("whole", "stopped")]
    assert repeatable(curves[0]) == repeatable(curves[1])
    folders = [Path(joint.output) / name for name in ("whole", "stopped")]
    assert_equal_checkpoints(*(folder / "last.safetensors" for folder in folders))


def test_a_run_learns_says_so_and_its_bundle_has_the_decoder(joint: AcousticRecipe) -> None:
    curve = make_trainer(joint).run()
    assert curve[-1].attention_loss < curve[0].attention_loss
    assert f"attention loss {curve[-1].attention_loss:.3f}" in curve[-1].outcome
    export_checkpoint(joint.folder, joint.folder / "bundle")
    bundle = load_bundle(joint.folder / "bundle")
    assert (bundle.path / ATTENTION_MODEL).read_bytes() == (joint.folder / ATTENTION_MODEL).read_bytes()
    model = AttentionModel(bundle.path, bundle.case)
    assert len(model.tokens) == ATTENTION.vocabulary == len((bundle.path / TOKENS).read_text().splitlines())
    source = read_manifest(joint.data.dev)[0].source
    (best,) = Recognizer(bundle, "attention", threads=1).transcribe(source).alternatives
    assert best.score < 0


def test_a_frozen_encoder_stays_as_it_is_and_its_decoder_learns(recipe: AcousticRecipe) -> None:
    make_trainer(replace(recipe, name="ctc")).run()
    frozen = replace(
        recipe,
        name="decoder",
        init_from=str(Path(recipe.output) / "ctc"),
        attention=replace(ATTENTION, weight=1.0, freeze_encoder=True),
    )
    curve = make_trainer(frozen).run()
    before, after = weights(Path(recipe.output) / "ctc"), weights(frozen.folder)
    assert before.keys() == {name for name in after if not name.startswith("attention.")}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert curve[-1].dev_loss == curve[-1].attention_loss < curve[0].attention_loss
    # The word error rates are equal: the best epoch is that of the best decoder.
    assert len({epoch.dev_wer for epoch in curve}) == 1
    assert min(curve, key=lambda epoch: epoch.rank).dev_loss == min(epoch.dev_loss for epoch in curve)


def test_a_decoder_is_taken_along_where_it_fits_and_left_behind_where_not(joint: AcousticRecipe) -> None:
    make_trainer(joint).run()
    export_checkpoint(joint.folder, joint.folder / "bundle")
    for source in (joint.folder, joint.folder / "bundle"):
        theirs = load_trained(str(source)).weights
        same = make_trainer(replace(joint, name=f"same-{source.name}", init_from=str(source))).task.model.state_dict()
        assert all(torch.allclose(value, theirs[name], atol=1e-3) for name, value in same.items())
        for name, attention in (("none", AttentionConfig()), ("other", replace(ATTENTION, hidden_size=32))):
            other = make_trainer(
                replace(joint, name=f"{name}-{source.name}", init_from=str(source), attention=attention)
            )
            state = other.task.model.state_dict()
            assert any(key.startswith("attention.") for key in state) == (name == "other")
            assert state.keys() - theirs.keys() == set()
            taken = {key for key in state if state[key].shape == theirs[key].shape and not key.startswith("attention.")}
            assert "head.weight" in taken
            assert all(torch.allclose(state[key], theirs[key], atol=1e-3) for key in taken)


def test_texts_with_other_characters_have_no_attention_loss(joint: AcousticRecipe) -> None:
    trainer = make_trainer(replace(joint, tokenizer=replace(joint.tokenizer, unknown="drop")))
    rule = trainer.task.data.letter_rule
    assert rule("a 5 b", "x") == ""
    assert rule("AB", "x") == "ab"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["attention.heads=3"], "attention.hidden_size=256 is no multiple of heads=3"),
        (["attention.freeze_encoder=true"], "attention.freeze_encoder needs attention.weight=1, and init_from"),
        (["attention.weight=2"], "attention.weight is 2; it should be less than or equal to 1"),
        (["attention.score=location"], "attention.score is 'location'; it should be 'dot' or 'additive'"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(tmp_path: Path, changes: list[str], message: str) -> None:
    (tmp_path / "recipe.yaml").write_text("data: {train: a.jsonl, dev: a.jsonl}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "recipe.yaml", changes)
    assert message in str(caught.value)
