"""Opening graphs: settings, providers, and that nothing but recognition happens."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr.errors import ArgumentError, BundleError, LanguageModelError
from asr.model.bundle import load_bundle
from asr.model.engine import Engine
from asr.model.session import open_session, usable_cores

# Recognises a second of noise, with a hook that ends the program when a socket is made or a name looked up.
RECOGNISE = """
import os, sys
def hook(event, arguments):
    if event.startswith("socket."):
        os.write(2, f"{event} {arguments}\\n".encode())
        os._exit(3)
sys.addaudithook(hook)
import numpy as np
import asr
asr.load_model(sys.argv[1], "greedy", threads=1).transcribe(np.zeros(16_000, dtype=np.float32), 16_000)
assert "ORT_DISABLE_TELEMETRY" not in os.environ  # nothing is left behind for other programs
"""


def recognise(model: Path, home: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """A program with this home folder that recognises something."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    return subprocess.run(
        [*before, sys.executable, "-c", RECOGNISE, str(model)],
        env=environment | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_nothing_is_written_into_the_home_folder_and_no_socket_is_made(carrier_bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    finished = recognise(carrier_bundle, home)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert list(home.rglob("*")) == []


def test_a_home_folder_that_cannot_be_written_is_no_word_worth(carrier_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finished = recognise(carrier_bundle, tmp_path / "file/home")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_no_native_library_opens_a_connection(carrier_bundle: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace, to see what native libraries do")
    calls = tmp_path / "calls"
    finished = recognise(carrier_bundle, tmp_path, "strace", "-f", "-qq", "-e", "trace=network", "-o", str(calls))
    if not calls.is_file() or "strace:" in finished.stderr:
        pytest.skip(f"strace may not trace here: {finished.stderr.strip()}")
    assert finished.returncode == 0
    assert calls.read_text() == ""


def test_a_providers_short_name_its_full_name_and_none_run_on_the_cpu(carrier_bundle: Path) -> None:
    bundle = load_bundle(carrier_bundle)
    rows = []
    for providers in ((), ["cpu"], ["CPU"], "cpu", ["CPUExecutionProvider", "cpu"]):
        session = open_session(bundle.graph, 1, providers)
        assert session.get_providers() == ["CPUExecutionProvider"]
        (frames,) = Engine(bundle, threads=1, providers=providers).run([np.zeros(1_000, dtype=np.float32)])
        rows.append(frames.log_probs)
    for others in rows[1:]:
        np.testing.assert_array_equal(others, rows[0])


@pytest.mark.parametrize(
    ("available", "wanted", "passed"),
    [
        (
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
            ["cuda"],
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ),
        (
            ["CoreMLExecutionProvider", "CPUExecutionProvider"],
            ["coreml", "cpu"],
            ["CoreMLExecutionProvider", "CPUExecutionProvider"],
        ),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], [], ["CPUExecutionProvider"]),
    ],
)
def test_names_of_providers_reach_onnxruntime_with_the_cpu_as_the_last_resort(
    carrier_bundle: Path, monkeypatch: pytest.MonkeyPatch, available: list[str], wanted: list[str], passed: list[str]
) -> None:
    given: list[str] = []
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)

    class Session:
        def __init__(self, path: str, options: object, providers: list[str], enable_fallback: bool) -> None:
            given.extend(providers)

        get_inputs = get_outputs = list

    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    open_session(load_bundle(carrier_bundle).graph, 1, wanted)
    assert given == passed


@pytest.mark.parametrize("provider", ["tensorrt", "nonsense", "", "CUDAExecutionProviders"])
def test_a_provider_that_is_not_there_is_one_line_with_those_that_are(carrier_bundle: Path, provider: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        open_session(load_bundle(carrier_bundle).graph, 1, [provider])
    assert f"no '{provider}'" in str(caught.value)
    assert "cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_threads_below_0_are_refused(carrier_bundle: Path) -> None:
    with pytest.raises(ArgumentError, match="threads: -1"):
        open_session(load_bundle(carrier_bundle).graph, -1)


@pytest.mark.parametrize("error", [BundleError, LanguageModelError])
def test_a_graph_that_cannot_be_run_is_the_callers_error(
    tmp_path: Path, error: type[BundleError] | type[LanguageModelError]
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"RIFF")
    with pytest.raises(error, match=r"model\.onnx: cannot be run"):
        open_session(tmp_path / "model.onnx", error=error)


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert usable_cores() == 12
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert usable_cores() == 1
