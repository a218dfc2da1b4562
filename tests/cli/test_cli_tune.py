"""`asr tune` on the model that reads `carrier.speech`."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import carrier
import numpy as np
import pytest
from program import Command

from asr.cli.tune import bundled
from asr.decode.build import make_decoder
from asr.errors import AsrError
from asr.lm.binary import save_model
from asr.lm.estimate import estimate
from asr.model.bundle import load_bundle, write_config
from asr.recognize.offline import Recognizer

TEXTS = ("a map", "the map", "a nap on the map", "map")


@pytest.fixture
def bundle(carrier_bundle: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(carrier_bundle, tmp_path / "bundle"))
    (folder / "MODEL_CARD.md").write_text("# Mine\n\nMade by hand.\n\n## Decoding\n\nof yesterday\n")
    return folder


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = []
    for number, text in enumerate(TEXTS):
        path = carrier.save(tmp_path / f"{number}.wav", text.replace("on", "in"), silence=20)  # one wrong word
        lines.append(json.dumps({"audio": path.name, "text": text, "speaker": "ab"[number % 2]}) + "\n")
    lines.append(json.dumps({"audio": "0.wav", "text": "map 7", "id": "not spelled"}) + "\n")
    (tmp_path / "dev.jsonl").write_text("".join(lines))
    return tmp_path / "dev.jsonl"


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    save_model(estimate(iter(TEXTS), order=2)[0], tmp_path / "words.lm")
    return tmp_path / "words.lm"


def test_weights_calibration_metrics_and_the_card_are_written(
    run: Command, bundle: Path, manifest: Path, lm: Path
) -> None:
    result = run("tune", bundle, manifest, "--lm", lm)
    assert result.code == 0
    assert all(f"{lm}: lm_weight " in line and "WER " in line for line in result.errors)
    config = load_bundle(bundle).config
    assert config.decoder.lm == "words.lm"
    assert (bundle / "words.lm").read_bytes() == lm.read_bytes()
    assert config.decoder.beam_confidence != (1.0, 0.0) != config.decoder.greedy_confidence
    evaluated = json.loads(run("evaluate", manifest, "--model", bundle, "--json").out)
    assert config.metrics["dev_wer_default"] == pytest.approx(evaluated["wer"], abs=1e-4)
    card = (bundle / "MODEL_CARD.md").read_text()
    assert card == f"# Mine\n\nMade by hand.\n\n{result.out}"
    assert f"    asr tune {bundle} {manifest} --lm {lm}\n" in card
    for row in ("| greedy | ", "| beam 32, no language model | ", f"| beam 32, {lm} | ", "Starts of the "):
        assert card.count(row) == 1
    again = run("tune", bundle, manifest, "--lm", lm)
    assert (again.code, again.out) == (0, result.out)


def test_weights_that_are_kept_are_measured_and_confidences_calibrated(
    run: Command, bundle: Path, manifest: Path, lm: Path
) -> None:
    config = load_bundle(bundle).config
    given = replace(config.decoder, lm_weight=0.2, word_bonus=-3.0)
    write_config(bundle, replace(config, decoder=given))
    result = run("tune", bundle, manifest, "--lm", lm, "--keep-weights")
    assert result.code == 0
    assert len(result.errors) == 1  # one decoding, no search
    assert "These weights were given, not chosen on this data." in result.out
    assert f"    asr tune {bundle} {manifest} --lm {lm} --keep-weights\n" in result.out
    tuned = load_bundle(bundle).config.decoder
    assert (tuned.lm_weight, tuned.word_bonus, tuned.lm) == (0.2, -3.0, "words.lm")
    assert tuned.beam_confidence != (1.0, 0.0) != tuned.greedy_confidence


def test_weights_are_kept_without_a_language_model(run: Command, bundle: Path, manifest: Path) -> None:
    config = load_bundle(bundle).config
    given = replace(config.decoder, word_bonus=-3.0, rescoring_weight=0.7, attention_weight=0.9)
    write_config(bundle, replace(config, decoder=given))
    assert run("tune", bundle, manifest, "--lm", "NONE", "--keep-weights").code == 0
    tuned = load_bundle(bundle).config.decoder
    assert (tuned.word_bonus, tuned.rescoring_weight, tuned.attention_weight, tuned.lm) == (-3.0, 0.7, 0.9, "")


def test_the_bundles_own_language_model_stays_unless_none_is_asked_for(
    run: Command, bundle: Path, manifest: Path, lm: Path
) -> None:
    assert run("tune", bundle, manifest, "--lm", lm).code == 0
    before = load_bundle(bundle).config
    assert run("tune", bundle, manifest).code == 0
    assert load_bundle(bundle).config == before
    assert run("tune", bundle, manifest, "--lm", "NONE").code == 0
    assert load_bundle(bundle).config.decoder.lm == ""


@pytest.mark.parametrize("named", ["en-lm", "../words.lm", None], ids=["packaged", "a path", "in the bundle"])
def test_a_language_model_is_found_from_any_folder(
    run: Command, bundle: Path, manifest: Path, lm: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    if named is None:
        values = json.loads((bundle / "config.json").read_text())
        (bundle / "config.json").write_text(json.dumps(values | {"decoder": {"lm": "words.lm"}}))
        lm.rename(bundle / "words.lm")
    elsewhere = manifest.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "words.lm").write_bytes(b"of another bundle")
    monkeypatch.chdir(elsewhere)
    result = run("tune", "../bundle", "../dev.jsonl", *(["--lm", named] if named else []))
    assert result.code == 0, result.err
    expected = "en-lm" if named == "en-lm" else "words.lm"
    assert load_bundle(bundle).config.decoder.lm == expected
    assert (bundle / "words.lm").is_file() == (expected == "words.lm")
    monkeypatch.chdir("/")
    make_decoder("beam", load_bundle(bundle))


def test_priors_are_measured_and_their_scale_is_a_step_of_the_search(
    run: Command, bundle: Path, manifest: Path, lm: Path
) -> None:
    assert "prior_scale 0.1:" not in run("tune", bundle, manifest, "--lm", lm).err
    result = run("tune", bundle, manifest, "--lm", lm, "--priors", manifest)
    assert result.code == 0
    assert "prior_scale 0.1:" in result.err
    assert "prior_scale -" not in result.err
    assert f"    asr tune {bundle} {manifest} --lm {lm} --priors {manifest}\n" in result.out
    config = load_bundle(bundle).config
    frames = [row for number in range(4) for row in Recognizer(bundle).log_probs(manifest.parent / f"{number}.wav")]
    frames += [*Recognizer(bundle).log_probs(manifest.parent / "0.wav")]  # which the manifest names twice
    assert np.exp(config.log_priors) == pytest.approx(np.exp(frames).mean(axis=0), abs=1e-4)
    assert "prior_scale 0.1:" in run("tune", bundle, manifest, "--lm", lm).err
    assert load_bundle(bundle).config.log_priors == config.log_priors


def test_without_a_language_model_only_confidences_are_fitted(run: Command, bundle: Path, manifest: Path) -> None:
    (bundle / "MODEL_CARD.md").unlink()
    result = run("tune", bundle, manifest)
    assert (result.code, result.err) == (0, "")
    assert "No language model." in result.out
    assert load_bundle(bundle).config.decoder.lm == ""
    assert (bundle / "MODEL_CARD.md").read_text().endswith(result.out)


def test_the_weights_of_rescoring_are_found_too(run: Command, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="makes the model: pip install 'recurrent-asr[train]'")
    from neural_model import write_model

    folder = write_model(tmp_path / "recurrent", "characters")
    result = run("tune", bundle, manifest, "--rescore", folder)
    assert result.code == 0
    assert all("NONE, rescored: weight " in line for line in result.errors)
    assert "| beam 32, no n-grams, rescored: weight " in result.out
    assert load_bundle(bundle).config.decoder.rescored_confidence != (1.0, 0.0)


def test_tuning_needs_no_torch(bundle: Path, manifest: Path) -> None:
    code = "import sys; sys.modules |= dict.fromkeys(['torch', 'lhotse', 'omegaconf'])"
    command = [sys.executable, "-c", f"{code}\nfrom asr.cli.main import main; main()", "tune", bundle, manifest]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["en-bilstm", "dev.jsonl"], "a packaged model stays as it is; copy its folder, "),
        (["nowhere", "dev.jsonl"], "nowhere': neither a folder"),
        (["bundle", "none.jsonl"], "none.jsonl: cannot read the manifest"),
        (["bundle", "dev.jsonl", "--priors", "none.jsonl"], "none.jsonl: cannot read the manifest"),
        (["bundle", "dev.jsonl", "--lm", "nowhere"], "no language model 'nowhere'"),
        (
            ["bundle", "dev.jsonl", "--rescore", "nowhere"],
            "nowhere: no such folder; name that of a recurrent language model",
        ),
    ],
)
def test_failures_are_one_line(
    run: Command, bundle: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(manifest.parent)
    before = (bundle / "config.json").read_bytes()
    result = run("tune", *arguments)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert problem in line
    assert (bundle / "config.json").read_bytes() == before


def test_a_language_model_is_copied_into_the_bundle_unless_it_is_packaged(bundle: Path, lm: Path) -> None:
    opened = load_bundle(bundle)
    assert bundled(opened, str(lm)) == bundled(opened, str(bundle / "words.lm")) == "words.lm"
    assert (bundle / "words.lm").read_bytes() == lm.read_bytes()
    assert [bundled(opened, name) for name in ("en-lm", "")] == ["en-lm", ""]
    lm.write_bytes(b"others")
    with pytest.raises(AsrError, match="is another file than"):
        bundled(opened, str(lm))
