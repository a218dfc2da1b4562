"""A bundle with an attention decoder on the command line: the second pass in every command, and `asr plot`."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="makes the decoder: pip install 'recurrent-asr[train]'")

from attention_bundle import write_bundle
from program import Command

from asr.model.bundle import load_bundle

SAMPLE = Path(__file__).parents[1] / "data/sample.flac"
TEXT = "the birds were singing in the garden"  # up to 1.86 s


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "attentive")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = [
        {"id": f"{speaker}{part}", "audio": str(SAMPLE), "text": f"{TEXT} and the old man sat down", "speaker": speaker}
        | ({"offset": 0.0, "duration": 1.86, "text": TEXT} if part else {})
        for speaker in "ab"
        for part in (0, 1)
    ]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "dev.jsonl"


def test_the_second_pass_is_the_default_and_can_be_left_out(run: Command, bundle: Path) -> None:
    def alternatives(*options: str) -> list[dict[str, object]]:
        result = run("transcribe", SAMPLE, "--model", bundle, "--format", "json", "--nbest", "4", *options)
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)["alternatives"]

    assert all("rescoring" in item for item in alternatives())
    without = alternatives("--second-pass", "none")
    assert not any("rescoring" in item for item in without)
    (bundle / "second_pass.onnx").unlink()
    assert alternatives() == without


def test_attention_alone_decodes_too(run: Command, bundle: Path) -> None:
    result = run("transcribe", SAMPLE, "--model", bundle, "--decoder", "attention")
    assert result.code == 0
    assert result.out.strip()
    refused = run("transcribe", SAMPLE, "--model", bundle, "--decoder", "attention", "--lm", "NONE")
    assert refused.code == 2
    (bundle / "second_pass.onnx").unlink()
    refused = run("transcribe", SAMPLE, "--model", bundle, "--decoder", "attention")
    assert (refused.code, refused.errors) == (
        1,
        ["asr: decoder: attentive has no attention decoder; choose beam or greedy"],
    )


def test_listen_leaves_out_the_models_own_second_pass_too(run: Command, tmp_path: Path) -> None:
    live = write_bundle(tmp_path / "live", streaming=True, weight=20.0)
    finals = []
    for options in ((), ("--second-pass", "none")):
        result = run("listen", "--model", live, "--input", SAMPLE, "--lm", "NONE", *options)
        assert result.code == 0
        finals.append(result.out)
    (live / "second_pass.onnx").unlink()
    assert run("listen", "--model", live, "--input", SAMPLE, "--lm", "NONE").out == finals[1] != finals[0]


def test_the_oracle_error_rate_is_at_most_that_of_the_best(run: Command, bundle: Path, manifest: Path) -> None:
    arguments = ("evaluate", manifest, "--model", bundle, "--nbest", "16")
    values = json.loads(run(*arguments, "--json").out)
    assert 0 < values["oracle_wer"] <= values["wer"]
    assert f", oracle WER of the 16 best {values['oracle_wer']:.2%}" in run(*arguments).out
    assert "oracle_wer" not in json.loads(run("evaluate", manifest, "--model", bundle, "--json").out)


def test_tuning_finds_the_weights_of_attention_and_its_calibration(run: Command, bundle: Path, manifest: Path) -> None:
    result = run("tune", bundle, manifest, "--lm", "NONE")
    assert result.code == 0
    assert all("NONE, rescored: weight " in line for line in result.errors)
    assert "| beam 32, NONE, attention | " in result.out
    assert " Attention: weight " in result.out
    config = load_bundle(bundle).config
    assert config.decoder.attention_confidence not in ((1.0, 0.0), (1.0, -0.5))
    values = json.loads(run("evaluate", manifest, "--model", bundle, "--json").out)
    assert config.metrics["dev_wer_default"] == pytest.approx(values["wer"], abs=1e-4)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_attention_is_drawn(run: Command, bundle: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="draws: pip install 'recurrent-asr[train]'")
    picture = tmp_path / f"attention.{suffix}"
    result = run("plot", "attention", SAMPLE, "--model", bundle, "--output", picture)
    assert result.code == 0
    assert result.out.endswith("% of the attention near the words\n")
    assert picture.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert run("plot", "attention", SAMPLE, "--model", bundle, "--output", picture).code == 1  # it is there


def test_the_attention_of_a_manifest_is_one_figure(run: Command, bundle: Path, manifest: Path) -> None:
    result = run("plot", "attention", manifest, "--model", bundle)
    assert result.code == 0
    assert " of the attention near the words, " in result.out
    assert run("plot", "attention", manifest, "--model", bundle, "--text", "a").code == 2


def test_a_model_without_a_decoder_has_no_picture(run: Command, carrier_bundle: Path) -> None:
    result = run("plot", "attention", SAMPLE, "--model", carrier_bundle)
    assert result.code == 1
    assert result.errors == ["asr: carrier has no attention decoder; choose a model with second_pass.onnx"]
