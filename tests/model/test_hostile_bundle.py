"""Bundles from strangers: what they name, what they hold, what their graphs return."""

import json
import os
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from asr.decode.build import make_decoder
from asr.errors import AsrError, BundleError, LanguageModelError
from asr.model.bundle import find_language_model, load_bundle
from asr.model.engine import open_engine

SECRET = "secret words of somebody else"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text(SECRET)
    return carrier.write_bundle(tmp_path / "model")


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def use(folder: Path) -> None:
    bundle = load_bundle(folder)
    make_decoder("beam", bundle)
    open_engine(bundle).run([np.zeros(6400, dtype=np.float32)])  # type: ignore[union-attr]


def refusal(folder: Path) -> str:
    """The one line with which a bundle cannot be used."""
    with pytest.raises(AsrError) as caught:
        use(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) <= 300
    assert SECRET not in message
    return message


@pytest.mark.parametrize("name", ["../secret.txt", "{parent}/secret.txt", "x/../../secret.txt", "secret.txt"])
def test_names_resolve_inside_the_bundle_and_nowhere_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder.parent)
    change(folder, decoder={"lm": name.format(parent=folder.parent)})
    assert "no language model" in refusal(folder)
    change(folder, decoder={}, spelling="phones", lexicon=name.format(parent=folder.parent))
    assert "no lexicon" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokens.txt", "model.onnx"])
def test_links_that_lead_outside_are_refused(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    assert f"{name}: a link that leads out of the bundle" in refusal(folder)


def test_links_inside_the_bundle_and_to_the_bundle_are_followed(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "graph")
    (folder / "model.onnx").symlink_to("graph")
    (folder.parent / "link").symlink_to(folder)
    assert load_bundle(folder.parent / "link").config == carrier.CONFIG


def test_a_language_model_behind_a_link_is_refused(folder: Path) -> None:
    (folder / "own.lm").symlink_to("../secret.txt")
    change(folder, decoder={"lm": "own.lm"})
    assert "own.lm: a link that leads out of the bundle" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokens.txt", "model.onnx"])
def test_pipes_and_devices_are_refused_at_once(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert name in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert name in refusal(folder)


@pytest.mark.parametrize("location", ["../secret.txt", "model.onnx", "/etc/passwd"])
def test_a_graph_with_weights_in_other_files_is_refused(folder: Path, location: str) -> None:
    graph = onnx.load(str(folder / "model.onnx"))
    (levels,) = (item for item in graph.graph.initializer if item.name == "levels")
    levels.ClearField("raw_data")
    levels.data_location = TensorProto.EXTERNAL
    levels.external_data.add(key="location", value=location)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    assert "model.onnx: takes weights from other files" in refusal(folder)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"frame_seconds": 45}, "frame_seconds is 45, not a number from 0.001 to 1"),
        ({"frame_seconds": float("nan")}, "frame_seconds is nan, not a number from 0.001 to 1"),
        ({"frame_seconds": -1e-300}, "frame_seconds is -1e-300, not a number"),
        ({"frame_seconds": "0.04"}, "frame_seconds is '0.04', not a number"),
        ({"frame_seconds": 10**400}, "frame_seconds is 1000"),
        ({"sample_rate": 2**63}, "sample_rate is 9223372036854775808, not a whole number from 8000 to 192000"),
        ({"sample_rate": 16000.5}, "sample_rate is 16000.5, not a whole number"),
        ({"lookahead": 2**40}, "lookahead is 1099511627776, not a whole number from 0 to 1000"),
        ({"lookahead": True}, "lookahead is True, not a whole number"),
        ({"streaming": "yes"}, "streaming is 'yes', not bool"),
        ({"name": ["a"]}, "name is ['a'], not str"),
        ({"model": "x"}, "model is 'x', not dict"),
        ({"metrics": {"dev_wer_default": "low"}}, "metrics are not all numbers"),
        ({"spelling": ["letters"]}, "spelling is ['letters'], not 'letters' or 'phones'"),
        ({"decoder": {"lm_weight": float("inf")}}, "lm_weight is inf, not a number from 0 to 100"),
        ({"decoder": {"beam_confidence": [1.0]}}, "beam_confidence has 1 numbers, not 2"),
        ({"decoder": {"beam_confidence": [1.0, None]}}, "beam_confidence is None, not a number"),
        ({"decoder": ["lm"]}, "decoder is ['lm'], not DecoderConfig"),
    ],
)
def test_a_field_out_of_its_range_is_named_with_value_and_range(
    folder: Path, values: dict[str, Any], problem: str
) -> None:
    change(folder, **values)
    assert problem in refusal(folder)


def test_deep_nesting_is_one_line(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)
    assert "config.json: not the config of a bundle" in refusal(folder)
    (folder / "config.json").write_text('{"a":' * 100_000)
    assert "config.json: not the config of a bundle" in refusal(folder)


def test_the_names_of_a_bundle_cannot_command_a_terminal(folder: Path) -> None:
    change(folder, name="\x1b[31mred\x9b2J", description="\x1b]0;title\x07\nnext")
    config = load_bundle(folder).config
    assert config.name.isprintable()
    assert config.description.isprintable()


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_line(name: str) -> None:
    with pytest.raises(BundleError) as caught:
        load_bundle(name)
    assert len(str(caught.value)) <= 300
    with pytest.raises(LanguageModelError):
        find_language_model(name)


def test_names_in_a_graph_that_are_not_utf8_are_one_line(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"log_probs", b"log\xff\xfeobs"))
    assert "model.onnx: cannot be run" in refusal(folder)


def spoil(folder: Path, operator: str, **attributes: Any) -> None:
    """Put one more operator on the log-probabilities of the graph."""
    graph = onnx.load(str(folder / "model.onnx"))
    (node,) = (node for node in graph.graph.node if "log_probs" in node.output)
    node.output[0] = "before"
    graph.graph.node.append(helper.make_node(operator, ["before"], ["log_probs"], **attributes))
    (folder / "model.onnx").write_bytes(graph.SerializeToString())


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [("Log", {}), ("Neg", {}), ("Transpose", {"perm": [0, 2, 1]}), ("Cast", {"to": TensorProto.DOUBLE})],
)
def test_a_graph_that_gives_no_log_probabilities_is_one_line(
    folder: Path, operator: str, attributes: dict[str, Any]
) -> None:
    spoil(folder, operator, **attributes)
    assert "model.onnx: " in refusal(folder)
