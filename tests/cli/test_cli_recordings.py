"""`asr transcribe` of recordings as people have them: late tracks, two people on two channels, parts, many files."""

import io
import json
import re
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr
from itertools import groupby
from pathlib import Path

import carrier
import numpy as np
import pytest
import soundfile
from program import Command
from rich.progress import Progress, TaskID

from asr.audio.sources import Excerpt
from asr.data.manifest import Entry
from asr.output.transcript import Segment
from asr.recognize.offline import Recognizer


def ffmpeg(*arguments: str | Path) -> None:
    try:
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)
    except FileNotFoundError:
        pytest.skip("the ffmpeg program is not on PATH")


def call(path: Path, *texts: str) -> Path:
    """A recording with a text on each of its channels."""
    channels = [carrier.speech(text, silence=10 + 60 * number) for number, text in enumerate(texts)]
    samples = np.zeros((max(map(len, channels)), len(channels)), dtype=np.float32)
    for number, channel in enumerate(channels):
        samples[: len(channel), number] = channel
    soundfile.write(path, samples, carrier.RATE, subtype="PCM_16")
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libopus"), ("webm", "libopus"), ("mp4", "aac"), ("ts", "aac")])
def test_cues_of_audio_that_starts_late_are_on_the_clock_of_the_video(
    run: Command, recorded_entries: list[Entry], tmp_path: Path, suffix: str, codec: str
) -> None:
    entry = next(entry for entry in recorded_entries if "2277-149874-0002" in entry.id)
    film, picture = tmp_path / f"film.{suffix}", ("-f", "lavfi", "-i", "testsrc=d=12:s=32x32:r=5")
    video = "libvpx" if suffix == "webm" else "mpeg4"
    ffmpeg(
        *picture, "-itsoffset", "4", "-i", entry.audio, "-map", "0:v", "-map", "1:a", "-c:v", video, "-c:a", codec, film
    )
    early = json.loads(run("transcribe", entry.audio, "--format", "json").out)["segments"][0]["start"]
    result = run("transcribe", film, "--format", "json")
    assert result.code == 0
    assert json.loads(result.out)["segments"][0]["start"] == pytest.approx(early + 4, abs=0.13)
    cue = run("transcribe", film, "--format", "srt").out.splitlines()[1]
    assert cue.startswith("00:00:04,")


def test_the_first_cue_of_audio_that_starts_late_is_on_the_clock_whatever_writes_it(
    run: Command, recorded_entries: list[Entry], tmp_path: Path
) -> None:
    entry, film = next(entry for entry in recorded_entries if "2277-149874-0002" in entry.id), tmp_path / "d.mkv"
    late = ("-f", "lavfi", "-i", "testsrc=d=12", "-itsoffset", "4", "-i", entry.audio)
    ffmpeg(*late, "-map", "0:v", "-map", "1:a", "-c:a", "libopus", film)
    for command in (["transcribe", film], ["listen", "--input", film], ["align", film, entry.text]):
        result = run(*command, "--format", "srt")
        assert result.code == 0
        hours, minutes, seconds = result.out.splitlines()[1].split(" --> ")[0].replace(",", ".").split(":")
        start = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        assert start == pytest.approx(4.36, abs=0.04), command[0]


def test_inverted_stereo_has_the_words_of_one_channel(transcribe: Command, tmp_path: Path) -> None:
    mono = carrier.speech("hello world")
    soundfile.write(tmp_path / "i.wav", np.stack([mono, -mono], axis=1), carrier.RATE)
    assert transcribe(tmp_path / "i.wav").out == "hello world\n"


def test_channels_are_mixed_chosen_or_recognized_apart(transcribe: Command, tmp_path: Path) -> None:
    path = call(tmp_path / "call.wav", "hello", "good day")
    assert transcribe(path, "--channels", "left").out == transcribe(path, "--channels", "1").out == "hello\n"
    assert transcribe(path, "--channels", "right").out == "good day\n"
    assert transcribe(path, "--channels", "each").out == "[1] hello\n[2] good day\n"
    recording = json.loads(transcribe(path, "--channels", "each", "--format", "json").out)
    assert [(segment["channel"], segment["text"]) for segment in recording["segments"]] == [
        (1, "hello"),
        (2, "good day"),
    ]
    assert [segment["start"] for segment in recording["segments"]] == [0.4, 2.8]
    result = transcribe(path, "--channels", "3")
    assert (result.code, result.out) == (1, "")
    assert result.errors == [f"asr: {path}: has no channel 3, only 2; name another one"]
    assert transcribe(path, "--channels", "both").code == 2


