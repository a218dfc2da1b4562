import csv
import json
import os
import shutil
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import carrier
import numpy as np
import pytest
import soundfile
from program import Command

from asr.output.writers import FORMATS, render
from asr.recognize.align import align as align_text
from asr.recognize.offline import Recognizer

SPOKEN = "what's up in the well"
TEXT = "“What’s up —\nin the well?”"


@pytest.fixture
def align(run: Command, carrier_bundle: Path) -> Command:
    return lambda *arguments, **options: run("align", "--model", carrier_bundle, *arguments, **options)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return carrier.save(tmp_path / "talk.wav", SPOKEN, silence=25)


def test_a_line_for_each_word_with_its_time(align: Command, talk: Path) -> None:
    result = align(talk, "What’s up in the well")
    assert (result.code, result.err) == (0, "")
    rows = list(csv.reader(result.out.splitlines(), delimiter=" "))
    assert [row[4] for row in rows] == ["What’s", "up", "in", "the", "well"]
    assert [row[0] for row in rows] == [str(talk)] * 5
    assert float(rows[0][2]) == pytest.approx(1.0)  # after 25 frames
    assert all(float(row[5]) > 0.99 for row in rows)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_what_its_writer_makes_of_the_alignment(
    align: Command, talk: Path, carrier_bundle: Path, format: str
) -> None:
    transcript = align_text(Recognizer(carrier_bundle, threads=1), talk, TEXT)
    assert transcript.text == " ".join(TEXT.split())
    result = align(talk, TEXT, "--format", format)
    assert (result.code, result.out, result.err) == (0, render(transcript, format, str(talk)), "")


def test_text_comes_from_the_words_a_file_or_standard_input(align: Command, talk: Path, tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())  # as Windows saves it
    of_words, of_file, of_input = align(talk, TEXT), align(talk, path), align(talk, "-", stdin=TEXT.encode())
    assert of_words.out == of_file.out == of_input.out != ""


def test_audio_comes_from_standard_input(align: Command, talk: Path) -> None:
    result = align("-", TEXT, "--format", "json", stdin=talk.read_bytes())
    assert json.loads(result.out)["segments"] == json.loads(align(talk, TEXT, "--format", "json").out)["segments"]


def test_output_holds_what_would_be_printed(align: Command, talk: Path, tmp_path: Path) -> None:
    result = align(talk, TEXT, "--format", "srt", "--output", tmp_path / "talk.srt")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (tmp_path / "talk.srt").read_text(encoding="utf-8") == align(talk, TEXT, "--format", "srt").out


def test_an_older_output_stays_when_nothing_could_be_aligned(align: Command, talk: Path, tmp_path: Path) -> None:
    output = tmp_path / "talk.ctm"
    output.write_text("of yesterday")
    assert align(talk, "words " * 100, "--output", output).code == 1
    assert output.read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no words"),
        ("...", "no words"),
        ("щит α", "cannot spell “щит” (word 1), “α” (word 2)"),
        ("quite another text", "does not fit the recording"),
        ("words " * 100, "too long for the audio"),
        ("words.txt", "words.txt: no such file"),
        ("texts/words", "texts/words: no such file"),
    ],
)
def test_a_text_that_cannot_be_aligned_is_one_line(align: Command, talk: Path, text: str, complaint: str) -> None:
    result = align(talk, text)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert complaint in line


def test_numbers_prices_and_abbreviations_are_read_aloud(run: Command, carrier_bundle: Path, tmp_path: Path) -> None:
    english = shutil.copytree(carrier_bundle, tmp_path / "english")
    config = english / "config.json"
    config.write_text(config.read_text().replace('"qaa"', '"en"'))
    talk = carrier.save(tmp_path / "talk.wav", "doctor who paid five euros to henry eight", silence=25)
    for price in ("5€", "€5", "5 €", "€ 5"):
        result = run("align", "--model", english, talk, f"Dr. Who paid {price} to Henry VIII")
        assert (result.code, result.err) == (0, "")
        rows = [line.split() for line in result.out.splitlines()]
        assert [row[4] for row in rows] == ["Dr.", "Who", "paid", price.replace(" ", "_"), "to", "Henry", "VIII"]
        assert all(float(row[5]) > 0.9 for row in rows)


