"""Some inputs of each harness, of fixed numbers; `tools/fuzz.py` tries others for as long as it is given."""

from pathlib import Path

import pytest
from harnesses import HARNESSES, try_one
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = {"audio": 60, "command_line": 60, "bundle": 100}  # the others are faster
PACKAGES = {
    "messages": ("starlette", "multipart", "uvicorn", "wyoming", "prometheus_client"),
    "bulk": ("fsspec", "pyarrow"),
}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", HARNESSES)
def test_promises_are_kept(parent: Path, name: str) -> None:
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package, reason="pip install 'recurrent-asr[serve,bulk]'")

    @settings(
        max_examples=EXAMPLES.get(name, 200), derandomize=True, database=None, suppress_health_check=[*HealthCheck]
    )
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        try_one(name, seed, parent)

    check()
