"""`asr bulk`: every recording once, whatever dies on the way, with the text of `asr transcribe`."""

import errno
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import pytest
import rule_tagger
import soundfile

from asr import files
from asr.decode.build import DecoderOptions
from asr.errors import AsrError
from asr.recognize.offline import Recognizer

pytest.importorskip("fsspec", reason="bulk transcription is not installed: pip install '.[bulk]'")
from fsspec.implementations.local import LocalFileSystem

from asr.bulk import plan, run, worker
from asr.bulk import store as store_module
from asr.bulk.plan import Recording
from asr.bulk.run import transcribe_all
from asr.bulk.store import Store
from asr.bulk.worker import Settings

SAMPLE = Path(__file__).parents[1] / "data" / "sample.flac"
PROGRAM = (sys.executable, "-c", "from asr.cli.main import main; main()")
GREEDY = DecoderOptions("greedy")


pytestmark = pytest.mark.usefixtures("written_words")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("en-bilstm", GREEDY, threads=1)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: the sample from six different places on, in several formats, one of them below."""
    folder = tmp_path_factory.mktemp("recordings")
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    (folder / "below").mkdir()
    for number, name in enumerate(("a.wav", "b.flac", "c.ogg", "below/a.wav", "d.wav", "e.mp3")):
        soundfile.write(folder / name, samples[number * rate // 8 :], rate)
    return folder


def settings(output: Path | str, **more: object) -> Settings:
    return replace(Settings("en-bilstm", GREEDY, str(output)), **more)  # type: ignore[arg-type]


def rows(output: Path) -> dict[str, dict]:
    lines = [line for part in sorted(output.glob("part-*.jsonl")) for line in part.read_text().splitlines()]
    found = [json.loads(line) for line in lines]
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: row for row in found}


def results(output: Path) -> dict[str, bytes]:
    whole = (path for path in output.glob("part-*") if path.suffix != ".partial")  # which a job renames at any time
    return {path.name: path.read_bytes() for path in whole}


def test_rows_are_those_of_transcribe(recordings: Path, recognizer: Recognizer, tmp_path: Path) -> None:
    done = transcribe_all([str(recordings)], settings(tmp_path / "out", formats=("srt",)), workers=2)
    assert (done.done, done.errors) == (6, 0)
    found = rows(tmp_path / "out")
    assert len(found) == 6
    for path, row in found.items():
        transcript = recognizer.transcribe(path)
        assert row["text"] == transcript.written
        assert row["error"] is None
        assert row["words"] == [word.to_dict() for word in transcript.words]
        assert [segment["text"] for segment in row["segments"]] == [segment.written for segment in transcript.segments]
        assert row["duration"] == pytest.approx(transcript.duration, abs=1e-3)
        assert row["model"] == "en-bilstm"
        assert 0 <= row["confidence"] <= 1
        written = tmp_path / "out" / "files" / f"{Path(path).relative_to(recordings)}.srt"
        assert written.read_text() == transcript.to_srt()
    assert not (tmp_path / "out" / "pieces").exists()


def test_again_does_what_is_new(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PART_RECORDINGS", 2)
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(recordings, folder)
    transcribe_all([str(folder)], settings(out), workers=1)
    before = results(out)
    assert len(before) == 3
    (out / "part-00001.jsonl").unlink()
    shutil.copy(SAMPLE, folder / "0.flac")  # before all others
    done = transcribe_all([str(folder)], settings(out), workers=1)
    assert done.done == 3
    assert {name: results(out)[name] for name in before} == before
    assert len(results(out)) == 4
    assert len(rows(out)) == 7
    assert transcribe_all([str(folder)], settings(out), workers=1).done == 0


def test_a_source_that_is_missing_is_refused_before_anything_is_written(recordings: Path, tmp_path: Path) -> None:
    sources, out = [str(recordings / "a.wav"), str(tmp_path / "later")], tmp_path / "out"
    with pytest.raises(AsrError, match="later: no such file or folder; check the path"):
        transcribe_all(sources, settings(out), workers=1)
    assert not out.exists()
    (tmp_path / "later").mkdir()
    shutil.copy(SAMPLE, tmp_path / "later")
    done = transcribe_all(sources, settings(out), workers=1)
    assert (done.done, done.errors_in_output) == (2, 0)


def test_a_missing_row_of_a_list_is_an_error_until_its_file_is_there(recordings: Path, tmp_path: Path) -> None:
    manifest, out = tmp_path / "list.txt", tmp_path / "out"
    manifest.write_text(f"{recordings / 'a.wav'}\n{tmp_path / 'later.flac'}\n")
    for _ in range(2):
        assert transcribe_all([str(manifest)], settings(out), workers=1).errors_in_output == 1
    assert "no such file" in rows(out)[str(tmp_path / "later.flac")]["error"]
    shutil.copy(SAMPLE, tmp_path / "later.flac")
    done = transcribe_all([str(manifest)], settings(out), workers=1)
    assert (done.done, done.errors_in_output) == (1, 0)


class Interruption(Exception):
    """What ends a run early."""


def test_replaced_recordings_are_done_again(recordings: Path, recognizer: Recognizer, tmp_path: Path) -> None:
    folder, out, chosen = tmp_path / "in", tmp_path / "out", settings(tmp_path / "out", formats=("txt",))
    shutil.copytree(recordings, folder)
    transcribe_all([str(folder)], chosen, workers=1)
    before = rows(out)
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    soundfile.write(folder / "a.wav", samples[: 2 * rate], rate)
    same_size = folder / "d.wav"
    same_size.write_bytes((recordings / "d.wav").read_bytes()[:44].ljust(same_size.stat().st_size, b"\0"))
    (folder / "b.flac").write_bytes(b"no sound at all" * 99)
    (folder / "c.ogg").unlink()  # its text is kept

    def interrupt(progress: run.Progress) -> None:
        if progress.done:
            raise Interruption

    with pytest.raises(Interruption):
        transcribe_all([str(folder)], chosen, workers=1, on_progress=interrupt)
    done = transcribe_all([str(folder)], chosen, workers=1)
    assert (done.done, done.errors_in_output) == (3, 1)
    after = rows(out)
    changed = {Path(path).relative_to(folder).as_posix() for path in before if after[path] != before[path]}
    assert changed == {"a.wav", "b.flac", "d.wav"}
    assert after[str(folder / "a.wav")]["text"] == recognizer.transcribe(str(folder / "a.wav")).written
    assert "not an audio file" in after[str(folder / "b.flac")]["error"]
    assert not (out / "files" / "b.flac.txt").exists()
    assert transcribe_all([str(folder)], chosen, workers=1).done == 0


def test_pieces_of_a_recording_that_was_replaced_are_not_used(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "LONG_SECONDS", 30.0)
    monkeypatch.setattr(worker, "PIECE_SECONDS", 25.0)
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(samples, 12), rate)

    def interrupt(progress: run.Progress) -> None:
        if progress.weight:
            raise Interruption

    with pytest.raises(Interruption):
        transcribe_all([str(path)], settings(tmp_path / "out"), workers=2, on_progress=interrupt)
    assert list((tmp_path / "out" / "pieces").iterdir())
    soundfile.write(path, np.tile(samples[: 2 * rate], 30), rate)
    transcribe_all([str(path)], settings(tmp_path / "out"), workers=2)
    assert rows(tmp_path / "out")[str(path)]["text"] == recognizer.transcribe(str(path)).written


def test_the_order_of_formats_is_no_other_setting(recordings: Path, tmp_path: Path) -> None:
    for formats in (("txt", "srt"), ("srt", "txt")):
        transcribe_all([str(recordings / "a.wav")], settings(tmp_path / "out", formats=formats), workers=1)
    with pytest.raises(AsrError, match="was begun with --format srt txt, not txt; choose another output"):
        transcribe_all([str(recordings / "a.wav")], settings(tmp_path / "out", formats=("txt",)))


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        (DecoderOptions("beam"), "--decoder greedy, not beam"),
        (DecoderOptions("greedy", beam_width=8), "--beam-width 32, not 8"),
        (DecoderOptions("beam", lm="en-lm"), "--decoder greedy, not beam and --lm unset, not en-lm"),
        (DecoderOptions("greedy", lexicon=Path("a.lex")), "--lexicon unset, not a.lex"),
        (DecoderOptions("greedy", second_pass=False), "--second-pass unset, not none"),
    ],
)
def test_the_options_that_differ_are_named(tmp_path: Path, decoding: DecoderOptions, message: str) -> None:
    store, recordings = Store(str(tmp_path)), [Recording("a.wav", "a")]
    plan.make_plan(store, recordings, run._describe(settings(tmp_path), "jsonl"), False)
    with pytest.raises(AsrError) as raised:
        plan.make_plan(store, recordings, run._describe(settings(tmp_path, decoding=decoding), "jsonl"), False)
    assert str(raised.value) == f"{tmp_path}: was begun with {message}; choose another output"


def test_an_output_of_another_version_is_refused(tmp_path: Path) -> None:
    store, recordings = Store(str(tmp_path)), [Recording("a.wav", "a")]
    plan.make_plan(store, recordings, {"model": "m", "decoder": "DecoderOptions(name='beam')"}, False)
    with pytest.raises(AsrError, match="was begun by another version of asr; choose another output"):
        plan.make_plan(store, recordings, {"model": "m", "decoder": "beam", "beam_width": 8}, False)


def test_summary_is_of_the_output_whatever_the_last_run_did(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PART_RECORDINGS", 2)
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(recordings, folder)
    (folder / "bad.wav").write_bytes(b"no sound at all" * 99)
    transcribe_all([str(folder)], settings(out), workers=1)
    undisturbed = {name: (out / name).read_bytes() for name in ("summary.json", "errors.jsonl")}
    summary = json.loads(undisturbed["summary.json"])
    assert (summary["recordings"], summary["errors"]) == (7, 1)
    assert summary["hours"] == round(sum(row["duration"] for row in rows(out).values()) / 3600, 3) > 0
    assert (summary["decoder"], summary["beam_width"], summary["format"]) == ("greedy", 32, [])
    for gone in ((), ("part-00001.jsonl",), ("summary.json", "errors.jsonl")):
        for name in gone:
            (out / name).unlink()
        transcribe_all([str(folder)], settings(out), workers=1)
        assert {name: (out / name).read_bytes() for name in undisturbed} == undisturbed


def test_manifests_and_patterns(recordings: Path, recognizer: Recognizer, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    wav = recordings / "a.wav"
    (tmp_path / "list.txt").write_text(f"{wav}\n")
    manifest = [{"audio": str(wav), "offset": 1.0, "duration": 1.5}, {"path": str(wav), "offset": 2.5}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in manifest))
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"file": str(recordings / "b.flac")}]), tmp_path / "l.parquet"
    )
    sources = [str(tmp_path / name) for name in ("list.txt", "list.jsonl", "l.parquet")] + [str(recordings / "*.og*")]
    done = transcribe_all(sources, settings(tmp_path / "out"), parquet=True, workers=1)
    assert (done.done, done.errors) == (5, 0)
    table = pyarrow.parquet.read_table(tmp_path / "out" / "part-00000.parquet").to_pylist()
    assert [Path(row["path"]).name for row in table] == ["a.wav", "a.wav", "a.wav", "b.flac", "c.ogg"]
    assert [row["offset"] for row in table] == [None, 1.0, 2.5, None, None]
    whole = recognizer.transcribe(str(wav))
    assert table[0]["text"] == whole.written
    assert all(1.0 <= word["start"] <= word["end"] <= 2.5 for word in table[1]["words"])
    with pytest.raises(AsrError, match=r"no recordings there"):
        transcribe_all([str(tmp_path / "nowhere" / "*.wav")], settings(tmp_path / "other"))


def test_long_recordings_are_shared(recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LONG_SECONDS", 30.0)
    monkeypatch.setattr(worker, "PIECE_SECONDS", 25.0)
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    long = np.tile(np.concatenate([samples, np.zeros(rate // 3, dtype=np.float32)]), 30)
    soundfile.write(tmp_path / "long.flac", long, rate)
    shutil.copy(SAMPLE, tmp_path / "short.flac")
    soundfile.write(tmp_path / "cut.wav", long, rate)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[: len(long) * 2 * 2 // 3])
    out = tmp_path / "out"
    sources = [str(tmp_path / name) for name in ("short.flac", "long.flac", "cut.wav")]
    weights = list[float]()
    done = transcribe_all(
        sources, settings(out), workers=3, on_progress=lambda progress: weights.append(progress.weight)
    )
    found = rows(out)
    assert done.done == 3
    assert len(weights) == 10  # also after each of 3 pieces
    assert weights == sorted({*weights})
    assert weights[-1] == pytest.approx(done.all_seconds)
    assert (out / "plan.jsonl").read_text().count('"part"') == 3
    expected = recognizer.transcribe(sources[1])
    row = found[sources[1]]
    assert row["text"] == expected.written
    assert row["words"] == [word.to_dict() for word in expected.words]
    assert row["duration"] == pytest.approx(expected.duration, abs=1e-3)
    assert "truncated" in found[sources[2]]["error"]
    assert len(found[sources[2]]["words"]) > 10
    assert done.errors == 1


@pytest.mark.parametrize("channels", [1, 16])  # the sizes promise a fifth and three times the length
def test_long_recordings_in_a_bucket_are_shared_by_their_size(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setattr(plan, "LONG_SECONDS", 15.0)
    monkeypatch.setattr(worker, "PIECE_SECONDS", 5.0)
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    long = np.tile(samples, 20)
    (tmp_path / "bucket").mkdir()
    soundfile.write(tmp_path / "bucket" / "long.wav", np.stack([long] * channels, axis=1), rate)
    weights = list[float]()
    done = transcribe_all(
        [f"file://{tmp_path}/bucket/"],
        settings(tmp_path / "out"),
        workers=3,
        on_progress=lambda progress: weights.append(progress.weight),
    )
    assert (done.done, done.errors) == (1, 0)
    assert len(weights) == 5  # the beginning, 3 pieces, and their decoding
    (row,) = rows(tmp_path / "out").values()
    expected = recognizer.transcribe(str(tmp_path / "bucket" / "long.wav"))
    assert row["words"] == [word.to_dict() for word in expected.words]
    assert row["duration"] == pytest.approx(expected.duration, abs=1e-3)


def test_a_long_recording_in_a_bucket_that_cannot_be_read_is_a_row_with_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "LONG_SECONDS", 15.0)
    monkeypatch.setattr(worker, "PIECE_SECONDS", 5.0)
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    path = tmp_path / "bucket" / "cut.flac"
    path.parent.mkdir()
    soundfile.write(path, np.tile(samples, 20), rate)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    address = f"file://{path}"
    done = transcribe_all([address], settings(tmp_path / "out"), workers=2)
    assert done.errors == 1
    (row,) = rows(tmp_path / "out").values()
    assert row["error"].startswith(f"{address}: ")
    assert "truncated" in row["error"]
    assert len(row["words"]) > 10


def test_rows_say_what_is_too_quiet_distorted_or_without_speech(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "LONG_SECONDS", 30.0)
    monkeypatch.setattr(worker, "PIECE_SECONDS", 25.0)
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    noise = np.random.default_rng(0).standard_normal(3 * rate, dtype=np.float32)
    recordings = {"fine": samples, "quiet": samples * 2e-4, "zeros": noise * 0, "noise": noise * 0.01}
    recordings |= {"distorted": (samples * 50).clip(-1, 1), "long": np.tile(samples * 2e-4, 20)}
    (tmp_path / "in").mkdir()
    for name, content in recordings.items():
        soundfile.write(tmp_path / "in" / f"{name}.wav", content, rate)
    (tmp_path / "in" / "text.wav").write_bytes(b"no sound at all" * 99)
    transcribe_all([str(tmp_path / "in")], settings(tmp_path / "out"), workers=2)
    found = {Path(path).stem: row["problem"] for path, row in rows(tmp_path / "out").items()}
    sources = [str(tmp_path / "in" / f"{name}.wav") for name in recordings]
    expected = {Path(str(result.source)).stem: result.problem for result in recognizer.transcribe_all(sources)}
    assert found == expected | {"text": None}
    assert found["fine"] is None
    assert "almost silent" in found["quiet"]
    assert "almost silent" in found["long"]
    assert "distorted" in found["distorted"]
    assert found["noise"] == "no speech was found in it"


FAULTS = """
import os, time
import asr.audio.sources as sources

