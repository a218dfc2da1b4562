import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.audio.sources import read
from asr.data.manifest import Entry, read_manifest
from asr.errors import RecipeError

GOOD = {"audio": "a.flac", "text": "good morning"}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "dev.jsonl"


def write(path: Path, *entries: Any) -> Path:
    lines = [entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) for entry in entries]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def message(path: Path, **options: bool) -> str:
    """The one line a user reads, without the folder."""
    with pytest.raises(RecipeError) as caught:
        read_manifest(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(f"{path.parent}{os.sep}")


def test_all_fields(manifest: Path):
    write(manifest, GOOD | {"seconds": 2, "speaker": "ada", "id": "one"})
    assert read_manifest(manifest) == [Entry("one", manifest.parent / "a.flac", "good morning", 2.0, "ada")]


def test_defaults_and_order(manifest: Path):
    write(manifest, {"audio": "z/clip.2.flac", "text": ""}, GOOD | {"seconds": None, "speaker": None, "id": None})
    first, second = read_manifest(str(manifest))
    assert first == Entry("z/clip.2", manifest.parent / "z/clip.2.flac", "", None, None)
    assert (second.id, second.seconds, second.speaker) == ("a", None, None)


def test_absolute_audio_is_not_moved_into_the_folder(manifest: Path):
    (entry,) = read_manifest(write(manifest, GOOD | {"audio": "/clips/a.flac"}))
    assert (entry.audio, entry.id) == (Path("/clips/a.flac"), "/clips/a")


def test_unknown_keys_and_blank_lines_are_passed_over_without_losing_count(manifest: Path):
    write(manifest, GOOD | {"language": "en"}, "", "  ", {"audio": "b.flac"})
    assert message(manifest).startswith("dev.jsonl:4: ")


def test_line_separators_inside_a_text_do_not_end_the_line(manifest: Path):
    write(manifest, GOOD | {"text": "one\u2028two\x85three"}, {"audio": "b.flac", "text": "four"})
    assert [entry.text for entry in read_manifest(manifest)] == ["one\u2028two\x85three", "four"]


def test_windows_line_ends_and_byte_order_mark(manifest: Path):
    manifest.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n")
    assert len(read_manifest(manifest)) == 1


def test_last_line_needs_no_newline(manifest: Path):
    manifest.write_text(json.dumps(GOOD))
    assert len(read_manifest(manifest)) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "{audio: a.flac}",
            "not JSON in UTF-8 (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); write",
        ),
        ("[" * 100_000, "not JSON in UTF-8 (maximum recursion"),
        ('{"seconds": ' + "1" * 5000 + "}", "not JSON in UTF-8 (Exceeds the limit"),
        (["a.flac", "hello"], 'not an object but ["a.flac", "hello"]; write {"audio": …, "text": …}'),
        ({"audio_filepath": "a", "text": "b"}, 'no "audio" (keys here: audio_filepath, text); add "audio": "…"'),
        ({"audio": "b.flac"}, 'no "text" (keys here: audio); add "text": "…"'),
        ({}, 'no "audio" (keys here: none); add'),
        ({"audio": "b.flac", "text": None}, '"text" must be text, found null; put it in quotation marks'),
        ({"audio": 7, "text": "b"}, '"audio" must be text, found 7; put it in quotation marks'),
        ({"audio": " ", "text": "b"}, '"audio" is not a path; write'),
        ({"audio": "b\0.flac", "text": "b"}, '"audio" is not a path; write'),
        ({"audio": "b.flac", "text": "b", "speaker": 103}, '"speaker" must be text, found 103; put it in'),
        ({"audio": "b.flac", "text": "b", "id": ["x"]}, '"id" must be text, found ["x"]; put it in'),
        ({"audio": "b.flac", "text": "b", "id": ""}, '"id" is empty; give it a value or leave it out'),
        (
            {"audio": "b.flac", "text": "b", "seconds": "2.5"},
            '"seconds" must be a number above 0 and at most 1e+09, found "2.5"; or',
        ),
        (
            {"audio": "b.flac", "text": "b", "seconds": True},
            '"seconds" must be a number above 0 and at most 1e+09, found true; or leave',
        ),
        (
            {"audio": "b.flac", "text": "b", "seconds": -1},
            '"seconds" must be a number above 0 and at most 1e+09, found -1; or leave',
        ),
        (
            {"audio": "b.flac", "text": "b", "seconds": 0},
            '"seconds" must be a number above 0 and at most 1e+09, found 0; or leave',
        ),
        (
            {"audio": "b.flac", "text": "b", "seconds": 10**400},
            '"seconds" must be a number above 0 and at most 1e+09, found 1000',
        ),
        (
            '{"audio": "b.flac", "text": "b", "seconds": NaN}',
            '"seconds" must be a number above 0 and at most 1e+09, found NaN; or leave',
        ),
        ('{"audio": "b.flac", "text": "\\ud800"}', '"text" holds half of a surrogate pair; write'),
        (GOOD, 'the id "a" is on line 1 too; give each line its own "id"'),
        ({"audio": "a.wav", "text": "b"}, 'the id "a" is on line 1 too; give each line its own "id"'),
    ],
)
def test_bad_line_is_named_with_file_and_number(manifest: Path, line: Any, problem: str):
    assert message(write(manifest, GOOD, line)).startswith(f"dev.jsonl:2: {problem}")


