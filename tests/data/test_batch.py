"""Which utterances of the manifests there are, with which texts; those that cannot be trained on are counted."""

import re
from pathlib import Path

import pytest
import torch
from tiny_corpus import TEXTS, read_entries, write_audio, write_manifest

from asr.data.batch import Targets, unusable
from asr.data.config import TokenizerConfig
from asr.data.manifest import Entry
from asr.data.tokenizer import CharacterTokenizer, TextRule
from asr.errors import RecipeError

CONFIG = TokenizerConfig(kind="characters", alphabet="ab")
TOKENIZER = CharacterTokenizer(CONFIG)


def entries_of(*manifests: Path) -> list[Entry]:
    return read_entries(map(str, manifests), TextRule(CONFIG))


def test_why_an_utterance_cannot_be_trained_on():
    samples = [("good", 16_000, "ab"), ("long", 81_600, "ab"), ("longer", 96_000, "")]
    samples += [("tight", 3_200, "babab")]  # five frames for five tokens
    samples += [("short", 3_200, "bbaab")]  # and two blanks more than there are frames
    samples += [("click", 800, "a"), ("breath", 16_000, "")]
    assert {name: unusable(length, text, TOKENIZER.encode(text), 5.0) for name, length, text in samples} == {
        "good": "",
        "long": "too long",
        "longer": "too long",
        "tight": "",
        "short": "too short for its text",
        "click": "too short for its text",
        "breath": "without text",
    }
    assert unusable(16_000, "39", [], 5.0) == "with words that cannot be pronounced"


def test_targets_are_padded_and_know_their_lengths():
    targets = Targets.pad([TOKENIZER.encode(text) for text in TEXTS])
    for row, length, text in zip(targets.ids, targets.lengths, TEXTS, strict=True):
        assert row[:length].tolist() == TOKENIZER.encode(text)
        assert row[length:].eq(0).all()
    assert targets.fit(torch.tensor([1, *[20] * 7])).tolist() == [False, *[True] * 7]


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"no audio file .*gone\.wav"):
        entries_of(write_manifest(tmp_path / "gone.jsonl", [(tmp_path / "gone.wav", "ab")]))


def test_an_id_in_two_manifests_is_made_two_ids(tmp_path: Path, corpus: Path):
    other = write_manifest(tmp_path / "other.jsonl", [(corpus.parent / "u3.wav", "ab")])
    ids = [entry.id for entry in entries_of(corpus, other)]
    assert len(set(ids)) == len(ids) == len(TEXTS) + 1
    assert f"{other}: u3" in ids


def test_a_text_outside_the_alphabet_names_manifest_and_utterance(tmp_path: Path, corpus: Path):
    audio = write_audio(tmp_path / "u1.wav", 0.5)
    manifest = write_manifest(tmp_path / "c.jsonl", [(audio, "abc")])
    with pytest.raises(RecipeError, match=re.escape("c.jsonl: 'u1': 'c' in “abc”")):
        entries_of(manifest)
