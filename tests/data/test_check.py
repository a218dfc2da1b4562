"""`asr prepare check` finds each thing that ruins a training, where it is, and nothing in what is good."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_corpus import write_audio

from asr.data.check import ERRORS, Report, check
from asr.data.config import TokenizerConfig
from asr.data.manifest import Entry
from asr.data.pronunciation import PhoneSpeller
from asr.errors import RecipeError

RATE = 16_000
TEXT = "one two"

Lines = Sequence[dict[str, Any] | str]


@pytest.fixture
def good(tmp_path: Path) -> list[dict[str, Any]]:
    """Lines of a manifest with nothing wrong."""
    return [
        {"id": f"u{number}", "audio": str(write_audio(tmp_path / f"u{number}.wav", 0.6, seed=number)), "text": TEXT}
        for number in range(3)
    ]


def write(path: Path, lines: Lines) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def found(report: Report) -> list[tuple[str, str]]:
    return [(finding.kind, finding.id) for finding in report.findings]


def checked(folder: Path, lines: Lines, dev: Lines = (), **rule: Any) -> Report:
    held_out = write(folder / "dev.jsonl", dev) if dev else None
    return check([write(folder / "train.jsonl", lines)], held_out, TokenizerConfig(**rule))


def test_nothing_is_found_in_good_manifests(tmp_path: Path, good: list):
    heard: list[tuple[Path, float]] = []
    manifest = write(tmp_path / "train.jsonl", good)
    report = check([manifest], None, TokenizerConfig(), lambda path, seconds: heard.append((path, seconds)))
    assert (report.utterances, report.seconds, report.findings) == (3, pytest.approx(1.8), [])
    assert not report.has_errors
    assert str(report) == "3 utterances, 0.00 h: 0 findings"
    assert heard == [(tmp_path / f"u{number}.wav", 0.6) for number in range(3)]


def test_words_that_cannot_be_pronounced_are_found_where_phones_are_spelled(tmp_path: Path, good: list):
    (tmp_path / "words.txt").write_text("one\tW AH N\ntwo\tT UW\n")
    lines = [good[0], good[1] | {"text": "one 2 drei"}, good[2] | {"text": "naïve", "phones": "nIjv"}]
    config, speller = TokenizerConfig(kind="phones"), PhoneSpeller(str(tmp_path / "words.txt"), "xx")
    report = check([write(tmp_path / "train.jsonl", lines)], None, config, speller=speller)
    (finding,) = report.findings
    assert (finding.kind, finding.id, finding.detail) == ("no phones", "u1", "2 drei in “one 2 drei”")
    assert not report.has_errors  # left out, as a run says


def test_real_speech_passes(dev_entries: list[Entry], tmp_path: Path):
    lines = [{"id": entry.id, "audio": str(entry.audio.resolve()), "text": entry.text} for entry in dev_entries[:20]]
    assert checked(tmp_path, lines).findings == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("no file", {"audio": "missing.wav"}),
        ("unreadable", {"audio": "text.wav"}),
        ("unreadable", {"audio": "empty.wav"}),
        ("unreadable", {"audio": "header.wav"}),
        ("unreadable", {"audio": "short.flac"}),
        ("alphabet", {"text": "one 2"}),
        ("alphabet", {"text": "naïve"}),
        ("no text", {"text": ""}),
        ("no text", {"text": "  "}),
        ("too fast", {"text": "sixteen letters in 0.6 s".replace("0.6", "half a second")}),
        ("too slow", {"audio": "long.wav", "text": "a"}),
        ("silent", {"audio": "silent.wav"}),
        ("silent", {"audio": "quiet.wav"}),
        ("clipped", {"audio": "clipped.wav"}),
        ("audio twice", {"audio": "copy.flac"}),
    ],
)
def test_each_fault_is_found_and_only_that(tmp_path: Path, good: list, kind: str, change: dict[str, str]):
    noise = np.random.default_rng(5).uniform(-1, 1, 10 * RATE)
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "header.wav", noise[:0], RATE)
    soundfile.write(tmp_path / "long.wav", 0.1 * noise, RATE)
    soundfile.write(tmp_path / "short.flac", 0.1 * noise, RATE)
    (tmp_path / "short.flac").write_bytes((tmp_path / "short.flac").read_bytes()[:-20_000])
    soundfile.write(tmp_path / "silent.wav", 0 * noise[:RATE], RATE)
    soundfile.write(tmp_path / "quiet.wav", 1e-3 * noise[:RATE], RATE)
    soundfile.write(tmp_path / "clipped.wav", np.clip(1.1 * noise[:RATE], -1, 1), RATE)
    soundfile.write(tmp_path / "copy.flac", soundfile.read(good[0]["audio"])[0], RATE)
    report = checked(tmp_path, [*good[:2], good[2] | {"id": "bad"} | change])
    assert found(report) == [(kind, "bad")]
    assert report.has_errors == (kind in ERRORS)


def test_what_dev_shares_with_train_is_found(tmp_path: Path, good: list):
    shutil.copy(good[0]["audio"], tmp_path / "again.wav")
    dev = [
        {"audio": str(tmp_path / "again.wav"), "text": "another text", "speaker": "ada"},
        {"audio": str(write_audio(tmp_path / "new.wav", 0.6, seed=9)), "text": "One  TWO", "speaker": "bob"},
    ]
    lines = [line | {"speaker": speaker} for line, speaker in zip(good, ("cyd", "bob", "cyd"), strict=True)]
    lines[2]["text"] = "three"
    report = checked(tmp_path, lines, dev)
    assert found(report) == [
        ("audio in dev", "u0"),
        ("text in dev", "u0"),
        ("text in dev", "u1"),
        ("speaker in dev", "u1"),
    ]
    assert report.has_errors


def test_dev_that_is_trained_on_is_found(tmp_path: Path, good: list):
    manifest = write(tmp_path / "all.jsonl", good)
    report = check([manifest], manifest, TokenizerConfig())
    assert report.counts == {"audio in dev": 3, "text in dev": 3}


def test_what_may_be_right_does_not_fail(tmp_path: Path, good: list):
    dev = [{"audio": str(write_audio(tmp_path / "new.wav", 0.6, seed=9)), "text": TEXT}]
    report = checked(tmp_path, good, dev)
    assert set(report.counts) == {"text in dev"}
    assert not report.has_errors


def test_every_id_that_is_there_twice_is_found(tmp_path: Path, good: list):
    without_id = {"audio": "a.wav", "text": TEXT}
    report = checked(tmp_path, [*good, good[0], "", without_id, good[2], good[0], without_id])
    assert [(finding.kind, finding.id, finding.detail) for finding in report.findings] == [
        ("id twice", "u0", "lines 1, 4, 8"),
        ("id twice", "u2", "lines 3, 7"),
        ("id twice", "a", "lines 6, 9"),
    ]
    assert report.has_errors


def test_parts_of_one_recording_do_not_share_an_id(tmp_path: Path, good: list):
    part = {"audio": good[0]["audio"], "text": TEXT, "duration": 0.2}
    parts = [part | {"offset": 0.1}, part | {"offset": 0.3}]
    assert [finding.kind for finding in checked(tmp_path, [*parts, "{"]).findings] == ["manifest"]
    (finding,) = checked(tmp_path, [*parts, parts[1], "{"]).findings
    assert (finding.kind, finding.detail) == ("id twice", "lines 2, 3")


def test_a_line_that_cannot_be_read_is_a_finding_and_other_manifests_are_still_checked(tmp_path: Path, good: list):
    broken = write(tmp_path / "broken.jsonl", [*good, "{"])
    whole = write(tmp_path / "whole.jsonl", [good[0] | {"text": "ö"}])
    report = check([broken, whole], None, TokenizerConfig())
    assert found(report) == [("manifest", "-"), ("alphabet", "u0")]
    assert "broken.jsonl:4: " in report.findings[0].detail
    with pytest.raises(RecipeError, match=r"missing\.jsonl"):
        check([tmp_path / "missing.jsonl"], None, TokenizerConfig())


def test_the_alphabet_and_the_case_are_the_tokenizers(tmp_path: Path, good: list):
    lines = [good[0] | {"text": "Öl’s"}]
    assert found(checked(tmp_path, lines)) == [("alphabet", "u0")]
    assert found(checked(tmp_path, lines, alphabet="abcdefghijklmnopqrstuvwxyzäöüß'")) == []
    assert found(checked(tmp_path, lines, alphabet="lsö'", case="keep")) == [("alphabet", "u0")]
    (finding,) = checked(tmp_path, lines).findings
    assert finding.detail == "ö in “Öl’s”"


def test_what_the_tokenizer_drops_is_a_warning(tmp_path: Path, good: list):
    report = checked(tmp_path, [good[0] | {"text": "Öl"}, good[1] | {"text": "7"}], unknown="drop")
    assert (found(report), report.has_errors) == ([("dropped", "u0"), ("dropped", "u1"), ("no text", "u1")], False)
    assert "all of them: 7ö\n" in f"{report}\n"


def test_all_characters_outside_the_alphabet_are_listed_once(tmp_path: Path, good: list):
    lines = [good[0] | {"text": "Öl, Öle"}, good[1] | {"text": "İÜ"}]
    assert "all of them: ,öü\n" in f"{checked(tmp_path, lines)}\n"


def test_the_table_and_the_json_tell_the_same(tmp_path: Path, good: list):
    report = checked(tmp_path, [*good, {"id": "x", "audio": "x.wav", "text": TEXT}, {"audio": "y.wav", "text": "7"}])
    told = json.loads(json.dumps(report.as_json()))
    assert told["counts"] == {"alphabet": 1, "no file": 2}
    assert told["has_errors"] is True
    assert [finding["id"] for finding in told["findings"]] == ["y", "x", "y"]
    table = str(report)
    assert "errors" in table
    assert "warnings" not in table
    assert "        2  no file         audio that is not there" in table
    assert f"first: {tmp_path / 'train.jsonl'}: x: {tmp_path / 'x.wav'}" in table


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text(max_size=30) | st.dictionaries(st.sampled_from(["id", "audio", "text"]), st.text())))
def test_any_file_gives_a_report(tmp_path: Path, lines: list):
    content = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (tmp_path / "any.jsonl").write_text(content, encoding="utf-8", errors="replace")
    assert str(check([tmp_path / "any.jsonl"], None, TokenizerConfig()))
