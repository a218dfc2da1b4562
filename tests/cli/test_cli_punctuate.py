"""`asr punctuate`, and `--style` of the commands that write texts."""

import gzip
import json
import tracemalloc
from pathlib import Path

import carrier
import pytest
import rule_tagger
from program import Command

from asr.model.tagger import find_tagger

TALK = "where is ada stop she paid two five dollars"
WRITTEN = "Where is Ada stop? She paid $25."


@pytest.fixture
def tagger(monkeypatch: pytest.MonkeyPatch) -> rule_tagger.RuleTagger:
    return rule_tagger.install(monkeypatch)


@pytest.mark.parametrize(
    ("format", "style", "text"),
    [
        ("txt", None, WRITTEN),
        ("txt", "written", WRITTEN),
        ("txt", "spoken", TALK),
        ("srt", None, "She paid $25."),
        ("tsv", None, WRITTEN),
        ("ass", "spoken", TALK),
        ("jsonl", None, TALK),
        ("jsonl", "written", TALK),
    ],
)
def test_transcribe_writes_in_a_style(
    tagger: object, transcribe: Command, tmp_path: Path, format: str, style: str | None, text: str
) -> None:
    path = carrier.save(tmp_path / "a.wav", TALK)
    result = transcribe(path, "-f", format, *(["--style", style] if style else []))
    assert (result.code, result.err) == (0, "")
    assert text in result.out.replace("\\N", " ").replace("\n", " ")


def test_formats_that_are_always_spoken_tag_nothing(
    tagger: rule_tagger.RuleTagger, transcribe: Command, tmp_path: Path
) -> None:
    path = carrier.save(tmp_path / "a.wav", TALK)
    assert [transcribe(path, "-f", format).code for format in ("ctm", "jsonl", "textgrid")] == [0, 0, 0]
    assert tagger.calls == []


