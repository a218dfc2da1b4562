import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.lm.vocabulary import SPECIAL, Vocabulary

LETTERS = st.text("aäb'日", max_size=3)


def vocabulary_of(words: set[str]) -> Vocabulary:
    encoded = sorted(word.encode() for word in words)
    return Vocabulary(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)], dtype=np.uint32))


@given(st.sets(LETTERS.filter(bool), max_size=30), LETTERS, LETTERS)
def test_words_and_prefixes_are_found(words: set[str], prefix: str, more: str) -> None:
    words |= set(SPECIAL)
    vocabulary = vocabulary_of(words)
    ordered = sorted(words)
    assert [vocabulary.word(number) for number in range(len(vocabulary))] == ordered
    assert [vocabulary.get(word) for word in ordered] == list(range(len(ordered)))
    assert vocabulary.get(prefix) == (ordered.index(prefix) if prefix in words else None)
    assert vocabulary.id(prefix) == ordered.index(prefix if prefix in words else "<unk>")
    matching = vocabulary.narrow(prefix)
    assert [vocabulary.word(number) for number in matching] == [word for word in ordered if word.startswith(prefix)]
    assert bool(vocabulary.narrow(prefix)) == any(word.startswith(prefix) for word in words)
    narrowed = vocabulary.narrow(prefix + more, matching)
    assert list(narrowed) == list(vocabulary.narrow(prefix + more))
    if prefix in words:
        assert matching[0] == vocabulary.id(prefix)


def test_the_special_words_are_there_or_it_is_no_vocabulary() -> None:
    vocabulary = vocabulary_of({*SPECIAL, "a"})
    special = (vocabulary.unknown, vocabulary.sentence_start, vocabulary.sentence_end)
    assert [vocabulary.word(number) for number in special] == ["<unk>", "<s>", "</s>"]
    with pytest.raises(ValueError, match="</s>"):
        vocabulary_of({"<unk>", "<s>", "a"})


@given(st.sets(LETTERS.filter(bool), max_size=30), st.sets(LETTERS.filter(bool), max_size=30), st.sampled_from([1, 99]))
def test_strings_of_another_list_are_found(words: set[str], others: set[str], longest: int) -> None:
    others = {*others, "z" * longest}  # a long one takes another way
    mine, theirs = vocabulary_of(words | set(SPECIAL)), vocabulary_of(others | set(SPECIAL))
    expected = [mine.get(word) for word in sorted(others | set(SPECIAL))]
    assert mine.find(theirs).tolist() == [-1 if number is None else number for number in expected]
