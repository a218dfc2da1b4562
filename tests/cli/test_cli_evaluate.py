import json
import os
import threading
from pathlib import Path
from typing import Any

import carrier
import pytest
from program import Command

from asr.recognize.streaming import ENDPOINT, StreamingRecognizer


@pytest.fixture
def evaluate(run: Command, carrier_bundle: Path) -> Command:
    return lambda *arguments: run("evaluate", "--model", carrier_bundle, *arguments)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two recordings, by relative and by absolute path; of 7 words 2 are wrong and 2 left out."""
    carrier.save(tmp_path / "data/clips/a.wav", "the cat sat", silence=50)
    b = carrier.save(tmp_path / "b.wav", "on a")
    return write(
        tmp_path / "data/dev.jsonl",
        {"audio": "clips/a.wav", "text": "The CAT set.", "id": "first", "seconds": 2.9},
        {"audio": str(b), "text": "on the red mat"},
    )


def write(path: Path, *entries: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_error_rates_and_counts_are_printed(evaluate: Command, manifest: Path, decoder: str) -> None:
    result = evaluate(manifest, "--decoder", decoder)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("WER 57.14% (95% interval ")
    for part in ("CER ", "2 substitutions", "2 deletions", "0 insertions", "in 7 words", "2 utterances", "RTF "):
        assert part in result.out


def test_json_is_one_object(evaluate: Command, manifest: Path) -> None:
    result = evaluate(manifest, "--json")
    assert len(result.out.splitlines()) == 1
    values = json.loads(result.out)
    assert values["wer"] == pytest.approx(4 / 7)
    assert values["cer"] == pytest.approx((1 + 10) / (len("the cat set") + len("on the red mat")))
    low, high = values["interval"]
    assert 0 <= low <= values["wer"] <= high <= 1
    assert 0 < values["rtf"] < 10
    assert values["seconds"] == pytest.approx((50 + 2 * 11 + 2 * 4) * 0.04)


def test_paths_count_from_the_manifest_not_from_here(
    evaluate: Command, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate("data/dev.jsonl").code == 0


def test_report_has_every_utterance_worst_first(evaluate: Command, manifest: Path, tmp_path: Path) -> None:
    result = evaluate(manifest, "--output", tmp_path / "report.txt")
    assert result.code == 0
    report = (tmp_path / "report.txt").read_text()
    assert 0 < report.index("b: WER 75.00%") < report.index("first: WER 33.33%")
    assert "REF: the cat set\nHYP: the cat sat\n               S\n" in report


def test_a_report_that_cannot_be_written_is_one_line_before_the_work(
    evaluate: Command, manifest: Path, tmp_path: Path
) -> None:
    result = evaluate(manifest, "--output", tmp_path / "none/report.txt")
    assert result.code == 1
    assert result.out == ""
    (line,) = result.errors
    assert "report.txt: cannot be written" in line


def test_an_older_report_stays_until_there_is_a_new_one(evaluate: Command, manifest: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    report.write_text("of yesterday")
    assert evaluate(manifest, "--model", tmp_path / "none", "--output", report).code == 1
    assert report.read_text() == "of yesterday"
    assert evaluate(manifest, "--output", report).code == 1
    assert report.read_text() == "of yesterday"
    assert evaluate(manifest, "--output", report, "--force").code == 0
    assert "of yesterday" not in report.read_text()


def test_missing_audio_is_one_line_and_counts_as_nothing_heard(evaluate: Command, tmp_path: Path) -> None:
    carrier.save(tmp_path / "a.wav", "all right")
    manifest = write(
        tmp_path / "dev.jsonl", {"audio": "missing.wav", "text": "not there"}, {"audio": "a.wav", "text": "all right"}
    )
    result = evaluate(manifest)
    assert result.code == 1
    assert result.out.startswith("WER 50.00%")
    assert result.errors == [f"asr: {tmp_path / 'missing.wav'}: no such file"]


def test_all_audio_missing_is_still_a_result(evaluate: Command, tmp_path: Path) -> None:
    result = evaluate(write(tmp_path / "dev.jsonl", {"audio": "missing.wav", "text": "not there"}), "--json")
    assert result.code == 1
    assert len(result.errors) == 1
    assert (json.loads(result.out)["wer"], json.loads(result.out)["rtf"]) == (1.0, None)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", ""),
        ("not json\n", ":1"),
        ('{"audio": "a.wav", "text": "x"}\n{"audio": 3}\n', ":2"),
        ('{"audio": "a.wav"}\n', ":1"),
        ("\xff\n", ":1"),
    ],
)
def test_a_bad_manifest_is_one_line_that_names_the_place(
    evaluate: Command, tmp_path: Path, content: str, place: str
) -> None:
    manifest = tmp_path / "dev.jsonl"
    manifest.write_bytes(content.encode("latin-1"))
    result = evaluate(manifest)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert line.startswith(f"asr: {manifest}{place}: ")


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_manifest_that_cannot_be_read_is_one_line(evaluate: Command, tmp_path: Path, name: str) -> None:
    result = evaluate(tmp_path / name)
    assert (result.code, result.out) == (1, "")
    assert len(result.errors) == 1


def test_a_manifest_without_a_word_is_one_line(evaluate: Command, tmp_path: Path) -> None:
    carrier.save(tmp_path / "a.wav", "words")
    result = evaluate(write(tmp_path / "dev.jsonl", {"audio": "a.wav", "text": "..."}))
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert "reference word" in line


@pytest.fixture
def evaluate_live(run: Command, streaming_carrier_bundle: Path) -> Command:
    return lambda *arguments: run("evaluate", "--streaming", "--model", streaming_carrier_bundle, *arguments)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_a_live_model_heard_chunk_by_chunk_has_the_errors_of_the_files(
    evaluate: Command, evaluate_live: Command, manifest: Path, decoder: str
) -> None:
    live, files = evaluate_live(manifest, "--decoder", decoder), evaluate(manifest, "--decoder", decoder)
    assert (live.code, live.err) == (0, "")
    assert live.out.split(", RTF")[0] == files.out.split(", RTF")[0]
    assert ", instability " in live.out
    assert "instability" not in files.out


def test_instability_is_in_the_json_of_live_models_only(
    evaluate: Command, evaluate_live: Command, manifest: Path
) -> None:
    live, files = (json.loads(command(manifest, "--json").out) for command in (evaluate_live, evaluate))
    assert 0 < live["instability"] < 1  # words are shown while they grow
    assert live.keys() - files.keys() == {"instability"}
    assert live["wer"] == files["wer"]


def test_a_live_model_goes_on_after_a_bad_recording(evaluate_live: Command, tmp_path: Path) -> None:
    carrier.save(tmp_path / "a.wav", "all right")
    manifest = write(
        tmp_path / "dev.jsonl", {"audio": "missing.wav", "text": "not there"}, {"audio": "a.wav", "text": "all right"}
    )
    result = evaluate_live(manifest, "--output", tmp_path / "report.txt")
    assert result.code == 1
    assert result.out.startswith("WER 50.00%")
    assert result.errors == [f"asr: {tmp_path / 'missing.wav'}: no such file"]
    assert "REF: all right" in (tmp_path / "report.txt").read_text()


def test_a_live_model_reads_files_too(run: Command, streaming_carrier_bundle: Path, manifest: Path) -> None:
    result = run("evaluate", "--model", streaming_carrier_bundle, manifest)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("WER 57.14%")


def test_a_model_for_whole_recordings_cannot_be_heard_chunk_by_chunk(evaluate: Command, manifest: Path) -> None:
    result = evaluate("--streaming", manifest)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert "choose a live model" in line


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_neither_the_manifest_nor_its_audio_is_replaced(
    evaluate: Command, manifest: Path, tmp_path: Path, options: list[str]
) -> None:
    audio = tmp_path / "data/clips/a.wav"
    before = manifest.read_bytes(), audio.read_bytes()
    for path in (manifest, audio):
        result = evaluate(manifest, "--output", path, *options)
        assert (result.code, result.out) == (1, "")
        assert result.errors == [f"asr: {path}: is the same file as {path}; choose another --output"]
    assert (manifest.read_bytes(), audio.read_bytes()) == before


def test_streaming_ends_utterances_as_listening_does_unless_told_otherwise(
    evaluate_live: Command, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    accept = StreamingRecognizer.accept

    def spy(self: StreamingRecognizer, *given: Any) -> Any:
        used.append(self.endpoint)
        return accept(self, *given)

    monkeypatch.setattr(StreamingRecognizer, "accept", spy)
    assert evaluate_live(manifest).code == evaluate_live(manifest, "--endpoints").code == 0
    assert set(used) == {ENDPOINT}
    used.clear()
    assert evaluate_live(manifest, "--no-endpoints").code == 0
    assert set(used) == {None}


def test_manifest_and_hotwords_can_come_through_pipes(evaluate: Command, tmp_path: Path) -> None:
    audio = carrier.save(tmp_path / "a.wav", "a knee jerk")

    def feed(name: str, text: str) -> Path:
        os.mkfifo(tmp_path / name)
        threading.Thread(target=(tmp_path / name).write_text, args=(text,), daemon=True).start()
        return tmp_path / name

    line = json.dumps({"audio": str(audio), "text": "a knee jerk"}) + "\n"
    result = evaluate(feed("manifest", line), "--hotwords-file", feed("hotwords", "knee jerk:8\n"))
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("WER 0.00%")
