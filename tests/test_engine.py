from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import carrier
import numpy as np
import pytest

from asr.bundle import Bundle, load_bundle
from asr.engine import Engine, usable_cores
from asr.errors import BundleError
from asr.tokens import Tokens


@pytest.fixture(scope="session")
def carrier_engine(carrier_bundle: Path) -> Engine:
    return Engine(load_bundle(carrier_bundle), threads=1)


@pytest.fixture(scope="session")
def packaged() -> Engine:
    return Engine(load_bundle("en-bilstm"), threads=1)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return carrier.write_bundle(tmp_path / "model")


def noise(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, samples).astype(np.float32)


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Engine(load_bundle(folder), threads=1)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_one_frame_for_every_40_ms_begun(carrier_engine: Engine) -> None:
    lengths = [1, 639, 640, 641, 1280, 16_000]
    rows = carrier_engine.log_probs([np.zeros(length, dtype=np.float32) for length in lengths])
    assert [log_probs.shape for log_probs in rows] == [(-(-length // 640), len(carrier.TOKENS)) for length in lengths]
    assert all(log_probs.dtype == np.float32 for log_probs in rows)


def test_rows_are_log_probabilities(packaged: Engine) -> None:
    (log_probs,) = packaged.log_probs([noise(16_000, 0)])
    np.testing.assert_allclose(np.exp(log_probs.astype(np.float64)).sum(axis=1), 1, atol=1e-4)


def test_padding_does_not_change_a_row_of_the_batch(packaged: Engine) -> None:
    waveforms = [noise(length, seed) for seed, length in enumerate([5_000, 33_333, 640, 20_001])]
    for together, waveform in zip(packaged.log_probs(waveforms), waveforms, strict=True):
        (alone,) = packaged.log_probs([waveform])
        np.testing.assert_allclose(together, alone, atol=1e-3)


def test_threads_share_one_engine(packaged: Engine) -> None:
    waveforms = [noise(12_000 + 1_000 * seed, seed) for seed in range(8)]
    expected = [packaged.log_probs([waveform])[0] for waveform in waveforms]
    with ThreadPoolExecutor(2) as pool:
        found = [rows for (rows,) in pool.map(lambda waveform: packaged.log_probs([waveform]), waveforms)]
    for rows, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(rows, wanted)


def test_another_graph_than_the_bundles_own_can_be_run(carrier_bundle: Path, tmp_path: Path) -> None:
    graph = tmp_path / "other.onnx"
    graph.write_bytes((carrier_bundle / "model.onnx").read_bytes())
    (rows,) = Engine(load_bundle(carrier_bundle), graph, threads=1).log_probs([carrier.speech("ab")])
    assert carrier.TOKENS.text(rows.argmax(axis=1).tolist()) == "ab"


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07" * 1000])
def test_a_corrupt_graph_is_one_line(copied: Path, content: bytes) -> None:
    (copied / "model.onnx").write_bytes(content)
    assert "model.onnx: cannot be run" in refusal(copied)


def test_a_truncated_graph_is_one_line(copied: Path) -> None:
    graph = (copied / "model.onnx").read_bytes()
    (copied / "model.onnx").write_bytes(graph[: len(graph) // 2])
    assert "model.onnx: cannot be run" in refusal(copied)


def test_a_truncated_token_list_is_refused_before_anything_is_recognised(copied: Path) -> None:
    Tokens(carrier.TOKENS.symbols[:20]).save(copied / "tokens.txt")
    assert "tokens.txt has 20 tokens, model.onnx 29" in refusal(copied)


def test_a_graph_that_vanished_after_the_bundle_was_opened_is_one_line(copied: Path) -> None:
    bundle: Bundle = load_bundle(copied)
    (copied / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be run"):
        Engine(bundle)


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert usable_cores() == 12
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert usable_cores() == 1
