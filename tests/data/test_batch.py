"""Which utterances of the manifests there are, with which texts; those that cannot be trained on are counted."""

import re
from pathlib import Path

import pytest
import torch
from tiny_corpus import TEXTS, read_entries, write_audio, write_manifest

from asr.data.batch import LeftOut, Targets
from asr.data.config import TokenizerConfig
from asr.data.manifest import Entry
from asr.data.tokenizer import CharacterTokenizer, TextRule
from asr.errors import RecipeError

CONFIG = TokenizerConfig(kind="characters", alphabet="ab")
TOKENIZER = CharacterTokenizer(CONFIG)


def entries_of(*manifests: Path) -> list[Entry]:
    return read_entries(map(str, manifests), TextRule(CONFIG))


def test_utterances_left_out_are_counted_by_reason():
    left_out = LeftOut()
    samples = [("good", 16_000, "ab"), ("long", 81_600, "ab"), ("longer", 96_000, "")]
    samples += [("tight", 3_200, "babab")]  # five frames for five tokens
    samples += [("short", 3_200, "bbaab")]  # and two blanks more than there are frames
    samples += [("click", 800, "a"), ("breath", 16_000, "")]
    usable = [name for name, length, text in samples if left_out.admits(length, text, TOKENIZER.encode(text), 5.0)]
    assert usable == ["good", "tight"]
    assert not left_out.admits(16_000, "39", [], 5.0)  # which has no phones
    assert (left_out.too_long, left_out.too_short, left_out.no_text, left_out.no_pronunciation) == (2, 2, 1, 1)
    assert str(left_out) == (
        "2 too long, 2 too short for its text, 1 without text, 1 with words that cannot be pronounced"
    )
    assert str(LeftOut()) == "none"


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