def test_what_reads_numbers_is_installed_with_the_program() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {requirement.split(">=")[0] for requirement in project["dependencies"]}
    assert "unicode-rbnf" in names
    assert not any("unicode-rbnf" in requirement for requirement in project["optional-dependencies"]["train"])


def test_a_word_that_cannot_be_spelled_is_told_of_in_one_line(align: Command, talk: Path) -> None:
    result = align(talk, "what's up α in the well", "--format", "json")
    assert result.code == 0
    (line,) = result.errors
    assert line.startswith(f"asr: {talk}: the model cannot spell “α” (word 3); ")
    words = [word for segment in json.loads(result.out)["segments"] for word in segment["words"]]
    assert [word["word"] for word in words if word.get("spoken") is False] == ["α"]
    right = align(talk, "what's up in the well").out.splitlines()
    assert [line for line in align(talk, "what's up α in the well").out.splitlines() if "α" not in line] == right


def test_words_that_are_not_spoken_are_told_of(align: Command, talk: Path) -> None:
    result = align(talk, "what's up, Doc, in the well", "--format", "json")
    assert (result.code, result.errors) == (0, [f"asr: {talk}: not spoken are 1 of the 6 words: Doc,"])
    words = [word for segment in json.loads(result.out)["segments"] for word in segment["words"]]
    assert [word["word"] for word in words if word.get("spoken") is False] == ["Doc,"]


def test_many_recordings_are_aligned_with_the_texts_beside_them_or_in_a_manifest(
    align: Command, tmp_path: Path
) -> None:
    for name, text in (("a", "one two"), ("below/b", "three four"), ("c", "wrong")):
        path = carrier.save(tmp_path / f"talks/{name}.wav", text, silence=25)
        path.with_suffix(".txt").write_text("quite another text" if text == "wrong" else text)
    carrier.save(tmp_path / "talks/untold.wav", "five")
    result = align(tmp_path / "talks", "--output-dir", tmp_path / "out")
    assert (result.code, result.out) == (1, "")
    assert result.errors[-1] == f"asr: 2 written to {tmp_path}/out/, 2 failed"
    assert len(result.errors) == 3
    assert (tmp_path / "out/below/b.ctm").read_text() == align(tmp_path / "talks/below/b.wav", "three four").out
    lines = [{"audio": "talks/a.wav", "text": "one two"}, {"audio": "talks/c.wav", "text": "wrong"}]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert align(tmp_path / "many.jsonl", "--output-dir", tmp_path / "new", "--format", "srt").code == 0
    assert {path.name for path in (tmp_path / "new/talks").iterdir()} == {"a.srt", "c.srt"}
    assert align(tmp_path / "many.jsonl").code == align(tmp_path / "talks/a.wav", "x", "--output-dir", "o").code == 2


def test_several_formats_are_written_beside_each_other(align: Command, talk: Path, tmp_path: Path) -> None:
    table = tmp_path / "many.csv"
    table.write_text(f"audio,text\n{talk},{SPOKEN}\n")
    result = align(table, "--output-dir", tmp_path / "out", "-f", "srt", "-f", "ctm")
    assert (result.code, result.errors) == (0, [f"asr: 1 written to {tmp_path}/out/"])
    written = {path.suffix: path.read_text() for path in (tmp_path / "out").rglob("talk.*")}
    assert written == {f".{format}": align(talk, SPOKEN, "-f", format).out for format in ("srt", "ctm")}
    for where in ([], ["--output", tmp_path / "talk.srt"]):
        result = align(talk, SPOKEN, "-f", "srt", "-f", "ctm", *where)
        assert (result.code, result.out) == (2, "")
        assert "--format" in result.err


