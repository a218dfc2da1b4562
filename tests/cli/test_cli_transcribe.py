import json
from pathlib import Path

import carrier
import pytest
from program import Command

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
    assert (segment["text"], segment["start"], segment["end"]) == ("ab c", 1.0, 1.28)
    assert [(word["word"], word["start"], word["end"]) for word in segment["words"]] == [
        ("ab", 1.0, 1.12),
        ("c", 1.24, 1.28),
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


def test_output_dir_mirrors_the_folders_and_prints_nothing(transcribe: Command, folder: Path, tmp_path: Path) -> None:
    result = transcribe(folder, "--output-dir", tmp_path / "new/out")
    assert (result.code, result.out, result.err) == (0, "", "")
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
    transcribe(tmp_path / "in", "--output-dir", tmp_path / "out")
    assert written(tmp_path / "out") == {
        "talk.wav.txt": "wave\n",
        "talk.wave.txt": "other\n",
        "talk.v1.txt": "version\n",
    }


def test_files_of_one_name_are_refused_before_anything_is_written(
    transcribe: Command, folder: Path, tmp_path: Path
) -> None:
    result = transcribe(folder / "one.wav", folder / "below/deeper/one.wav", "--output-dir", tmp_path / "out")
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert str(tmp_path / "out/one.wav.txt") in line
    assert not (tmp_path / "out").exists()


def test_output_is_overwritten_whole_and_nothing_else_is_left(transcribe: Command, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "new")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("a long old text\n")
    transcribe(path, "--output-dir", out)
    assert written(out) == {"a.txt": "new\n"}


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
    assert len(result.errors) == 1
    assert written(tmp_path / "out") == {"two.txt": "two\n"}


@pytest.mark.parametrize("options", [["--batch-size", "1"], ["--batch-size", "3"], ["--beam-width", "2"]])
def test_the_text_does_not_depend_on_sizes(transcribe: Command, folder: Path, options: list[str]) -> None:
    assert transcribe(folder, "--decoder", "beam", *options).out == transcribe(folder).out


def test_an_unknown_model_lists_those_there_are(run: Command, folder: Path) -> None:
    result = run("transcribe", folder, "--model", "en-nothing")
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert "en-nothing" in line
    assert "en-bilstm" in line


def test_models_lists_the_packaged_ones(run: Command) -> None:
    result = run("models")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("en-bilstm  en, files, ")
    assert "WER" in result.out
    assert "CC" in result.out


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
