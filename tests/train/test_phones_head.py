"""A second CTC head over phones: what it adds to the loss, and where it is kept, taken along or left behind."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from tiny_corpus import TEXTS, write_audio
from tiny_runs import assert_equal_checkpoints, make_trainer, noisy_recipe, repeatable

from asr.data.batch import Batch, Targets
from asr.data.config import PhonesConfig
from asr.data.manifest import read_manifest
from asr.data.shards import read_training, write_shards
from asr.data.tokenizer import PHONES_MODEL
from asr.errors import RecipeError
from asr.nn.ctc_model import AcousticConfig, AcousticModel, ctc_loss, output_lengths
from asr.train.checkpoint import load_checkpoint, load_weights
from asr.train.config import AcousticRecipe, ObjectiveConfig
from asr.train.loss import Objective
from asr.train.pretrained import load_trained
from asr.train.run import export_checkpoint
from asr.train.trainer import Trainer

LETTERS, PHONES = 4, 6  # tokens of each head
WEIGHT = 0.3


# --- the loss -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # `threads` of conftest.py puts it back


@pytest.fixture
def model() -> AcousticModel:
    torch.manual_seed(2)
    return AcousticModel(AcousticConfig(layers=2, hidden_size=16, n_mels=20, dropout=0.0), LETTERS, PHONES)


def make_batch(phones: list[list[int]]) -> Batch:
    """Of three utterances; the shortest has five frames."""
    lengths = [16_000, 9_600, 3_200]
    waveforms = torch.zeros(3, 16_000)
    for row, length in enumerate(lengths):
        waveforms[row, :length] = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(row))
    return Batch(
        ids=["a", "b", "c"],
        texts=["", "", ""],
        waveforms=waveforms,
        lengths=torch.tensor(lengths),
        targets=Targets.pad([[1, 2, 3, 2], [2, 2], [3]]),
        phones=Targets.pad(phones),
    )


def both_losses(model: AcousticModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """CTC of each head, (3,), each computed by itself."""
    encoded, frames = model.encode(batch.waveforms, batch.lengths)
    assert batch.phones is not None
    letters = ctc_loss(model.head(encoded[-1]).log_softmax(2), frames, *batch.targets)[0]
    assert model.phones_head is not None
    log_probs = model.phones_head(encoded[-1]).log_softmax(2)
    return letters, ctc_loss(log_probs, frames, batch.phones.ids, batch.phones.lengths)[0]


def test_the_losses_of_both_heads_add_up_by_their_weights(model: AcousticModel):
    batch = make_batch([[5, 4, 3], [1, 1, 2], [4]])
    letters, phones = both_losses(model, batch)
    assert phones.gt(0).all()
    loss = Objective(ObjectiveConfig(), phones=WEIGHT)(model, batch, None)
    torch.testing.assert_close(loss, (1 - WEIGHT) * letters + WEIGHT * phones)


def test_the_weight_is_taken_from_the_first_head_beside_other_terms(model: AcousticModel):
    batch = make_batch([[5, 4, 3], [1, 1, 2], [4]])
    letters, phones = both_losses(model, batch)
    config = ObjectiveConfig(intermediate=0.2)
    without = Objective(config)(model, batch, None)  # 0.8 · letters + 0.2 · those of the lower layer
    loss = Objective(config, phones=WEIGHT)(model, batch, None)
    torch.testing.assert_close(loss, without - WEIGHT * letters + WEIGHT * phones)


def test_two_views_are_a_mean_of_their_losses(model: AcousticModel):
    batch = make_batch([[5, 4, 3], [1, 1, 2], [4]])
    config = ObjectiveConfig(consistency=0.2)
    same = Objective(config, phones=WEIGHT)(model, batch, lambda features: features)  # views that do not differ
    torch.testing.assert_close(same, Objective(ObjectiveConfig(), phones=WEIGHT)(model, batch, None))


@pytest.mark.parametrize("without", [(1,), (0, 2), (0, 1, 2)])
def test_an_utterance_without_phones_adds_nothing_of_the_second_head(model: AcousticModel, without: tuple[int, ...]):
    spelled = [[5, 4, 3], [1, 1, 2], [4]]
    batch = make_batch([[] if row in without else phones for row, phones in enumerate(spelled)])
    letters, phones = both_losses(model, make_batch(spelled))
    loss = Objective(ObjectiveConfig(), phones=WEIGHT)(model, batch, None)
    for row in range(3):
        expected = (1 - WEIGHT) * letters[row] + (0.0 if row in without else WEIGHT * phones[row])
        assert loss[row].item() == pytest.approx(expected.item(), rel=1e-5)
    assert model.phones_head is not None
    loss[list(without)].sum().backward()
    assert not model.phones_head.weight.grad.any()  # type: ignore[union-attr]
    assert model.head.weight.grad.any()  # type: ignore[union-attr]


def test_an_utterance_too_short_for_its_phones_adds_those_of_its_letters_only(model: AcousticModel):
    batch = make_batch([[5, 4, 3], [1, 1, 2], [4, 4, 4, 4]])  # seven frames, of five
    letters, _ = both_losses(model, batch)
    assert int(output_lengths(batch.lengths)[2]) == 5
    loss = Objective(ObjectiveConfig(), phones=WEIGHT)(model, batch, None)
    assert loss[2].item() == pytest.approx((1 - WEIGHT) * letters[2].item(), rel=1e-5)


def test_both_heads_and_what_is_below_them_get_gradients(model: AcousticModel):
    batch = make_batch([[5, 4, 3], [1, 1, 2], [4]])
    gradients = []
    for weight in (0.0, WEIGHT):
        model.zero_grad(set_to_none=True)
        Objective(ObjectiveConfig(), phones=weight)(model, batch, None).sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    assert gradients[0]["phones_head.weight"] is None
    missing = [name for name, value in gradients[1].items() if value is None or not value.any()]
    assert missing == []
    for name, value in gradients[0].items():
        if name.startswith("head."):
            torch.testing.assert_close(gradients[1][name], (1 - WEIGHT) * value)  # the phones are no business of it
        elif value is not None:
            assert not torch.allclose(gradients[1][name], (1 - WEIGHT) * value)


def test_without_a_weight_nothing_changes(model: AcousticModel):
    batch = make_batch([[5], [1], [4]])
    plain = replace(batch, phones=None)
    config = ObjectiveConfig(intermediate=0.3, smoothing=0.01)
    assert torch.equal(Objective(config)(model, batch, None), Objective(config)(model, plain, None))


# --- runs -----------------------------------------------------------------------------------------------------------


def write_spelled(folder: Path, missing: tuple[int, ...] = (2,)) -> Path:
    """The tiny corpus, spelled in phones but for the utterances `missing`."""
    lines = []
    for index, text in enumerate(TEXTS):
        audio = write_audio(folder / f"u{index}.wav", 0.5 + 0.1 * index, seed=index)
        line = {"audio": str(audio), "text": text, "id": audio.stem}
        if index not in missing:
            line["phones"] = text.replace("a", "A").replace("b", "UbU")
        lines.append(json.dumps(line))
    path = folder / "corpus.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def phones_recipe(tmp_path: Path) -> AcousticRecipe:
    recipe = noisy_recipe(write_spelled(tmp_path))
    recipe.augment.noises, recipe.augment.codecs, recipe.data.passes = [], [], 1
    recipe.augment.mask_below_wer = 1.0  # which a recipe's file may hold
    recipe.phones = PhonesConfig(weight=WEIGHT, vocabulary=8, alphabet="AbU")
    return recipe


def further_run(recipe: AcousticRecipe, source: Path, name: str = "further", **changes: Any) -> AcousticRecipe:
    return replace(recipe, name=name, init_from=str(source), **changes)


def test_a_run_trains_both_heads_and_its_checkpoints_keep_them(phones_recipe: AcousticRecipe):
    trainer = make_trainer(phones_recipe)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    for name in ("head.weight", "phones_head.weight", "phones_head.bias"):
        assert not torch.equal(before[name], after[name])
    assert len(after["phones_head.bias"]) == 8
    assert (phones_recipe.folder / PHONES_MODEL).is_file()
    for name in ("last.safetensors", "best.safetensors"):
        assert load_file(phones_recipe.folder / name)["model.phones_head.weight"].shape == (8, 16)


def test_a_run_of_two_heads_stopped_and_resumed_equals_an_uninterrupted_one(
    phones_recipe: AcousticRecipe, monkeypatch: pytest.MonkeyPatch
):
    class Stopped(BaseException):
        pass

    straight = make_trainer(phones_recipe).run()
    stopped = replace(phones_recipe, name="stopped", checkpoint_minutes=0.0)
    update, updates = Trainer.update, []

    def update_or_stop(trainer: Trainer, *arguments: Any) -> Any:
        updates.append(1)
        if len(updates) == 5:
            raise Stopped
        return update(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", update_or_stop)
        with pytest.raises(Stopped):
            make_trainer(stopped).run()
    assert repeatable(make_trainer(stopped, resume=True).run()) == repeatable(straight)
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal_checkpoints(phones_recipe.folder / name, stopped.folder / name)
    models = [(run.folder / PHONES_MODEL).read_bytes() for run in (phones_recipe, stopped)]
    assert models[0] == models[1]


@pytest.fixture
def bundle(phones_recipe: AcousticRecipe) -> Path:
    phones_recipe.epochs = 2
    make_trainer(phones_recipe).run()
    export_checkpoint(phones_recipe.folder, None)
    return phones_recipe.folder / "bundle"


def test_a_bundle_keeps_the_second_head_and_its_graph_is_the_first(phones_recipe: AcousticRecipe, bundle: Path):
    weights = load_file(bundle / "weights.safetensors")
    best = load_file(phones_recipe.folder / "best.safetensors")
    torch.testing.assert_close(
        weights["phones_head.weight"].float(), best["model.phones_head.weight"], atol=1e-3, rtol=0
    )
    assert (bundle / PHONES_MODEL).read_bytes() == (phones_recipe.folder / PHONES_MODEL).read_bytes()
    model = load_trained(str(phones_recipe.folder)).model().eval()
    samples = 0.1 * np.random.default_rng(1).standard_normal((2, 20_000)).astype(np.float32)
    lengths = np.array([20_000, 9_999])
    graph = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in graph.get_outputs()] == ["log_probs", "frames"]
    log_probs, frames = graph.run(None, {"waveform": samples, "lengths": lengths})
    with torch.no_grad():
        expected, *_ = model(torch.from_numpy(samples), torch.from_numpy(lengths))
    assert log_probs.shape[2] == len(load_trained(str(bundle)).tokenizer.tokens) == expected.shape[2]
    for row, count in enumerate(frames):
        np.testing.assert_allclose(log_probs[row, :count], expected[row, :count].numpy(), atol=0.01)


@pytest.mark.parametrize("source", ["bundle", "run"])
def test_another_run_takes_both_heads_and_both_tokenizers(
    phones_recipe: AcousticRecipe, bundle: Path, source: str, tmp_path: Path
):
    other = write_spelled(tmp_path, missing=(0, 1, 3, 5))  # would make other tokens
    further = further_run(phones_recipe, bundle if source == "bundle" else phones_recipe.folder)
    further.data = replace(further.data, train=[str(other)])
    trainer = make_trainer(further)
    weights = load_trained(further.init_from).weights
    assert "phones_head.weight" in weights
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
    assert (further.folder / PHONES_MODEL).read_bytes() == (phones_recipe.folder / PHONES_MODEL).read_bytes()
    trainer.run()


def test_phones_of_another_vocabulary_have_a_new_head(phones_recipe: AcousticRecipe, bundle: Path):
    """Each tokenizer is taken if the recipe asks for such a one."""
    further = further_run(phones_recipe, bundle, phones=replace(phones_recipe.phones, vocabulary=7))
    trainer = make_trainer(further)
    weights = load_trained(str(bundle)).weights
    assert len(trainer.model.phones_head.bias) == 7
    assert torch.equal(trainer.model.head.weight, weights["head.weight"])
    trainer.run()
    export_checkpoint(further.folder, None)
    assert load_file(further.folder / "bundle/weights.safetensors")["phones_head.bias"].shape == (7,)


def test_phones_of_another_alphabet_have_tokens_of_their_own(phones_recipe: AcousticRecipe, bundle: Path):
    further = further_run(phones_recipe, bundle, phones=replace(phones_recipe.phones, alphabet="AbUx"))
    trainer = make_trainer(further)
    assert "x" in "".join(trainer.task.phones.tokens.symbols)


def test_a_run_without_phones_begins_with_one_that_has_them_and_leaves_the_head(
    phones_recipe: AcousticRecipe, bundle: Path
):
    for name, source in (("of-bundle", bundle), ("of-run", phones_recipe.folder)):
        further = further_run(phones_recipe, source, name, phones=PhonesConfig())
        trainer = make_trainer(further)
        assert trainer.model.phones_head is None
        weights = load_trained(str(source)).weights
        assert all(torch.equal(value, weights[key]) for key, value in trainer.model.state_dict().items())
        assert not (further.folder / PHONES_MODEL).exists()


def test_a_run_with_phones_begins_with_one_that_has_none_and_a_new_head(phones_recipe: AcousticRecipe):
    plain = replace(phones_recipe, name="plain", epochs=1, phones=PhonesConfig())
    make_trainer(plain).run()
    trainer = make_trainer(further_run(phones_recipe, plain.folder))
    weights = load_trained(str(plain.folder)).weights
    assert all(torch.equal(trainer.model.state_dict()[name], value) for name, value in weights.items())
    assert len(trainer.model.phones_head.bias) == 8
    trainer.run()


def test_a_model_without_the_second_head_loads_a_checkpoint_with_one(phones_recipe: AcousticRecipe, bundle: Path):
    checkpoint = phones_recipe.folder / "best.safetensors"
    model = AcousticModel(phones_recipe.model, LETTERS)
    load_weights(checkpoint, model)
    best = load_file(checkpoint)
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in model.state_dict().items())
    smaller = AcousticModel(replace(phones_recipe.model, hidden_size=8), LETTERS)
    with pytest.raises(RecipeError, match="the checkpoint is of another model"):
        load_weights(checkpoint, smaller)
    with pytest.raises(RecipeError, match="the checkpoint is of another model"):
        load_weights(checkpoint, AcousticModel(phones_recipe.model, LETTERS, 5))


def test_old_models_have_no_second_head_and_still_load(phones_recipe: AcousticRecipe):
    for name in ("en-bilstm", "en-gru"):
        trained = load_trained(name)
        assert trained.model().phones_head is None
        assert trained.model()(torch.zeros(1, 16_000), torch.tensor([16_000]))[0].shape == (1, 25, 128)


def test_a_teacher_may_have_a_second_head(phones_recipe: AcousticRecipe, bundle: Path):
    taught = replace(phones_recipe, name="taught", epochs=1, phones=PhonesConfig())
    taught.objective = ObjectiveConfig(distillation=0.3, teacher=str(bundle))
    assert len(make_trainer(taught).run()) == 1


def test_a_resumed_run_keeps_its_phones(phones_recipe: AcousticRecipe):
    phones_recipe.epochs = 1
    make_trainer(phones_recipe).run()
    with pytest.raises(RecipeError, match=r"phones\.weight was 0\.3, not 0\.0"):
        make_trainer(replace(phones_recipe, phones=replace(phones_recipe.phones, weight=0.0)), resume=True)


# --- data -----------------------------------------------------------------------------------------------------------


def test_a_manifest_has_phones_or_none(tmp_path: Path):
    entries = read_manifest(write_spelled(tmp_path))
    assert entries[0].phones == "AUbU"
    assert entries[2].phones is None


def test_phones_that_are_no_text_are_one_line(tmp_path: Path):
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"audio": "a.wav", "text": "a", "phones": 3}\n')
    with pytest.raises(RecipeError, match=r'wrong\.jsonl:1: "phones" must be text'):
        read_manifest(path)


def test_shards_keep_the_phones(tmp_path: Path):
    manifest = write_spelled(tmp_path)
    write_shards(manifest, tmp_path / "shards")
    spelled = [entry.phones for entry in read_manifest(manifest)]
    assert [entry.phones for entry in read_training(str(tmp_path / "shards"))] == spelled


def test_no_phones_at_all_are_one_line_that_names_them(phones_recipe: AcousticRecipe, tmp_path: Path):
    write_spelled(tmp_path, missing=tuple(range(8)))
    with pytest.raises(RecipeError) as caught:
        make_trainer(phones_recipe)
    message = str(caught.value).replace(str(tmp_path), "")
    assert "phones" in message
    assert "\n" not in message


def test_a_vocabulary_that_does_not_suit_the_phones_names_its_field(phones_recipe: AcousticRecipe):
    phones_recipe.phones.vocabulary = 500
    with pytest.raises(RecipeError, match=r"phones\.vocabulary=500") as caught:
        make_trainer(phones_recipe)
    assert "\n" not in str(caught.value)


def test_a_new_run_does_not_take_the_phones_of_one_that_never_finished_an_epoch(phones_recipe: AcousticRecipe):
    assert len(make_trainer(phones_recipe).task.phones.tokens) == 8
    phones_recipe.phones.vocabulary = 7
    assert len(make_trainer(phones_recipe).task.phones.tokens) == 7


def test_a_checkpoint_with_another_second_head_is_refused(phones_recipe: AcousticRecipe):
    phones_recipe.epochs = 1
    make_trainer(phones_recipe).run()
    model = AcousticModel(phones_recipe.model, LETTERS, 5)
    with pytest.raises(RecipeError, match="the checkpoint is of another model"):
        load_checkpoint(phones_recipe.folder / "last.safetensors", model, torch.optim.AdamW(model.parameters()), {})
