"""A file that is written anew is the old one or the new one, never half of it, and nothing is left beside it."""

import errno
import os
import signal
import tempfile
from pathlib import Path

import pytest

from asr.files import replacing, temporary_file


@pytest.fixture(params=["new", "old"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Not there, or an older one."""
    path = tmp_path / "curve.jsonl"
    if request.param == "old":
        path.write_text("old")
    return path


def test_the_old_file_is_there_until_the_new_one_is_complete(path: Path):
    before = list(path.parent.iterdir())
    with replacing(path) as part:
        part.write_text("new")
        assert [file.read_text() for file in before] == ["old"] * len(before)
        assert path.exists() == bool(before)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_went_wrong_leaves_things_as_they_were(path: Path, problem: BaseException):
    def contents() -> dict[Path, str]:
        return {file: file.read_text() for file in path.parent.iterdir()}

    def fail() -> None:
        with replacing(path) as part:
            part.write_text("ne")
            raise problem

    before = contents()
    with pytest.raises(type(problem)):
        fail()
    assert contents() == before


def test_a_folder_that_is_not_there_is_the_writers_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "missing" / "x") as part:
        part.write_text("new")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as part:
        part.write_text("new")
    assert os.read(reader, 100) == b"new"
    os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder/old", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    with replacing(link) as part:
        part.write_text("new")
        assert link.read_text() == "old"
    assert link.is_symlink()
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="modes of a POSIX system")
@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o027, 0o640), (0o077, 0o600)])
def test_who_may_read_it_is_for_the_umask_to_say_not_for_the_writer(path: Path, umask: int, mode: int):
    (path.parent / "curve.jsonl.partial").touch(0o600)  # of one that was killed
    before = os.umask(umask)
    try:
        with replacing(path) as part:
            part.unlink()  # as one who writes beside and renames by himself
            os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be held back on Windows")
def test_a_signal_while_a_temporary_folder_is_chosen_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = os.unlink

    def interrupted(path: str) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(path)

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(os, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        temporary_file()
    assert [*tmp_path.iterdir()] == []
