"""`asr prepare`: what it prints, what it exits with, and that its errors are one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import carrier
import pytest
from corpus_trees import record, yesno
from program import Command

CORPORA = (
    *("librispeech", "librispeech-100", "mini-librispeech", "commonvoice", "ljspeech", "an4", "tedlium", "voxforge"),
    *("speechcommands", "digits"),
)

pytest.importorskip("torch", reason="preparing corpora needs the training packages: pip install 'recurrent-asr[train]'")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of four recordings of two speakers, each beside its text."""
    folder = tmp_path / "own"
    for number, name in enumerate(("ada/0", "ada/1", "ada/2", "bob/0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        carrier.save(folder / f"{name}.wav", f"words {'abcd'[number]}")
        (folder / f"{name}.txt").write_text("Some words!")
    return folder


def test_prepared_manifests_are_named_and_pass_the_check(run: Command, recordings: Path, tmp_path: Path):
    out = tmp_path / "out"
    (recordings / "ada/2.txt").write_text("It cost $5")
    result = run("prepare", "folder", recordings, out)
    assert (result.code, result.err) == (0, "")
    train, dev = result.out.splitlines()
    assert train.startswith(f"{out / 'train.jsonl'}: 2 utterances, 0.00 h; 1 left out, ")
    assert train.endswith(": ada/2")
    assert dev == f"{out / 'dev.jsonl'}: 1 utterances, 0.00 h"
    checked = run("prepare", "check", out / "train.jsonl", "--dev", out / "dev.jsonl")
    assert checked.code == 0
    assert "text in dev" in checked.out
    assert "errors" not in checked.out


def test_recordings_are_packed_into_shards(run: Command, recordings: Path, tmp_path: Path):
    run("prepare", "folder", recordings, tmp_path / "out")
    result = run("prepare", "shar", tmp_path / "out/train.jsonl", tmp_path / "shards")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{tmp_path / 'shards'}: 3 utterances, 0.00 h in 1 shards\n"
    assert (tmp_path / "shards/recording.000000.tar").is_file()
    result = run("prepare", "shar", tmp_path / "out/train.jsonl", tmp_path / "shards")
    assert (result.code, result.errors) == (1, [f"asr: {tmp_path / 'shards'}: is there already; name a new folder"])


def test_check_exits_with_1_and_tells_all_in_json(run: Command, recordings: Path, tmp_path: Path):
    run("prepare", "folder", recordings, tmp_path / "out")
    (recordings / "bob/0.wav").write_bytes(b"not audio")
    shutil.copy(recordings / "ada/0.wav", recordings / "ada/1.wav")
    result = run("prepare", "check", tmp_path / "out/train.jsonl", tmp_path / "out/dev.jsonl", "--json")
    assert (result.code, result.err) == (1, "")
    report = json.loads(result.out)
    assert report["counts"] == {"audio twice": 1, "unreadable": 1}
    assert {finding["id"] for finding in report["findings"]} == {"ada/1", "bob/0"}


def test_the_alphabet_may_come_from_a_recipe(run: Command, recordings: Path, tmp_path: Path):
    run("prepare", "folder", recordings, tmp_path / "out")
    (tmp_path / "recipe.yaml").write_text("data: {train: [a], dev: b}\ntokenizer: {alphabet: somewrd}\n")
    arguments = ("prepare", "check", tmp_path / "out/train.jsonl", "--recipe", tmp_path / "recipe.yaml")
    assert run(*arguments).code == 0
    (tmp_path / "recipe.yaml").write_text("data: {train: [a], dev: b}\ntokenizer: {alphabet: some}\n")
    result = run(*arguments)
    assert result.code == 1
    assert "d r w in “some words”" in result.out


def test_the_pronunciations_may_come_from_a_recipe(run: Command, recordings: Path, tmp_path: Path):
    run("prepare", "folder", recordings, tmp_path / "out")
    (tmp_path / "words.txt").write_text("some\tS AH M\n")
    (tmp_path / "recipe.yaml").write_text(
        f"data: {{train: [a], dev: b}}\nlanguage: xx\ntokenizer: {{kind: phones, lexicon: {tmp_path / 'words.txt'}}}\n"
    )
    result = run("prepare", "check", tmp_path / "out/train.jsonl", "--recipe", tmp_path / "recipe.yaml")
    assert result.code == 0
    assert "words that cannot be pronounced; left out of training" in result.out
    assert "words in “some words”" in result.out


def test_help_lists_every_corpus_and_says_what_src_is(run: Command):
    listed = run("prepare", "--help").out
    names = [line.split()[0] for line in listed.partition("Commands:\n")[2].splitlines()]
    assert names == [*CORPORA, "csv", "folder", "lhotse", "check", "shar"]
    assert "openslr.org/51" in run("prepare", "tedlium", "--help").out
    assert run("prepare").code == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["librispeech", "nowhere", "out"], "nowhere: not found"),
        (["an4", ".", "out"], "an4_train.transcription"),
        (["voxforge", "--download", "there", "out"], "no stable address"),
        (["csv", ".", "out"], "cannot be read"),
        (["csv", "nowhere.csv", "out"], "nowhere.csv: not found"),
        (["folder", "own", "own/ada/0.wav"], "File exists: own/ada/0.wav"),
        (["check", "nowhere.jsonl"], "nowhere.jsonl: cannot read the manifest"),
        (["check", "own/ada/0.wav"], None),
        (["check", "nowhere.jsonl", "--recipe", "nowhere.yaml"], "nowhere.yaml"),
        (["check", "nowhere.jsonl", "--recipe", "language.yaml"], "not an acoustic model's recipe; name one"),
    ],
)
def test_failures_are_one_line(
    run: Command, recordings: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str | None
):
    monkeypatch.chdir(recordings.parent)
    Path("language.yaml").write_text("kind: language\ndata: {train: [a], dev: b}\n")
    result = run("prepare", *arguments)
    assert result.code == 1
    if problem is not None:
        assert result.out == ""
        (line,) = result.errors
        assert problem in line


