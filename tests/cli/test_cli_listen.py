"""`asr listen` on recordings and on microphones that are made up; real ones are in tests/audio."""

import fcntl
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import carrier
import numpy as np
import pytest
import soundfile
from program import PROGRAM, Command, Outcome

from asr.audio import microphone
from asr.audio.sources import read
from asr.errors import DeviceError
from asr.output.writers import LIVE_FORMATS
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import StreamingRecognizer
from asr.signals import ended_by_signals

PAUSE = np.zeros(round(1.2 * carrier.RATE), dtype=np.float32)  # ends an utterance
DEVICE = microphone.Device(3, "USB Mic", 48000, True)


def speech(*utterances: str) -> np.ndarray:
    """Samples (n,) that spell the utterances, a pause after each."""
    return np.concatenate([part for text in utterances for part in (carrier.speech(text), PAUSE)])


def save(path: Path, *utterances: str) -> Path:
    soundfile.write(path, speech(*utterances), carrier.RATE, subtype="PCM_16")
    return path


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A recording of two utterances."""
    return save(tmp_path / "talk.wav", "one two three", "and the rest")


@pytest.fixture
def listen(run: Command, streaming_carrier_bundle: Path) -> Command:
    """`asr listen` in this process with the model that reads `carrier.speech`."""
    return lambda *arguments, **options: run("listen", "--model", streaming_carrier_bundle, *arguments, **options)


@pytest.fixture
def start(streaming_carrier_bundle: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`asr listen` as a program that runs on; killed at the end."""
    started = []

    def command(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        line = [*PROGRAM, "listen", "--model", streaming_carrier_bundle, *arguments]
        started.append(subprocess.Popen(line, **pipes))
        return started[-1]

    yield command
    for process in started:
        process.kill()
        process.communicate()


class FakeMicrophone:
    """Hands out blocks of 40 ms, then fails if it is told to; loses `overruns` blocks on the way."""

    samples = speech("one two three", "and the")
    failure: DeviceError | None = None
    overruns = 0
    channels = 1

    def __init__(self, device: microphone.Device, channel: int | None = None, apart: bool = False) -> None:
        self.device, self.rate = device, carrier.RATE
        self.stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in np.split(self.samples, range(carrier.FRAME, len(self.samples), carrier.FRAME)):
            if self.stopped:
                return
            yield block
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeMicrophone]:
    """The class in the place of the microphone's; what is changed in it holds for one test."""
    fake = type("Microphone", (FakeMicrophone,), {})
    monkeypatch.setattr(microphone, "find_device", lambda choice: DEVICE)
    monkeypatch.setattr(microphone, "Microphone", fake)
    return fake


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it never happened")


