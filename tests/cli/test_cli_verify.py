import os
import shutil
from pathlib import Path

import carrier
import pytest
from program import Command

from asr.model.bundle import PACKAGED
from asr.model.checksums import SUMS, write_checksums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = carrier.write_bundle(tmp_path / "model")
    (folder / "MODEL_CARD.md").write_text("# carrier\n")
    write_checksums(folder)
    return folder


def test_an_exported_model_is_whole(run: Command, folder: Path) -> None:
    assert run("models", "--verify", folder) == run("models", folder, "--verify")
    result = run("models", "--verify", folder)
    assert (result.code, result.out, result.err) == (0, "model: whole\n", "")


@pytest.mark.parametrize("name", ["config.json", "tokens.txt", "model.onnx", "MODEL_CARD.md"])
def test_one_changed_bit_is_found(run: Command, folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    result = run("models", "--verify", folder)
    assert (result.code, result.out) == (1, "")
    assert result.errors == [f"asr: {folder / name}: was changed; copy the model again"]


def test_a_missing_and_an_added_file_are_found(run: Command, folder: Path) -> None:
    (folder / "more.lm").write_text("")
    assert run("models", "--verify", folder).errors == [f"asr: {folder}/more.lm: has no checksum; copy the model again"]
    (folder / "more.lm").unlink()
    (folder / "MODEL_CARD.md").unlink()
    assert run("models", "--verify", folder).errors == [f"asr: {folder}/MODEL_CARD.md: missing; copy the model again"]


@pytest.mark.parametrize("sums", [b"", b"x", b"\xff" * 99, b"0" * 64 + b"  ../../etc/passwd\n"])
def test_damaged_checksums_are_one_line(run: Command, folder: Path, sums: bytes) -> None:
    (folder / SUMS).write_bytes(sums)
    result = run("models", "--verify", folder, folder)
    assert result.code == 1
    assert len(result.errors) == 2


def test_a_model_without_checksums_is_opened(run: Command, folder: Path) -> None:
    (folder / SUMS).unlink()
    result = run("models", "--verify", folder)
    assert (result.code, result.out) == (0, "model: can be opened; it has no checksums to compare with\n")
    (folder / "model.onnx").write_bytes(b"RIFF")
    assert run("models", "--verify", folder).code == 1


def test_the_packaged_models_are_whole(run: Command) -> None:
    result = run("models", "--verify")
    assert result.code == 0
    assert {line.split(": ")[0] for line in result.out.splitlines()} >= {"en-bilstm", "en-gru", "en-lm", "en-lexicon"}


@pytest.mark.parametrize("name", ["en-bilstm", "en-gru", "en-lm", "en-lexicon"])
def test_a_packaged_model_has_checksums_of_all_its_files(run: Command, name: str) -> None:
    result = run("models", "--verify", name)
    assert result.code == 0
    assert result.out == f"{name}: whole\n"


def test_a_damaged_language_model_and_lexicon_are_found(run: Command, tmp_path: Path) -> None:
    for name, file in (("en-lm", "ngrams.lm"), ("en-lexicon", "lexicon.lex"), ("en-lexicon", "g2p.lm")):
        folder = tmp_path / name / file
        shutil.copytree(PACKAGED / name, folder)
        write_checksums(folder)
        assert run("models", "--verify", folder).out == f"{file}: whole\n"
        with (folder / file).open("r+b") as content:
            content.seek((folder / file).stat().st_size // 2)
            byte = content.read(1)
            content.seek(-1, os.SEEK_CUR)
            content.write(bytes([byte[0] ^ 1]))
        result = run("models", "--verify", folder)
        assert (result.code, result.errors) == (1, [f"asr: {folder / file}: was changed; copy the model again"])


def test_an_unknown_name_is_one_line(run: Command) -> None:
    result = run("models", "--verify", "en-nothing")
    assert (result.code, len(result.errors)) == (1, 1)


def test_folders_without_verify_are_wrong_usage(run: Command, folder: Path) -> None:
    assert run("models", folder).code == 2
