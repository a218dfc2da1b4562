"""Corpora that are not whole, not there or not to be had: one line says what to do, and nothing is half written."""

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import lhotse.recipes.librispeech
import lhotse.recipes.ljspeech
import pytest
import torchaudio.datasets.speechcommands
from corpus_trees import TREES, commonvoice, librispeech, own_folder, record, speechcommands, write

from asr.data.corpora import CORPORA, csv_corpus, folder_corpus, prepare
from asr.data.manifest import COLUMNS, read_manifest
from asr.errors import AsrError


def problem(run: Callable[[], object], *mentioned: str | Path) -> str:
    """The one line that a user reads."""
    with pytest.raises(AsrError) as caught:
        run()
    line = str(caught.value)
    assert "\n" not in line
    for what in mentioned:
        assert str(what) in line
    return line


@pytest.mark.parametrize("name", CORPORA)
def test_a_source_that_is_not_there_or_something_else_is_one_line(name: str, tmp_path: Path):
    source, output = tmp_path / "src", tmp_path / "out"
    problem(lambda: prepare(CORPORA[name], source, output), source, CORPORA[name].origin)
    source.mkdir()
    problem(lambda: prepare(CORPORA[name], source, output), source)
    assert not list(output.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("name", "damaged", "mentioned"),
    [
        ("mini-librispeech", "LibriSpeech/train-clean-5/19/198/19-198-0001.flac", "/198/19-198-0001.flac (1 problems)"),
        (
            "mini-librispeech",
            "LibriSpeech/train-clean-5/19/198/19-198.trans.txt",
            "LibriSpeech: cannot be read (No recordings left",
        ),
        ("ljspeech", "LJSpeech-1.1/wavs/LJ003-0002.wav", "wavs/LJ003-0002.wav (1 problems)"),
        ("ljspeech", "LJSpeech-1.1/metadata.csv", "metadata.csv"),
        ("commonvoice", "test.tsv", "test.tsv"),
        ("an4", "an4/wav/an4_clstk/fash/an1-fash-b.sph", "an1-fash-b.sph"),
        ("an4", "an4/etc/an4_test.fileids", "an4_test.fileids"),
        ("an4", "an4/etc/an4_train.transcription", "an4_train.transcription"),
        ("tedlium", "TEDLIUM_release-3/legacy/dev/sph/BillGates_2010.sph", "found 0 sphere files and 1 STM"),
        ("tedlium", "TEDLIUM_release-3/legacy/test/stm/DanBarber_2010.stm", "found 1 sphere files and 0 STM"),
        ("speechcommands", "SpeechCommands/speech_commands_v0.02/validation_list.txt", "No such file"),
        ("speechcommands", "SpeechCommands/speech_commands_v0.02/seven/2da58b32_nohash_0.wav", "2da58b32_nohash_0.wav"),
    ],
)
def test_a_tree_that_is_not_whole_is_one_line(
    tmp_path: Path, name: str, damaged: str, mentioned: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # a message names folders and is cut at 300 characters
    TREES[name](Path("src"))
    Path("src", damaged).unlink()
    line = problem(lambda: prepare(CORPORA[name], Path("src"), Path("out")), mentioned)
    assert "unpack" in line or "give" in line
    assert not list(Path("out").glob("*.partial"))


@pytest.mark.parametrize(
    ("name", "damaged", "content"),
    [
        ("mini-librispeech", "LibriSpeech/train-clean-5/19/198/19-198.trans.txt", "19-198-0000\n"),
        ("mini-librispeech", "LibriSpeech/train-clean-5/19/198/19-198-0000.flac", "not audio"),
        ("ljspeech", "LJSpeech-1.1/metadata.csv", "LJ001-0001|text\n"),
        ("ljspeech", "LJSpeech-1.1/wavs/LJ003-0002.wav", ""),
        ("tedlium", "TEDLIUM_release-3/legacy/dev/sph/BillGates_2010.sph", "not audio"),
        ("tedlium", "TEDLIUM_release-3/legacy/dev/stm/BillGates_2010.stm", "a 1 a 0.0\n"),
        ("tedlium", "TEDLIUM_release-3/legacy/dev/stm/BillGates_2010.stm", "a 1 a 90.0 91.0 <o> word\n"),
        ("an4", "an4/etc/an4_train.fileids", "an4_clstk/fash/an2-fash-b\n"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, name: str, damaged: str, content: str):
    TREES[name](tmp_path / "src")
    write(tmp_path / "src" / damaged, content)
    problem(lambda: prepare(CORPORA[name], tmp_path / "src", tmp_path / "out"))


def test_a_chapter_without_its_transcripts_is_named(tmp_path: Path):
    TREES["mini-librispeech"](tmp_path / "src")
    record(tmp_path / "src/LibriSpeech/train-clean-5/19/227/19-227-0000.flac")
    problem(
        lambda: prepare(CORPORA["mini-librispeech"], tmp_path / "src", tmp_path / "out"),
        "19-227-0000.flac: a recording without a text",
    )


def test_a_lone_table_of_common_voice_is_told_how_it_is_read(tmp_path: Path):
    commonvoice(tmp_path / "en", '"Hello, he said')
    for split in ("dev", "test"):
        (tmp_path / f"en/{split}.tsv").unlink()
    table = (tmp_path / "en/train.tsv").rename(tmp_path / "en/clips/validated.tsv")
    problem(
        lambda: prepare(CORPORA["commonvoice"], tmp_path / "en", tmp_path / "out"),
        "en: no train.tsv, dev.tsv, test.tsv; unpack",
        "clips/TABLE.tsv OUT --language en --audio-column path --text-column sentence --speaker-column client_id`",
    )
    columns = COLUMNS | {"audio": "path", "text": "sentence", "speaker": "client_id"}
    assert sum(split.utterances for split in prepare(csv_corpus("en", columns), table, tmp_path / "out")) == 2


def test_a_folder_of_common_voice_is_named_as_its_language(tmp_path: Path):
    commonvoice(tmp_path / "english", "Hello.")
    problem(lambda: prepare(CORPORA["commonvoice"], tmp_path / "english", tmp_path / "out"), "'english' is no language")


def test_a_folder_without_audio_and_a_language_that_is_none_are_one_line(tmp_path: Path):
    (tmp_path / "src").mkdir()
    problem(lambda: prepare(folder_corpus("en"), tmp_path / "src", tmp_path / "out"), "src: no audio in it")
    problem(lambda: prepare(folder_corpus("klingon"), tmp_path / "src", tmp_path / "out"), "'klingon' is no language")


def test_a_text_in_another_encoding_is_named(tmp_path: Path):
    record(tmp_path / "src/ada/a.wav")
    (tmp_path / "src/ada/a.txt").write_bytes("Öl".encode("latin-1"))
    problem(lambda: prepare(folder_corpus("de"), tmp_path / "src", tmp_path / "out"), "a.txt: not a text in UTF-8")


def test_archives_that_wait_to_be_unpacked_are_told_of(tmp_path: Path):
    write(tmp_path / "src/Aaron-20080318-kdl.tgz", "")
    problem(lambda: prepare(CORPORA["voxforge"], tmp_path / "src", tmp_path / "out"), "1 .tgz files; unpack them")


@pytest.mark.parametrize(
    ("content", "mentioned"),
    [
        ("audio,words\na.wav,hello\n", "no column text (found: audio, words)"),
        ("", "no column audio (found: )"),
        (
            '{"audio": "a.wav", "text": "hello"}\n',
            "list.csv: JSON Lines, not a table; name it .jsonl",
        ),
        ("audio,text\na.wav\n", "list.csv:2: not one line with an audio and a text"),
        ("audio,text\na.wav,well, yes\n", "list.csv:2: not one line with an audio and a text"),
        ('audio,text\na.wav,"well\na.wav,yes\na.wav,no\n', "list.csv:4: not one line with an audio and a text"),
        ("audio,text\na.wav,hello\nb.wav,you\n", "nothing could be set aside"),
        ("audio,text\na.wav,hello\na.wav,you\na.wav,there\n", 'a.wav: the id "a" would be there twice'),
        ("audio,text\na.wav,hello\na.wav,hello\n", "would be there twice"),
        ("audio,text\n", "no utterances found: the source has none"),
        ("audio,text\nb.wav,hello\n", "no utterances found: the source has none"),
        (b"audio,text\na.wav,h\xe9llo\n", "it should hold a CSV file in UTF-8"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, content: str | bytes, mentioned: str):
    record(tmp_path / "a.wav")
    table = tmp_path / "list.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    problem(lambda: prepare(csv_corpus("en"), table, tmp_path), mentioned)
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "list.csv"}


def test_nothing_is_written_if_one_of_the_manifests_would_be_empty(tmp_path: Path):
    for name in "abcd":
        record(tmp_path / f"{name}.wav")
    table = tmp_path / "list.csv"
    table.write_text("audio,text,speaker\na.wav,you,bob\nb.wav,me,bob\nc.wav,it was $5,al\nd.wav,all,bob\n")
    left_out = "dev: no utterances found: 1 left out, without a text that says what was spoken: c; check the source"
    assert problem(lambda: prepare(csv_corpus("en"), table, tmp_path / "out")) == left_out
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_older_manifests_as_they_are(tmp_path: Path):
    TREES["an4"](tmp_path / "src")
    prepare(CORPORA["an4"], tmp_path / "src", tmp_path / "out")
    before = (tmp_path / "out/train.jsonl").read_bytes()
    audio = read_manifest(tmp_path / "out/train.jsonl")[0].audio
    audio.unlink()
    problem(lambda: prepare(CORPORA["an4"], tmp_path / "src", tmp_path / "out"), audio.name)
    assert (tmp_path / "out/train.jsonl").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="file names are text elsewhere")
def test_a_file_name_that_is_not_utf_8_is_one_line(tmp_path: Path):
    own_folder(tmp_path / "src", "one", "two")
    os.rename(tmp_path / "src/0.wav", os.fsencode(tmp_path / "src") + b"/\xff.wav")
    os.rename(tmp_path / "src/0.txt", os.fsencode(tmp_path / "src") + b"/\xff.txt")
    problem(lambda: prepare(folder_corpus("en"), tmp_path / "src", tmp_path / "out"), "rename the file")


def archive(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)


def test_librispeech_is_downloaded_by_part_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    librispeech(tmp_path / "server")
    urls: list[str] = []

    def fetch(url: str, filename: Path, **_options: Any) -> None:
        urls.append(url)
        shutil.rmtree(tmp_path / "packed", ignore_errors=True)
        part = Path(url).name.removesuffix(".tar.gz")
        shutil.copytree(tmp_path / "server/LibriSpeech" / part, tmp_path / "packed/LibriSpeech" / part)
        archive(tmp_path / "packed/LibriSpeech", filename)

    monkeypatch.setattr(lhotse.recipes.librispeech, "resumable_download", fetch)
    corpus, source = CORPORA["mini-librispeech"], tmp_path / "src"
    results = prepare(corpus, source, tmp_path / "out", download=True)
    assert {result.manifest.stem: result.utterances for result in results} == {"train-clean-5": 2, "dev-clean-2": 2}
    assert sorted(Path(url).name for url in urls) == ["dev-clean-2.tar.gz", "train-clean-5.tar.gz"]
    prepare(corpus, source, tmp_path / "out", download=True)
    assert len(urls) == 2  # what is there is not fetched again


def test_what_was_unpacked_by_hand_is_neither_deleted_nor_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fetch(url: str, **_options: Any) -> None:
        raise AssertionError(f"fetched {url}")

    monkeypatch.setattr(lhotse.recipes.librispeech, "resumable_download", fetch)
    librispeech(tmp_path / "src")
    (tmp_path / "src/dev-other.tar.gz").touch()  # of another part
    assert len(prepare(CORPORA["mini-librispeech"], tmp_path / "src", tmp_path / "out", download=True)) == 2


def test_a_download_goes_on_beside_other_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    TREES["ljspeech"](tmp_path / "server")
    (tmp_path / "src/an4").mkdir(parents=True)
    urls: list[str] = []

    def fetch(url: str, filename: Path, **_options: Any) -> None:
        urls.append(url)
        with tarfile.open(filename, "w:bz2") as tar:
            tar.add(tmp_path / "server/LJSpeech-1.1", arcname="LJSpeech-1.1")

    monkeypatch.setattr(lhotse.recipes.ljspeech, "resumable_download", fetch)
    for _ in range(2):
        assert len(prepare(CORPORA["ljspeech"], tmp_path / "src", tmp_path / "out", download=True)) == 2
    assert len(urls) == 1


def test_speech_commands_are_downloaded_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    speechcommands(tmp_path / "server")

    def fetch(url: str, path: str, hash_prefix: str) -> None:
        assert url == "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
        assert len(hash_prefix) == 64
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "server/SpeechCommands/speech_commands_v0.02", arcname=".")

    monkeypatch.setattr(torchaudio.datasets.speechcommands, "download_url_to_file", fetch)
    results = prepare(CORPORA["digits"], tmp_path / "src", tmp_path / "out", download=True)
    assert [result.utterances for result in results] == [1, 1, 1]


@pytest.mark.parametrize(
    "failure",
    [URLError("name not known"), TimeoutError(), EOFError(), RuntimeError("hash mismatch"), tarfile.ReadError()],
)
def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception):
    def fetch(*_arguments: Any, **_options: Any) -> None:
        raise failure

    monkeypatch.setattr(lhotse.recipes.librispeech, "resumable_download", fetch)
    run = lambda: prepare(CORPORA["librispeech"], tmp_path / "src", tmp_path / "out", download=True)  # noqa: E731
    problem(run, tmp_path / "src", "the download failed", "try again")


@pytest.mark.parametrize("name", [name for name, corpus in CORPORA.items() if corpus.download is None])
def test_without_a_public_address_download_says_what_to_unpack(tmp_path: Path, name: str):
    corpus = CORPORA[name]
    problem(
        lambda: prepare(corpus, tmp_path / "src", tmp_path / "out", download=True), "no stable address", corpus.origin
    )
