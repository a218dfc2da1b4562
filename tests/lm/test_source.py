"""Text in every form and from every place, read once: files, pipes, process substitution, standard input."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_score import score_text

from asr.errors import LanguageModelError
from asr.lm.binary import load_model, save_model
from asr.lm.estimate import estimate
from asr.lm.source import read_sentences
from asr.normalize import normalize

TEXT = "".join(f"sentence {number} of a text\n" for number in range(20_000)).encode()  # more than any buffer holds
SENTENCES = TEXT.decode().splitlines()
FORMS: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress}
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of a POSIX system")


def test_sentences_are_read_from_plain_and_compressed_files_without_blank_lines(tmp_path: Path) -> None:
    content = "ÄB c\n\n  \r\nd'E\r\n f".encode()
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "gz").write_bytes(gzip.compress(content))
    (tmp_path / "xz").write_bytes(lzma.compress(content))
    for name in ("plain", "gz", "xz"):
        assert [line.split() for line in read_sentences([tmp_path / name], as_is=True)] == [
            ["ÄB", "c"],
            ["d'E"],
            ["f"],
        ]
    assert [line.split() for line in read_sentences([tmp_path / "xz"] * 2)] == [
        ["äb", "c"],
        ["d'e"],
        ["f"],
    ] * 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a\n\xff\n", ":2: not UTF-8"),
        (gzip.compress(b"some words", mtime=0)[:-9], "truncated or damaged"),
        (lzma.compress(b"some words")[:-20], "truncated or damaged"),
        (gzip.compress(b"some words", mtime=0)[:12] + b"!" * 9, "truncated or damaged"),
        (bz2.compress(b"some words"), "compressed, but not by gzip or xz; decompress it first"),
        (None, "cannot be read"),
    ],
)
def test_a_text_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LanguageModelError, match=problem) as error:
        list(read_sentences([path]))
    assert str(error.value).startswith(str(path))


@pytest.fixture
def pipe(tmp_path: Path) -> Callable[..., Path]:
    """`pipe(content, …)`: a FIFO into which the contents are written, one after the other."""

    def make(*contents: bytes) -> Path:
        def write() -> None:
            with suppress(BrokenPipeError), open(tmp_path / "fifo", "wb", buffering=0) as file:
                for content in contents:
                    file.write(content)

        os.mkfifo(tmp_path / "fifo")
        threading.Thread(target=write, daemon=True).start()
        return tmp_path / "fifo"

    return make


@pipes
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("first", [0, 1, 3, 100])
def test_a_pipe_is_read_whole(pipe: Callable[..., Path], form: str, first: int) -> None:
    """However little of it comes first."""
    content = FORMS[form](TEXT)
    assert [line.strip() for line in read_sentences([pipe(content[:first], content[first:])])] == SENTENCES


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="process substitution needs /dev/fd")
@pytest.mark.parametrize("form", FORMS)
def test_process_substitution_is_read_whole(tmp_path: Path, form: str) -> None:
    (tmp_path / "text").write_bytes(FORMS[form](TEXT))
    code = "import sys; from asr.lm.source import read_sentences; print(*read_sentences(sys.argv[1:]), sep='\\n')"
    script = f'"{sys.executable}" -c "{code}" <(cat "{tmp_path}/text") <(echo last)'
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=120)
    assert done.stdout.decode().splitlines() == [*SENTENCES, "last"]


@pytest.mark.parametrize("form", FORMS)
def test_standard_input_may_be_compressed(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(FORMS[form](TEXT))))
    assert [line.strip() for line in read_sentences(["-"])] == SENTENCES
    assert not sys.stdin.buffer.closed


def test_no_standard_input_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(LanguageModelError, match="-: there is no standard input"):
        list(read_sentences(["-"]))


@pipes
def test_a_model_comes_through_a_pipe_as_arpa_and_not_in_the_form_that_is_mapped(
    pipe: Callable[..., Path], tmp_path: Path
) -> None:
    model, _ = estimate(["a b", "b a b"], 2)
    save_model(model, tmp_path / "model.arpa")
    save_model(model, tmp_path / "model.lm")
    arpa = load_model(pipe((tmp_path / "model.arpa").read_bytes()))
    assert score_text(arpa, "b a") == pytest.approx(score_text(model, "b a"), abs=1e-5)
    (tmp_path / "fifo").unlink()
    (tmp_path / "model.gz").write_bytes(gzip.compress((tmp_path / "model.lm").read_bytes()))
    for path in (pipe((tmp_path / "model.lm").read_bytes()), tmp_path / "model.gz"):
        with pytest.raises(LanguageModelError, match="must be a file, and not compressed") as error:
            load_model(path)
        assert "\n" not in str(error.value)


def test_text_is_normalized_as_for_scoring_or_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("“Don’t STOP!” — he said, Ça va?\n— !\nwell-known\u00adly ’tis\n", encoding="utf-8")
    assert list(read_sentences([path])) == ["don't stop he said ça va", "well knownly tis"]
    assert [line.strip() for line in read_sentences([path], as_is=True)] == path.read_text("utf-8").splitlines()


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="<\n\ufeff"))))
def test_any_text_is_normalized_as_a_whole_line_is(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any text"
    path.write_bytes("\n".join(texts).encode())
    expected = [normalize(line) for line in "\n".join(texts).split("\n")]
    assert list(read_sentences([path])) == [line for line in expected if line]


@pytest.mark.parametrize("mark", ["<s>", "</s>", "<unk>"])
def test_marks_of_a_model_in_a_text_are_one_line(tmp_path: Path, mark: str) -> None:
    (tmp_path / "text").write_text(f"a <b> c\nmore {mark} words\n")
    with pytest.raises(LanguageModelError, match=f":2: the text has {mark} in it"):
        list(read_sentences([tmp_path / "text"]))


def test_a_text_may_begin_with_the_letters_of_an_archive(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("BZhang spoke\nPK too\n")
    assert [*read_sentences([tmp_path / "text"])] == ["bzhang spoke", "pk too"]
