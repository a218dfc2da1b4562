"""Checkpoints after a run: kept, averaged, exported; what does not fit is one line."""

import json
import os
import shutil
import signal
from dataclasses import asdict
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
from safetensors.torch import load_file

from asr.errors import RecipeError
from asr.model.bundle import load_bundle
from asr.train.checkpoint import (
    average_checkpoints,
    find_checkpoints,
    kept_checkpoint,
    kept_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from asr.train.config import AcousticRecipe
from asr.train.export import CRF_PRIOR_SCALE, bundle_folder
from asr.train.run import export_checkpoint
from asr.train.runs import Record


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished_run, tmp_path / "copy")


def card(bundle: Path) -> str:
    return (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_checkpoints_of_the_last_epochs_are_kept_and_the_last_of_them_is_the_last(finished_run: Path):
    kept = kept_checkpoints(finished_run)
    assert [path.name for path in kept] == ["epoch-0002.safetensors", "epoch-0003.safetensors"]
    assert [len(read_checkpoint(path)[1]["curve"]) for path in kept] == [2, 3]
    last, newest = load_file(finished_run / "last.safetensors"), load_file(kept[-1])
    assert all(torch.equal(newest[name], last[name]) for name in last)


@pytest.mark.skipif(os.name != "posix", reason="modes of a POSIX system")
def test_all_files_of_a_run_follow_the_umask(finished_run: Path):
    umask = os.umask(0o022)
    os.umask(umask)
    files = [path for path in finished_run.rglob("*") if path.is_file()]
    assert {"last.safetensors", "curve.jsonl", "weights.safetensors", "model.onnx"} <= {path.name for path in files}
    assert [path for path in files if path.stat().st_mode & 0o777 != 0o666 & ~umask] == []


def test_one_kept_epoch_is_the_last_checkpoint_alone(recipe: AcousticRecipe):
    from tiny_runs import make_trainer

    recipe.epochs = 1
    make_trainer(recipe).run()
    assert {path.name for path in recipe.folder.glob("*.safetensors")} == {"last.safetensors", "best.safetensors"}


def test_the_average_is_the_mean_by_hand(run: Path):
    paths = [*kept_checkpoints(run), run / "best.safetensors"]
    average_checkpoints(paths, run / "averaged.safetensors")
    averaged = load_file(run / "averaged.safetensors")
    tensors = [load_file(path) for path in paths]
    assert averaged.keys() == {name for name in tensors[0] if name.startswith("model.")}
    for name, value in averaged.items():
        expected = (tensors[0][name].double() + tensors[1][name].double() + tensors[2][name].double()) / 3
        assert value.dtype == tensors[0][name].dtype
        torch.testing.assert_close(value, expected.to(value.dtype), rtol=0, atol=0)
    assert any(not torch.equal(averaged[name], tensors[0][name]) for name in averaged)


def test_the_averaged_model_becomes_a_bundle_that_says_so(run: Path):
    average_checkpoints(find_checkpoints([run], 2), run / "averaged.safetensors")
    export_checkpoint(run / "averaged.safetensors", None)
    assert "The bundle holds the mean of epoch-0002.safetensors, epoch-0003.safetensors." in card(
        run / "bundle-averaged"
    )
    weights = load_file(run / "bundle-averaged/weights.safetensors")
    averaged = load_file(run / "averaged.safetensors")
    for name, value in weights.items():
        torch.testing.assert_close(value, averaged[f"model.{name}"].to(value.dtype), rtol=0, atol=0)


def test_the_bundle_of_ctc_crf_has_the_priors_that_its_n_grams_had(finished_run: Path, run: Path):
    recipe = run / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("  crf: 0.0\n", "  crf: 0.9\n"), encoding="utf-8")
    assert "crf: 0.9" in recipe.read_text(encoding="utf-8")
    export_checkpoint(run, run / "crf")
    before, after = (load_file(folder / "weights.safetensors") for folder in (finished_run / "bundle", run / "crf"))
    moved = after.pop("head.bias").float() - before.pop("head.bias").float()
    config = load_bundle(run / "crf").config
    torch.testing.assert_close(moved, CRF_PRIOR_SCALE * torch.tensor(config.log_priors), rtol=0, atol=0.02)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    # A decoder with a language model takes them off again.
    assert config.decoder.prior_scale == CRF_PRIOR_SCALE
    expected = load_bundle(finished_run / "bundle").config.log_priors
    assert config.log_priors == pytest.approx(expected, abs=0.02)


