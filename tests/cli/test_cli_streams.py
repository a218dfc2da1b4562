"""Which stream gets what, from a process of its own: pipes, terminals, a reader that leaves, Ctrl-C."""

import fcntl
import os
import pty
import select
import shlex
import signal
import subprocess
import termios
import time
from array import array
from pathlib import Path

import carrier
import pytest
from program import PROGRAM, Command


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return carrier.save(tmp_path / "words.wav", "some words")


def read_all(descriptor: int) -> str:
    """What was written to a pseudo-terminal, once nobody can write to it any more."""
    data = b""
    while select.select([descriptor], [], [], 0.2)[0]:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not chunk:
            break
        data += chunk
    return data.decode()


def test_exit_codes_and_streams(program: Command, carrier_bundle: Path, words: Path, tmp_path: Path) -> None:
    done = program("transcribe", "--model", carrier_bundle, words)
    assert (done.code, done.out, done.err) == (0, "some words\n", "")
    failed = program("transcribe", "--model", carrier_bundle, tmp_path / "missing.wav", words)
    assert (failed.code, failed.out) == (1, f"{words}\tsome words\n")
    assert failed.errors == [f"asr: {tmp_path / 'missing.wav'}: no such file"]
    misused = program("transcribe", words, "--format", "docx")
    assert (misused.code, misused.out) == (2, "")


def test_closed_standard_error_does_not_matter(carrier_bundle: Path, words: Path) -> None:
    command = shlex.join([*PROGRAM, "transcribe", "--model", str(carrier_bundle), str(words)])
    done = subprocess.run(f"{command} 2>&-", shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"some words\n")


def test_no_progress_bar_in_a_pipe_even_where_colour_is_forced(
    program: Command, carrier_bundle: Path, words: Path
) -> None:
    done = program("transcribe", "--model", carrier_bundle, words, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert (done.code, done.out, done.err) == (0, "some words\n", "")


def test_standard_input_is_a_pipe(program: Command, carrier_bundle: Path, words: Path) -> None:
    done = program("transcribe", "--model", carrier_bundle, "-", stdin=words.read_bytes())
    assert (done.code, done.out, done.err) == (0, "some words\n", "")


@pytest.mark.parametrize("redirected", [True, False])
def test_text_reaches_standard_output_while_a_progress_bar_is_drawn(
    carrier_bundle: Path, words: Path, tmp_path: Path, redirected: bool
) -> None:
    terminal, end = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with (tmp_path / "out.txt").open("wb") as file:
        process = subprocess.Popen(
            [*PROGRAM, "transcribe", "--model", carrier_bundle, words],
            stdin=subprocess.DEVNULL,
            stdout=file if redirected else end,
            stderr=end,
            env=environment,
        )
        os.close(end)
        shown = ""
        while process.poll() is None:
            shown += read_all(terminal)
        shown += read_all(terminal)
    os.close(terminal)
    assert process.returncode == 0
    assert "s of audio" in shown  # the bar
    if redirected:
        assert (tmp_path / "out.txt").read_text() == "some words\n"
        assert "some words" not in shown
    else:
        assert shown.count("some words") == 1


def test_a_reader_that_leaves_is_no_error_message(carrier_bundle: Path, words: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", "--model", carrier_bundle, words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before anything was written
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) not in (0, 2)


def test_control_c_ends_without_a_traceback_and_leaves_nothing(carrier_bundle: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", "--model", carrier_bundle, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        # A shell starts what runs in the background with Ctrl-C ignored, and programs inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None
    process.stdin.write(b"RIFF")
    process.stdin.flush()
    unread = array("i", [4])
    while unread[0]:  # until standard input is being copied
        assert process.poll() is None
        time.sleep(0.05)
        fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(carrier_bundle: Path, words: Path) -> None:
    command = shlex.join([*PROGRAM, "transcribe", "--model", str(carrier_bundle), str(words)])
    done = subprocess.run(f"{command} > /dev/full", shell=True, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "asr: No space left on device; make room, or write elsewhere\n"


def test_closed_standard_output_is_one_line(carrier_bundle: Path, words: Path) -> None:
    command = shlex.join([*PROGRAM, "transcribe", "--model", str(carrier_bundle), str(words)])
    done = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("asr: standard output is closed")


def test_any_text_can_be_printed_in_any_locale(carrier_bundle: Path, words: Path, tmp_path: Path) -> None:
    name = tmp_path / "café.wav"
    name.write_bytes(words.read_bytes())
    command = [*PROGRAM, "transcribe", "--model", str(carrier_bundle), str(name), str(words)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.decode() == f"{name}\tsome words\n{words}\tsome words\n"