def test_a_pipe_gets_plain_lines_and_nothing_else(program: Command, streaming_carrier_bundle: Path, talk: Path) -> None:
    done = program("listen", "--model", streaming_carrier_bundle, "--input", talk, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert (done.code, done.out) == (0, "one two three\nand the rest\n")
    assert done.err == f"asr: listening to {talk} at 16000 Hz; Ctrl-C ends\n"


def test_each_utterance_leaves_the_pipe_when_it_ends(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    talk = save(tmp_path / "talk.wav", "early", "late " * 40)
    process = start("--input", talk, "--realtime")
    assert process.stdout is not None
    assert process.stdout.readline() == "early\n"
    assert process.poll() is None


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """Two people on two channels."""
    people = [speech("hello there", "yes"), speech("good day")]
    samples = np.zeros((max(map(len, people)), 2), dtype=np.float32)
    for channel, own in enumerate(people):
        samples[: len(own), channel] = own
    soundfile.write(tmp_path / "call.wav", samples, carrier.RATE, subtype="PCM_16")
    return tmp_path / "call.wav"


@pytest.mark.parametrize("pipe", [False, True])
def test_channels_are_chosen_or_listened_to_apart(
    program: Command, streaming_carrier_bundle: Path, call: Path, tmp_path: Path, pipe: bool
) -> None:
    def listen(*options: str | Path) -> Outcome:
        stdin = call.read_bytes() if pipe else b""
        source = "-" if pipe else call
        return program("listen", "--model", streaming_carrier_bundle, "--input", source, *options, stdin=stdin)

    assert listen("--channels", "left").out == "hello there\nyes\n"
    assert listen("--channels", "2").out == "good day\n"
    apart = listen("--channels", "each", "--format", "json", "--save-audio", tmp_path / "saved.wav")
    segments = [json.loads(line) for line in apart.out.splitlines()]
    assert sorted((item["channel"], item["text"]) for item in segments) == [
        (1, "hello there"),
        (1, "yes"),
        (2, "good day"),
    ]
    assert soundfile.info(tmp_path / "saved.wav").channels == 2
    third = listen("--channels", "3")
    assert (third.code, third.out) == (1, "")
    assert "has no channel 3, only 2" in third.errors[-1]


def test_cues_of_channels_keep_their_own_times(listen: Command, call: Path) -> None:
    cues = listen("--input", call, "--channels", "each", "--format", "srt").out.split("\n\n")
    starts = {cue.split("\n")[2]: cue.split("\n")[1][:12] for cue in cues}
    alone = listen("--input", call, "--channels", "right", "--format", "srt").out.split("\n")
    assert starts["[2] good day"] == alone[1][:12]


def test_inverted_stereo_is_heard_live(program: Command, streaming_carrier_bundle: Path, tmp_path: Path) -> None:
    mono = speech("hello there")
    soundfile.write(tmp_path / "i.wav", np.stack([mono, -mono], axis=1), carrier.RATE)
    content = (tmp_path / "i.wav").read_bytes()
    assert program("listen", "--model", streaming_carrier_bundle, "--input", "-", stdin=content).out == "hello there\n"


def test_an_audio_track_of_a_video_is_listened_to(listen: Command, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tmp_path / f"{name}.wav", name)
    inputs = ["-i", tmp_path / "one.wav", "-i", tmp_path / "two.wav", "-map", "0", "-map", "1", "-c:a", "flac"]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *inputs, tmp_path / "film.mkv"], check=True)
    assert listen("--input", tmp_path / "film.mkv", "--track", "2").out == "two\n"
    assert "track 1 is read; its audio tracks: 1 flac mono, 2 flac mono" in listen("--input", tmp_path / "film.mkv").err
    assert "has no audio track 3" in listen("--input", tmp_path / "film.mkv", "--track", "3").err
    assert listen("--track", "2").code == 2


@pytest.mark.parametrize("format", LIVE_FORMATS)
def test_every_format_is_its_writers_pieces_on_standard_output_and_in_a_file(
    listen: Command, talk: Path, tmp_path: Path, format: str
) -> None:
    printed = listen("--input", talk, "--format", format)
    saved = listen("--input", talk, "--format", format, "--output", tmp_path / "out")
    assert (printed.code, saved.code, saved.out) == (0, 0, "")
    assert (tmp_path / "out").read_text() == printed.out
    texts = {
        "txt": ["one two three", "and the rest"],
        "json": ['"text": "one two three"', '"text": "and the rest"'],
        "srt": ["1\n00:00:00,000 --> 00:00:01,000\none two three\n", "\n2\n00:00:02,180 -->"],
        "vtt": ["WEBVTT\n\n00:00:00.000 --> ", "00:00:02.180 -->"],
        "ass": ["[Script Info]\n", "Dialogue: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,one two three\n"],
        "tsv": ["start\tend\ttext\n0\t1000\tone two three\n", "2180\t3160\tand the rest\n"],
        "ctm": ["talk.wav 1 0.00 0.20 one 1.000\n", "talk.wav 1 2.18 0.26 and 1.000\n"],
    }
    for text in texts[format]:
        assert printed.out.count(text) == 1


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_no_cue_ends_after_the_audio_does(listen: Command, tmp_path: Path, format: str) -> None:
    samples = np.concatenate([speech("one two three"), carrier.speech("and")])  # 2.24 s and 0.24 s
    soundfile.write(tmp_path / "talk.wav", samples, carrier.RATE, subtype="PCM_16")
    times = re.findall(r"(\S+) --> (\S+)", listen("--input", tmp_path / "talk.wav", "--format", format).out)
    assert [[time[-6:].replace(",", ".") for time in cue] for cue in times] == [
        ["00.000", "01.000"],
        ["02.180", "02.480"],
    ]


def test_json_is_an_object_for_each_utterance(listen: Command, talk: Path) -> None:
    first, second = map(json.loads, listen("--input", talk, "--format", "json").out.splitlines())
    assert (first["text"], first["start"], first["end"]) == ("one two three", 0.0, 1.0)
    assert [(word["word"], word["start"]) for word in second["words"]] == [("and", 2.18), ("the", 2.48), ("rest", 2.8)]