def best_epoch(run: Path) -> int:
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    return min(curve, key=lambda epoch: (epoch["dev_wer"], epoch["dev_loss"]))["epoch"]


def test_the_best_epoch_exports_to_the_runs_own_bundle(finished_run: Path, run: Path):
    export_checkpoint(run / "best.safetensors", run / "elsewhere/mine")
    files = {path.name: path.read_bytes() for path in (run / "elsewhere/mine").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (finished_run / "bundle").iterdir()}
    assert not (run / "bundle-best").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": "years of work"},
        {"config.json": '{"model_type": "llama"}'},
        {"config.json": "[]"},
        {"config.json": "{"},
        {".hidden": ""},
    ],
)
def test_a_folder_that_is_no_bundle_stays_as_it_is(run: Path, tmp_path: Path, files: dict[str, str]):
    target = tmp_path / "target"
    target.mkdir()
    for name, text in files.items():
        (target / name).write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as problem:
        export_checkpoint(run, target)
    assert one_line(problem) == f"{target}: is there and is not a model bundle; name a new or an empty folder"
    assert contents(target) == {name: text.encode() for name, text in files.items()}
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "target"}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_bundle_with_anything_else_in_it_stays_as_it_is(run: Path, kind: str):
    if kind == "folder":
        (run / "bundle/notes").mkdir()
    else:
        (run / "bundle/notes.txt").write_text("mine", encoding="utf-8")
    before = contents(run / "bundle")
    with pytest.raises(RecipeError, match="is not a model bundle"):
        export_checkpoint(run, run / "bundle")
    assert contents(run / "bundle") == before