class SoundFile(sources.SoundFile):
    def __init__(self, path, *rest, **named):
        name = os.path.basename(str(path))
        if name.startswith("crash"):
            os.kill(os.getpid(), 9)
        if name.startswith("hang"):
            time.sleep(1000)
        if name.startswith("once") and not os.path.exists(path + ".died"):
            open(path + ".died", "w").close()
            os.kill(os.getpid(), 11)
        super().__init__(path, *rest, **named)

sources.SoundFile = SoundFile
"""


@pytest.fixture
def faulty(tmp_path: Path) -> dict[str, str]:
    """An environment in which reading some recordings ends the process, or does not end; in workers only."""
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "faults.py").write_text(FAULTS)
    (tmp_path / "faulty" / "sitecustomize.py").write_text(
        "import sys\nif 'spawn_main' in ' '.join(sys.orig_argv): import faults\n"
    )
    return os.environ | {"PYTHONPATH": f"{tmp_path / 'faulty'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def test_recordings_that_kill_or_hang_are_rows(recordings: Path, faulty: dict[str, str], tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(recordings, folder)
    for name in ("crash.wav", "hang.wav", "once.wav"):
        shutil.copy(recordings / "a.wav", folder / name)
    (folder / "nothing.wav").write_bytes(b"nothing at all" * 9)
    command = [*PROGRAM, "bulk", str(folder), str(out), "--decoder", "greedy", "--workers", "2", "--patience", "8"]
    ended = subprocess.run(command, env=faulty, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    assert all(line.startswith("asr: ") for line in ended.stderr.splitlines()), ended.stderr
    found = {Path(path).relative_to(folder).as_posix(): row for path, row in rows(out).items()}
    errors = {name: row["error"] for name, row in found.items() if row["error"]}
    assert set(errors) == {"crash.wav", "hang.wav", "nothing.wav"}
    assert "ended the process" in errors["crash.wav"]
    assert "was not done in 8 s" in errors["hang.wav"]
    assert found["once.wav"]["text"] == found["a.wav"]["text"] != ""
    listed = [json.loads(line)["path"] for line in (out / "errors.jsonl").read_text().splitlines()]
    assert sorted(Path(path).name for path in listed) == sorted(errors)

    shutil.copy(recordings / "b.flac", folder / "nothing.wav")
    (folder / "hang.wav").unlink()  # another error, in less time
    again = subprocess.run([*command, "--retry-errors"], env=faulty, capture_output=True, text=True)
    assert again.returncode == 1
    assert "3 of 3 recordings" in again.stderr
    assert len(rows(out)) == 10
    assert len((out / "errors.jsonl").read_text().splitlines()) == 2


def test_a_long_recording_whose_pieces_fail_is_one_row(
    recordings: Path, faulty: dict[str, str], tmp_path: Path
) -> None:
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    (tmp_path / "in").mkdir()
    for name in ("crash.wav", "fine.wav"):
        soundfile.write(tmp_path / "in" / name, np.tile(samples, 12), rate)
    script = "import asr.bulk.plan as p, asr.bulk.worker as w; p.LONG_SECONDS, w.PIECE_SECONDS = 20.0, 15.0; "
    command = [PROGRAM[0], "-c", script + PROGRAM[2], "bulk", str(tmp_path / "in"), str(tmp_path / "out")]
    ended = subprocess.run(
        [*command, "--decoder", "greedy", "--workers", "2"], env=faulty, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert all(line.startswith("asr: ") for line in ended.stderr.splitlines()), ended.stderr
    assert "2 of 2 recordings" in ended.stderr
    found = {Path(path).name: row["error"] for path, row in rows(tmp_path / "out").items()}
    assert found["fine.wav"] is None
    assert "ended the process" in found["crash.wav"]


def test_errors_stay_in_the_exit_code_until_they_are_mended(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from asr.cli.main import main

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"nothing" * 99)
    command = ["asr", "bulk", str(tmp_path / "in"), str(tmp_path / "out"), "--decoder", "greedy", "--workers", "1"]
    codes = []
    for more in ((), (), ("--retry-errors",)):
        if more:
            shutil.copy(recordings / "a.wav", tmp_path / "in")
        monkeypatch.setattr(sys, "argv", [*command, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        codes.append(ended.value.code or 0)
    assert codes == [1, 1, 0]
    assert "1 errors in all" in capsys.readouterr().err


def test_killed_and_started_again(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(12):
        shutil.copytree(recordings, folder / str(number))
    command = [*PROGRAM, "bulk", str(folder), "--decoder", "greedy", "--workers", "2"]
    script = "import asr.bulk.plan as plan, asr.bulk.run as run; plan.PART_RECORDINGS = 7; run.JOB_RECORDINGS = 3; "
    command[2] = script + command[2]
    subprocess.run([*command[:5], str(tmp_path / "whole"), *command[5:]], check=True, capture_output=True)
    out = tmp_path / "out"
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = len(results(out))
        job = subprocess.Popen([*command[:5], str(out), *command[5:]], stderr=subprocess.PIPE, start_new_session=True)
        while len(results(out)) < before + 2 and job.poll() is None:
            time.sleep(0.02)
        (os.kill if number == signal.SIGKILL else os.killpg)(job.pid, number)
        message = job.communicate()[1].decode()
        assert all(line.startswith("asr: ") for line in message.splitlines()), message
        wait_for_end_of_group(job.pid)
    subprocess.run([*command[:5], str(out), *command[5:]], check=True, capture_output=True)
    assert results(out) == results(tmp_path / "whole")
    assert len(rows(out)) == 72
    assert not list(out.glob("*.partial"))


def wait_for_end_of_group(group: int) -> None:
    """Until no process of a killed job is left: workers notice that it is gone."""
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("workers outlive their job")


class Shaky(http.server.BaseHTTPRequestHandler):
    """The first request of each file is refused, the second breaks off, those for lost.wav never succeed."""

    folder: Path
    asked: dict[str, int]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.length()))
        self.end_headers()

    def length(self) -> int:
        path = self.folder / self.path.strip("/")
        return path.stat().st_size if path.exists() else 9

    def do_GET(self) -> None:
        count = self.asked[self.path] = self.asked.get(self.path, 0) + 1
        if count == 1 or "lost" in self.path:
            self.send_error(503)
            return
        content = (self.folder / self.path.strip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if count == 2 else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shaky(recordings: Path) -> Iterator[str]:
    handler = type("Handler", (Shaky,), {"folder": recordings, "asked": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_web_server_that_fails_at_times(shaky: str, recordings: Path, recognizer: Recognizer, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    sources = [f"{shaky}/{name}" for name in ("a.wav", "b.flac", "lost.wav", "text.wav")]
    (recordings / "text.wav").write_bytes(b"no sound at all" * 99)
    done = transcribe_all(sources, settings(tmp_path / "out"), workers=1)
    (recordings / "text.wav").unlink()
    found = rows(tmp_path / "out")
    assert (done.done, done.errors) == (4, 2)
    assert found[sources[3]]["error"].startswith(f"{sources[3]}: not an audio file")
    assert "cannot be fetched" in found[sources[2]]["error"]
    assert [found[path]["text"] for path in sources[:2]] == [
        recognizer.transcribe(str(recordings / name)).written for name in ("a.wav", "b.flac")
    ]


class Throttling:
    """A bucket's server that refuses the first request for each recording with SlowDown, and one of them always."""

    def __init__(self, server: Any):
        self.server = server
        self.asked: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        recording = method == "GET" and path.startswith("/talks/in/")
        if recording and ("lost" in path or path not in self.asked):
            self.asked.add(path)
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return self.server(environ, start_response)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of buckets, served on this machine."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install '.[bulk]'")
    moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install '.[dev]'")
    from werkzeug.serving import make_server

    server = make_server(
        "127.0.0.1", 0, Throttling(moto.DomainDispatcherApplication(moto.create_backend_app)), threaded=True
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    environment = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_MAX_ATTEMPTS": "1"}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "FSSPEC_S3_ENDPOINT_URL": address}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)  # for the workers; this process has read it already
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": address})
    yield fsspec.filesystem("s3")
    server.shutdown()


def test_bucket_that_throttles(recordings: Path, recognizer: Recognizer, tmp_path: Path, bucket: Any) -> None:
    bucket.mkdir("talks")
    bucket.put(str(recordings), "talks/in", recursive=True)
    bucket.pipe_file("talks/in/lost.wav", b"cannot be read")
    done = transcribe_all(["s3://talks/in"], settings("s3://talks/out", formats=("txt",)), workers=2)
    assert (done.done, done.errors) == (7, 1)
    lines = bucket.cat_file("talks/out/part-00000.jsonl").decode().splitlines()
    found = {row["path"].removeprefix("s3://talks/in/"): row for row in map(json.loads, lines)}
    assert found.pop("lost.wav")["error"].startswith("s3://talks/in/lost.wav: cannot be read: Please reduce")
    names = [str(path.relative_to(recordings)) for path in recordings.rglob("*.*")]
    assert {name: row["text"] for name, row in found.items()} == {
        name: recognizer.transcribe(str(recordings / name)).written for name in names
    }
    assert bucket.cat_file("talks/out/files/below/a.wav.txt").decode().strip()
    bucket.put(str(recordings / "b.flac"), "talks/in/a.wav")
    done = transcribe_all(["s3://talks/in"], settings("s3://talks/out", formats=("txt",)), workers=1)
    assert (done.done, done.errors_in_output) == (1, 1)
    assert transcribe_all(["s3://talks/in"], settings("s3://talks/out", formats=("txt",))).done == 0
    with pytest.raises(AsrError, match=r"s3://nobody/in: (cannot be listed|no recordings)"):
        transcribe_all(["s3://nobody/in"], settings(tmp_path / "x"))


def test_thousands_of_tiny_files(tmp_path: Path, carrier_bundle: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    soundfile.write(folder / "0.wav", samples[: rate // 5], rate)
    for number in range(1, 5000):
        os.link(folder / "0.wav", folder / f"{number}.wav")
    done = transcribe_all([str(folder)], replace(settings(tmp_path / "out"), model=str(carrier_bundle)), workers=2)
    assert (done.done, done.errors) == (5000, 0)
    assert len(rows(tmp_path / "out")) == 5000
    assert len(results(tmp_path / "out")) == 25


def test_few_recordings_are_for_all_workers() -> None:
    def jobs(recordings: int, workers: int) -> list[int]:
        part = plan.Part("00000", tuple(Recording(f"{number}.wav", "a") for number in range(recordings)))
        return [len(job.recordings) for job in run.make_jobs([part], workers, False)[1]]

    assert jobs(16, 16) == [1] * 16
    assert jobs(40, 4) == [2] * 20
    assert jobs(200, 2) == [16] * 12 + [8]
    assert jobs(3, 1) == [1] * 3


def test_names_stay_inside_the_output(tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / "outside.flac")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "list.jsonl").write_text(json.dumps({"audio": "../../outside.flac"}) + "\n")
    out = tmp_path / "deep" / "out"
    done = transcribe_all([str(tmp_path / "a" / "b" / "list.jsonl")], settings(out, formats=("txt",)), workers=1)
    assert (done.done, done.errors) == (1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "deep", "outside.flac"]
    assert [path.relative_to(out / "files").as_posix() for path in (out / "files").rglob("*.txt")] == [
        "outside.flac.txt"
    ]


@pytest.mark.parametrize(
    "part", [{"offset": -1}, {"offset": "1"}, {"offset": 1e300}, {"duration": 0}, {"duration": True}]
)
def test_a_row_with_a_wrong_part_is_named(recordings: Path, tmp_path: Path, part: dict[str, Any]) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"audio": str(recordings / "a.wav"), **part}) + "\n")
    with pytest.raises(AsrError, match=rf'list\.jsonl:1: "{next(iter(part))}" must be'):
        transcribe_all([str(tmp_path / "list.jsonl")], settings(tmp_path / "out"), workers=1)


