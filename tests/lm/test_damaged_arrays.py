"""Damaged language models and lexicons: an error in one line where the damage is met, never an endless loop."""

import json
import struct
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asr.decode.lexicon import PronouncedModel
from asr.errors import LanguageModelError
from asr.lm.arpa import write_arpa
from asr.lm.binary import load_model, save_model
from asr.lm.estimate import estimate
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NgramModel
from asr.lm.trie import Trie

TEXT = ["the cat sat on the mat", "the cat ran", "a dog sat on a cat on the mat", "the dog ran on"] * 2
LEXICON = Lexicon.of([("the", "Da"), ("the", "DI"), ("cat", "kAt"), ("dog", "dag"), ("sat", "sAt"), ("on", "an")])
WORDS = ["the", "cat", "sat", "on", "a", "dog", "ran", "mat", "<unk>", "</s>"]


def models() -> dict[str, NgramModel]:
    plain, _ = estimate(TEXT, 4)
    return {"float": plain, "8": plain.packed(), "bigrams": estimate(TEXT, 2)[0]}


MODELS = models()


def use(path: Path) -> None:
    """All that searching does, and all that converting does."""
    model = load_model(path)
    letters = len(model.vocabulary)
    for searched in (model, PronouncedModel(model, LEXICON)):
        frontier = {0, searched.start()}
        for _ in range(3):
            following = set()
            for state in frontier:
                for word in WORDS:
                    log_prob, after = searched.score(state, searched.vocabulary.id(word))
                    assert np.isfinite(log_prob)
                    following.add(after)
                for begin, end in [(0, letters), (0, 1), (1, 4)]:
                    assert not np.isnan(searched.best(state, begin, end))
                    searched.shorten(state, begin, end)
            frontier = following
    write_arpa(model, StringIO())
    Trie(model)


def try_to_use(path: Path, content: bytes, loader: Callable[[Path], object] = use) -> None:
    path.write_bytes(content)
    started = time.monotonic()
    said = f"{path}:"
    try:
        loader(path)
    except LanguageModelError as error:
        said = str(error)
    assert said.startswith(f"{path}:")
    assert said.isprintable()
    assert time.monotonic() - started < 5


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("whole") / "words.lm"
    found = {}
    for name, model in MODELS.items():
        save_model(model, path)
        use(path)
        found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("kind", MODELS)
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), width=st.sampled_from([1, 2, 4]))
@example(0.5, 255, 4)
def test_changed_bytes_of_a_language_model(
    contents: dict[str, bytes], tmp_path: Path, kind: str, place: float, value: int, width: int
) -> None:
    content = bytearray(contents[kind])
    begin = int(place * len(content))
    content[begin : begin + width] = bytes([value]) * len(content[begin : begin + width])
    try_to_use(tmp_path / "words.lm", bytes(content))


