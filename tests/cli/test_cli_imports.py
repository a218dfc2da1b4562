"""The base install has no torch, and transcribing starts fast because nothing heavy is imported."""

import subprocess
import sys
from pathlib import Path

import carrier
import pytest

# All that only training, scoring or the microphone needs.
HEAVY = (
    "torch",
    "torchaudio",
    "lhotse",
    "librosa",
    "onnx",
    "pydantic",
    "yaml",
    "sentencepiece",
    "jiwer",
    "sounddevice",
)


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def imported(code: str, *arguments: str | Path) -> set[str]:
    """Which of the heavy packages the code leaves imported."""
    done = python(f"{code}\nimport sys; print('imported:', *sys.modules.keys())", *arguments)
    assert done.returncode == 0, done.stderr
    return set(HEAVY) & set(done.stdout.rpartition("imported:")[2].split())


@pytest.mark.parametrize("module", ["asr", "asr.cli.main"])
def test_importing_is_light(module: str) -> None:
    assert imported(f"import {module}") == set()


def test_transcribing_is_light(carrier_bundle: Path, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "words")
    code = """
import sys
from asr.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
"""
    assert imported(code, "transcribe", "--model", carrier_bundle, path) == set()


@pytest.mark.parametrize("package", ["torch", "pydantic"])
def test_training_without_its_packages_says_what_to_install(package: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: none\n")
    code = f"import sys; sys.modules[{package!r}] = None\nfrom asr.cli.main import main; main()"
    done = python(code, "train", recipe)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("asr: ")
    assert package in line
    assert "pip install" in line


@pytest.mark.parametrize("package", ["fsspec", "pyarrow"])
def test_bulk_without_its_packages_says_what_to_install(package: str, carrier_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="bulk needs its packages: pip install 'recurrent-asr[bulk]'")
    path = carrier.save(tmp_path / "a.wav", "words")
    code = f"import sys; sys.modules[{package!r}] = None\nfrom asr.cli.main import main; main()"
    done = python(code, "bulk", "--model", carrier_bundle, "--rows", "parquet", path, tmp_path / "out")
    wanted = f"asr: bulk transcription needs more packages ({package} is missing): pip install 'recurrent-asr[bulk]'"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{wanted}\n")
    assert not (tmp_path / "out").exists()


def test_a_missing_recipe_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch: pip install 'recurrent-asr[train]'")
    done = python("from asr.cli.main import main; main()", "train", tmp_path / "missing.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("asr: ")
    assert "missing.yaml" in line