@pytest.mark.parametrize("rows", ["jsonl", "parquet"])
def test_any_name_is_a_row(recordings: Path, tmp_path: Path, rows: str) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in (b"no\xfftext.wav", b"\x1b[31mred\n.wav", "c1\x9b2J\u2028.wav".encode(), b"x" * 250 + b".wav"):
        shutil.copy(recordings / "a.wav", os.fsencode(folder) + b"/" + name)
    done = transcribe_all([str(folder)], settings(out, formats=("srt",)), parquet=rows == "parquet", workers=1)
    assert (done.done, done.errors) == (4, 0)
    if rows == "parquet":
        import pyarrow.parquet

        paths = pyarrow.parquet.read_table(out / "part-00000.parquet")["path"].to_pylist()
    else:
        lines = (out / "part-00000.jsonl").read_text().split("\n")[:-1]
        assert all(line.isprintable() for line in lines)
        paths = [json.loads(line)["path"] for line in lines]
    names = [path.removeprefix(f"{folder}/") for path in paths]
    assert names == ["\x1b[31mred\n.wav", "c1\x9b2J\u2028.wav", "no\\udcfftext.wav", "x" * 250 + ".wav"]
    written = sorted(path.name for path in (out / "files").iterdir())
    assert written == ["?[31mred .wav.srt", "c1?2J .wav.srt", "no?text.wav.srt", "x" * 230 + ".srt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.jsonl", b'{"audio": "a.wav"}\n\n[1,\n', "l.jsonl:3: not a manifest that can be read: Expecting value"),
        ("l.jsonl", b"null\n", "l.jsonl:1: names no recording"),
        ("l.jsonl", b"[" * 100_000, "l.jsonl: not a manifest that can be read: maximum recursion"),
        ("l.txt", b"\xff\xfe", "l.txt: not a manifest that can be read: 'utf-8' codec"),
        ("l.parquet", b"PAR1xxxxPAR1", "l.parquet: not a manifest that can be read: Parquet file size"),
        ("l.jsonl", None, "l.jsonl: not a manifest that can be read: [Errno 95] a device"),
    ],
)
def test_what_is_no_manifest_is_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (tmp_path / name).symlink_to("/dev/zero")
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AsrError) as raised:
        transcribe_all([str(tmp_path / name)], settings(tmp_path / "out"), workers=1)
    assert str(raised.value).startswith(str(tmp_path / message))


