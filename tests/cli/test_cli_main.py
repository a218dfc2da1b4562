"""The program around the commands: version, help, completion, warnings, errors of the system."""

import errno
import re
import sys

import pytest
from program import Command

import asr
from asr.cli.main import explain


def test_version_is_that_of_the_package(run: Command) -> None:
    result = run("--version")
    assert (result.code, result.out, result.err) == (0, f"asr {asr.__version__}\n", "")


def test_no_line_of_the_help_is_cut_at_80_columns(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ([], ["lm"], ["lexicon"], ["prepare"]):
        commands = run(*arguments, "--help").out.partition("Commands:\n")[2]
        assert commands
        assert "..." not in commands


COMMANDS = (
    "transcribe",
    "listen",
    "serve",
    "bulk",
    "align",
    "evaluate",
    "models",
    "train",
    "runs",
    "average",
    "export",
    "tune",
)


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, "lexicon build", "lexicon say", "lm build", "lm convert", "lm info", "lm generate", "prepare check"],
)
def test_every_argument_and_option_has_its_help_once(run: Command, command: str) -> None:
    text = run(*command.split(), "--help").out
    listed = text.partition("Arguments:")[2] or text.partition("Options:")[2]
    entries = re.findall(r"^  (?! ).*(?:\n {3,}.*)*", listed, re.M)
    assert all(re.search(r"\S(  +|\n +)[A-Za-z0-9-]", entry) for entry in entries), entries
    assert text.count("rguments:") <= 1


@pytest.mark.parametrize("command", ["transcribe", "listen", "align", "evaluate"])
def test_the_same_options_have_the_same_names(run: Command, command: str) -> None:
    text = run(command, "--help").out
    for option in ("-o, --output ", "-m, --model ", "--threads ", "--language ", "--force "):
        assert option in text
    assert ("-f, --format " in text) == (command != "evaluate")


def test_the_shell_can_complete(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ASR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "asr tr")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert set(run().out.split()) == {"transcribe", "train"}


def test_warnings_as_errors_do_not_end_the_program(program: Command) -> None:
    for arguments in (["--help"], ["models"]):
        result = program(*arguments, PYTHONWARNINGS="error")
        assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room, or write elsewhere"),
        (OSError(errno.EACCES, "Permission denied", "a.lm"), "Permission denied: a.lm"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.lm"), "No such file or directory: a.lm"),
        (OSError("nothing but this"), "nothing but this"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_error_of_the_system_says_what_happened(error: OSError, line: str) -> None:
    assert explain(error) == line


def test_an_error_of_the_system_is_one_line(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[str]:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(sys.modules["asr.cli.models"], "packaged_models", fail)
    result = run("models")
    assert (result.code, result.errors) == (1, ["asr: Connection refused"])