def test_recordings_that_are_done_are_skipped(align: Command, tmp_path: Path) -> None:
    for name in "abcde":
        carrier.save(tmp_path / f"talks/{name}.wav", "one two", silence=25).with_suffix(".txt").write_text("one two")
    many = (tmp_path / "talks", "--output-dir", tmp_path / "out")
    assert align(*many, "-f", "ctm").code == 0
    (tmp_path / "out/c.ctm").unlink()
    (tmp_path / "out/a.ctm").write_text("by hand")
    result = align(*many, "--skip-existing")
    assert (result.code, result.errors) == (0, [f"asr: 1 written to {tmp_path}/out/, 4 skipped"])
    result = align(*many, "--skip-existing", "-f", "ctm", "-f", "srt")
    assert (result.code, result.errors) == (0, [f"asr: 5 written to {tmp_path}/out/"])
    assert (tmp_path / "out/a.ctm").read_text() == "by hand"
    result = align(*many)
    assert (result.code, len(result.errors)) == (1, 5), "three that exist, how many more, and the counts"
    assert result.errors[-1] == f"asr: 0 written to {tmp_path}/out/, 5 kept"
    assert align(*many, "--skip-existing", "--force").code == 2
    assert "--skip-existing" in align(tmp_path / "talks/a.wav", "one two", "--skip-existing").err


def test_the_columns_of_a_table_have_any_names(align: Command, tmp_path: Path) -> None:
    carrier.save(tmp_path / "clips/a.wav", "one two", silence=25)
    (tmp_path / "many.tsv").write_text("client_id\tPath\tSentence\tFrom\tLength\n1\tclips/a.wav\ttwo\t1.2\t5\n")
    names = ("--audio-column", "path", "--text-column", "sentence")
    parts = ("--offset-column", "from", "--duration-column", "LENGTH")
    result = align(tmp_path / "many.tsv", "--output-dir", tmp_path / "out", *names, *parts)
    assert (result.code, result.errors) == (0, [f"asr: 1 written to {tmp_path}/out/"])
    assert (tmp_path / "out/clips/a-1.2.ctm").read_text().split()[4] == "two"