def test_manifest_at_an_address(recordings: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "list.txt").write_text(f"{recordings / 'a.wav'}\r\n\r\n{recordings / 'b.flac'}")
    table = {"label": [b"\xff"], "path": [str(recordings / "c.ogg")], "duration": [2.0]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "list.parquet")
    found = plan.list_recordings([f"file://{tmp_path}/list.txt", f"file://{tmp_path}/list.parquet"], print)
    assert [(Path(item.path).name, item.duration) for item in found] == [
        ("a.wav", None),
        ("b.flac", None),
        ("c.ogg", 2),
    ]


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda line: "", lambda line: "5", lambda line: line + "\n[]", lambda line: line + '\n{"part": "00000"}'),
        lambda line: line + '\n{"part": "../../00000", "recordings": []}',
        lambda line: line + '\n{"part": "00000", "recordings": [{"path": "a.wav", "name": "../../a.wav"}]}',
        lambda line: line + '\n{"part": "00000", "recordings": [{"path": "a.wav", "name": "/a.wav"}]}',
        lambda line: line + '\n{"part": "00000", "recordings": [{"path": 5, "name": "a.wav"}]}',
        lambda line: line + '\n{"part": "00000", "recordings": [{"path": "a.wav", "name": null}]}',
        lambda line: line + '\n{"part": "00000", "recordings": [{"path": "a.wav", "name": "a", "other": 1}]}',
    ],
)
def test_a_plan_of_somebody_else_is_one_line(tmp_path: Path, damage: Any) -> None:
    store, recordings = Store(str(tmp_path)), [Recording("a.wav", "a.wav")]
    plan.make_plan(store, recordings, {"model": "m"}, False)
    first = (tmp_path / "plan.jsonl").read_text().splitlines()[0]
    (tmp_path / "plan.jsonl").write_text(damage(first))
    with pytest.raises(AsrError, match=r"plan\.jsonl: damaged \("):
        plan.make_plan(store, recordings, {"model": "m"}, False)


