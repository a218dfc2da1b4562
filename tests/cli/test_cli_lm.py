import errno
import gzip
import lzma
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from program import PROGRAM, Command

from asr.lm.binary import load_model
from asr.lm.columns import Column

TEXT = "The cat sat on the mat\nthe dog sat\n\nA cat and a dog\n" * 2


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def out_of(run: Command, *arguments: str | Path, stdin: bytes = b"") -> str:
    result = run("lm", *arguments, stdin=stdin)
    assert result.code == 0, result.err
    assert all("too little or too regular text" in line for line in result.errors)
    return result.out


def test_text_becomes_a_model_that_info_describes(run: Command, text: Path, tmp_path: Path) -> None:
    model = tmp_path / "cats.lm"
    built = out_of(run, "build", text, "--output", model)
    assert built.startswith(f"{model}: order 3, 11 1-grams, 16 2-grams, 14 3-grams, ")
    assert out_of(run, "info", model) == built
    described, measured = out_of(run, "info", model, "--perplexity", text).splitlines()
    assert f"{described}\n" == built
    assert measured.startswith("perplexity ")
    assert measured.endswith("unknown words 0.00% of 28 in 6 sentences")
    (tmp_path / "other.txt").write_text("the cat barked\n")
    assert "unknown words 33.33% of 3 in 1 sentences" in out_of(
        run, "info", model, "--perplexity", tmp_path / "other.txt"
    )


def test_options_make_smaller_models(run: Command, text: Path, tmp_path: Path) -> None:
    def counts(*options: str) -> str:
        return (
            out_of(run, "build", text, "--output", tmp_path / "out.lm", "--force", *options)
            .split("order ")[1]
            .rsplit(",", 1)[0]
        )

    assert counts("--order", "2") == "2, 11 1-grams, 16 2-grams"
    assert counts("--vocabulary", "3").startswith("3, 6 1-grams")
    assert counts("--prune", "0,2") == counts("--prune", "0 2 2") == "3, 11 1-grams, 1 2-grams, 0 3-grams"
    assert counts("--as-is") == counts("--keep-case")
    assert counts("--as-is").startswith("3, 13 1-grams")
    assert counts("--threshold", "0.5") == "3, 11 1-grams, 0 2-grams, 0 3-grams"


def test_every_way_in_gives_the_same_model(run: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "text.xz").write_bytes(lzma.compress(TEXT.encode()))
    sentences = TEXT.encode().splitlines(keepends=True)
    (tmp_path / "first.txt").write_bytes(b"".join(sentences[:3]))
    (tmp_path / "second.txt").write_bytes(b"".join(sentences[3:]))
    out_of(run, "build", text, "--output", tmp_path / "text.lm")
    (tmp_path / "marked.txt").write_text(f"\ufeff{TEXT}", encoding="utf-8", newline="\r\n")  # as Windows writes it
    for texts in (["text.gz"], ["text.xz"], ["-"], ["first.txt", "second.txt"], ["marked.txt"]):
        paths = [name if name == "-" else tmp_path / name for name in texts]
        out_of(run, "build", *paths, "-o", tmp_path / "again.lm", "--force", stdin=TEXT.encode())
        assert (tmp_path / "again.lm").read_bytes() == (tmp_path / "text.lm").read_bytes()


def test_the_model_does_not_depend_on_the_memory(run: Command, text: Path, tmp_path: Path) -> None:
    for name, memory in (("1.lm", "10K"), ("2.lm", "20.5m"), ("3.lm", "1GB")):
        out_of(run, "build", text, "--output", tmp_path / name, "--memory", memory, "--order", "4")
    assert len({(tmp_path / name).read_bytes() for name in ("1.lm", "2.lm", "3.lm")}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "1.lm", "2.lm", "3.lm"}


