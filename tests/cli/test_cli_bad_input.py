from collections.abc import Callable
from pathlib import Path

import carrier
import numpy as np
import pytest
import soundfile
from program import Command

RATE = carrier.RATE


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return carrier.save(tmp_path / "good.wav", "good")


def missing(path: Path) -> None:
    """No file at all."""


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("this is not audio\n" * 50)


def folder(path: Path) -> None:
    path.mkdir()


def header_cut(path: Path) -> None:
    path.write_bytes(carrier.save(path, "words").read_bytes()[:30])


def bytes_of_chance(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def one_sample(path: Path) -> None:
    soundfile.write(path, np.zeros(1), RATE)


def a_hundredth_of_a_second(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE // 100), RATE)


def not_numbers(path: Path) -> None:
    soundfile.write(path, np.full(RATE, np.nan, dtype=np.float32), RATE, subtype="FLOAT")


@pytest.mark.parametrize("spoil", [missing, empty, text, folder, header_cut, bytes_of_chance, no_samples])
def test_an_unreadable_file_is_one_line_and_the_others_are_done(
    transcribe: Command, good: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    bad = tmp_path / "bad.wav"
    spoil(bad)
    result = transcribe(bad, good, "--format", "json")
    assert result.code == 1
    assert len(result.out.splitlines()) == 1
    assert '"text": "good"' in result.out
    (line,) = result.errors
    assert line.startswith(f"asr: {bad}: ")


@pytest.mark.parametrize("spoil", [one_sample, a_hundredth_of_a_second, not_numbers])
def test_a_file_without_speech_gives_an_empty_transcript(
    transcribe: Command, good: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    bad = tmp_path / "bad.wav"
    spoil(bad)
    result = transcribe(bad, good)
    assert (result.code, result.out) == (0, f"{bad}\t\n{good}\tgood\n")
    wrong = [f"asr: {bad}: 100% of its samples are no numbers or too large; check their format"]
    silent = [f"asr: {bad}: almost silent (all samples are 0); record it louder"]
    assert result.errors == (wrong if spoil is not_numbers else []) + silent


def test_a_truncated_file_gives_its_text_and_one_line(transcribe: Command, good: Path, tmp_path: Path) -> None:
    cut = carrier.save(tmp_path / "cut.wav", "one two three four")
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    result = transcribe(cut, good)
    assert result.code == 1
    heard, other = result.out.splitlines()
    assert heard.startswith(f"{cut}\tone two")
    assert other == f"{good}\tgood"
    (line,) = result.errors
    assert line.startswith(f"asr: {cut}: truncated")


def test_a_file_that_gave_nothing_writes_no_output_file(transcribe: Command, good: Path, tmp_path: Path) -> None:
    result = transcribe(tmp_path / "missing.wav", good, "--output-dir", tmp_path / "out")
    assert result.code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.txt"]


def test_many_bad_files_give_a_line_each(transcribe: Command, good: Path, tmp_path: Path) -> None:
    bad = [tmp_path / f"{number}.wav" for number in range(5)]
    result = transcribe(*bad, good)
    assert result.code == 1
    assert [line.split(": ")[1] for line in result.errors] == [str(path) for path in bad]
    assert result.out.endswith("\tgood\n")


def test_a_folder_without_audio_is_one_line_and_the_others_are_done(
    transcribe: Command, good: Path, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    result = transcribe(tmp_path / "nothing", good)
    assert (result.code, result.out) == (1, "good\n")
    assert result.errors == [f"asr: {tmp_path / 'nothing'}: no audio files in this folder"]
    assert transcribe(tmp_path / "nothing").code == 1


@pytest.mark.parametrize("audio", [b"", b"not audio"])
def test_standard_input_without_audio_is_one_line(transcribe: Command, audio: bytes) -> None:
    result = transcribe("-", stdin=audio)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert line.startswith("asr: standard input: ")


@pytest.mark.parametrize("name", ["caf\udce9.wav", "two\nlines.wav", "a\ttab.wav", "ünï 中.wav", "[bold].wav", "-.wav"])
@pytest.mark.parametrize("format", ["txt", "json", "ctm"])
def test_odd_file_names_are_done(transcribe: Command, tmp_path: Path, name: str, format: str) -> None:
    path = carrier.save(tmp_path / "in/a.wav", "fine").rename(tmp_path / "in" / name)
    other = carrier.save(tmp_path / "in/b.wav", "other")
    printed = transcribe(path, other, "--format", format)
    assert (printed.code, printed.err) == (0, "")
    first, second = printed.out.splitlines()
    assert "fine" in first
    assert "other" in second
    assert "\t".join(first.split("\t")[1:]) == ("fine" if format == "txt" else "")
    saved = transcribe(tmp_path / "in", "--format", format, "--output-dir", tmp_path / "out")
    assert (saved.code, saved.out, saved.errors) == (0, "", [f"asr: 2 written to {tmp_path / 'out'}/"])
    assert "fine" in (tmp_path / "out" / name).with_suffix(f".{format}").read_text()


def test_an_error_line_about_an_odd_file_name_can_be_printed(transcribe: Command, good: Path, tmp_path: Path) -> None:
    result = transcribe(tmp_path / "caf\udce9\n.wav", good)
    assert result.code == 1
    assert result.out.endswith("good\n")
    assert len(result.errors) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["transcribe"], "Missing argument"),
        (["transcribe", "a.wav", "--format", "docx"], "docx"),
        (["transcribe", "a.wav", "b.wav", "--format", "srt"], "srt of several recordings needs a folder"),
        (["transcribe", "a.wav", "b.wav", "--format", "vtt"], "vtt of several recordings needs a folder"),
        (["transcribe", "a.wav", "b.wav", "--output", "texts"], "2 recordings need a folder"),
        (["transcribe", "a.wav", "--output", "a.txt", "--output-dir", "."], "--output-dir"),
        (["transcribe", "a.wav", "--threads", "-1"], "--threads"),
        (["transcribe", "a.wav", "--output"], "--output needs a value: File to write"),
        (["transcribe", "a.wav", "--start", "2:-30"], "'2:-30' is no time; write seconds, or 1:02:03.5"),
        (["transcribe", "a.wav", "--lm", "--force"], "--lm needs a value: "),
        (["transcribe", "a.wav", "--beam-width", "0"], "--beam-width"),
        (["transcribe", "a.wav", "--batch-size", "0"], "--batch-size"),
        (["transcribe", "a.wav", "--batch-size", "many"], "--batch-size"),
        (["transcribe", "a.wav", "--decoder", "magic"], "magic"),
        (["transcribe", "a.wav", "--colour"], "--colour"),
        (["evaluate"], "Missing argument"),
        (["train"], "RECIPE"),
        (["train", "epochs=3"], "RECIPE"),
        (["train", "recipe.yaml", "--resume"], "--resume needs a value: Continue the run in this folder"),
        (["train", "recipe.yaml", "--resume", "runs/a"], "leave out recipe.yaml"),
        (["evaluate", "dev.jsonl", "--no-endpoints"], "goes with --streaming"),
        (["translate", "a.wav"], "translate"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Command, arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err
    assert "Traceback" not in result.err


def test_the_command_alone_shows_its_help(run: Command) -> None:
    result = run()
    assert result.code == 2
    assert all(command in result.out + result.err for command in ("transcribe", "evaluate", "train", "models"))


@pytest.mark.parametrize("command", [[], ["transcribe"], ["evaluate"], ["train"], ["models"]])
def test_help_is_there_without_an_error(run: Command, command: list[str]) -> None:
    result = run(*command, "-h")
    assert (result.code, result.err) == (0, "")
    assert "Usage" in result.out


def test_what_stands_behind_two_dashes_is_a_file(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    carrier.save(tmp_path / "speech.wav", "good").rename("--output")
    assert run("transcribe", "--", "--output").code == 0
    assert "needs a value" in run("transcribe", "--output", "--", "a.wav").err