def test_a_pipe_in_the_place_of_the_plan_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.2)
    os.mkfifo(tmp_path / "plan.jsonl")
    with pytest.raises(AsrError, match=r"cannot read: .*no program writes to this pipe"):
        plan.make_plan(Store(str(tmp_path)), [Recording("a.wav", "a.wav")], {"model": "m"}, False)


def test_a_plan_goes_on_whatever_the_names_are(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    names = ("x" * 250, "\x1b[31m", "a://b://c", "..", "", "http://host/../../a?b")
    recordings = [Recording(f"{number}.wav", plan._safe(name)) for name in names for number in (name, f"other {name}")]
    parts = plan.make_plan(store, recordings, {"model": "m"}, False)
    assert len({item.name for item in parts[0].recordings}) == 2 * len(names)
    assert plan.make_plan(store, recordings, {"model": "m"}, False) == parts
    older = (tmp_path / "plan.jsonl").read_text().replace("?[31m", "\\u001b[31m")  # as versions before wrote it
    (tmp_path / "plan.jsonl").write_text(older)
    assert plan.make_plan(store, recordings, {"model": "m"}, False)


ROW = b'{"path": "a.wav", "duration": 1.5, "error": null}\n'


@pytest.mark.parametrize("content", [b"", b"5\n", b'{"error": null}\n', ROW * 2, b"\xff"])
def test_a_damaged_part_is_named(tmp_path: Path, content: bytes) -> None:
    store, part = Store(str(tmp_path)), plan.Part("00000", (Recording("a.wav", "a.wav"),))
    store.write("part-00000.jsonl", content)
    with pytest.raises(AsrError, match=r"part-00000\.jsonl: damaged \(.*\); remove it"):
        run.Writer(store, "jsonl").begin([part], (), retry_errors=False)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store_module, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(AsrError, match="No space left on device; make room"):
        Store(str(tmp_path)).write("part-00000.jsonl", b"")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, in which no folder can be made")
def test_an_output_that_cannot_be_made_is_told(recordings: Path) -> None:
    with pytest.raises(
        AsrError, match=r"^/proc/no: cannot write: .*; check the folder and the access, or name another$"
    ):
        transcribe_all([str(recordings / "a.wav")], settings("/proc/no"), workers=1)


@pytest.mark.parametrize("paths", [("", "out"), ("in", ""), ("out",)])
def test_paths_without_a_name_are_wrong_usage(tmp_path: Path, paths: tuple[str, ...]) -> None:
    ended = subprocess.run([*PROGRAM, "bulk", *paths], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert not list(tmp_path.iterdir())


def test_the_root_of_a_bucket_is_no_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install '.[bulk]'")
    monkeypatch.chdir(tmp_path)
    assert Store("s3://").path == "s3://"
    assert not isinstance(Store("s3://").system, LocalFileSystem)
    assert Store("/").root == "/"


def test_rows_have_both_forms(carrier_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule_tagger.install(monkeypatch)
    speech = carrier.speech("ada is there she paid two five dollars"), carrier.RATE
    written, spoken = (
        worker.make_row(
            settings("out"),
            Recording("a.wav", "a"),
            Recognizer(carrier_bundle, GREEDY, threads=1, style=style).transcribe(*speech),  # type: ignore[arg-type]
            None,
        )
        for style in ("written", "spoken")
    )
    assert written["text"] == "Ada is there she paid $25."
    assert written["spoken"] == spoken["text"] == "ada is there she paid two five dollars"
    assert "spoken" not in spoken
    assert written["segments"][0]["text"] == written["text"]
    assert [word["written"] for word in written["words"]][-3:] == ["$25.", "", ""]
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="pip install '.[bulk]'")
    first, second = pyarrow.read_table(io.BytesIO(run._table([written, spoken]))).to_pylist()
    assert (first["text"], first["spoken"], first["words"]) == (written["text"], written["spoken"], written["words"])
    assert (second["spoken"], second["words"][0]["written"]) == (None, None)


def test_an_output_in_another_style_is_refused(tmp_path: Path) -> None:
    store, recordings = Store(str(tmp_path)), [Recording("a.wav", "a")]
    plan.make_plan(store, recordings, {"model": "m", "style": "spoken"}, False)
    with pytest.raises(AsrError, match="was begun with --style spoken, not written"):
        plan.make_plan(store, recordings, {"model": "m", "style": "written"}, False)
