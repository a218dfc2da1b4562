"""Recurrent language models in onnxruntime: sums of steps, padding that changes nothing, tokens, bad folders."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_model import letter_pieces, write_model

from asr.data.manifest import Entry
from asr.errors import LanguageModelError
from asr.lm.neural import BOUNDARY, NeuralModel
from asr.model.bundle import PACKAGED

pytest.importorskip("torch", reason="makes models to test with: pip install 'recurrent-asr[train]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("neural") / "bpe")


@pytest.fixture(scope="module")
def model(folder: Path) -> NeuralModel:
    return NeuralModel.load(folder)


@pytest.fixture(scope="module")
def characters(tmp_path_factory: pytest.TempPathFactory) -> NeuralModel:
    return NeuralModel.load(write_model(tmp_path_factory.mktemp("neural") / "characters", "characters", "gru"))


sentences = st.lists(st.lists(st.integers(1, 127), max_size=12), min_size=1, max_size=8)


@settings(max_examples=20, deadline=None)
@given(sequences=sentences)
def test_a_score_is_the_sum_of_its_steps_whatever_else_is_scored_with_it(
    model: NeuralModel, sequences: list[list[int]]
):
    together = model.score(sequences)
    assert together.shape == (len(sequences),)
    for sequence, score in zip(sequences, together, strict=True):
        assert model.score([sequence])[0] == pytest.approx(score, abs=1e-4)
        states, total, before = model.start(), 0.0, BOUNDARY
        for token in [*sequence, BOUNDARY]:
            log_probs, states = model.advance([before], states)
            total += float(log_probs[0, token])
            before = token
        assert total == pytest.approx(score, abs=1e-4)


def test_more_sequences_than_go_into_one_batch_keep_their_order(model: NeuralModel):
    generator = np.random.default_rng(1)
    sequences = [generator.integers(1, 128, length).tolist() for length in generator.integers(0, 9, 150)]
    scores = model.score_tokens(sequences)
    assert [len(each) for each in scores] == [len(sequence) + 1 for sequence in sequences]
    for index in (0, 77, 149):
        np.testing.assert_allclose(scores[index], model.score_tokens([sequences[index]])[0], atol=1e-4)
    assert model.score([]).shape == (0,)


def test_hypotheses_advance_together_as_each_alone(model: NeuralModel):
    states = model.start(3)
    _, states = model.advance([BOUNDARY] * 3, states)
    together, after = model.advance([5, 6, 7], states)
    assert together.shape == (3, len(model.tokens))
    for row, token in enumerate((5, 6, 7)):
        alone, one_state = model.advance([token], states[row : row + 1])
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)
        np.testing.assert_allclose(after[row], one_state[0], atol=1e-5)


def test_bpe_from_the_pieces_alone_is_sentencepieces(model: NeuralModel, dev_entries: list[Entry]):
    sentencepiece = pytest.importorskip("sentencepiece", reason="the reference: pip install 'recurrent-asr[train]'")
    processor = sentencepiece.SentencePieceProcessor(model_proto=letter_pieces())
    for entry in dev_entries:
        assert model.encode(entry.text) == processor.encode(entry.text.lower())


@settings(max_examples=100, deadline=None)
@given(words=st.lists(st.text("aehinorst'", min_size=1, max_size=12), max_size=5))
def test_bpe_of_any_letters_is_sentencepieces(model: NeuralModel, words: list[str]):
    sentencepiece = pytest.importorskip("sentencepiece", reason="the reference: pip install 'recurrent-asr[train]'")
    processor = sentencepiece.SentencePieceProcessor(model_proto=letter_pieces())
    text = " ".join(words)
    assert model.encode(text) == processor.encode(text)
    assert model.tokens.text(model.encode(text)) == text


def test_characters_are_tokens(characters: NeuralModel):
    ids = characters.encode("Ab  a")
    assert [characters.tokens.symbols[token] for token in ids] == ["a", "b", "▁", "a"]
    assert characters.encode("") == []


def test_a_character_without_a_token_is_one_line(model: NeuralModel):
    with pytest.raises(LanguageModelError, match="tiny has no token for '7' in “room 7”"):
        model.encode("room 7")


@pytest.mark.parametrize("words", [1, 7, 40])
def test_as_many_words_are_generated_as_asked_and_the_prompt_stays(model: NeuralModel, words: int):
    lines = list(model.generate("once upon", words, temperature=5.0, seed=4))
    assert lines[0].startswith("once upon")
    assert len(" ".join(lines).split()) - 2 == words


def test_generating_ends_though_the_model_never_ends_a_word(characters: NeuralModel):
    likeliest = list(characters.generate("once", 5, temperature=0))
    assert len(" ".join(likeliest).split()) <= 6


def test_a_seed_gives_the_same_text_again_and_another_another(model: NeuralModel):
    first, again, other = (list(model.generate("", 30, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    likeliest = [list(model.generate("the", 20, temperature=0, seed=seed)) for seed in (1, 2)]
    assert likeliest[0] == likeliest[1]


def damage(folder: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.json", None, "incomplete, config.json is missing"),
        ("config.json", b"{", "config.json: not the config of a recurrent language model"),
        ("config.json", b"[]", "config.json: not the config of a recurrent language model"),
        ("config.json", b"\xff", "config.json: not the config of a recurrent language model"),
        ("config.json", b'{"kind": "language", "format": 1}', "not the config of a recurrent language model"),
        ("config.json", b'{"kind": "language", "format": 9}', "made by a newer asr"),
        ("tokens.txt", None, "incomplete, tokens.txt is missing"),
        ("tokens.txt", "<blank>\n▁\n".encode(), "not the graph of a language model over the 2 tokens"),
        ("model.onnx", None, "incomplete, model.onnx is missing"),
        ("model.onnx", b"RIFF", "model.onnx: cannot be run"),
        ("model.onnx", (PACKAGED / "en-gru/model.onnx").read_bytes(), "not the graph of a language model"),
    ],
)
def test_a_damaged_folder_is_one_line(folder: Path, tmp_path: Path, name: str, content: bytes | None, problem: str):
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    damage(broken, name, content)
    with pytest.raises(LanguageModelError) as caught:
        NeuralModel.load(broken)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(str(broken))
    assert "\n" not in str(caught.value)


def test_what_is_no_such_folder_is_one_line(tmp_path: Path):
    (tmp_path / "words.lm").write_bytes(b"asr n-grams 1\n")
    for path, problem in [
        (PACKAGED / "en-gru", "not the config of a recurrent"),
        (tmp_path / "words.lm", "config.json is missing"),
    ]:
        with pytest.raises(LanguageModelError, match=problem):
            NeuralModel.load(path)


def test_a_config_of_a_later_version_with_more_in_it_is_read(folder: Path, tmp_path: Path):
    newer = Path(shutil.copytree(folder, tmp_path / "newer"))
    values = json.loads((newer / "config.json").read_text(encoding="utf-8"))
    (newer / "config.json").write_text(json.dumps(values | {"more": 1}), encoding="utf-8")
    assert NeuralModel.load(newer).config.name == "tiny"


def test_scoring_needs_neither_torch_nor_sentencepiece(folder: Path):
    code = """
import sys
from asr.lm.neural import NeuralModel
model = NeuralModel.load(sys.argv[1])
assert model.score([model.encode("the cat")])[0] < 0
assert not {"torch", "sentencepiece"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=120)