@pytest.mark.parametrize("options", [["--decoder", "beam"], ["--decoder", "beam", "--beam-width", "4"]])
def test_the_beam_decoder_can_be_chosen(listen: Command, talk: Path, options: list[str]) -> None:
    assert listen("--input", talk, *options).out == "one two three\nand the rest\n"


def test_the_endpoint_rules_can_be_set(listen: Command, tmp_path: Path) -> None:
    talk = save(tmp_path / "talk.wav", "one two three", " and the rest")
    assert listen("--input", talk, "--after-speech", "2").out == "one two three and the rest\n"
    assert listen("--input", talk, "--after-speech", "2", "--max-utterance", "2").out == "one two three\nand the rest\n"


def test_a_second_pass_goes_over_the_finished_utterances(
    listen: Command, talk: Path, carrier_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, asked = Recognizer.transcribe_all, []
    monkeypatch.setattr(
        Recognizer, "transcribe_all", lambda *given, **options: asked.append(1) or original(*given, **options)
    )
    assert listen("--input", talk, "--second-pass", carrier_bundle).out == "one two three\nand the rest\n"
    assert len(asked) == 2


@pytest.mark.parametrize("arguments", [["--input", "a.wav", "--second-pass"], ["--second-pass", "--input", "a.wav"]])
def test_a_second_pass_without_its_model_says_so(listen: Command, arguments: list[str]) -> None:
    result = listen(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error: --second-pass needs a value: Model that" in result.err


def test_a_second_pass_that_does_not_exist_is_one_line(listen: Command, talk: Path) -> None:
    result = listen("--input", talk, "--second-pass", "en-nothing")
    assert (result.code, len(result.errors)) == (1, 1)
    assert "en-nothing" in result.err


def test_standard_input_can_be_listened_to(listen: Command, talk: Path) -> None:
    result = listen("--input", "-", "--format", "ctm", stdin=talk.read_bytes())
    assert result.out.startswith("standard_input 1 0.00 0.20 one ")
    assert result.errors == ["asr: listening to standard input at 16000 Hz; Ctrl-C ends"]


def test_silence_gives_no_text(listen: Command, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(3 * carrier.RATE), carrier.RATE)
    result = listen("--input", tmp_path / "silence.wav")
    assert (result.code, result.out) == (0, "")


def test_the_output_file_grows_while_somebody_speaks(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    output = tmp_path / "out.txt"
    process = start("--input", save(tmp_path / "talk.wav", "early", "late " * 40), "--realtime", "--output", output)
    wait_until(lambda: output.exists() and output.read_text() == "early\n")
    assert process.poll() is None


def test_an_older_output_stays_until_listening_begins(listen: Command, talk: Path, tmp_path: Path) -> None:
    output, audio = tmp_path / "out.txt", tmp_path / "out.wav"
    options = ("--output", output, "--save-audio", audio)
    assert listen("--input", talk, *options).code == 0
    before = output.read_bytes(), audio.read_bytes()
    assert listen("--input", tmp_path / "none.wav", *options).code == 1
    assert (output.read_bytes(), audio.read_bytes()) == before
    other = save(tmp_path / "b.wav", "b")
    refused = listen("--input", other, *options)
    assert refused.errors == [f"asr: {output}: exists; choose another name, or replace it with --force"]
    assert (output.read_bytes(), audio.read_bytes()) == before
    assert listen("--input", other, *options, "--force").code == 0
    assert output.read_text() == "b\n"
    assert audio.stat().st_size < len(before[1])


@pytest.mark.parametrize("option", ["--output", "--save-audio"])
def test_an_input_is_never_an_output(listen: Command, talk: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "link.wav").symlink_to(talk)
    (tmp_path / "hard.wav").hardlink_to(talk)
    before = talk.read_bytes()
    for name in ("talk.wav", "link.wav", "hard.wav", "../" + tmp_path.name + "/talk.wav"):
        result = listen("--input", talk, option, tmp_path / name, "--force")
        assert (result.code, result.out) == (1, "")
        assert result.errors == [f"asr: {tmp_path / name}: is the same file as {talk}; choose another --output"]
    assert talk.read_bytes() == before


def test_text_and_audio_are_not_one_file(listen: Command, talk: Path, tmp_path: Path) -> None:
    result = listen("--input", talk, "--output", tmp_path / "a.wav", "--save-audio", tmp_path / "./a.wav")
    assert (result.code, len(result.errors)) == (1, 1)
    assert not (tmp_path / "a.wav").exists()


def test_the_format_is_that_of_the_output_suffix(listen: Command, talk: Path, tmp_path: Path) -> None:
    assert listen("-f", "srt", "--input", talk, "-o", tmp_path / "a").code == 0
    assert listen("--input", talk, "-o", tmp_path / "a.srt").code == 0
    assert (tmp_path / "a.srt").read_text() == (tmp_path / "a").read_text() != ""


@pytest.mark.parametrize("suffix", ["wav", "WAV", "flac", "w64"])
def test_the_saved_audio_is_what_was_heard(listen: Command, talk: Path, tmp_path: Path, suffix: str) -> None:
    saved = tmp_path / f"saved.{suffix}"
    assert listen("--input", talk, "--save-audio", saved).code == 0
    np.testing.assert_allclose(read(saved), read(talk), atol=1 / 32768)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_sentence(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    sentence, saved = "a long sentence " * 20, tmp_path / "saved.wav"
    talk = save(tmp_path / "talk.wav", sentence)
    process = start("--input", talk, "--realtime", "--save-audio", saved)
    wait_until(lambda: saved.exists() and saved.stat().st_size > 2 * carrier.RATE)  # a second of 16 bits
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == f"asr: listening to {talk} at 16000 Hz; Ctrl-C ends\n"
    assert out.endswith("\n")
    assert 10 < len(out) < len(sentence)
    assert sentence.startswith(out[:-1])
    heard = read(saved)
    np.testing.assert_allclose(heard, read(talk)[: len(heard)], atol=1 / 32768)
    assert abs(len(heard) / carrier.FRAME - 2 * len(out)) < 6  # what was heard is what was written


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_for_standard_input(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    process = start("--input", "-", stdin=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert process.stdin is not None
    process.stdin.write("RIFF")
    process.stdin.flush()
    pipe = process.stdin.fileno()
    wait_until(lambda: fcntl.ioctl(pipe, termios.FIONREAD, b"1234") == bytes(4))  # until standard input is being read
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(10) == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_the_second_interrupts(number: signal.Signals) -> None:
    before, stops = signal.getsignal(number), []
    with ended_by_signals(lambda: stops.append(number)):
        signal.raise_signal(number)
        assert stops == [number]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert stops == [number]
    assert signal.getsignal(number) is before


def test_an_interrupted_microphone_is_emptied_and_the_sentence_finished(
    listen: Command, fake: type[FakeMicrophone]
) -> None:
    def stop(self: FakeMicrophone) -> None:  # as the real one: what was captured is still handed out
        self.samples = speech("one two three")

    def blocks(self: FakeMicrophone) -> Iterator[np.ndarray]:
        signal.raise_signal(signal.SIGINT)
        yield self.samples

    fake.samples, fake.stop, fake.__iter__ = speech("wrong"), stop, blocks  # type: ignore[method-assign]
    result = listen()
    assert (result.code, result.out) == (0, "one two three\n")
    assert result.errors == ["asr: listening to USB Mic at 16000 Hz; Ctrl-C ends"]


def test_control_c_twice_ends_at_once(listen: Command, fake: type[FakeMicrophone]) -> None:
    def blocks(self: FakeMicrophone) -> Iterator[np.ndarray]:
        yield speech("one two three")
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    fake.__iter__ = blocks  # type: ignore[method-assign]
    result = listen()
    assert (result.code, result.out) == (130, "one two three\n")
    assert len(result.errors) == 1


def test_a_microphone_that_vanishes_keeps_its_text_and_is_one_line(
    listen: Command, fake: type[FakeMicrophone], tmp_path: Path
) -> None:
    fake.samples = np.concatenate([speech("one two three"), carrier.speech("and the")])  # cut off in a sentence
    fake.failure = DeviceError("microphone 3 (USB Mic): vanished")
    saved = tmp_path / "saved.wav"
    result = listen("--save-audio", saved)
    assert (result.code, result.out) == (1, "one two three\nand the\n")
    assert result.errors[1:] == ["asr: microphone 3 (USB Mic): vanished"]
    np.testing.assert_allclose(read(saved), fake.samples, atol=1 / 32768)


def test_lost_audio_is_told_at_once_and_in_all(listen: Command, fake: type[FakeMicrophone]) -> None:
    def blocks(self: FakeMicrophone) -> Iterator[np.ndarray]:
        for block in FakeMicrophone.__iter__(self):
            self.overruns += 1
            yield block

    fake.__iter__ = blocks  # type: ignore[method-assign]
    result = listen()
    assert (result.code, result.out) == (0, "one two three\nand the\n")
    _, first, *others, last = result.errors
    assert first.startswith("asr: audio was dropped 1 times: the machine is too slow; ")
    assert len(others) < 5  # not a line for each block
    total = round(len(fake.samples) / carrier.FRAME)
    assert last == f"asr: audio was dropped {total} times in all"


def test_the_model_is_loaded_before_the_microphone_opens(
    listen: Command, fake: type[FakeMicrophone], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, order = StreamingRecognizer, []
    monkeypatch.setattr(
        "asr.cli.listen.StreamingRecognizer", lambda *given, **named: order.append("model") or original(*given, **named)
    )
    fake.__enter__ = lambda self: order.append("microphone") or self  # type: ignore[assignment, func-returns-value]
    assert listen().code == 0
    assert order == ["model", "microphone"]


def test_the_device_is_the_one_asked_for(
    listen: Command, fake: type[FakeMicrophone], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(microphone, "find_device", lambda choice: asked.append(choice) or DEVICE)
    listen("--device", "usb")
    listen()
    assert asked == ["usb", None]


def test_devices_are_listed_with_number_name_rate_and_the_default(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [DEVICE, microphone.Device(12, "Webcam", 44100, False)]
    monkeypatch.setattr(microphone, "list_devices", lambda: devices)
    result = run("listen", "--list-devices")
    assert (result.code, result.err) == (0, "")
    assert result.out == "  3  USB Mic, 48000 Hz (default)\n 12  Webcam, 44100 Hz\n"


def test_no_device_is_one_line(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "list_devices", lambda: [])
    for arguments in (["--list-devices"], []):
        result = run("listen", *arguments)
        assert (result.code, result.out) == (1, "")
        assert result.errors == ["asr: no microphone found; connect one, or start the sound server"]


@pytest.mark.parametrize("arguments", [["--list-devices"], []])
def test_a_missing_portaudio_is_one_line_that_says_what_to_install(arguments: list[str]) -> None:
    code = "import ctypes.util; ctypes.util.find_library = lambda name: None\nfrom asr.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "listen", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "libportaudio2" in line


def test_listening_to_a_recording_needs_no_sound_system(streaming_carrier_bundle: Path, talk: Path) -> None:
    code = "import sys; sys.modules |= dict.fromkeys(['sounddevice', 'rich.live', 'torch'])"
    command = [sys.executable, "-c", f"{code}\nfrom asr.cli.main import main; main()", "listen", "--input", talk]
    done = subprocess.run([*command, "--model", streaming_carrier_bundle], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "one two three\nand the rest\n"), done.stderr


@pytest.mark.parametrize("suffix", ["none.wav", "text.wav"])
def test_a_recording_that_cannot_be_read_is_one_line(listen: Command, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "text.wav").write_text("this is not audio\n" * 50)
    result = listen("--input", tmp_path / suffix)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert line.startswith(f"asr: {tmp_path / suffix}: ")


def test_a_truncated_recording_gives_its_text_and_one_line(listen: Command, talk: Path) -> None:
    kept = np.concatenate([speech("one two three"), carrier.speech("and the")])
    talk.write_bytes(talk.read_bytes()[: 44 + 2 * len(kept)])  # a header, and samples of 16 bits
    result = listen("--input", talk)
    assert (result.code, result.out) == (1, "one two three\nand the\n")
    _, line = result.errors
    assert line.startswith(f"asr: {talk}: truncated")


@pytest.mark.parametrize(
    ("option", "name"),
    [("--output", "none/out.txt"), ("--output", "."), ("--save-audio", "none/a.wav"), ("--save-audio", "folder.wav")],
)
def test_a_file_that_cannot_be_written_is_one_line_before_the_microphone_opens(
    listen: Command, fake: type[FakeMicrophone], tmp_path: Path, option: str, name: str
) -> None:
    fake.__enter__ = lambda self: pytest.fail("the microphone was opened")  # type: ignore[assignment]
    (tmp_path / "folder.wav").mkdir()
    result = listen(option, tmp_path / name)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert line.startswith(f"asr: {tmp_path / name}: cannot be written (")
    assert option in line


@pytest.mark.parametrize("name", ["audio", "audio.docx", "audio.raw"])
def test_an_audio_format_that_does_not_exist_is_one_line(
    listen: Command, fake: type[FakeMicrophone], tmp_path: Path, name: str
) -> None:
    result = listen("--save-audio", tmp_path / name)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert line.startswith(f"asr: {tmp_path / name}: audio cannot be saved there (")
    assert not (tmp_path / name).exists()


def limited(size: int) -> Callable[[], None]:
    """A disk that is full when a file has so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_when_the_disk_is_full_the_rest_of_the_text_goes_to_standard_output(
    start: Callable[..., subprocess.Popen[str]], talk: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.txt"
    process = start("--input", talk, "--output", output, preexec_fn=limited(20))  # 14 for the first, 13 for the second
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "and the rest\n")
    assert output.read_text() == "one two three\n"
    _, line = err.splitlines()
    assert line == (
        f"asr: {output}: cannot be written (File too large); what is there stays, the rest goes to standard output"
    )


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_when_the_disk_is_full_the_text_goes_on_without_the_audio(
    start: Callable[..., subprocess.Popen[str]], talk: Path, tmp_path: Path, suffix: str
) -> None:
    saved = tmp_path / f"saved.{suffix}"
    process = start("--input", talk, "--save-audio", saved, preexec_fn=limited(5000))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "one two three\nand the rest\n")
    _, line = err.splitlines()
    assert line.startswith(f"asr: {saved}: cannot be written (")
    assert line.endswith("; audio from here on is not saved")
    assert saved.stat().st_size > 0


def test_a_reader_that_leaves_is_no_error_message(
    start: Callable[..., subprocess.Popen[str]], talk: Path, tmp_path: Path
) -> None:
    process = start("--input", talk, "--save-audio", tmp_path / "saved.wav")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before anything was written
    assert len(process.stderr.read().splitlines()) == 1
    assert process.wait(60) not in (0, 2)
    assert soundfile.info(tmp_path / "saved.wav").frames > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--input", "a.wav", "--device", "usb"], "--device"),
        (["--realtime"], "--realtime"),
        (["--input", ""], "--input"),
        (["--input", "a.wav", "--after-speech", "0"], "after_speech"),
        (["--input", "a.wav", "--max-utterance", "nan"], "max_utterance"),
        (["--input", "a.wav", "--format", "docx"], "docx"),
        (["--input", "a.wav", "--timestamps", "--output", "a.srt"], "--timestamps"),
        (["a.wav"], "a.wav"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Command, arguments: list[str], complaint: str) -> None:
    result = run("listen", *arguments)
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err
    assert "Traceback" not in result.err


def test_an_unknown_model_is_one_line(run: Command, talk: Path) -> None:
    result = run("listen", "--input", talk, "--model", "en-nothing")
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert "en-nothing" in line


@pytest.mark.parametrize("redirected", [False, True])
def test_a_terminal_shows_the_utterance_in_progress_and_a_pipe_stays_clean(
    start: Callable[..., subprocess.Popen[str]], talk: Path, redirected: bool
) -> None:
    shown, out = on_a_terminal(start, ["--input", talk, "--realtime"], redirected)
    assert "\x1b[2m" in shown  # dimmed words, and the meter
    assert "dB" in shown
    assert "\x1b[?25h" in shown.rpartition("\x1b[?25l")[2]  # the cursor is back
    if redirected:
        assert out == "one two three\nand the rest\n"
    else:
        assert shown.count("one two three\r\n") == shown.count("and the rest\r\n") == 1


def test_a_terminal_shows_plain_text_beside_an_output_file(
    start: Callable[..., subprocess.Popen[str]], talk: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.srt"
    shown, _ = on_a_terminal(start, ["--input", talk, "--output", output, "--format", "srt"], redirected=False)
    assert shown.count("one two three\r\n") == shown.count("and the rest\r\n") == 1
    assert "-->" not in shown
    assert output.read_text().count("-->") == 2


def on_a_terminal(
    start: Callable[..., subprocess.Popen[str]], arguments: list[str | Path], redirected: bool
) -> tuple[str, str]:
    """What a terminal is sent by a command that runs on it, and its standard output if that is redirected."""
    terminal, end = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with open(os.devnull, "rb") as nothing:
        target = subprocess.PIPE if redirected else end
        process = start(*arguments, stdin=nothing, stdout=target, stderr=end, env=environment)
    os.close(end)
    data = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not part:
            break
        data += part
    os.close(terminal)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return data.decode(), out or ""