def test_channels_apart_of_several_files_are_told_apart_by_name(transcribe: Command, tmp_path: Path) -> None:
    a, b = call(tmp_path / "a.wav", "one", "two"), carrier.save(tmp_path / "b.wav", "three")
    assert transcribe(a, b, "--channels", "each").out == f"{a}\t[1] one\n{a}\t[2] two\n{b}\tthree\n"


def test_several_audio_tracks_are_listed_and_can_be_chosen(transcribe: Command, tmp_path: Path) -> None:
    one, two = carrier.save(tmp_path / "1.wav", "first"), carrier.save(tmp_path / "2.wav", "second")
    film = tmp_path / "film.mkv"
    ffmpeg("-i", one, "-i", two, "-map", "0", "-map", "1", "-c:a", "flac", "-metadata:s:a:1", "language=deu", film)
    result = transcribe(film)
    assert (result.code, result.out) == (0, "first\n")
    assert result.errors == [f"asr: {film}: track 1 is read; its audio tracks: 1 flac mono, 2 deu flac mono"]
    assert transcribe(film, "--track", "2").out == "second\n"
    assert "has no audio track 3" in transcribe(film, "--track", "3").err


@pytest.mark.parametrize("command", [["transcribe"], ["listen", "--input"]])
def test_tracks_are_listed_once_where_channels_are_apart(
    run: Command, streaming_carrier_bundle: Path, tmp_path: Path, command: list[str]
) -> None:
    both, film = call(tmp_path / "call.wav", "one", "two"), tmp_path / "film.mkv"
    ffmpeg("-i", both, "-map", "0", "-map", "0", "-c:a", "flac", film)
    result = run(*command, film, "--channels", "each", "--model", streaming_carrier_bundle)
    assert (result.code, sorted(result.out.splitlines())) == (0, ["[1] one", "[2] two"])
    assert len([line for line in result.errors if "track 1 is read" in line]) == 1


def test_a_part_of_a_recording_keeps_its_times(transcribe: Command, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "one two", silence=50)  # frames of 40 ms
    whole = json.loads(transcribe(path, "--format", "json").out)
    part = json.loads(transcribe(path, "--start", "2.24", "--format", "json").out)
    assert (whole["text"], part["text"]) == ("one two", "two")
    start = whole["segments"][0]["words"][1]["start"]
    assert part["segments"][0]["words"][0]["start"] == pytest.approx(start, abs=0.021), "within speech or not"
    assert transcribe(path, "--start", "0:02", "--end", "0:00:02.2").out == "one\n"
    for options in (["--start", "x"], ["--start", "3", "--end", "2"]):
        assert transcribe(path, *options).code == 2
    result = transcribe(path, "--start", "60")
    assert (result.code, len(result.errors)) == (1, 1)


