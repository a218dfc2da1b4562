"""Words that are spelled by their pronunciations: the beam against brute force, and what people use it for."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pronounced import ALPHABETS, ENTRIES, Parts, Reader, parts, random_model
from test_beam import FRAME_SECONDS, TOLERANCE, brute_force, decode, unpruned
from test_beam_fusion import spoken

from asr.decode.beam import BeamDecoder
from asr.decode.fusion import Fusion
from asr.decode.greedy import GreedyDecoder
from asr.decode.lexicon import NEVER, PronouncedModel, Pronunciations
from asr.lm.estimate import estimate
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import ROOT, NgramModel
from asr.model.phones import LETTERS
from asr.model.tokens import BLANK, WORD_START, Tokens

PHONES = Tokens([BLANK, WORD_START, *LETTERS])
SPOKEN = Lexicon.of(
    [
        *(
            ("their", "Der"),
            ("there", "Der"),
            ("is", "iz"),
            ("house", "hws"),
            ("a", "u"),
            ("a", "E"),
            ("smith", "smiT"),
        ),
        *(
            ("cat", "kAt"),
            ("hat", "hAt"),
            ("here", "hir"),
            ("hear", "hir"),
            ("the", "Du"),
            ("the", "Dj"),
            ("mister", "mistR"),
        ),
    ]
)
SENTENCES = [
    "there is a house",
    "there is a cat",
    "their house is here",
    "their cat is here",
    "hear the cat",
    "a hat is here",
]


class Rules(Reader):
    def say_all(self, word: str, count: int = 1) -> list[str]:
        return {"smyth": ["smIT", "smiT"], "ivanhoe": ["Ivunho"]}.get(word, [])[:count]

    def spell(self, pronunciation: str) -> str:
        return pronunciation.lower().replace("o", "oh")


def fusion(hotwords: dict[str, float] | None = None, own: frozenset[str] = frozenset(), lm: bool = True) -> Fusion:
    pronunciations = Pronunciations(SPOKEN, Rules, own)  # type: ignore[arg-type]
    model = PronouncedModel(estimate(SENTENCES * 3, 3)[0], SPOKEN) if lm else None
    return Fusion(PHONES, model, hotwords=hotwords, pronunciations=pronunciations)


def heard(pronunciations: str, doubts: dict[int, str] | None = None) -> np.ndarray:
    return spoken(list(f" {pronunciations}".replace(" ", WORD_START)), doubts or {}, PHONES)


def read(pronunciations: str, fusion: Fusion, nbest: int = 1, doubts: dict[int, str] | None = None) -> list[str]:
    decoder = BeamDecoder(PHONES, FRAME_SECONDS, fusion=fusion, nbest=nbest)
    return [hypothesis.text for hypothesis in decode(decoder, heard(pronunciations, doubts))]


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, Parts]:
    """log_softmax of random floats, some of them -inf, and a lexicon with or without a language model."""
    logit = st.floats(-6, 6) | st.just(-math.inf)
    rows = st.lists(st.lists(logit, min_size=4, max_size=4).filter(lambda row: max(row) > -math.inf), max_size=5)
    logits = np.array(draw(rows)).reshape(-1, 4)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), draw(parts())


@settings(deadline=None, max_examples=100)
@given(problems())
def test_without_pruning_the_ranking_equals_brute_force_over_tokens_and_homophones(problem: tuple[np.ndarray, Parts]):
    log_probs, parts = problem
    best: dict[str, float] = {}  # of each pronunciation the score of the best words
    for tokens, acoustic in brute_force(log_probs).items():
        spelled = parts.tokens.text(tokens)
        gain = max(gain for _, gain in parts.readings(spelled))
        best[spelled] = max(best.get(spelled, -math.inf), acoustic + gain)
    decoder = unpruned(parts.tokens)
    decoder.fusion = parts.fusion()
    hypotheses = decode(decoder, log_probs)
    assert hypotheses[0].score == pytest.approx(max(best.values()), abs=TOLERANCE)
    for hypothesis in hypotheses:
        spelled = parts.tokens.text(hypothesis.tokens)
        assert hypothesis.score == pytest.approx(best[spelled], abs=TOLERANCE)
        assert (hypothesis.text.split(), pytest.approx(hypothesis.score - hypothesis.acoustic, abs=TOLERANCE)) in [
            *parts.readings(spelled)
        ]
    assert len({hypothesis.text for hypothesis in hypotheses}) == len(hypotheses)
    scores = [hypothesis.score for hypothesis in hypotheses]
    assert scores == sorted(scores, reverse=True)


@settings(deadline=None, max_examples=100)
@given(parts(), st.lists(st.lists(st.integers(1, 3), max_size=8), min_size=1, max_size=5))
def test_a_step_that_may_gain_enough_is_not_refused(given_parts: Parts, sequences: list[list[int]]):
    fusion, other = given_parts.fusion(), given_parts.fusion()
    for sequence in sequences:
        state, known = fusion.start(), other.start()
        for token in sequence:
            gain, known = other.step(known, token)
            assert gain <= fusion.highest_gain + TOLERANCE
            assert fusion.may_gain(state, token, gain - TOLERANCE)
            _, state = fusion.step(state, token)


def with_members(model: NgramModel) -> NgramModel:
    """The model with its words as places among those that end longer n-grams, as large ones are packed."""
    first = 1 + len(model.vocabulary)
    members = np.unique(model.arrays["words"][first:])
    words = np.searchsorted(members, model.arrays["words"]).astype(np.uint16)
    words[:first] = 0
    return NgramModel(model.counts, {**model.arrays, "members": members.astype(np.uint32), "words": words})


@given(
    st.integers(1, 3), st.integers(0, 10_000), st.sampled_from([lambda model: model, with_members, NgramModel.packed])
)
def test_look_ahead_in_a_range_of_entries_is_the_best_of_their_words(
    order: int, seed: int, stored: Callable[[NgramModel], NgramModel]
):
    model = stored(random_model(order, seed))
    lexicon = Lexicon.of(ENTRIES)
    pronounced = PronouncedModel(model, lexicon)
    words = [*(lexicon.word(entry) for entry in range(len(lexicon))), "<unk>"]
    ids = [model.vocabulary.get(word) for word in words]
    contexts = {model.start(), 0}
    for sentence in product(["one", "two", "for"], repeat=2):
        state = model.start()
        for word in sentence:
            state = model.score(state, model.vocabulary.id(word))[1]
            contexts.add(state)
    for context, begin in product(contexts, range(len(words))):
        for end in range(begin + 1, len(words) + 1):
            among = [number for number in ids[begin:end] if number is not None]
            expected = max((model.best(context, number, number + 1) for number in among), default=NEVER)
            assert pronounced.best(context, begin, end) == pytest.approx(max(expected, NEVER), rel=1e-6, abs=1e-5)
            cost, shorter = pronounced.shorten(context, begin, end)
            for number in [*among, model.vocabulary.unknown]:
                log_prob, after = model.score(context, number)
                assert model.score(shorter, number)[0] + cost == pytest.approx(log_prob, abs=1e-5)
                assert model.score(shorter, number)[1] == after


@pytest.mark.parametrize("text", ["Der iz u hws", "Der hws iz hir", "Der kAt iz hir", "hir Du kAt", "Der iz E kAt"])
def test_words_that_sound_alike_are_told_apart_by_what_follows(text: str):
    written = {"Der iz u hws": "there is a house", "Der hws iz hir": "their house is here"}
    written |= {"Der kAt iz hir": "their cat is here", "hir Du kAt": "hear the cat", "Der iz E kAt": "there is a cat"}
    assert read(text, fusion()) == [written[text]]


def test_the_score_is_that_of_the_words_that_are_written():
    (hypothesis,) = decode(BeamDecoder(PHONES, FRAME_SECONDS, fusion=fusion()), heard("Der hws iz hir"))
    used = fusion()
    total, context = 0.0, used.start().context
    for word in ["their", "house", "is", "here"]:
        log_prob, context = used.model.score(context, used.model.vocabulary.id(word))
        total += used.weights.lm_weight * log_prob + used.weights.word_bonus
    assert hypothesis.score - hypothesis.acoustic == pytest.approx(total)
    assert [round(word.start / FRAME_SECONDS) for word in hypothesis.words] == [2, 10, 18, 24]
    assert all(word.confidence == pytest.approx(0.6 / 0.6041, abs=1e-3) for word in hypothesis.words)


def test_n_best_are_different_texts():
    texts = read("u kAt iz hir", fusion(), nbest=5, doubts={1: "E", 3: "h"})  # two ways to say a
    assert sorted(texts) == ["a cat is here", "a hat is here"]


def test_what_no_word_fits_is_written_by_rules_and_costs_as_an_unknown_word():
    assert read("Der iz u strOk", fusion()) == ["there is a strohk"]
    greedy = GreedyDecoder(PHONES, FRAME_SECONDS, pronunciations=Pronunciations(SPOKEN, Rules))  # type: ignore[arg-type]
    assert decode(greedy, heard("Der strOk"))[0].text == "their strohk"
    bare = GreedyDecoder(PHONES, FRAME_SECONDS, pronunciations=Pronunciations(SPOKEN))
    assert decode(bare, heard("DA"))[0].text == "dhae"  # without rules the names of the phones


def test_greedy_writes_the_most_usual_word():
    pronunciations = Pronunciations(SPOKEN)
    assert decode(GreedyDecoder(PHONES, FRAME_SECONDS, pronunciations=pronunciations), heard("hir"))[0].text == "here"
    model, _ = estimate(["there there", "hear their hear"], 2)
    decoder = GreedyDecoder(PHONES, FRAME_SECONDS, pronunciations=pronunciations, model=model)
    assert decode(decoder, heard("hir Der hir"))[0].text == "hear there hear"


def test_greedy_writes_a_rare_word_rather_than_one_that_the_model_does_not_have():
    model, _ = estimate(["their a b c d e f"], 1, {"their", "the"})
    assert model.score(ROOT, model.vocabulary.unknown)[0] > model.score(ROOT, model.vocabulary.id("their"))[0]
    decoder = GreedyDecoder(PHONES, FRAME_SECONDS, pronunciations=Pronunciations(SPOKEN), model=model)
    assert decode(decoder, heard("Der hir"))[0].text == "their here"


def test_hotwords_are_written_as_they_were_given():
    assert read("smIT iz hir", fusion({"smyth": 9.0})) == ["smyth is here"]
    assert read("Ivunho iz hir", fusion({"ivanhoe": 9.0})) == ["ivanhoe is here"]
    assert read("Ivunho iz hir", fusion({"ivanhoe": 9.0}, lm=False)) == ["ivanhoe is here"]


def test_a_hotword_wins_over_a_word_that_sounds_alike_if_its_boost_decides_so():
    name = "mistR smiT"
    assert read(name, fusion()) == ["mister smith"]
    assert read(name, fusion({"smyth": 9.0})) == ["mister smyth"]
    assert read(name, fusion({"mister smyth": 9.0})) == ["mister smyth"]
    known = [*SENTENCES, "mister smith"] * 3
    pronunciations = Pronunciations(SPOKEN, Rules)  # type: ignore[arg-type]
    model = PronouncedModel(estimate(known, 3)[0], SPOKEN)
    weak, strong = (
        Fusion(PHONES, model, hotwords={"smyth": boost}, pronunciations=pronunciations) for boost in (0.1, 9.0)
    )
    assert read(name, weak) == ["mister smith"]
    assert read(name, strong) == ["mister smyth"]
    phrase = Fusion(PHONES, model, hotwords={"mister smyth": 9.0}, pronunciations=pronunciations)
    assert read(name, phrase) == ["mister smyth"]
    assert read("Der smiT", phrase) == ["their smith"]  # not the whole phrase


def test_a_hotword_is_preferred_where_the_sound_is_in_doubt():
    doubt = {5: "e"}  # of Ivunho
    assert read("Ivunho", fusion(), doubts=doubt) != read("Ivunho", fusion({"ivanhoe": 9.0}), doubts=doubt)
    assert read("Ivunhe", fusion({"ivanhoe": 9.0}), doubts={6: "o"}) == ["ivanhoe"]


def test_the_users_own_words_are_not_unknown():
    lexicon = Lexicon.of([("strahk", "strOk"), *SPOKEN])
    model = estimate(SENTENCES * 3, 3)[0]
    scores = []
    for own in (frozenset[str](), frozenset({"strahk"})):
        used = Fusion(
            PHONES, PronouncedModel(model, lexicon), pronunciations=Pronunciations(lexicon, lambda: None, own)
        )
        (hypothesis,) = decode(BeamDecoder(PHONES, FRAME_SECONDS, fusion=used), heard("Der iz u strOk"))
        assert hypothesis.text == "there is a strahk"
        scores.append(hypothesis.score - hypothesis.acoustic)
    assert scores[1] - scores[0] == pytest.approx(13.0)


def long_text(seed: int, words: int = 40) -> np.ndarray:
    """Log-probs of random words, with doubts."""
    generator = np.random.default_rng(seed)
    entries = [pronunciation for _, pronunciation in SPOKEN]
    text = " ".join(generator.choice(entries, words))
    places = generator.choice(len(text), len(text) // 4, replace=False)
    return heard(text, {int(place): str(generator.choice([*LETTERS])) for place in places})


@pytest.mark.parametrize("nbest", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_any_way_to_cut_chunks_gives_bit_equal_hypotheses_and_stable_words_stay(seed: int, nbest: int):
    log_probs = long_text(seed)
    generator = np.random.default_rng(seed)
    decoder = BeamDecoder(PHONES, FRAME_SECONDS, fusion=fusion({"mister smyth": 4.0}), nbest=nbest)
    whole = decode(decoder, log_probs)
    state, stable, longest = decoder.reset(), [], 0
    cuts = np.cumsum(generator.integers(1, 30, len(log_probs)))
    for chunk in np.split(log_probs, cuts[cuts < len(log_probs)]):
        decoder.advance(state, chunk)
        partial = decoder.partial(state)
        texts = [word.text for word in partial.words]
        assert texts[: len(stable)] == stable
        stable = texts[: partial.stable]
        longest = max(longest, len(stable))
    hypotheses = decoder.finish(state)
    assert hypotheses == whole
    assert [word.text for word in hypotheses[0].words][: len(stable)] == stable
    assert longest > 20


def test_a_word_that_is_not_complete_is_not_shown():
    decoder = BeamDecoder(PHONES, FRAME_SECONDS, fusion=fusion())
    greedy = GreedyDecoder(PHONES, FRAME_SECONDS, pronunciations=Pronunciations(SPOKEN))
    for state, used in ((decoder.reset(), decoder), (greedy.reset(), greedy)):
        shown = []
        for row in heard("hir Du mistR"):
            used.advance(state, row[None])
            shown.append(used.partial(state).text)
        assert {text.replace("hear", "here") for text in shown} == {"", "here", "here the", "here the mister"}


def test_threads_share_one_decoder_and_each_text_is_as_if_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asr.decode.fusion.CACHED", 300)
    monkeypatch.setattr("asr.decode.lexicon.CONTEXTS", 2)
    decoder = BeamDecoder(PHONES, FRAME_SECONDS, 8, fusion=fusion({"mister smyth": 4.0}))
    log_probs = [long_text(seed, words=15) for seed in range(16)]
    alone = [decode(decoder, rows) for rows in log_probs]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(decode, [decoder] * 16, log_probs)) == alone


def test_pieces_of_several_phones_spell_words_as_single_phones_do():
    pieces = Tokens([BLANK, "▁D", "▁Du", "er", "▁iz", "▁u", "▁hws", "▁k", "At", "▁h", "ir"])
    symbols = ["▁D", "er", "▁k", "At", "▁iz", "▁h", "ir"]
    model: NgramModel = estimate(SENTENCES * 3, 3)[0]
    used = Fusion(pieces, PronouncedModel(model, SPOKEN), pronunciations=Pronunciations(SPOKEN))
    decoder = BeamDecoder(pieces, FRAME_SECONDS, fusion=used)
    assert decode(decoder, spoken(symbols, {}, pieces))[0].text == "their cat is here"


@pytest.mark.parametrize("tokens", ALPHABETS)
def test_nothing_heard_is_no_word(tokens: Tokens):
    decoder = BeamDecoder(tokens, FRAME_SECONDS, fusion=Parts(tokens, random_model(3, 1)).fusion())
    assert decode(decoder, np.log(np.full((3, 4), [1.0, 1e-9, 1e-9, 1e-9])))[0].words == ()