def test_words_to_keep_come_from_a_file(run: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Dog\ncat\ntaxonomy\n")
    out_of(run, "build", text, "--output", tmp_path / "kept.lm", "--vocabulary", tmp_path / "words.txt")
    words = load_model(tmp_path / "kept.lm").vocabulary
    assert [words.word(number) for number in range(len(words))] == ["</s>", "<s>", "<unk>", "cat", "dog", "taxonomy"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of a POSIX system")
def test_text_comes_from_a_pipe(run: Command, text: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[gzip.compress(TEXT.encode())], daemon=True).start()
    out_of(run, "build", tmp_path / "pipe", "--output", tmp_path / "pipe.lm", "--memory", "10K")
    out_of(run, "build", text, "--output", tmp_path / "file.lm")
    assert (tmp_path / "pipe.lm").read_bytes() == (tmp_path / "file.lm").read_bytes()


@pytest.mark.parametrize("size", ["4 G", "4X", "-1G", "0", "0.0M", "G"])
def test_a_wrong_memory_is_wrong_usage(run: Command, text: Path, tmp_path: Path, size: str) -> None:
    result = run("lm", "build", text, "--output", tmp_path / "out.lm", "--memory", size)
    assert result.code == 2
    assert "500M or 4G" in result.err


def test_a_build_that_was_killed_goes_on(run: Command, tmp_path: Path) -> None:
    sentences = (f"sentence {number**3 % 9973} of {number % 97} such\n" for number in range(100_000))
    (tmp_path / "text.txt").write_text("".join(sentences))
    command = [*PROGRAM, "lm", "build", tmp_path / "text.txt", "--memory", "8M", "-o", tmp_path / "out.lm"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    steps = tmp_path / "out.lm.parts/steps.json"
    while "counting" not in (steps.read_text() if steps.exists() else "") and killed.poll() is None:
        time.sleep(0.005)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "out.lm").exists()
    out_of(run, "build", tmp_path / "text.txt", "--memory", "1G", "-o", tmp_path / "expected.lm")
    result = run("lm", "build", tmp_path / "text.txt", "--memory", "8M", "-o", tmp_path / "out.lm")
    assert result.code == 0
    assert f"goes on with {tmp_path / 'out.lm.parts'}" in result.err
    assert (tmp_path / "out.lm").read_bytes() == (tmp_path / "expected.lm").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "out.lm", "expected.lm"}


def test_a_changed_text_is_read_again(
    run: Command, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("asr.cli.lm.save_model", interrupt)
        result = run("lm", "build", text, "--output", tmp_path / "out.lm")
    assert result.code == 130
    assert f"interrupted; the same command goes on with {tmp_path / 'out.lm.parts'}" in result.err
    text.write_text("another text\nwith other words\n")
    out_of(run, "build", text, "--output", tmp_path / "out.lm")
    assert load_model(tmp_path / "out.lm").vocabulary.get("other") is not None


def test_a_full_disk_is_one_line_and_leaves_nothing(
    run: Command, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(column: Column, values: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Column, "append", append)
    result = run("lm", "build", text, "--output", tmp_path / "out.lm")
    assert result.code == 1
    (line,) = result.errors
    assert "No space left on device" in line
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_a_terminal_shows_stages_and_the_time_left(text: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="a terminal of a POSIX system")
    terminal, end = pty.openpty()
    command = [*PROGRAM, "lm", "build", text, "-o", tmp_path / "out.lm"]
    subprocess.run(command, stderr=end, stdout=subprocess.DEVNULL, check=True, env=os.environ | {"TERM": "xterm"})
    os.close(end)
    shown = b""
    with suppress(OSError):  # the end of what a terminal was sent
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    os.close(terminal)
    assert b"writing" in shown
    assert b"%" in shown


def test_case_and_punctuation_are_normalized_in_both_commands(run: Command, text: Path, tmp_path: Path) -> None:
    written = TEXT.replace("The cat", "“The CAT”,").replace("dog sat", "dog—sat!").replace("a dog", "’a dog’…")
    (tmp_path / "written.txt").write_text(written, encoding="utf-8")
    out_of(run, "build", text, "--output", tmp_path / "text.lm")
    out_of(run, "build", tmp_path / "written.txt", "--output", tmp_path / "written.lm")
    assert (tmp_path / "written.lm").read_bytes() == (tmp_path / "text.lm").read_bytes()
    plain, normalized, as_is = (
        out_of(run, "info", tmp_path / "text.lm", "--perplexity", *arguments).splitlines()[1]
        for arguments in ([text], [tmp_path / "written.txt"], [tmp_path / "written.txt", "--as-is"])
    )
    assert plain == normalized != as_is
    assert "unknown words 0.00%" in plain
    assert "unknown words 0.00%" not in as_is


def test_arpa_is_written_by_its_name_and_converted_back(run: Command, text: Path, tmp_path: Path) -> None:
    out_of(run, "build", text, "--output", tmp_path / "cats.arpa")
    assert (tmp_path / "cats.arpa").read_text().startswith("\\data\\\nngram 1=11\n")
    out_of(run, "convert", tmp_path / "cats.arpa", "--output", tmp_path / "cats.arpa.gz")
    out_of(run, "convert", tmp_path / "cats.arpa.gz", "--small", "--output", tmp_path / "cats.lm")
    perplexities = {
        out_of(run, "info", tmp_path / name, "--perplexity", text).splitlines()[1]
        for name in ("cats.arpa", "cats.arpa.gz", "cats.lm")
    }
    assert len(perplexities) == 1


def test_models_are_mixed_by_a_text_or_by_weights(run: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "birds.txt").write_text("the owl sat\nthe owl and the dog sat on a mat\n")
    (tmp_path / "held.txt").write_text("The OWL sat on the mat.\n")
    out_of(run, "build", text, "--output", tmp_path / "cats.lm")
    out_of(run, "build", tmp_path / "birds.txt", "--order", "2", "--output", tmp_path / "birds.lm")
    both = (tmp_path / "cats.lm", tmp_path / "birds.lm", "--output")
    tuned, described = out_of(run, "mix", *both, tmp_path / "m.lm", "--tune", tmp_path / "held.txt").splitlines()
    assert described.startswith(f"{tmp_path / 'm.lm'}: order 3, 12 1-grams, ")
    weights = ",".join(part.split()[-1] for part in tuned.split(", "))
    assert tuned.startswith(f"weights {tmp_path / 'cats.lm'} 0.")
    out_of(run, "mix", *both, tmp_path / "again.lm", "--weights", weights)
    perplexities = [
        float(
            out_of(run, "info", tmp_path / name, "--perplexity", tmp_path / "held.txt")
            .split("perplexity ")[1]
            .split(",")[0]
        )
        for name in ("m.lm", "again.lm", "birds.lm")
    ]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=2e-3)
    assert perplexities[0] < perplexities[2]


def test_a_packaged_model_is_adapted_and_made_to_a_size(run: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("the xylocarp lesion was excised\n" * 3)
    out_of(run, "build", tmp_path / "own.txt", "--output", tmp_path / "own.lm")
    arguments = ("--weights", "0.9 0.1", "--size", "6MB", "--output", tmp_path / "both.lm")
    assert "order 3, 129,99" in out_of(run, "mix", "en-lm", tmp_path / "own.lm", *arguments)
    assert 5_900_000 < (tmp_path / "both.lm").stat().st_size <= 6_000_000
    measured = out_of(run, "info", tmp_path / "both.lm", "--perplexity", tmp_path / "own.txt")
    assert "unknown words 0.00%" in measured
    out_of(run, "convert", "en-lm", "--size", "3.5M", "--output", tmp_path / "en.lm")
    assert (tmp_path / "en.lm").stat().st_size <= 3_500_000
    out_of(run, "build", text, "--size", "4K", "--output", tmp_path / "cats.lm")
    assert (tmp_path / "cats.lm").stat().st_size <= 4_000


@pytest.mark.parametrize("size", ["big", "-4M", "4T"])
def test_a_wrong_size_is_wrong_usage(run: Command, text: Path, tmp_path: Path, size: str) -> None:
    result = run("lm", "build", text, "--output", tmp_path / "out.lm", "--size", size)
    assert result.code == 2
    assert "not a size such as 500M" in result.err


@pytest.mark.parametrize("arguments", [[], ["--tune", "text.txt", "--weights", "0.5,0.5"], ["--weights", "half"]])
def test_a_mixture_needs_a_text_or_weights(run: Command, text: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert run("lm", "mix", "en-lm", "en-lm", "--output", tmp_path / "out.lm", *arguments).code == 2


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model with random weights."""
    pytest.importorskip("torch", reason="makes a model to test with: pip install 'recurrent-asr[train]'")
    from neural_model import write_model

    return write_model(tmp_path_factory.mktemp("recurrent") / "lm")


def test_a_recurrent_model_writes_text(run: Command, recurrent: Path) -> None:
    first, again, other = (
        out_of(run, "generate", recurrent, "--prompt", "Once upon", "--words", "12", "--seed", seed)
        for seed in ("1", "1", "2")
    )
    assert first.startswith("once upon")
    assert first == again != other
    assert out_of(run, "generate", recurrent, "--temperature", "0", "--words", "3")


@pytest.mark.parametrize("option", [["--words", "0"], ["--temperature", "-1"], ["--seed", "x"]])
def test_wrong_numbers_of_generate_are_wrong_usage(run: Command, recurrent: Path, option: list[str]) -> None:
    assert run("lm", "generate", recurrent, *option).code == 2


def test_a_prompt_that_the_model_cannot_spell_is_one_line(run: Command, recurrent: Path) -> None:
    result = run("lm", "generate", recurrent, "--prompt", "room 7")
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert "no token for '7'" in line


@pytest.mark.parametrize("prune", ["one", "0,1,x", "0.5"])
def test_a_wrong_prune_is_wrong_usage(run: Command, text: Path, tmp_path: Path, prune: str) -> None:
    result = run("lm", "build", text, "--output", tmp_path / "out.lm", "--prune", prune)
    assert result.code == 2
    assert "0,1,1" in result.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["build", "missing.txt", "--output", "out.lm"], "missing.txt: cannot be read"),
        (["build", "empty.txt", "--output", "out.lm"], "no words"),
        (["build", "text.txt", "--output", "none/out.lm"], "none/out.lm: cannot be written"),
        (["build", "text.txt", "--output", "."], ".: cannot be written (Is a directory)"),
        (["build", "text.txt", "--output", "./text.txt", "--force"], "text.txt: is the same file as text.txt"),
        (["build", "text.txt", "--output", "link.txt", "--force"], "link.txt: is the same file as text.txt"),
        (["build", "text.txt", "--output", "link.txt"], "link.txt: is the same file as text.txt"),
        (["build", "empty.txt", "--output", "text.txt"], "text.txt: exists; "),
        (["convert", "empty.txt", "--output", "text.txt"], "text.txt: exists; "),
        (["convert", "text.txt", "--output", "link.txt", "--force"], "link.txt: is the same file as text.txt"),
        (["convert", "text.txt", "--output", "."], ".: cannot be written (Is a directory)"),
        (["build", "text.txt", "--output", "out.lm", "--prune", "1"], "prune 1: "),
        (["build", "text.txt", "--output", "out.lm", "--vocabulary", "missing"], "missing: cannot be read"),
        (["build", "text.txt", "--output", "./text.txt", "--vocabulary", "text.txt"], "is the same file as"),
        (["build", "text.txt", "--output", "taken"], "taken.parts: is needed for temporary files, but exists"),
        (["convert", "text.txt", "--output", "out.lm"], "text.txt: not a language model"),
        (
            ["convert", "en-lm", "--output", "out.lm", "--size", "2M"],
            "2,000,000 bytes are too few: 129,995 words alone",
        ),
        (["info", "en-bilstm"], "en-bilstm: a packaged model, but no language model; name a file or one of en-lm"),
        (["mix", "en-lm", "missing.lm", "--output", "out.lm", "--weights", "0.5,0.5"], "missing.lm: cannot be read"),
        (["mix", "en-lm", "en-lm", "--output", "out.lm", "--weights", "0.5,0.6"], "weights 0.5,0.6: give 2, "),
        (["mix", "en-lm", "en-lm", "--output", "out.lm", "--weights", "1"], "weights 1: give 2, "),
        (["mix", "en-lm", "en-lm", "--output", "out.lm", "--tune", "empty.txt"], "empty.txt: has no word that a model"),
        (["mix", "en-lm", "en-lm", "--output", "text.txt", "--tune", "empty.txt"], "text.txt: exists; "),
        (["info", "missing.lm"], "missing.lm: cannot be read"),
        (["info", "text.txt"], "text.txt: not a language model"),
        (["generate", "missing"], "missing: no such folder; name that of a recurrent language model"),
        (["generate", "text.txt"], "text.txt: incomplete, config.json is missing"),
    ],
)
def test_failures_are_one_line(
    run: Command, text: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(text.parent)
    (text.parent / "empty.txt").write_text("\n")
    (text.parent / "link.txt").symlink_to(text)
    (text.parent / "taken.parts").mkdir()
    (text.parent / "taken.parts/mine").touch()
    result = run("lm", *arguments)
    assert (result.code, result.out) == (1, "")
    (line,) = result.errors
    assert problem in line
    assert not (text.parent / "out.lm").exists()
    assert not (text.parent / "out.lm.parts").exists()
    assert text.read_text() == TEXT


@pytest.mark.parametrize(("command", "option"), [("build", "--threshold"), ("generate", "--temperature")])
def test_what_is_no_number_is_wrong_usage(run: Command, text: Path, tmp_path: Path, command: str, option: str) -> None:
    output = ("--output", tmp_path / "out.lm") if command == "build" else ()
    result = run("lm", command, text, *output, option, "nan")
    assert result.code == 2
    assert option in result.err
