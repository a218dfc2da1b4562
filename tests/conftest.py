"""Bundles and recordings that several test modules share."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from asr.manifest import Entry, read_manifest

SHARED_DATA = Path(__file__).parents[1] / "../shared/data"

# No test is about time: a busy machine must not fail any.
settings.register_profile("asr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("asr")


@pytest.fixture(scope="session")
def carrier_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that reads the audio of `carrier.speech`."""
    from carrier import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "carrier")


@pytest.fixture(scope="session")
def streaming_carrier_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a live model."""
    from carrier import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "live-carrier", streaming=True)


@pytest.fixture(scope="session")
def live_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A live model with random weights, a hidden state and a look-ahead; int8 weights."""
    from live_model import write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundles") / "live", int8=True)


@pytest.fixture(scope="session")
def dev_entries() -> list[Entry]:
    """Real speech with its text, in the order of the manifest; a skip where the data is missing."""
    manifest = SHARED_DATA / "dev.jsonl"
    if not manifest.is_file():
        pytest.skip(f"no real speech here: {manifest} is missing")
    return read_manifest(manifest)