def test_channels_are_written_apart(tagger: object, transcribe: Command, tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    left, right = carrier.speech("where is ada"), carrier.speech("one two", 2)
    samples = np.zeros((max(len(left), len(right)), 2), np.float32)
    samples[: len(left), 0], samples[: len(right), 1] = left, right
    soundfile.write(tmp_path / "a.wav", samples, carrier.RATE, subtype="PCM_16")
    result = transcribe(tmp_path / "a.wav", "--channels", "each")
    assert result.out == "[1] Where is Ada?\n[2] 12.\n"


@pytest.mark.parametrize("format", ["txt", "json"])
@pytest.mark.parametrize("style", ["written", "spoken"])
def test_listen_writes_in_a_style(
    tagger: object, run: Command, streaming_carrier_bundle: Path, tmp_path: Path, format: str, style: str
) -> None:
    path = carrier.save(tmp_path / "a.wav", TALK)
    result = run(
        "listen", "--input", path, "-m", streaming_carrier_bundle, "--decoder", "greedy", "-f", format, "--style", style
    )
    text = result.out.strip() if format == "txt" else json.loads(result.out)["text"]
    assert (result.code, text) == (0, WRITTEN if style == "written" else TALK)


@pytest.mark.parametrize("command", ["transcribe", "listen", "serve", "bulk"])
def test_written_without_a_tagger_is_one_line(
    run: Command, carrier_bundle: Path, streaming_carrier_bundle: Path, tmp_path: Path, command: str
) -> None:
    path = carrier.save(tmp_path / "a.wav", "one")
    arguments = {
        "transcribe": [path, "-m", carrier_bundle],
        "listen": ["--input", path, "-m", streaming_carrier_bundle],
        "serve": ["--port", "0", "-m", carrier_bundle],
        "bulk": [path, tmp_path / "out", "-m", carrier_bundle],
    }[command]
    result = run(command, *arguments, "--style", "written", "--decoder", "greedy")
    assert (result.code, result.out) == (2, "")
    assert "no model of written qaa is installed" in " ".join(result.err.split())
    assert "Traceback" not in result.err


@pytest.mark.parametrize("options", [[], ["--streaming"]])
def test_evaluation_is_of_what_is_spoken(
    tagger: rule_tagger.RuleTagger, run: Command, streaming_carrier_bundle: Path, tmp_path: Path, options: list[str]
) -> None:
    path = carrier.save(tmp_path / "a.wav", TALK)
    manifest = tmp_path / "one.jsonl"
    manifest.write_text(json.dumps({"audio": path.name, "text": TALK}))
    result = run("evaluate", manifest, "-m", streaming_carrier_bundle, "--decoder", "greedy", *options)
    assert (result.code, tagger.calls) == (0, [])
    assert "0.0" in result.out


# asr punctuate


def test_a_text_is_written_anew(tagger: object, run: Command, tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("\ufeffWHERE IS ADA? stop\nshe paid...\n two five dollars\n\n\n \nand “May” the third\n", "utf-8")
    expected = "Where is Ada stop? She paid $25.\n\nAnd May 3rd.\n"
    assert run("punctuate", path).out == expected
    assert run("punctuate", "-", stdin=path.read_bytes()).out == expected
    packed = tmp_path / "talk.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert run("punctuate", packed).out == expected
    target = tmp_path / "new" / "talk.txt"
    target.parent.mkdir()
    assert run("punctuate", path, "-o", target).code == 0
    assert target.read_text("utf-8") == expected


@pytest.mark.parametrize("content", [b"", b"\n\n", b" .,; \n -- \n"])
def test_a_text_without_words_is_empty(tagger: object, run: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    result = run("punctuate", tmp_path / "a.txt")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_what_exists_is_kept_without_force(tagger: object, run: Command, tmp_path: Path) -> None:
    path, target = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("one two")
    target.write_text("kept")
    result = run("punctuate", path, "-o", target)
    assert (result.code, target.read_text()) == (1, "kept")
    assert "--force" in result.errors[0]
    assert run("punctuate", path, "-o", target, "--force").code == 0
    assert target.read_text() == "12.\n"
    (line,) = run("punctuate", path, "-o", path, "--force").errors
    assert "same file" in line
    assert path.read_text() == "one two"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("caf\u00e9 one".encode("latin-1"), "not a text in UTF-8"),
        ("one two".encode("utf-16"), "not a text in UTF-8"),
        (b"one \xe2\x82", "not a text in UTF-8"),  # cut in a character
        (b"x" * 200_000, "a word of over 10,000 characters"),
        (b"\x1f\x8b damaged", "damaged"),
    ],
)
def test_what_is_no_text_is_one_line_and_replaces_nothing(
    tagger: object, run: Command, tmp_path: Path, content: bytes, problem: str
) -> None:
    path, target = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_bytes(content)
    target.write_text("kept")
    result = run("punctuate", path, "-o", target, "--force")
    assert (result.code, result.out, target.read_text()) == (1, "", "kept")
    (line,) = result.errors
    assert problem in line
    assert [item.name for item in tmp_path.iterdir() if "partial" in item.name] == []


def test_other_problems_are_one_line(
    tagger: object, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = run("punctuate", tmp_path / "none.txt").errors
    assert "none.txt" in line
    (line,) = run("punctuate", tmp_path).errors
    assert str(tmp_path) in line
    if find_tagger("en") is None:
        monkeypatch.undo()
        result = run("punctuate", "-", stdin=b"one")
        assert (result.code, len(result.errors)) == (1, 1)


def test_a_large_text_takes_no_memory(tagger: rule_tagger.RuleTagger, tmp_path: Path) -> None:
    from asr.cli.punctuate import read_parts
    from asr.recognize.punctuation import punctuated

    def peak(times: int) -> int:
        path = tmp_path / f"{times}.txt"
        path.write_text("the old man sat down by the river to read his letter and " * times)  # in one line
        tracemalloc.start()
        words = 0
        for part in punctuated(read_parts(str(path))):
            words += len(part.split())
            tagger.calls.clear()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert words == 13 * times
        return used

    peak(100)
    assert peak(9000) < 1.2 * peak(3000)  # 513 and 171 kB of text
