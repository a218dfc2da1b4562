"""A tagger from a recipe: it learns a few sentences by heart and writes them; its folder says how well."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import WRITTEN, make_trainer, tagger_recipe

from asr.errors import ArgumentError, AsrError, BundleError
from asr.model import tagger
from asr.model.checksums import verify_checksums
from asr.model.tagger import Tagger, word_features
from asr.train.config import load_recipe, save_recipe
from asr.train.run import export_checkpoint, run_recipe
from asr.train.runs import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    recipe = tagger_recipe(folder)
    recipe.epochs, recipe.data.epoch_words = 3, 3000
    recipe.optimizer.learning_rate, recipe.model.dropout = 1e-2, 0.0
    save_recipe(recipe, folder / "tiny.yaml")
    before = torch.get_num_threads()
    run_recipe(folder / "tiny.yaml", [])
    torch.set_num_threads(before)
    return recipe.folder


def written(model: Tagger, spoken: str) -> str:
    return " ".join(tag.form + tag.mark for tag in model.tag(spoken.split()))


def test_sentences_learned_by_heart_are_written(run: Path):
    model = Tagger(run / "bundle")
    assert written(model, WRITTEN[1][1]) == "No, it was NASA's money!"
    assert written(model, f"{WRITTEN[3][1]} {WRITTEN[4][1]}") == "He said: so be it. Mcdonald laughed– and left."
    assert written(model, WRITTEN[0][1]) == "Doctor Smith paid twenty five dollars in May, didn't he?"
    assert model.tag([]) == []


def test_its_folder_holds_the_figures(run: Path):
    bundle = run / "bundle"
    files = {file.name for file in bundle.iterdir()}
    assert files == {"config.json", "tagger.onnx", "listed.txt", "MODEL_CARD.md", "SHA256SUMS"}
    verify_checksums(bundle)
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert config["metrics"]["dev_f1_capitals"] == 1.0
    card = (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| float32 | 1.000 |" in card
    assert (run / "report.html").stat().st_size > 10_000
    found = read_run(run)
    assert (found.kind, found.damage) == ("tagger", ())
    assert found.best == pytest.approx(0.0)


def test_what_is_not_known_may_be_left_out(run: Path):
    model = Tagger(run / "bundle")
    words = WRITTEN[3][1].lower().split()
    nothing = model.scores(words)
    unknown = [np.nan] * len(words)
    np.testing.assert_array_equal(model.scores(words, unknown, unknown), nothing)
    assert (model.scores(words, [0.5] * len(words)) != nothing).any()


def test_a_checkpoint_is_exported_as_the_run_does(run: Path, tmp_path: Path):
    export_checkpoint(run, tmp_path / "again")
    assert (tmp_path / "again/tagger.onnx").read_bytes() == (run / "bundle/tagger.onnx").read_bytes()


def test_an_older_bundle_is_replaced_and_a_text_may_lack_marks(tmp_path: Path):
    recipe = tagger_recipe(tmp_path)
    (tmp_path / "written.txt").write_text("One, two.\tONE TWO\nThree four.\tTHREE FOUR\n")
    save_recipe(recipe, tmp_path / "tiny.yaml")
    before = torch.get_num_threads()
    run_recipe(tmp_path / "tiny.yaml", [])
    torch.set_num_threads(before)
    export_checkpoint(recipe.folder, recipe.folder / "bundle")
    config = json.loads((recipe.folder / "bundle/config.json").read_text(encoding="utf-8"))
    assert config["metrics"].keys() == {"dev_f1_comma", "dev_f1_full_stop", "dev_f1_capitals"}


@pytest.mark.parametrize("given", [{"pauses": [0.1]}, {"confidences": [0.5] * 9}])
def test_as_many_pauses_and_confidences_as_words(run: Path, given: dict[str, list[float]]):
    with pytest.raises(ArgumentError, match="give one for each word"):
        Tagger(run / "bundle").tag(["so", "be", "it"], **given)


def test_confidences_beyond_their_range_are_the_nearest(run: Path):
    model = Tagger(run / "bundle")
    np.testing.assert_array_equal(model.scores(["so"], None, [1e300]), model.scores(["so"], None, [1.0]))


def test_words_are_hashed_as_they_always_were():
    """Weights of a bundle stand for these rows."""
    assert word_features("house", 1000) == (422, 182, 38, 160, 226)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tagger.onnx").unlink(), "tagger.onnx is missing"),
        (lambda folder: (folder / "listed.txt").unlink(), "listed.txt is missing"),
        (lambda folder: (folder / "tagger.onnx").write_bytes(b"x" * 100), "cannot be run"),
        (lambda folder: (folder / "config.json").write_text("{}"), "not the config of a tagger"),
        (lambda folder: (folder / "listed.txt").write_bytes(b"\xff"), "listed.txt"),
    ],
)
def test_a_damaged_folder_is_one_line(run: Path, tmp_path: Path, damage: Callable[[Path], object], message: str):
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in (run / "bundle").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damage(folder)
    with pytest.raises(BundleError, match=message) as caught:
        Tagger(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_graph_of_another_kind_is_refused(run: Path):
    with pytest.raises(BundleError, match="not the graph of a tagger"):
        Tagger(run / "bundle", tagger.PACKAGED / "en-gru/model.onnx")


def test_a_live_recipe_of_two_directions_is_refused(run: Path):
    with pytest.raises(AsrError, match="is for a live tagger"):
        load_recipe(run / "recipe.yaml", ["model.lookahead=2"])


def test_a_run_of_a_live_tagger(tmp_path: Path):
    recipe = tagger_recipe(tmp_path)
    recipe.model.bidirectional, recipe.model.lookahead, recipe.model.cell = False, 2, "gru"
    curve = make_trainer(recipe).run()
    assert curve[-1].dev_loss < curve[0].dev_loss


def test_a_tagger_of_ones_own_punctuates(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from asr.cli.punctuate import punctuate

    (tmp_path / "spoken.txt").write_text("no it was nasa's money\n", encoding="utf-8")
    punctuate(str(tmp_path / "spoken.txt"), tagger=run / "bundle")
    assert capsys.readouterr().out == "No, it was NASA's money!\n"


def test_a_tagger_can_be_verified(run: Path, capsys: pytest.CaptureFixture[str]):
    from asr.cli.models import verify_all

    verify_all([run / "bundle"])
    assert capsys.readouterr().out == "bundle: whole\n"
