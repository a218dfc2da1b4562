"""The energy floor of the features: in the exported graph, in what a run may begin with, and by default as it was."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_runs import make_trainer

from asr.audio.sources import read
from asr.data.manifest import Entry
from asr.errors import RecipeError
from asr.model.bundle import load_bundle
from asr.nn.ctc_model import AcousticConfig, AcousticModel
from asr.nn.export import export_onnx
from asr.nn.frontend import LogMel
from asr.train.config import AcousticRecipe, load_recipe
from asr.train.pretrained import load_trained
from asr.train.run import export_checkpoint

LOW = 1e-10


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # `threads` of conftest.py puts it back


def quiet_noise() -> torch.Tensor:
    """Two rows of half a second, 80 dB below full scale: below the default floor."""
    return 1e-4 * torch.randn(2, 8_000, generator=torch.Generator().manual_seed(3))


def test_below_the_floor_all_is_the_same():
    silence = torch.zeros(1, 800)
    for floor in (1e-6, LOW):
        assert torch.allclose(LogMel(20, floor).log_mel(silence), torch.tensor(floor).log())
    quiet = quiet_noise()
    assert LogMel(20, LOW).log_mel(quiet).std() > 0.1
    assert LogMel(20, 1e-6).log_mel(quiet).std() < 1e-6


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_exported_graph_has_the_floor_of_the_model(tmp_path: Path, bidirectional: bool):
    quiet = quiet_noise()[:1, :7_680]
    results = []
    for floor in (1e-6, LOW):
        torch.manual_seed(4)
        config = AcousticConfig(layers=1, hidden_size=16, n_mels=20, bidirectional=bidirectional, energy_floor=floor)
        model = AcousticModel(config, 5).eval()
        with torch.no_grad():
            model.features.mean.fill_(-12.0)
            expected, *_ = model(quiet, torch.tensor([7_680]))
        export_onnx(model, tmp_path / "model.onnx")
        graph = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        inputs = {"waveform": quiet.numpy(), "lengths": np.array([7_680])}
        if not bidirectional:
            state = {name: value.numpy() for name, value in model.start(1)._asdict().items()}
            known = {value.name for value in graph.get_inputs()}
            inputs = {"chunk": quiet.numpy()} | {name: value for name, value in state.items() if name in known}
        found = graph.run(["log_probs"], inputs)[0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
        results.append(found)
    assert np.abs(results[0] - results[1]).max() > 1e-3


def test_a_bundle_keeps_the_floor_and_fine_tuning_may_change_it(recipe: AcousticRecipe):
    recipe.model.energy_floor, recipe.epochs, recipe.augment.mask_below_wer = LOW, 1, 1.0
    make_trainer(recipe).run()
    export_checkpoint(recipe.folder, None)
    bundle = recipe.folder / "bundle"
    assert load_bundle(str(bundle)).config.model["energy_floor"] == LOW
    for source in (bundle, recipe.folder):
        trained = load_trained(str(source))
        assert trained.config.energy_floor == trained.model().features.floor == LOW
        further = replace(recipe, name="further", init_from=str(source))
        further.model = replace(recipe.model, energy_floor=1e-6, mean_normalization=recipe.model.bidirectional)
        task = make_trainer(further).task
        assert task.model.config.mean_normalization == recipe.model.bidirectional
        assert task.model.config.energy_floor == task.model.features.floor == 1e-6
        begun = task.model.state_dict()
        assert all(torch.equal(begun[name], value) for name, value in trained.model().state_dict().items())
    with pytest.raises(RecipeError, match=r"model\.energy_floor was 1e-10, not 1e-06"):
        make_trainer(replace(recipe, model=replace(recipe.model, energy_floor=1e-6)), resume=True)


def test_a_floor_in_a_recipe_may_be_written_as_a_power_of_ten(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("data: {train: a, dev: b}\nmodel: {energy_floor: 1e-10}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml", [])
    assert isinstance(recipe, AcousticRecipe)
    assert recipe.model.energy_floor == LOW


@pytest.mark.parametrize("name", ["en-bilstm", "en-gru"])
def test_packaged_models_have_the_floor_that_they_were_trained_with(name: str):
    trained = load_trained(name)
    assert trained.config.energy_floor == trained.model().features.floor == LOW
    assert asdict(AcousticConfig())["energy_floor"] == 1e-6


def test_the_weights_of_a_packaged_model_still_give_what_its_graph_does(dev_entries: list[Entry]):
    """The graph was exported before there was a floor to choose; its weights have 8 bits."""
    samples = read(dev_entries[0].audio)
    bundle = load_bundle("en-bilstm")
    graph = onnxruntime.InferenceSession(str(bundle.path / "model.onnx"), providers=["CPUExecutionProvider"])
    model = load_trained("en-bilstm").model().eval()
    for loudness in (1.0, 0.01):  # the lower one has much below the floor
        waveform = samples[None] * np.float32(loudness)
        found = graph.run(["log_probs"], {"waveform": waveform, "lengths": np.array([waveform.shape[1]])})[0]
        with torch.no_grad():
            expected, *_ = model(torch.from_numpy(waveform), torch.tensor([waveform.shape[1]]))
        assert (found.argmax(2) == expected.numpy().argmax(2)).mean() > 0.97