def test_text_that_is_not_utf8(manifest: Path):
    manifest.write_bytes(json.dumps(GOOD).encode() + b'\n{"audio": "b.flac", "text": "caf\xe9"}\n')
    assert message(manifest).startswith(
        "dev.jsonl:2: not JSON in UTF-8 ('utf-8' codec can't decode byte 0xe9 in position 32"
    )


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_manifest(manifest: Path, content: str):
    manifest.write_text(content)
    assert message(manifest).startswith("dev.jsonl: the manifest is empty; write one")


def test_missing_manifest(manifest: Path):
    assert message(manifest) == "dev.jsonl: cannot read the manifest (No such file or directory); check the path"


def test_folder_instead_of_a_manifest(tmp_path: Path):
    assert "cannot read the manifest (Is a directory)" in message(tmp_path)


def test_missing_audio_is_counted_only_when_asked(manifest: Path):
    (manifest.parent / "a.flac").touch()
    (manifest.parent / "b.flac").mkdir()  # a folder is not an audio file
    write(manifest, GOOD, {"audio": "b.flac", "text": "b"}, {"audio": "c" * 5000, "text": "c"})
    assert len(read_manifest(manifest)) == 3
    assert message(manifest, check_files=True) == (
        f"dev.jsonl:2: no audio file {manifest.parent / 'b.flac'} (2 of 3 are missing); "
        "paths count from the manifest's folder"
    )


def test_present_audio_passes_the_check(manifest: Path):
    (manifest.parent / "a.flac").touch()
    assert len(read_manifest(write(manifest, GOOD), check_files=True)) == 1


@pytest.mark.parametrize("value", ["-0.1", "1.1", "true", '"high"', "NaN", "1e999"])
def test_a_confidence_that_is_none_is_named(tmp_path: Path, value: str):
    (tmp_path / "a.jsonl").write_text(f'{{"audio": "a.wav", "text": "a", "confidence": {value}}}\n')
    with pytest.raises(RecipeError, match=r'a\.jsonl:1: "confidence" must be a number from 0 to 1'):
        read_manifest(tmp_path / "a.jsonl")


def test_offset_and_duration_are_the_part_that_is_read(manifest: Path):
    rate = 16_000
    samples = np.arange(5 * rate, dtype=np.float32) / (5 * rate)
    soundfile.write(manifest.parent / "a.wav", samples, rate, subtype="FLOAT")
    parts = [{"offset": 1.0, "duration": 2.0}, {"offset": 3.5}, {"duration": 0.5, "id": "begin"}, {"id": "whole"}]
    entries = read_manifest(
        write(manifest, *({"audio": "a.wav", "text": "a"} | part for part in parts)), check_files=True
    )
    assert [entry.id for entry in entries] == ["a-1", "a-3.5", "begin", "whole"]
    for entry, (begin, end) in zip(entries, [(1, 3), (3.5, 5), (0, 0.5), (0, 5)], strict=True):
        np.testing.assert_array_equal(read(entry.source), samples[int(begin * rate) : int(end * rate)])
    assert entries[0].seconds == 2.0


def test_parts_far_into_a_recording_have_ids_of_their_own(tmp_path: Path):
    (tmp_path / "talk.wav").touch()
    rows = [json.dumps({"audio": "talk.wav", "offset": offset, "text": "A"}) for offset in (12.5, 5000.125, 5000.127)]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    assert [entry.id for entry in read_manifest(tmp_path / "m.jsonl")] == [
        "talk-12.5", "talk-5000.125", "talk-5000.127"
    ]  # fmt: skip


@pytest.mark.parametrize("part", [{"offset": -1}, {"duration": 0}, {"offset": "1"}, {"duration": True}])
def test_impossible_parts_are_named(manifest: Path, part: dict[str, Any]):
    assert message(write(manifest, GOOD | part)).startswith(f'dev.jsonl:1: "{next(iter(part))}" must be a number')
