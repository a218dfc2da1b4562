"""`asr evaluate` on rows of a manifest that are parts of one recording (`offset`, `duration`)."""

import json
import subprocess
import sys
from pathlib import Path

import carrier
import pytest


@pytest.mark.parametrize("options", [[], ["--streaming"]])
def test_each_part_is_scored_with_its_own_text(streaming_carrier_bundle: Path, tmp_path: Path, options: list[str]):
    carrier.save(tmp_path / "talk.wav", "one two", silence=25)  # a second; each character takes 80 ms
    rows = [("one", 1.0, 0.24), ("two", 1.32, 0.24)]
    (tmp_path / "dev.jsonl").write_text(
        "".join(
            json.dumps({"audio": "talk.wav", "text": text, "offset": offset, "duration": duration}) + "\n"
            for text, offset, duration in rows
        )
    )
    program = (sys.executable, "-c", "from asr.cli.main import main; main()")
    command = ["evaluate", "--model", streaming_carrier_bundle, tmp_path / "dev.jsonl", "--json", *options]
    done = subprocess.run([*program, *command], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert (result["wer"], result["utterances"], result["reference_words"]) == (0, 2, 2)
    assert result["seconds"] == pytest.approx(0.48)