def test_progress_counts_the_parts_that_are_aligned(
    align: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = carrier.save(tmp_path / "a.wav", "one two three four five six seven", silence=25)
    told: list[float | None] = []

    @contextmanager
    def progress(lengths: Callable[[], list[float | None]]) -> Iterator[None]:
        told.extend(lengths())
        yield

    monkeypatch.setattr("asr.cli.align.audio_progress", progress)
    seconds = soundfile.info(path).duration
    rows = [f"{path},one,,", f"{path},two,0.5,1.25", f"{path},three,1,"]
    (tmp_path / "many.csv").write_text("\n".join(["audio,text,offset,duration", *rows]))
    align(tmp_path / "many.csv", "--output-dir", tmp_path / "out")
    assert told == pytest.approx([seconds, 1.25, seconds - 1])


@pytest.mark.parametrize(("gain", "problem"), [(1e-4, "almost silent (-"), (30.0, "distorted (")])
def test_a_recording_that_is_too_quiet_or_distorted_is_told_in_one_line(
    align: Command, tmp_path: Path, gain: float, problem: str
) -> None:
    samples = (gain * carrier.speech(SPOKEN)).clip(-1, 1)
    soundfile.write(tmp_path / "a.wav", samples, carrier.RATE, subtype="PCM_24")
    result = align(tmp_path / "a.wav", SPOKEN, "--min-confidence", "0")
    assert result.code == 0
    assert result.errors[0].startswith(f"asr: {tmp_path}/a.wav: {problem}")
    assert result.err.count("record it") == 1


def test_silence_has_no_words_and_says_so_in_one_line(align: Command, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(3 * carrier.RATE), carrier.RATE)
    result = align(tmp_path / "a.wav", SPOKEN)
    assert (result.code, result.out, len(result.errors)) == (1, "", 1)
    assert "does not fit" in result.err
    assert "almost silent (all samples are 0); record it louder" in result.err


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_of_recordings_is_aligned_row_by_row(align: Command, tmp_path: Path, suffix: str) -> None:
    both = carrier.save(tmp_path / "talks/a.wav", "one two", silence=25)
    carrier.save(tmp_path / "talks/b.wav", "three four", silence=25)
    rows = ["Audio,Text,Offset,Duration", "talks/b.wav,three four,,", "talks/a.wav,two,1.2,", "talks/none.wav,five,,"]
    table = tmp_path / f"many.{suffix}"
    table.write_text("\n".join(rows).replace(",", "," if suffix == "csv" else "\t"))
    result = align(table, "--output-dir", tmp_path / "out")
    assert result.code == 1
    assert result.errors == [
        f"asr: {tmp_path}/talks/none.wav: no such file",
        f"asr: 2 written to {tmp_path}/out/, 1 failed",
    ]
    whole = align(both, "one two").out.splitlines()[1].split()
    part = (tmp_path / "out/talks/a-1.2.ctm").read_text().split()
    assert (float(part[2]), part[4]) == (pytest.approx(float(whole[2]), abs=0.021), "two"), "within speech or not"
    table.write_text("Audio,Text\ntalks/b.wav,three four\ntalks/b.wav,three\n")
    twice = align(table, "--output-dir", tmp_path / "twice")
    assert (twice.code, len(twice.errors)) == (1, 2)
    assert "written to" in twice.errors[0]
    table.write_text("recording,words\n")
    assert "no column audio" in align(table, "--output-dir", tmp_path / "none").err


def test_a_channel_and_a_part_of_a_recording_are_aligned(align: Command, tmp_path: Path) -> None:
    left, right = carrier.speech("one two", 25), carrier.speech("six seven", 25)
    samples = np.zeros((max(len(left), len(right)), 2), dtype=np.float32)
    samples[: len(left), 0], samples[: len(right), 1] = left, right
    soundfile.write(tmp_path / "call.wav", samples, carrier.RATE, subtype="PCM_16")
    for channel, text in (("left", "one two"), ("2", "six seven")):
        mono = carrier.save(tmp_path / f"{channel}.wav", text, silence=25)
        lines = align(tmp_path / "call.wav", text, "--channels", channel).out.splitlines()
        alone = align(mono, text).out.splitlines()
        assert [line.split()[2::2] for line in lines] == [line.split()[2::2] for line in alone]
    part = align(tmp_path / "call.wav", "two", "--channels", "1", "--start", "1.2").out.split()
    assert (float(part[2]), part[4]) == (pytest.approx(1.3, abs=0.021), "two"), "on the clock of the recording"
    assert align(tmp_path / "call.wav", "one", "--channels", "each").code == 2


def test_a_text_file_that_cannot_be_read_is_one_line(align: Command, talk: Path) -> None:
    for path in (talk, talk.parent):
        result = align(talk, path)
        assert (result.code, result.out) == (1, "")
        (line,) = result.errors
        assert line.startswith(f"asr: {path}: ")


def test_audio_that_is_missing_or_damaged_is_one_line(align: Command, talk: Path, tmp_path: Path) -> None:
    damaged = carrier.save(tmp_path / "damaged.wav", SPOKEN, silence=200)
    damaged.write_bytes(damaged.read_bytes()[:-100_000])
    for path in (tmp_path / "missing.wav", damaged):
        result = align(path, TEXT)
        assert (result.code, result.out) == (1, "")
        (line,) = result.errors
        assert line.startswith(f"asr: {path}: ")


def test_an_output_that_cannot_be_written_is_one_line_before_the_work(
    align: Command, talk: Path, tmp_path: Path
) -> None:
    result = align(talk, TEXT, "--model", tmp_path / "none", "--output", tmp_path / "none/talk.ctm")
    assert result.code == 1
    (line,) = result.errors
    assert "talk.ctm: cannot be written" in line


def test_recording_and_text_cannot_both_be_standard_input(align: Command) -> None:
    result = align("-", "-")
    assert result.code == 2
    assert "standard input" in result.err


def test_textgrid_is_not_for_what_is_still_being_spoken(
    run: Command, streaming_carrier_bundle: Path, talk: Path
) -> None:
    result = run("listen", "--model", streaming_carrier_bundle, "--input", talk, "--format", "textgrid")
    assert (result.code, result.out) == (2, "")
    assert "textgrid" in result.err


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_neither_the_recording_nor_the_text_is_replaced(
    align: Command, talk: Path, tmp_path: Path, force: list[str]
) -> None:
    words = tmp_path / "words.txt"
    words.write_text(SPOKEN)
    (tmp_path / "link.ctm").symlink_to(talk)
    (tmp_path / "hard.ctm").hardlink_to(words)
    before = talk.read_bytes()
    for name, same in (("talk.wav", talk), ("words.txt", words), ("link.ctm", talk), ("hard.ctm", words)):
        result = align(talk, words, "--output", tmp_path / name, *force)
        assert (result.code, result.out) == (1, "")
        assert result.errors == [f"asr: {tmp_path / name}: is the same file as {same}; choose another --output"]
    assert (talk.read_bytes(), words.read_text()) == (before, SPOKEN)


def test_an_output_that_exists_is_replaced_only_by_force(align: Command, talk: Path, tmp_path: Path) -> None:
    output = tmp_path / "talk.ctm"
    output.write_text("by hand\n")
    result = align(talk, SPOKEN, "--output", output)
    assert (result.code, result.out) == (1, "")
    assert result.errors == [f"asr: {output}: exists; choose another name, or replace it with --force"]
    assert output.read_text() == "by hand\n"
    assert align(talk, SPOKEN, "--output", output, "--force").code == 0
    assert output.read_text() == align(talk, SPOKEN).out


def test_text_and_recording_can_come_through_pipes(align: Command, talk: Path, tmp_path: Path) -> None:
    def feed(name: str, content: bytes) -> Path:
        os.mkfifo(tmp_path / name)
        threading.Thread(target=(tmp_path / name).write_bytes, args=(content,), daemon=True).start()
        return tmp_path / name

    expected = align(talk, TEXT, "--format", "txt").out
    assert align(talk, feed("text", TEXT.encode()), "--format", "txt").out == expected
    assert align(feed("audio", talk.read_bytes()), TEXT, "--format", "txt").out == expected


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle that spells pronunciations, and a recording."""
    folder = tmp_path_factory.mktemp("phones")
    bundle = carrier.write_pronouncing_bundle(folder / "bundle", [("the", "Du"), ("the", "Di"), ("cat", "kAt")])
    soundfile.write(folder / "talk.wav", carrier.pronounced("Di kAt", silence=25), carrier.RATE, subtype="PCM_16")
    return bundle, folder / "talk.wav"


def test_phones_in_place_of_words(run: Command, phones: tuple[Path, Path]) -> None:
    bundle, talk = phones
    result = run("align", "--model", bundle, talk, "The cat", "--phones")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[4] for row in rows] == ["DH", "IH", "K", "AE", "T"]
    assert float(rows[0][2]) == pytest.approx(1.0)
    assert [row[4] for row in map(str.split, run("align", "-m", bundle, talk, "The cat").out.splitlines())] == [
        "The",
        "cat",
    ]


def test_phones_go_with_ctm_and_a_model_that_spells_them(run: Command, align: Command, talk: Path) -> None:
    assert "--phones" in align(talk, TEXT, "--phones", "--format", "json").err
    result = align(talk, TEXT, "--phones")
    assert (result.code, len(result.errors)) == (1, 1)
    assert "carrier: spells words with letters" in result.err


def test_the_users_lexicon_pronounces_words(run: Command, phones: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, talk = phones
    assert "cannot spell “Thy”" in run("align", "--model", bundle, talk, "Thy cat").err
    (tmp_path / "own.txt").write_text("thy DH IH\n")
    result = run("align", "--model", bundle, talk, "Thy cat", "--lexicon", tmp_path / "own.txt")
    assert [row.split()[4] for row in result.out.splitlines()] == ["Thy", "cat"]