def test_a_file_in_place_of_the_bundle_stays_as_it_is(run: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for target in (tmp_path / "file", tmp_path / "file/bundle"):
        with pytest.raises(RecipeError) as problem:
            export_checkpoint(run, target)
        assert one_line(problem).startswith(f"{target}: ")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_an_empty_folder_and_a_bundle_are_replaced(run: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    shutil.copytree(run / "bundle", tmp_path / "older")
    (tmp_path / "older/words.lm").write_text("of the older one", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "older")
    for target in ("empty", "link"):
        with bundle_folder(run, tmp_path / target) as folder:
            (folder / "config.json").write_text("new", encoding="utf-8")
    for target in ("empty", "older"):
        assert {path.name for path in (tmp_path / target).iterdir()} == {"tokens.txt", "config.json", "SHA256SUMS"}
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "empty", "older", "link"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_nothing_is_lost_when_an_export_is_killed(run: Path, renames: int):
    """After so many of its renames. The next export, which fails, finds what there was."""
    bundle = run / "bundle"
    old, new = contents(bundle), {name: (bundle / name).read_bytes() for name in ("tokens.txt", "config.json")}
    new["SHA256SUMS"] = ANY
    child = os.fork()
    if not child:
        try:
            export_and_die(run, bundle, renames)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    places = {0: (bundle, ".bundle.export/new"), 1: (".bundle.export/old", ".bundle.export/new"), 2: (None, bundle)}
    for place, expected in zip(places[renames], (old, new), strict=True):
        assert place is None or contents(run / place) == expected
    with pytest.raises(RecipeError, match="fails"), bundle_folder(run, bundle):
        raise RecipeError("fails")
    assert contents(bundle) == (new if renames == 2 else old)
    assert [path.name for path in run.iterdir() if "bundle" in path.name] == ["bundle"]


def export_and_die(run: Path, bundle: Path, renames: int) -> None:
    done = 0
    rename, remove = os.replace, shutil.rmtree

    def killed(*arguments: Path, **_: bool) -> None:
        nonlocal done
        if done == renames:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        (rename if len(arguments) > 1 else remove)(*arguments)

    with bundle_folder(run, bundle) as folder:
        shutil.copy(bundle / "config.json", folder)
        os.replace = shutil.rmtree = killed


def test_an_epoch_that_is_not_the_best_says_which_it_is_and_leaves_the_runs_bundle(run: Path):
    before = card(run / "bundle")
    epoch = next(epoch for epoch in (2, 3) if epoch != best_epoch(run))
    export_checkpoint(kept_checkpoint(run, epoch), None)
    assert f"The bundle holds epoch {epoch}. Losses" in card(run / f"bundle-epoch-000{epoch}")
    assert card(run / "bundle") == before


def test_the_moving_average_is_what_is_exported_and_averaged(run: Path):
    """Of two checkpoints of a run that keeps one beside its weights; `best` holds it in their place."""
    tensors, progress = read_checkpoint(run / "last.safetensors")
    weights = {name: value for name, value in tensors.items() if name.startswith("model.")}
    for epoch, scale in ((2, 0.5), (3, 0.9)):
        averages = {f"carried.average.module.{name[6:]}": value * scale for name, value in weights.items()}
        write_checkpoint(kept_checkpoint(run, epoch), tensors | averages, progress)
    export_checkpoint(kept_checkpoint(run, 2), None)
    for name, value in load_file(run / "bundle-epoch-0002/weights.safetensors").items():
        torch.testing.assert_close(value, (weights[f"model.{name}"] * 0.5).to(value.dtype), rtol=0, atol=0)
    average_checkpoints([*kept_checkpoints(run), run / "best.safetensors"], run / "averaged.safetensors")
    best = load_file(run / "best.safetensors")
    for name, value in load_file(run / "averaged.safetensors").items():
        torch.testing.assert_close(value, (weights[name] * 1.4 + best[name]) / 3)


@pytest.mark.parametrize("record", [None, "{"])
def test_a_run_without_its_record_can_be_exported(run: Path, record: str | None):
    (run / "run.json").unlink()
    if record:
        (run / "run.json").write_text(record)
    shutil.rmtree(run / "bundle")
    export_checkpoint(run, None)
    assert f"    asr train {run / 'recipe.yaml'}\n" in card(run / "bundle")
    assert "- on a machine that was not recorded\n" in card(run / "bundle")


def one_line(problem: pytest.ExceptionInfo[RecipeError]) -> str:
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_a_checkpoint_that_is_not_in_a_run_cannot_be_exported(run: Path, tmp_path: Path):
    alone = shutil.copy(run / "best.safetensors", tmp_path)
    with pytest.raises(RecipeError) as problem:
        export_checkpoint(Path(alone), None)
    assert "no recipe.yaml there" in one_line(problem)
    Path(alone).unlink()
    with pytest.raises(RecipeError) as problem:
        export_checkpoint(tmp_path, None)
    assert "no such checkpoint" in one_line(problem)


def test_a_damaged_checkpoint_leaves_the_bundle_that_is_there(run: Path):
    best = run / "best.safetensors"
    best.write_bytes(best.read_bytes()[:-100])
    before = card(run / "bundle")
    with pytest.raises(RecipeError) as problem:
        export_checkpoint(run, None)
    assert one_line(problem).startswith(f"{best}: cannot read the checkpoint")
    assert card(run / "bundle") == before


def test_too_few_kept_epochs_say_how_to_keep_more(run: Path):
    with pytest.raises(RecipeError) as problem:
        find_checkpoints([run], 5)
    assert one_line(problem).endswith(
        "has kept the checkpoints of 2 epochs; train with keep_last=5, or name the checkpoints"
    )


def test_checkpoints_of_other_models_or_tokens_have_no_mean(run: Path):
    tensors, progress = read_checkpoint(run / "last.safetensors")
    name = next(name for name in tensors if name.startswith("model."))
    write_checkpoint(run / "other.safetensors", tensors | {name: torch.zeros(3)}, progress)
    write_checkpoint(run / "tokens.safetensors", tensors, progress | {"tokens": ["<blank>", "▁"]})
    for other, expected in (("other", "of another model"), ("tokens", "has other tokens")):
        with pytest.raises(RecipeError) as problem:
            average_checkpoints([run / "last.safetensors", run / f"{other}.safetensors"], run / "averaged.safetensors")
        assert expected in one_line(problem)
    assert not (run / "averaged.safetensors").exists()


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path):
    record = Record("acoustic", 3, "asr train 'a b.yaml' seed=5", "on a machine; ß")
    record.save(tmp_path)
    assert asdict(Record.load(tmp_path)) == asdict(record)