@pytest.mark.parametrize("arguments", [["nothing", "src", "out"], ["csv", "src"], ["csv", "--download", "src", "out"]])
def test_wrong_usage_exits_with_2(run: Command, arguments: list[str]):
    assert run("prepare", *arguments).code == 2


def base_install(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`asr prepare` where none of the training packages can be imported."""
    training = ("torch", "torchaudio", "lhotse", "librosa", "omegaconf", "scipy", "sentencepiece")
    code = f"import sys; sys.modules |= dict.fromkeys({training})\nfrom asr.cli.main import main; main()"
    command = [sys.executable, "-c", code, "prepare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_needs_no_training_packages():
    for arguments in ([], ["csv"], ["an4"], ["check"]):
        done = base_install(*arguments, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage" in done.stdout


def test_without_the_training_packages_it_says_what_to_install(tmp_path: Path):
    done = base_install("check", "a.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("asr: ")
    assert "pip install 'recurrent-asr[train]'" in line


def test_ones_own_recordings_need_no_training_packages(recordings: Path, tmp_path: Path):
    (recordings / "ada/0.txt").write_text("room 7")
    done = base_install("folder", recordings, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "room seven" in (tmp_path / "out/train.jsonl").read_text()


def test_the_columns_of_a_table_have_any_names(run: Command, recordings: Path, tmp_path: Path):
    rows = [
        "Path,Sentence,From,Length,Who",
        *(f"ada/{n}.wav,{n},0.25,0.125,ada" for n in range(3)),
        "bob/0.wav,9,,,bob",
    ]
    (recordings / "table.csv").write_text("\n".join(rows))
    names = {"audio": "path", "text": "SENTENCE", "offset": "from", "duration": "length", "speaker": "who"}
    given = [word for kind, name in names.items() for word in (f"--{kind}-column", name)]
    result = run("prepare", "csv", recordings / "table.csv", tmp_path / "out", *given)
    assert (result.code, result.err) == (0, "")
    lines = map(json.loads, (tmp_path / "out/train.jsonl").read_text().splitlines())
    found = {(line["text"], line["offset"], line["duration"], line["speaker"]) for line in lines}
    assert found == {(text, 0.25, 0.125, "ada") for text in ("zero", "one", "two")}


def test_manifests_that_are_there_are_kept_unless_forced(run: Command, recordings: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dev.jsonl").write_text("chosen by hand\n")
    result = run("prepare", "folder", recordings, tmp_path / "out")
    assert (result.code, result.out) == (1, "")
    assert result.errors == [
        f"asr: {tmp_path / 'out/dev.jsonl'}: exists; choose another name, or replace it with --force"
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dev.jsonl"]
    assert (tmp_path / "out/dev.jsonl").read_text() == "chosen by hand\n"
    assert run("prepare", "folder", recordings, tmp_path / "out", "--force").code == 0
    assert "chosen by hand" not in (tmp_path / "out/dev.jsonl").read_text()


def test_a_table_is_not_replaced_by_a_manifest(run: Command, recordings: Path):
    table = recordings / "train.jsonl"
    rows = [f"{path},said by {path.parent.name},{path.parent.name}\n" for path in recordings.rglob("*.wav")]
    table.write_text("audio,text,speaker\n" + "".join(rows))
    before = table.read_bytes()
    result = run("prepare", "csv", table, recordings, "--force")
    assert (result.code, len(result.errors)) == (1, 1)
    assert "is the same file as" in result.err
    assert table.read_bytes() == before


def test_what_a_recipe_passes_over_is_told(run: Command, tmp_path: Path):
    yesno(tmp_path / "src")
    forgotten = record(tmp_path / "src/more/0_0_0_0_0_0_0_0.wav")
    result = run("prepare", "lhotse", "yesno", tmp_path / "src", tmp_path / "out")
    assert (result.code, len(result.out.splitlines())) == (0, 2)
    problem = f"1 problems, the first: {forgotten}: a recording without a text"
    assert result.errors == [f"asr: {tmp_path / 'src'}: {problem}"]


def test_a_log_has_no_progress_bars(run: Command, tmp_path: Path):
    chapter = tmp_path / "dev-clean-2/84/121123"
    chapter.mkdir(parents=True)
    carrier.save(chapter / "84-121123-0000.flac", "go")
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO\n")
    result = run("prepare", "mini-librispeech", tmp_path, tmp_path / "out")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{tmp_path / 'out/dev-clean-2.jsonl'}: 1 utterances, 0.00 h\n"