def test_a_text_has_a_line_for_each_segment_with_its_times_if_wanted(transcribe: Command, tmp_path: Path) -> None:
    samples = np.concatenate([carrier.speech("one", 5), carrier.speech(" two", 25)])
    soundfile.write(tmp_path / "a.wav", samples, carrier.RATE, subtype="PCM_16")
    assert transcribe(tmp_path / "a.wav").out == "one\ntwo\n"
    timed = transcribe(tmp_path / "a.wav", "--timestamps").out.splitlines()
    assert timed[0].startswith("[00:00:00.200 --> 00:00:00.")
    assert re.fullmatch(r"\[00:00:01\.[45]\d0 --> 00:00:01\.\d\d\d\] two", timed[1])


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
@pytest.mark.parametrize("streaming", [False, True])
def test_segments_are_shown_as_they_are_done_and_are_those_of_the_transcript(
    carrier_bundle: Path, streaming_carrier_bundle: Path, decoder: str, streaming: bool
) -> None:
    samples = np.concatenate(
        [carrier.speech(f" part {word}", 60) for word in ("one two three four five " * 30).split()]
    )
    recognizer = Recognizer(streaming_carrier_bundle if streaming else carrier_bundle, decoder, batch_size=1, threads=1)
    log: list[object] = []
    (recognition,) = recognizer.transcribe_all(
        [(samples, carrier.RATE)],
        on_progress=lambda _, seconds: log.append(seconds),
        on_segment=lambda _, segment: log.append(segment),
    )
    segments = [item for item in log if isinstance(item, Segment)]
    assert segments == [*recognition.transcript.segments]
    assert len(segments) == 150
    shown = [number for number, item in enumerate(log) if isinstance(item, Segment)]
    assert shown[len(shown) // 2] < 0.8 * len(log), "half of the segments before the last stretches of audio"


def test_nothing_ends_after_a_recording_that_was_cut_in_a_word(recorded_entries: list[Entry]) -> None:
    random = np.random.default_rng(0)
    for model in ("en-bilstm", "en-gru"):
        recognizer = Recognizer(model, "greedy")
        for entry in recorded_entries[:6]:
            end = float(random.uniform(0.6, entry.seconds or 3))
            transcript = recognizer.transcribe(Excerpt(entry.audio, end=end))
            assert transcript.duration == pytest.approx(end, abs=1e-4)
            assert all(word.start < word.end <= transcript.duration for word in transcript.words)
            cues = re.findall(r"--> (\d\d):(\d\d):(\d\d),(\d\d\d)", transcript.to_srt())
            ends = [3600 * int(h) + 60 * int(m) + int(s) + int(ms) / 1000 for h, m, s, ms in cues]
            assert all(time <= transcript.duration + 0.001 for time in ends)


# What cannot be recognized well


@pytest.mark.parametrize(
    ("gain", "problem"),
    [(0.0, "almost silent (all samples are 0); record it louder"), (1e-4, "almost silent (-"), (30.0, "distorted (")],
)
@pytest.mark.parametrize("command", ["transcribe", "listen"])
def test_a_recording_that_is_too_quiet_or_distorted_is_told_in_one_line(
    run: Command, streaming_carrier_bundle: Path, tmp_path: Path, command: str, gain: float, problem: str
) -> None:
    samples = (gain * carrier.speech("hello there")).clip(-1, 1)
    soundfile.write(tmp_path / "a.wav", samples, carrier.RATE, subtype="PCM_24")
    arguments = ["--input"] if command == "listen" else []
    result = run(command, "--model", streaming_carrier_bundle, *arguments, tmp_path / "a.wav")
    assert result.code == 0
    assert problem in result.errors[-1]
    assert len(result.errors) == (2 if command == "listen" else 1)


def test_a_recording_without_speech_is_told(transcribe: Command, tmp_path: Path) -> None:
    hum = 0.002 * np.sin(0.01 * np.arange(carrier.RATE))
    soundfile.write(tmp_path / "hum.wav", hum, carrier.RATE)
    result = transcribe(tmp_path / "hum.wav")
    assert (result.code, result.out) == (0, "\n")
    assert result.errors == [f"asr: {tmp_path / 'hum.wav'}: no speech was found in it"]


def test_live_sound_without_speech_is_told_for_each_channel(
    run: Command, streaming_carrier_bundle: Path, tmp_path: Path
) -> None:
    speech = carrier.speech("hello there")
    hum = 0.002 * np.sin(0.01 * np.arange(len(speech)))
    for name, channels in (("hum", [hum]), ("call", [hum, speech, 0 * hum])):
        soundfile.write(tmp_path / f"{name}.wav", np.stack(channels, axis=1), carrier.RATE)
    listen = ("listen", "--model", streaming_carrier_bundle, "--channels", "each", "--input")
    result = run(*listen, tmp_path / "hum.wav")
    assert (result.code, result.out) == (0, "")
    assert result.errors[1:] == ["asr: what was listened to: no speech was found in it"]
    result = run(*listen, tmp_path / "call.wav")
    assert (result.code, result.out) == (0, "[2] hello there\n")
    assert [line.split(" (")[0] for line in result.errors[1:]] == [
        "asr: channel 1: no speech was found in it",
        "asr: channel 3: almost silent",
    ]


# Many files


class Terminal(io.StringIO):
    """Standard error of a command, which draws its progress bar there."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[tuple[str, int]]:
        """The number and name of the current recording, and the percentage, each time that they changed."""
        found = re.findall(r"(\d+/\d+ \S+) [^%]*?(\d+)%", re.sub(r"\x1b\[[?\d;]*\w", "", self.getvalue()))
        return [(name, int(percentage)) for (name, percentage), _ in groupby(found)]


@pytest.fixture
def progress(transcribe: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int]]]:
    """What the bar of `asr transcribe` shows on a terminal, see `Terminal.shown`."""
    for name, value in {"TERM": "xterm", "COLUMNS": "120", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    advance = Progress.advance

    def drawn(self: Progress, task: TaskID, done: float) -> None:
        advance(self, task, done)
        self.refresh()  # else only as often as a reader can follow

    def command(*arguments: str | Path) -> list[tuple[str, int]]:
        with redirect_stderr(Terminal()) as terminal:
            transcribe(*arguments)
        return terminal.shown()

    monkeypatch.setattr(Progress, "advance", drawn)
    return command


def test_the_counter_beside_the_bar_counts_recordings_not_channels(
    progress: Callable[..., list[tuple[str, int]]], tmp_path: Path
) -> None:
    a, b = call(tmp_path / "a.wav", "one", "two"), carrier.save(tmp_path / "b.wav", "three")
    shown = progress(a, b, "--channels", "each")
    assert [name for name, _ in groupby(name for name, _ in shown)] == ["1/2 a.wav", "2/2 b.wav"]


def test_the_counter_beside_the_bar_counts_recordings_that_cannot_be_read(
    progress: Callable[..., list[tuple[str, int]]], tmp_path: Path
) -> None:
    a, b = carrier.save(tmp_path / "a.wav", "one"), carrier.save(tmp_path / "b.wav", "two")
    assert [name for name, _ in progress(a, tmp_path / "missing.wav", b)] == ["1/3 a.wav", "3/3 b.wav"]


def test_the_percentage_counts_what_only_ffmpeg_reads(
    progress: Callable[..., list[tuple[str, int]]], tmp_path: Path
) -> None:
    for name, silence in (("a", 25), ("b", 75), ("c", 225)):
        carrier.save(tmp_path / f"{name}.wav", "", silence)  # of 40 ms
    ffmpeg("-i", tmp_path / "b.wav", "-c:a", "alac", tmp_path / "b.m4a")
    shown = progress(tmp_path / "a.wav", tmp_path / "b.m4a", tmp_path / "c.wav")
    assert shown == [("1/3 a.wav", 8), ("2/3 b.m4a", 31), ("3/3 c.wav", 100)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two", "three"):
        carrier.save(tmp_path / f"talks/{name}.wav", name)
    return tmp_path / "talks"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_several_formats_are_written_in_one_run(transcribe: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = transcribe(folder, "--output-dir", out, "-f", "txt", "-f", "srt", "-f", "json")
    assert (result.code, result.errors) == (0, [f"asr: 3 written to {out}/"])
    assert names(out) == {f"{name}.{format}" for name in ("one", "two", "three") for format in ("txt", "srt", "json")}
    for arguments in ([folder / "one.wav"], [folder / "one.wav", "-o", tmp_path / "a.txt"]):
        assert transcribe(*arguments, "-f", "txt", "-f", "srt").code == 2


def test_existing_files_are_skipped_on_request(transcribe: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert transcribe(folder / "one.wav", "--output-dir", out).code == 0
    (out / "one.txt").write_text("by hand\n")
    result = transcribe(folder, "--output-dir", out, "--skip-existing")
    assert (result.code, result.errors) == (0, [f"asr: 2 written to {out}/, 1 skipped"])
    assert (out / "one.txt").read_text() == "by hand\n"
    more = transcribe(folder, "--output-dir", out, "--skip-existing", "-f", "txt", "-f", "srt")
    assert (more.code, more.errors) == (0, [f"asr: 3 written to {out}/"])
    assert (out / "one.txt").read_text() == "by hand\n"
    done = transcribe(folder, "--output-dir", out, "--skip-existing", "-f", "txt", "-f", "srt")
    assert (done.code, done.errors) == (0, [f"asr: 0 written to {out}/, 3 skipped"])
    assert transcribe(folder, "--skip-existing").code == 2


def test_one_missing_or_empty_file_does_not_stop_the_rest(transcribe: Command, folder: Path, tmp_path: Path) -> None:
    soundfile.write(folder / "header.wav", np.zeros(0), carrier.RATE)
    result = transcribe(folder, tmp_path / "none.wav", "-o", f"{tmp_path}/out/")
    assert result.code == 1
    assert len(result.errors) == 3
    assert result.errors[-1] == f"asr: 3 written to {tmp_path}/out/, 2 failed"


def test_nothing_that_a_library_prints_reaches_standard_error(
    program: Command, carrier_bundle: Path, folder: Path
) -> None:
    ffmpeg("-i", folder / "three.wav", "-t", "60", "-af", "apad", folder / "long.mp3")
    content = bytearray((folder / "long.mp3").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(300)
    (folder / "long.mp3").write_bytes(content[: len(content) * 9 // 10])
    result = program("transcribe", "--model", carrier_bundle, folder / "long.mp3")
    assert all(line.startswith("asr: ") for line in result.err.splitlines()), result.err
    assert result.code == 1
