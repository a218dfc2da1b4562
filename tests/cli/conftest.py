"""The command line, inside the test's process and as a program of its own."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from program import PROGRAM, Command, Outcome

from asr.cli.main import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`run("transcribe", path, stdin=b"…")`: `main` in this process."""

    def command(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        code = stop.value.code
        return Outcome(code if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err)

    return command


@pytest.fixture
def program() -> Command:
    """`program("transcribe", path, stdin=b"…")`: a process of its own, all three streams pipes."""

    def command(*arguments: str | Path, stdin: bytes = b"", **environment: str) -> Outcome:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env=os.environ | environment,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    return command


@pytest.fixture
def transcribe(run: Command, carrier_bundle: Path) -> Command:
    """`asr transcribe` with the model that reads `carrier.speech`."""
    return lambda *arguments, **options: run("transcribe", "--model", carrier_bundle, *arguments, **options)