@pytest.mark.parametrize("name", ["words", "first", "suffixes", "starts", "log_probs", "backoffs", "text"])
@pytest.mark.parametrize("value", [0, 1, 7, 30, 2**31, 2**32 - 1, struct.unpack("<I", struct.pack("<f", np.nan))[0]])
def test_every_number_of_an_array_changed(contents: dict[str, bytes], tmp_path: Path, name: str, value: int) -> None:
    content = contents["float"]
    _, header, _ = content.split(b"\n", 2)
    begin = content.index(b"\n", content.index(b"\n") + 1) + 1
    for array, (dtype, length) in json.loads(header)["arrays"].items():
        begin += -begin % 64
        size = np.dtype(dtype).itemsize
        if array == name:
            break
        begin += length * size
    data = value.to_bytes(4, "little")[:size]
    for number in range(0, length, max(1, length // 12)):
        place = begin + number * size
        try_to_use(tmp_path / "words.lm", content[:place] + data + content[place + size :])
    try_to_use(tmp_path / "words.lm", content[:begin] + data * length + content[begin + length * size :])


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_cut_anywhere(contents: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    for end in range(0, len(contents[kind]), 97):
        try_to_use(tmp_path / "words.lm", contents[kind][:end])


@pytest.mark.parametrize(
    "header",
    [
        {"counts": [2**63]},
        {"counts": []},
        {"counts": [-1, 9]},
        {"counts": "many"},
        {"counts": [1.5]},
        {"counts": [True]},
        {"counts": [5] * 100},
        {"arrays": {}},
        {"arrays": []},
        {"arrays": {"text": ["O", 1]}},
        {"arrays": {"text": ["u1", -1]}},
        {"arrays": {"text": ["u1", 2**62]}},
        {"arrays": {"text": ["u1", 1e300]}},
        {"arrays": {"text": [["u1"], None]}},
    ],
)
def test_headers_of_the_wrong_kind(contents: dict[str, bytes], tmp_path: Path, header: dict) -> None:
    magic, described, rest = contents["float"].split(b"\n", 2)
    changed = json.dumps(json.loads(described) | header).encode()
    (tmp_path / "words.lm").write_bytes(b"\n".join([magic, changed, rest]))
    with pytest.raises(LanguageModelError, match=r"words.lm: truncated or damaged \(.*\); copy or build it again"):
        load_model(tmp_path / "words.lm")


@pytest.mark.parametrize("nested", ["[" * 50_000, '{"counts":' * 50_000, "9" * 60_000, "x" * 100_000])
def test_headers_that_are_nested_or_long(contents: dict[str, bytes], tmp_path: Path, nested: str) -> None:
    magic, _, rest = contents["float"].split(b"\n", 2)
    try_to_use(tmp_path / "words.lm", b"\n".join([magic, nested.encode(), rest]))


def search(path: Path) -> None:
    lexicon = Lexicon.load(path)
    for word in ["the", "cat", "zebra", "", "\U0001f600"]:
        lexicon.pronunciations(word)
    for phones in ["D", "Da", "kAt", "zzz"]:
        lexicon.words(phones)
        lexicon.narrow(phones)
    assert all(word.isprintable() for word, _ in lexicon)
    PronouncedModel(MODELS["float"], lexicon)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), width=st.sampled_from([1, 2, 4]))
def test_changed_bytes_of_a_lexicon(tmp_path: Path, place: float, value: int, width: int) -> None:
    LEXICON.save(tmp_path / "whole.lex")
    content = bytearray((tmp_path / "whole.lex").read_bytes())
    begin = int(place * len(content))
    content[begin : begin + width] = bytes([value]) * len(content[begin : begin + width])
    try_to_use(tmp_path / "words.lex", bytes(content), search)


ARPA = """\\data\\
ngram 1=4
ngram 2=1

\\1-grams:
-1 <unk>
-1 <s> -0.3
-1 </s>
-1 a

\\2-grams:
-0.5 <s> a

\\end\\
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("ngram 1=4", "ngram 1=99999999999999999999", "expected “ngram 1=…”"),
        ("ngram 1=4", f"ngram 1={'9' * 5000}", "expected “ngram 1=…”"),
        ("ngram 2=1", "ngram 2=9999999999", "there cannot be 9,999,999,999 2-grams of 4 words"),
        ("-1 a", "-1e300 a", "not a 1-gram"),
        ("-1 <s> -0.3", "-1 <s> 1e39", "not a 1-gram"),
        ("-1 a", "nan a", "not a 1-gram"),
        (" a\n", " a\x1b[31m\n", "control characters"),
        ("-1 a", f"-1 {'a' * 70_000}", "longer than 65536 bytes"),
    ],
)
def test_arpa_out_of_range(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "words.arpa"
    path.write_text(ARPA)
    assert load_model(path).counts == (4, 1)
    path.write_text(ARPA.replace(old, new))
    with pytest.raises(LanguageModelError) as caught:
        load_model(path)
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()
