"""`asr bulk --cluster`: the same rows from Ray, also when processes and nodes end meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from asr.decode.build import DecoderOptions

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[bulk]'")
from asr.bulk.run import transcribe_all
from asr.bulk.worker import Settings

SAMPLE = Path(__file__).parents[1] / "data" / "sample.flac"
PROGRAM = (sys.executable, "-c", "from asr.cli.main import main; main()")
GREEDY = DecoderOptions("greedy")


pytestmark = pytest.mark.usefixtures("written_words")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(60):
        shutil.copy(SAMPLE, folder / f"{number}.flac")
    (folder / "bad.wav").write_bytes(b"no sound" * 20)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("here") / "out"
    transcribe_all([str(folder)], Settings("en-bilstm", GREEDY, str(out)), workers=1)
    return (out / "part-00000.jsonl").read_bytes()


def listeners() -> set[str]:
    """The addresses other than this machine's own at which a program of this user listens."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and not fields[1].startswith(("0100007F", "0000000000000000FFFF00000100007F")):
                found.add(f"{name} {fields[1]}")
    return found


def recognizers() -> list[int]:
    """Processes that recognise for an actor."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, parent = (path / "cmdline").read_bytes(), (path / "stat").read_text().rpartition(")")[2].split()[1]
            if b"spawn_main" in command and b"ray::" in Path("/proc", parent, "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_cluster_started_here(folder: Path, expected: bytes, tmp_path: Path) -> None:
    """It is for this machine alone; a process that is killed costs nothing."""
    out, before = tmp_path / "out", listeners()
    command = [*PROGRAM, "bulk", str(folder), str(out), "--decoder", "greedy", "--cluster", "local", "--workers", "2"]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not recognizers() and job.poll() is None:
        time.sleep(0.05)
    open_to_others = listeners() - before
    os.kill(recognizers()[0], signal.SIGKILL)
    message = job.communicate(timeout=300)[1]
    assert job.returncode == 1, message  # of bad.wav
    assert all(line.startswith("asr: ") for line in message.splitlines()), message
    assert (out / "part-00000.jsonl").read_bytes() == expected
    assert not open_to_others
    errors = [json.loads(line)["path"] for line in (out / "errors.jsonl").read_text().splitlines()]
    assert errors == [str(folder / "bad.wav")]


def test_node_that_ends(folder: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes, of which one is stopped at work: the other does all."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        stopped = threading.Event()

        def stop() -> None:
            while len(recognizers()) < 2 and not stopped.is_set():
                time.sleep(0.05)
            cluster.remove_node(second, allow_graceful=False)
            stopped.set()

        thread = threading.Thread(target=stop)
        thread.start()
        done = transcribe_all(
            [str(folder)], Settings("en-bilstm", GREEDY, str(tmp_path / "out")), workers=2, cluster=cluster.address
        )
        stopped.set()
        thread.join()
        assert (done.done, done.errors) == (61, 1)
        assert (tmp_path / "out" / "part-00000.jsonl").read_bytes() == expected
    finally:
        ray.shutdown()
        cluster.shutdown()
