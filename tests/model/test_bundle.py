import dataclasses
import json
from pathlib import Path
from typing import Any

import carrier
import pytest

import asr.model.bundle
from asr.errors import BundleError
from asr.model.bundle import FORMAT, BundleConfig, load_bundle, packaged_models, write_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return carrier.write_bundle(tmp_path / "model")


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(name: str | Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_bundle_is_what_was_written(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.path == folder
    assert bundle.config == carrier.CONFIG
    assert bundle.tokens.symbols == carrier.TOKENS.symbols
    assert bundle.graph == folder / "model.onnx"
    assert load_bundle(str(folder)) is not None


def test_config_round_trip_keeps_every_field(tmp_path: Path, folder: Path) -> None:
    config = BundleConfig(
        name="größer",
        language="de",
        description='with "quotes", ▁ and 中文',
        license="CC BY 4.0",
        sample_rate=16_000,
        frame_seconds=0.04,
        streaming=True,
        model={"cell": "gru", "layers": 4},
        tokenizer={"kind": "bpe"},
        metrics={"dev_wer": 0.123},
        log_priors=tuple(-0.5 - 0.25 * token for token in range(len(carrier.TOKENS))),
    )
    write_config(folder, config)
    assert load_bundle(folder).config == config


@pytest.mark.parametrize("written", ["sv-SE", "sv_SE", "SV", "sv"])
def test_a_language_is_known_without_its_region(folder: Path, written: str) -> None:
    change(folder, language=written)
    assert load_bundle(folder).config.language == "sv"


def test_keys_of_a_later_version_are_ignored(folder: Path) -> None:
    change(folder, colour="blue", extra={"a": 1})
    assert load_bundle(folder).config == carrier.CONFIG


def test_metrics_may_be_left_out(folder: Path) -> None:
    values = dataclasses.asdict(carrier.CONFIG)
    del values["metrics"]
    (folder / "config.json").write_text(json.dumps(values))
    assert load_bundle(folder).config.metrics == {}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"log_priors": [-1.0] * 5},
            f"5 log_priors for {len(carrier.TOKENS)} tokens; copy the bundle again or export it again",
        ),
        (
            {"decoder": {"prior_scale": 0.2}},
            f"0 log_priors for {len(carrier.TOKENS)} tokens; copy the bundle again or export it again",
        ),
        ({"log_priors": [float("nan")] * len(carrier.TOKENS)}, "log_priors is nan, not a number from -1000 to 1"),
        ({"log_priors": [float("-inf")] * len(carrier.TOKENS)}, "log_priors is -inf, not a number from -1000 to 1"),
        ({"log_priors": ["much"] * len(carrier.TOKENS)}, "log_priors is 'much', not a number from"),
        ({"log_priors": 3}, "not the config of a bundle"),
    ],
)
def test_damaged_priors_are_one_line(folder: Path, values: dict[str, Any], problem: str) -> None:
    change(folder, **values)
    message = refusal(folder)
    assert message.startswith(f"{folder}/config.json: ")
    assert problem in message


def test_an_unknown_name_lists_the_names_that_there_are() -> None:
    message = refusal("en-bilstn")
    assert "en-bilstn" in message
    assert "en-bilstm" in message


def test_an_unknown_name_with_no_packaged_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr.model.bundle, "PACKAGED", tmp_path)
    assert "(none)" in refusal("en-bilstm")


def test_a_folder_without_config_is_not_a_bundle(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path}: not a model bundle, it has no config.json; name another, or copy it again"
    )


def test_a_file_is_not_a_bundle(folder: Path) -> None:
    assert "not a model bundle" in refusal(folder / "model.onnx")


@pytest.mark.parametrize("name", ["config.json", "tokens.txt", "model.onnx"])
def test_a_file_that_was_not_downloaded_is_named_for_what_it_is(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    assert refusal(folder).startswith(f"{folder}/{name}: holds a pointer of Git LFS")
    (folder / name).write_text("<!DOCTYPE html>\n<html>")
    assert refusal(folder).startswith(f"{folder}/{name}: holds a web page")
    (folder / name).unlink()
    assert str(folder) in refusal(folder)


def test_a_newer_format_asks_for_an_update(folder: Path) -> None:
    change(folder, format=FORMAT + 1)
    message = refusal(folder)
    assert f"format {FORMAT + 1}" in message
    assert "update asr" in message


@pytest.mark.parametrize(
    "config",
    ["", "{", "[]", "null", "7", '{"name": "x"}', f'{{"format": {FORMAT}}}', '{"format": "one"}', '{"format": null}'],
)
def test_a_broken_config_is_one_line_that_names_it(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    assert refusal(folder).startswith(f"{folder}/config.json: not the config of a bundle")


def test_a_config_that_is_not_utf8_is_one_line(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'{"name": "\xff"}')
    assert refusal(folder).startswith(f"{folder}/config.json: not the config of a bundle")


@pytest.mark.parametrize("name", ["tokens.txt", "model.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    message = refusal(folder)
    assert name in message
    assert str(folder) in message


@pytest.mark.parametrize("tokens", ["", "▁\na\n", "<blank>\na\na\n", "<blank>\na\n\n\n"])
def test_tokens_without_blank_or_twice_are_refused_with_the_file(folder: Path, tokens: str) -> None:
    (folder / "tokens.txt").write_text(tokens, encoding="utf-8")
    message = refusal(folder)
    assert str(folder / "tokens.txt") in message


def test_packaged_models_are_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "en-bilstm").mkdir()  # not a bundle, so it does not hide the packaged one
    assert "en-bilstm" in packaged_models()
    assert load_bundle("en-bilstm").path == asr.model.bundle.PACKAGED / "en-bilstm"


@pytest.mark.parametrize("name", packaged_models())
def test_every_packaged_bundle_is_complete(name: str) -> None:
    bundle = load_bundle(name)
    assert bundle.config.name == name
    assert bundle.config.license != "unstated"
    assert {"MODEL_CARD.md", "weights.safetensors"} <= {path.name for path in bundle.path.iterdir()}
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < 25e6
