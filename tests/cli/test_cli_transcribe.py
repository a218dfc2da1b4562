import json
import re
import subprocess
from pathlib import Path

import carrier
import pytest
from program import PROGRAM, Command

from asr.data.manifest import read_manifest
from asr.model.bundle import load_bundle
from asr.output.writers import FORMATS, render
from asr.recognize.offline import Recognizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of recordings, some in folders below it."""
    for name in ("one", "two", "below/three", "below/deeper/one"):
        carrier.save(tmp_path / f"talks/{name}.wav", Path(name).name)
    (tmp_path / "talks/notes.md").write_text("not audio")
    return tmp_path / "talks"


def written(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_text_of_one_file_is_all_that_is_printed(transcribe: Command, tmp_path: Path) -> None:
    result = transcribe(carrier.save(tmp_path / "a.wav", "hello world"))
    assert (result.code, result.out, result.err) == (0, "hello world\n", "")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_every_format_is_what_its_writer_makes_of_the_transcript(
    transcribe: Command, carrier_bundle: Path, tmp_path: Path, format: str, decoder: str
) -> None:
    path = carrier.save(tmp_path / "a.wav", "what's up", silence=30)
    result = transcribe(path, "--format", format, "--decoder", decoder)
    transcript = Recognizer(load_bundle(carrier_bundle), decoder, threads=1).transcribe(path)
    assert transcript.text == "what's up"
    assert (result.code, result.out, result.err) == (0, render(transcript, format, str(path)), "")


def test_json_holds_the_transcript(transcribe: Command, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "ab c", silence=25)
    recording = json.loads(transcribe(path, "--format", "json").out)
    assert recording["audio"] == str(path)
    assert recording["text"] == "ab c"
    assert recording["duration"] == pytest.approx(33 * 0.04)
    (segment,) = recording["segments"]
    assert (segment["text"], segment["start"], segment["end"]) == ("ab c", 1.0, 1.32)
    assert [(word["word"], word["start"], word["end"]) for word in segment["words"]] == [
        ("ab", 1.0, 1.18),
        ("c", 1.22, 1.32),
    ]
    assert all(0.99 < word["confidence"] <= 1 for word in segment["words"])


def test_several_files_are_told_apart_by_name_in_the_order_given(transcribe: Command, tmp_path: Path) -> None:
    b, a = carrier.save(tmp_path / "b.wav", "second", silence=99), carrier.save(tmp_path / "a.wav", "first")
    assert transcribe(b, a).out == f"{b}\tsecond\n{a}\tfirst\n"


def test_json_of_several_files_is_json_lines(transcribe: Command, folder: Path) -> None:
    recordings = [json.loads(line) for line in transcribe(folder, "--format", "json").out.splitlines()]
    assert [recording["text"] for recording in recordings] == ["one", "three", "one", "two"]


def test_a_file_named_twice_is_done_once(transcribe: Command, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "once")
    assert transcribe(path, tmp_path, path).out == "once\n"


def test_a_folder_gives_the_audio_below_it(transcribe: Command, folder: Path) -> None:
    lines = [f"{folder}/{name}.wav\t{Path(name).name}" for name in ("below/deeper/one", "below/three", "one", "two")]
    assert transcribe(folder).out.splitlines() == lines


def test_standard_input_is_read_for_a_dash(transcribe: Command, tmp_path: Path) -> None:
    audio = carrier.save(tmp_path / "a.wav", "from a pipe").read_bytes()
    assert transcribe("-", stdin=audio).out == "from a pipe\n"
    transcribe("-", "--output-dir", tmp_path / "out", stdin=audio)
    assert written(tmp_path / "out") == {"stdin.txt": "from a pipe\n"}


@pytest.mark.parametrize("option", ["--output-dir", "--output"])
def test_an_output_folder_mirrors_the_folders_and_prints_a_count(
    transcribe: Command, folder: Path, tmp_path: Path, option: str
) -> None:
    result = transcribe(folder, option, f"{tmp_path / 'new/out'}/")
    assert (result.code, result.out, result.errors) == (0, "", [f"asr: 4 written to {tmp_path / 'new/out'}/"])
    assert written(tmp_path / "new/out") == {
        "one.txt": "one\n",
        "two.txt": "two\n",
        "below/three.txt": "three\n",
        "below/deeper/one.txt": "one\n",
    }


@pytest.mark.parametrize("format", FORMATS)
def test_output_dir_names_files_after_the_format(
    transcribe: Command, folder: Path, tmp_path: Path, format: str
) -> None:
    result = transcribe(folder / "one.wav", folder / "two.wav", "--format", format, "--output-dir", tmp_path / "out")
    assert (result.code, result.out) == (0, "")
    assert set(written(tmp_path / "out")) == {f"one.{format}", f"two.{format}"}


def test_files_of_one_stem_keep_their_suffixes(transcribe: Command, tmp_path: Path) -> None:
    talk = carrier.save(tmp_path / "in/talk.wav", "wave")
    talk.with_suffix(".wave").write_bytes(carrier.save(tmp_path / "x.wav", "other").read_bytes())
    carrier.save(tmp_path / "in/talk.v1.wav", "version")
    carrier.save(tmp_path / "in/talk.wav.wav", "twice")
    transcribe(tmp_path / "in", "--output-dir", tmp_path / "out")
    assert written(tmp_path / "out") == {
        "talk.wav.txt": "wave\n",
        "talk.wave.txt": "other\n",
        "talk.v1.txt": "version\n",
        "talk.wav.wav.txt": "twice\n",
    }


def test_files_of_one_name_are_refused_before_anything_is_written(
    transcribe: Command, folder: Path, tmp_path: Path
) -> None:
    result = transcribe(folder / "one.wav", folder / "below/deeper/one.wav", "--output-dir", tmp_path / "out")
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert line.startswith(f"asr: {tmp_path / 'out/one.wav.txt'}: ")
    assert line.endswith("/one.wav would both be written there; transcribe them apart")
    assert not (tmp_path / "out").exists()


def test_output_is_overwritten_whole_and_nothing_else_is_left(transcribe: Command, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "new")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("a long old text\n")
    refused = transcribe(path, "--output-dir", out)
    assert (refused.code, refused.out) == (1, "")
    assert refused.errors == [f"asr: {out / 'a.txt'}: exists; choose another name, or replace it with --force"]
    assert written(out) == {"a.txt": "a long old text\n"}
    assert transcribe(path, "--output-dir", out, "--force").code == 0
    assert written(out) == {"a.txt": "new\n"}


def test_files_that_exist_are_kept_and_the_others_are_done(transcribe: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert transcribe(folder / "one.wav", "-o", f"{out}/").code == 0
    (out / "one.txt").write_text("corrected by hand\n")
    result = transcribe(folder, "--output-dir", out)
    assert result.code == 1
    assert result.errors == [
        f"asr: {out / 'one.txt'}: exists; choose another name, or replace it with --force",
        f"asr: 3 written to {out}/, 1 kept",
    ]
    others = {"two.txt": "two\n", "below/three.txt": "three\n", "below/deeper/one.txt": "one\n"}
    assert written(out) == {"one.txt": "corrected by hand\n", **others}
    again = transcribe(folder, "--output-dir", out)
    assert again.code == 1
    assert [line.split(": ")[-1] for line in again.errors[-2:]] == [
        "1 more are kept likewise",
        f"0 written to {out}/, 4 kept",
    ]


def test_a_text_beside_its_recording_is_kept(transcribe: Command, folder: Path) -> None:
    (folder / "one.txt").write_text("what was said\n")
    result = transcribe(folder / "one.wav", folder / "two.wav", "-o", folder)
    assert result.code == 1
    assert (folder / "one.txt").read_text() == "what was said\n"
    assert (folder / "two.txt").read_text() == "two\n"


def test_no_recording_is_replaced_by_its_text(transcribe: Command, folder: Path) -> None:
    recording = folder / "two.wav"
    before = recording.read_bytes()
    (folder / "link").symlink_to(recording)
    (folder / "hard").hardlink_to(recording)
    for name in ("two.wav", "link", "hard"):
        for options in ([], ["--force"]):
            result = transcribe(recording, "--output", folder / name, *options)
            assert (result.code, result.out) == (1, "")
            assert result.errors == [f"asr: {folder / name}: is the same file as {recording}; choose another --output"]
    names = folder / "names.txt"
    names.write_text("two\n")
    assert transcribe(recording, "--hotwords-file", names, "--output", names, "--force").code == 1
    assert (recording.read_bytes(), names.read_text()) == (before, "two\n")


def test_standard_input_is_not_replaced_by_its_text(carrier_bundle: Path, tmp_path: Path) -> None:
    recording = carrier.save(tmp_path / "a.wav", "words")
    before = recording.read_bytes()
    command = [*PROGRAM, "transcribe", "--model", carrier_bundle, "-", "--output", recording, "--force"]
    with recording.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is the same file as -" in done.stderr
    assert recording.read_bytes() == before


@pytest.mark.parametrize("option", ["-o", "--output"])
def test_the_text_of_one_file_goes_to_an_output_file(
    transcribe: Command, folder: Path, tmp_path: Path, option: str
) -> None:
    result = transcribe(folder / "one.wav", option, tmp_path / "a.txt")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (tmp_path / "a.txt").read_text() == "one\n"
    missing = transcribe(folder / "one.wav", option, tmp_path / "none/a.txt")
    assert missing.code == 1
    assert "none/a.txt: cannot be written (No such file or directory)" in missing.err


@pytest.mark.parametrize("format", ["srt", "json", "TextGrid"])
def test_the_format_is_that_of_the_output_suffix(
    transcribe: Command, folder: Path, tmp_path: Path, format: str
) -> None:
    assert transcribe(folder / "one.wav", "-o", tmp_path / f"a.{format}").code == 0
    printed = transcribe(folder / "one.wav", "-f", format.lower()).out
    assert (tmp_path / f"a.{format}").read_text() == printed
    assert transcribe(folder / "one.wav", "-f", "vtt", "-o", tmp_path / f"b.{format}").code == 0
    assert (tmp_path / f"b.{format}").read_text().startswith("WEBVTT")


def test_a_pipe_as_output_is_written_to(carrier_bundle: Path, folder: Path) -> None:
    command = [*PROGRAM, "transcribe", "--model", carrier_bundle, folder / "one.wav", "-o", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")


def test_the_closing_line_counts_what_failed(transcribe: Command, folder: Path, tmp_path: Path) -> None:
    result = transcribe(folder / "one.wav", folder / "none.wav", folder / "two.wav", "-o", f"{tmp_path / 'out'}/")
    assert result.code == 1
    assert result.errors[-1] == f"asr: 2 written to {tmp_path / 'out'}/, 1 failed"


@pytest.mark.parametrize("command", ["transcribe", "align"])
def test_another_language_than_the_model_is_one_clear_line(run: Command, folder: Path, command: str) -> None:
    words = ["one"] if command == "align" else []
    result = run(command, folder / "one.wav", *words, "--language", "de")
    assert (result.code, result.out) == (1, "")
    assert result.errors == ["asr: en-bilstm: English only; for 'de' name another model with --model"]
    for language in ("en", "en-US", "English"):
        assert "only" not in run(command, folder / "none.wav", *words, "--language", language).err


@pytest.mark.parametrize("blocked", ["file", "folder"])
def test_output_that_cannot_be_written_is_one_line(transcribe: Command, tmp_path: Path, blocked: str) -> None:
    path = carrier.save(tmp_path / "a.wav", "words")
    out = tmp_path / "out"
    if blocked == "file":
        out.write_text("not a folder")
    else:
        (out / "a.txt").mkdir(parents=True)
    result = transcribe(path, "--output-dir", out)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert f"{out if blocked == 'file' else out / 'a.txt'}: cannot be written" in line
    assert blocked == "file" or [item.name for item in out.iterdir()] == ["a.txt"]


def test_one_output_that_cannot_be_written_leaves_the_others_alone(
    transcribe: Command, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out/one.txt").mkdir(parents=True)
    result = transcribe(folder / "one.wav", folder / "two.wav", "--output-dir", tmp_path / "out")
    assert result.code == 1
    assert len(result.errors) == 2
    assert "one.txt: cannot be written (Is a directory)" in result.errors[0]
    assert result.errors[1] == f"asr: 1 written to {tmp_path / 'out'}/, 1 failed"
    assert written(tmp_path / "out") == {"two.txt": "two\n"}


@pytest.mark.parametrize("options", [["--batch-size", "1"], ["--batch-size", "3"], ["--beam-width", "2"]])
def test_the_text_does_not_depend_on_sizes(transcribe: Command, folder: Path, options: list[str]) -> None:
    assert transcribe(folder, "--decoder", "beam", *options).out == transcribe(folder).out


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (["--highlight-words", "-f", "srt"], "--highlight-words"),
        (["--highlight-words"], "--highlight-words"),
        (["--timestamps", "-f", "json"], "--timestamps"),
        (["--timestamps", "-o", "a.srt"], "--timestamps"),
        (["--line-width", "20"], "--line-width"),
        (["--lines", "1", "-f", "json", "-f", "txt", "-o", "out/"], "--lines"),
    ],
)
def test_an_option_that_would_change_nothing_is_wrong_usage(
    transcribe: Command, folder: Path, options: list[str], refused: str
) -> None:
    result = transcribe(folder / "one.wav", *options)
    assert (result.code, result.out) == (2, "")
    assert re.search(f"{refused}: +goes with +--format", " ".join(result.err.split()))


def test_an_option_goes_with_several_formats_if_one_of_them_uses_it(
    transcribe: Command, folder: Path, tmp_path: Path
) -> None:
    options = ("--timestamps", "--lines", "1", "--highlight-words", "-f", "json", "-f", "txt", "-f", "vtt")
    assert transcribe(folder / "one.wav", *options, "-o", f"{tmp_path / 'out'}/").code == 0
    assert written(tmp_path / "out")["one.txt"].startswith("[00:00:00.000 --> ")


def test_the_layout_of_subtitles_can_be_chosen(transcribe: Command, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "one two three four five six")

    def lines(*options: str) -> list[list[str]]:
        cues = transcribe(path, "-f", "srt", *options).out.split("\n\n")
        return [cue.splitlines()[2:] for cue in cues]

    assert lines() == [["one two three four five six"]]
    assert lines("--line-width", "14") == [["one two three", "four five six"]]
    assert lines("--line-width", "14", "--lines", "1") == [["one two three"], ["four five six"]]


def test_words_are_highlighted_when_they_are_spoken(transcribe: Command, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "one two")
    start = float(transcribe(path, "-f", "ctm").out.splitlines()[1].split()[2])  # of the second word
    assert transcribe(path, "-f", "vtt", "--highlight-words").out.splitlines()[-1] == f"one <00:00:{start:06.3f}>two"
    assert transcribe(path, "-f", "vtt").out.splitlines()[-1] == "one two"
    assert re.search(r"\{\\k\d+\}one \{\\k\d+\}two$", transcribe(path, "-f", "ass", "--highlight-words").out.strip())


def test_an_unknown_model_lists_those_there_are(run: Command, folder: Path) -> None:
    result = run("transcribe", folder, "--model", "en-nothing")
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert "en-nothing" in line
    assert "en-bilstm" in line


def test_models_lists_the_packaged_ones(run: Command) -> None:
    result = run("models")
    assert (result.code, result.err) == (0, "")
    heading, bilstm, gru, *_ = result.out.splitlines()
    assert heading.split() == ["model", "language", "for", "delay", "size", "WER", "license"]
    assert re.fullmatch(r"en-bilstm +English +files +– +\d+ MB +\d\d\.\d% +CC BY 4.0", bilstm)
    assert re.fullmatch(r"en-gru +English +files and live +360 ms +\d+ MB +\d\d\.\d% +CC BY 4.0", gru)


def test_the_packaged_language_model_is_described(run: Command) -> None:
    result = run("lm", "info", "en-lm")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"\S+\.lm: order 3(, [\d,]+ \d-grams){3}, [\d.]+ MB\n", result.out)


def test_jsonl_is_a_manifest_of_what_could_be_read_whole(transcribe: Command, folder: Path, tmp_path: Path) -> None:
    damaged = carrier.save(folder / "damaged.flac", "damaged", silence=99)
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    result = transcribe(folder, "--format", "jsonl")
    assert result.code == 1
    assert len(result.errors) == 1
    (tmp_path / "pseudo.jsonl").write_text(result.out)
    entries = read_manifest(tmp_path / "pseudo.jsonl", check_files=True)
    assert {entry.audio: entry.text for entry in entries} == {path: path.stem for path in folder.rglob("*.wav")}
    assert all(entry.confidence and entry.confidence > 0.9 for entry in entries)


@pytest.mark.parametrize("name", ["10.30\u202fAM.wav", "two\nlines.wav"])
def test_the_audio_of_jsonl_is_found_again_whatever_its_name(transcribe: Command, tmp_path: Path, name: str) -> None:
    path = carrier.save(tmp_path / "a.wav", "fine").rename(tmp_path / name)
    (tmp_path / "printed.jsonl").write_text(transcribe(path, "--format", "jsonl").out, encoding="utf-8")
    assert transcribe(path, "--format", "jsonl", "--output-dir", tmp_path / "out").code == 0
    for manifest in (tmp_path / "printed.jsonl", *(tmp_path / "out").iterdir()):
        (entry,) = read_manifest(manifest, check_files=True)
        assert entry.audio == path


def test_standard_input_cannot_be_named_in_a_manifest(transcribe: Command) -> None:
    result = transcribe("-", "--format", "jsonl")
    assert (result.code, result.out) == (2, "")
    assert "save it as a file first" in " ".join(result.err.split())
