"""The packaged tagger: small, quick to open, and right about plain sentences."""

import pytest

from asr.model.bundle import PACKAGED, packaged_models
from asr.model.tagger import GRAPH, Tagger, find_tagger

NAME = "en-written"
pytestmark = pytest.mark.skipif(not (PACKAGED / NAME / GRAPH).is_file(), reason=f"{NAME} is not packaged")


def test_it_is_found_by_its_language_and_is_no_acoustic_model():
    tagger = find_tagger("en")
    assert tagger is not None
    assert tagger.config.name == NAME
    assert find_tagger("en") is tagger
    assert find_tagger("xx") is None
    assert NAME not in packaged_models()


def test_it_is_small():
    assert sum(path.stat().st_size for path in (PACKAGED / NAME).iterdir()) < 5e6


@pytest.mark.parametrize(
    "sentence",
    [
        "Where is the book that I gave you?",
        "My brother John lives in London.",
        "How do you know that?",
        "The BBC said on Monday that the Prime Minister would resign.",
    ],
)
def test_plain_sentences_are_written(sentence: str):
    spoken = sentence.replace(",", "").replace(".", "").replace("?", "").split()
    assert " ".join(tag.form + tag.mark for tag in Tagger(NAME).tag(spoken)) == sentence
