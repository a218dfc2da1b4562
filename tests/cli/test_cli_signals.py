"""Signals, long names and folders that cannot be read, in a process of its own."""

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import carrier
import pytest
import soundfile
from program import PROGRAM, Command

from asr.cli.main import main
from asr.signals import held_back


def temporary_files(process: subprocess.Popen[bytes], folder: Path) -> list[str]:
    """Of the process: files in the temporary folder, also those without a name."""
    links = Path(f"/proc/{process.pid}/fd")
    opened = []
    for link in links.iterdir() if links.exists() else []:
        with suppress(FileNotFoundError):  # closed in the meantime
            opened.append(os.readlink(link))
    return [name for name in opened if name.startswith(str(folder))] + [*os.listdir(folder)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program_quietly_and_leaves_nothing_behind(
    carrier_bundle: Path, tmp_path: Path, number: int
) -> None:
    output, temporary = tmp_path / "a.txt", tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", "--model", carrier_bundle, "-", "-o", output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    deadline = time.monotonic() + 20
    while not temporary_files(process, temporary) and time.monotonic() < deadline:  # it waits for the rest of its input
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert out == b""
    assert [*temporary.iterdir()] == []
    assert [*tmp_path.iterdir()] == [temporary]


@pytest.mark.parametrize("delay", [0.06, 0.1, 0.15, 0.2, 0.3])
def test_ctrl_c_while_the_program_starts_is_quiet(tmp_path: Path, delay: float) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    begun = Path(f"/proc/{process.pid}/maps")
    deadline = time.monotonic() + 10  # Python itself has not begun to import the program before
    while b"asr" not in begun.parent.joinpath("cmdline").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)
    if process.returncode == 130:
        assert b"Traceback" not in err


def test_the_signals_of_a_caller_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that it forks later would have them too, and not end when they are terminated."""
    monkeypatch.setattr("sys.argv", ["asr", "--version"])
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    with pytest.raises(SystemExit):
        main()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be held back on Windows")
def test_a_signal_during_an_import_comes_after_it() -> None:
    """Among what an exception there would be lost in: importlib's own callbacks, extensions in C."""
    finished = []

    def interrupted() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert finished
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_another_thread_is_given_waits_too() -> None:
    """onnxruntime's threads block no signal, and Python runs the handlers in the main thread whoever was given one."""
    finished, ended = [], threading.Event()

    def interrupted() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            finished.append(True)

    other = threading.Thread(target=ended.wait, args=[20])
    other.start()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ended.set()
    other.join()
    assert finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("name", ["n" * 5000, "n/" * 3000])
def test_a_name_that_is_too_long_is_one_line_and_the_others_are_done(
    transcribe: Command, tmp_path: Path, name: str
) -> None:
    good = carrier.save(tmp_path / "good.wav", "good")
    result = transcribe(name, good)
    assert result.code == 1
    assert result.out.endswith("good\n")
    (line,) = result.errors
    assert "File name too long" in line
    assert len(line) <= 305


def test_libraries_do_not_write_to_standard_error(program: Command, carrier_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "talk.mp3"
    soundfile.write(path, carrier.speech("good day"), carrier.RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"\0" * 300 + whole[500:-100])  # libmpg123 notes an illegal header, and resyncs
    result = program("transcribe", "--model", carrier_bundle, path)
    assert len(result.errors) <= 1


def test_escapes_in_names_never_reach_the_terminal(transcribe: Command, tmp_path: Path) -> None:
    name = "\x1b]0;title\x07\x1b[31mred\x9b2J.wav"
    path = carrier.save(tmp_path / "in/a.wav", "fine").rename(tmp_path / "in" / name)
    other = carrier.save(tmp_path / "in/b.wav", "other")
    for result in (transcribe(path, other), transcribe(path, "-o", tmp_path / "x" / name), transcribe(tmp_path / name)):
        assert all(line.isprintable() for line in (result.out + result.err).replace("\t", "").splitlines())
