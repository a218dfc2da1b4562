"""Text for a language model: every token of a pass once, sequences that go on, another order in each pass."""

import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_corpus import SENTENCES

from asr.data.config import TokenizerConfig
from asr.data.sentences import EncodedText, TokenStream, read_texts
from asr.data.tokenizer import CharacterTokenizer, TextRule
from asr.errors import LanguageModelError, RecipeError
from asr.lm.neural import BOUNDARY

CONFIG = TokenizerConfig(kind="characters")
TOKENIZER = CharacterTokenizer(CONFIG)


@pytest.fixture
def corpus() -> EncodedText:
    return EncodedText.encode(SENTENCES, TOKENIZER)


def sentences_of(tokens: np.ndarray) -> list[str]:
    ends = np.flatnonzero(tokens == BOUNDARY)
    return [TOKENIZER.tokens.text(piece) for piece in np.split(tokens, ends)]


def test_a_corpus_is_two_bytes_a_token_and_counts_words(corpus: EncodedText):
    assert corpus.tokens.dtype == np.uint16
    assert corpus.words == sum(len(sentence.split()) for sentence in SENTENCES)
    assert sentences_of(corpus.tokens) == [*SENTENCES, ""]
    assert (corpus.tokens[corpus.ends.astype(int) - 1] == BOUNDARY).all()


def test_shuffling_moves_whole_sentences(corpus: EncodedText):
    first, again, other = (corpus.shuffled(1, number) for number in (0, 0, 1))
    assert first[0] == BOUNDARY
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for tokens in (first, other):
        assert sorted(sentences_of(tokens)) == ["", "", *sorted(SENTENCES)]


@pytest.mark.parametrize(("batch_size", "bptt_length"), [(1, 1), (2, 8), (3, 5), (4, 7)])
def test_sequences_go_on_from_batch_to_batch_and_predict_the_next_token(
    corpus: EncodedText, batch_size: int, bptt_length: int
):
    walk = TokenStream(corpus, batch_size, bptt_length, seed=1)
    batches = [walk[index] for index in range(walk.batches)]
    inputs, targets = (torch.cat([getattr(part, name) for part in batches], dim=1) for name in ("inputs", "targets"))
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    stream = torch.from_numpy(corpus.shuffled(1, 0).astype(np.int64))
    assert torch.equal(targets.flatten(), stream[1 : targets.numel() + 1])  # sequence after sequence, nothing twice
    assert len(stream) - 1 - targets.numel() < batch_size * bptt_length
    assert batches[0].amount == batch_size * bptt_length


def test_the_next_pass_has_the_same_words_in_another_order_and_any_batch_can_be_asked_for(corpus: EncodedText):
    walk = TokenStream(corpus, 1, 10, seed=1)
    first, second = ([walk[number * walk.batches + index] for index in range(walk.batches)] for number in (0, 1))
    counts = [Counter(torch.cat([part.targets for part in each], dim=1).flatten().tolist()) for each in (first, second)]
    assert sum((counts[0] - counts[1]).values()) < 10  # what is left at the end
    assert not all(torch.equal(one.targets, other.targets) for one, other in zip(first, second, strict=True))
    fresh = TokenStream(corpus, 1, 10, seed=1)
    assert torch.equal(fresh[walk.batches + 3].inputs, second[3].inputs)
    assert second[3].ids == [f"pass 2, batch 4 of {walk.batches}"]


def test_too_little_text_for_the_sequences_is_one_line(corpus: EncodedText):
    with pytest.raises(
        RecipeError, match=r"too few for 64 sequences of 32; lower data\.batch_size or data\.bptt_length"
    ):
        TokenStream(corpus, 64, 32, seed=1)


def test_texts_are_read_from_files_and_manifests_by_the_rule(tmp_path: Path):
    (tmp_path / "text.xz").write_bytes(lzma.compress("Don’t  STOP\n\nnow\n".encode()))
    (tmp_path / "texts.jsonl").write_text('{"audio": "none.wav", "text": "NOW"}\n', encoding="utf-8")
    assert list(read_texts(str(tmp_path / "text.xz"), TextRule(CONFIG))) == ["don't stop", "now"]
    assert list(read_texts(str(tmp_path / "texts.jsonl"), TextRule(CONFIG))) == ["now"]


def test_a_missing_text_and_a_character_outside_the_alphabet_are_one_line(tmp_path: Path):
    with pytest.raises(LanguageModelError, match=r"gone\.txt: cannot be read"):
        list(read_texts(str(tmp_path / "gone.txt"), TextRule(CONFIG)))
    (tmp_path / "text.txt").write_text("room 7\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"text\.txt: '7' in “room 7”"):
        list(read_texts(str(tmp_path / "text.txt"), TextRule(CONFIG)))
