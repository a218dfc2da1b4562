"""A model that spells pronunciations: files, streams, many streams, the user's lexicon, alignment with phones."""

import json
from itertools import pairwise
from pathlib import Path

import carrier
import numpy as np
import pytest
import soundfile

from asr import Final, Partial, StreamingRecognizer, load_model
from asr.decode import build
from asr.decode.build import DecoderOptions
from asr.decode.word_times import AFTER_SPIKE, AlignedToken
from asr.errors import ArgumentError, AsrError, BundleError
from asr.lm.binary import save_model
from asr.lm.estimate import estimate
from asr.model.bundle import load_bundle
from asr.model.tokens import BLANK, Tokens
from asr.output.writers import render
from asr.recognize.align import align, best_spellings, forced_align, spellings, time_phones
from asr.recognize.batcher import Batcher
from asr.recognize.offline import Recognizer

FRAME = carrier.FRAME / carrier.RATE
ENTRIES = [
    *(("there", "Der"), ("their", "Der"), ("is", "iz"), ("house", "hws"), ("a", "u"), ("a", "E"), ("the", "Du")),
    *(("the", "Di"), ("smith", "smiT"), ("here", "hir"), ("either", "iDR"), ("either", "IDR"), ("cat", "kAt")),
]
SENTENCES = ["there is a house", "there is a cat", "their house is here", "their cat is here"]
THEIR = carrier.pronounced("Der hws iz hir")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return carrier.write_pronouncing_bundle(tmp_path_factory.mktemp("bundles") / "phones", ENTRIES)


@pytest.fixture(scope="module")
def live_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return carrier.write_pronouncing_bundle(tmp_path_factory.mktemp("bundles") / "live", ENTRIES, streaming=True)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In capitals, as some are."""
    path = tmp_path_factory.mktemp("lm") / "small.lm"
    save_model(estimate([sentence.upper() for sentence in SENTENCES * 3], 3)[0], path)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text("Moiré\tM AA R EY\nhere\tHH EH R\n")
    return path


def test_files_are_written_in_words(bundle: Path, lm: Path):
    assert load_model(bundle, "greedy").transcribe(THEIR, carrier.RATE).text == "there house is here"
    assert (
        load_model(bundle, DecoderOptions("beam", lm=lm)).transcribe(THEIR, carrier.RATE).text == "their house is here"
    )
    words = (
        load_model(bundle, DecoderOptions("greedy", lm=lm)).transcribe(carrier.pronounced("Der iz"), carrier.RATE).words
    )
    assert [(word.text, word.start, word.end) for word in words] == [
        ("there", 0, pytest.approx(5 * FRAME + AFTER_SPIKE)),
        ("is", pytest.approx(7.5 * FRAME), pytest.approx(12 * FRAME)),
    ]


def test_many_streams_and_one_write_what_the_file_gives(live_bundle: Path, lm: Path):
    options = DecoderOptions("beam", lm=lm, nbest=2)
    samples = np.concatenate([THEIR, np.zeros(40_000, dtype=np.float32)])
    recognizer = StreamingRecognizer(live_bundle, options)
    events = [
        event for at in range(0, len(samples), 1000) for event in recognizer.accept(samples[at : at + 1000], 16_000)
    ]
    events += recognizer.finish()
    assert [event.text for event in events if isinstance(event, Final)] == ["their house is here"]
    partial = [event for event in events if isinstance(event, Partial)]
    assert all(word in {*" ".join(SENTENCES).split()} for event in partial for word in event.text.split())
    assert any(event.stable_prefix for event in partial)
    batcher = Batcher(live_bundle, options)
    streams = [batcher.open() for _ in range(3)]
    for stream in streams:
        stream.feed(samples, 16_000)
        stream.finish()
    finals: dict[object, list[str]] = {stream: [] for stream in streams}
    while not all(stream.done for stream in streams):
        for stream, new in batcher.step():
            finals[stream] += [event.text for event in new if isinstance(event, Final)]
    assert [*finals.values()] == [["their house is here"]] * 3


def test_the_users_lexicon_adds_words_and_replaces_pronunciations(bundle: Path, lm: Path, own: Path):
    beam = load_model(bundle, DecoderOptions("beam", lm=lm, lexicon=own))
    assert beam.transcribe(carrier.pronounced("Der iz u marE"), carrier.RATE).text == "there is a Moiré"
    assert beam.transcribe(carrier.pronounced("Der kAt iz her"), carrier.RATE).text == "their cat is here"
    assert beam.transcribe(carrier.pronounced("hir"), carrier.RATE).text != "here"
    greedy = load_model(bundle, DecoderOptions("greedy", lexicon=own))
    assert greedy.transcribe(carrier.pronounced("marE"), carrier.RATE).text == "Moiré"


def test_a_hotword_needs_a_pronunciation(bundle: Path, own: Path):
    with pytest.raises(ArgumentError, match=r"hotword 'the Moiré': 'moiré' has no pronunciation.*lexicon"):
        load_model(bundle, DecoderOptions("beam", hotwords="the Moiré"))
    with pytest.raises(ArgumentError, match="hotword 'R2D2': 'r2d2' has no pronunciation"):
        load_model(bundle, DecoderOptions("beam", hotwords=["R2D2"]))
    recognizer = load_model(bundle, DecoderOptions("beam", hotwords="MOIRÉ, SMITH:3", lexicon=own))
    assert recognizer.decoder.fusion.written_hotwords.boosts == {"Moiré": 9.0, "smith": 3.0}


def test_words_of_a_language_model_that_no_lexicon_has_are_pronounced_by_rules(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    class Rules:
        def say_all(self, word: str, count: int) -> list[str]:
            return {"marey": ["marE"]}.get(word, [])

    monkeypatch.setattr("asr.decode.build._pronouncer", lambda path: Rules())
    build._pronunciations.cache_clear()
    save_model(estimate([*SENTENCES, "there is a marey", "there is a zyx"] * 3, 3)[0], tmp_path / "more.lm")
    with caplog.at_level("WARNING", "asr"):
        recognizer = load_model(bundle, DecoderOptions("beam", lm=tmp_path / "more.lm"))
    assert [record.message for record in caplog.records] == ["1 words of the language model have no pronunciation"]
    build._pronunciations.cache_clear()
    assert recognizer.transcribe(carrier.pronounced("Der iz u marE"), carrier.RATE).text == "there is a marey"


def test_a_lexicon_for_a_model_that_spells_letters_is_one_clear_line(carrier_bundle: Path, own: Path):
    for name in ("beam", "greedy"):
        with pytest.raises(
            ArgumentError, match="lexicon: carrier spells words with letters; a lexicon goes with a model"
        ):
            load_model(carrier_bundle, DecoderOptions(name, lexicon=own))


def test_a_lexicon_that_cannot_be_read_is_one_clear_line(bundle: Path, tmp_path: Path):
    with pytest.raises(AsrError, match=r"none\.txt: cannot be read"):
        load_model(bundle, DecoderOptions("beam", lexicon=tmp_path / "none.txt"))
    (tmp_path / "bad.txt").write_text("moire\tM AA R EY\nhere\tHH QQ\n")
    with pytest.raises(AsrError, match=r"bad\.txt:2: 'QQ' is not a phone"):
        load_model(bundle, DecoderOptions("beam", lexicon=tmp_path / "bad.txt"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lexicon": "../own.lex"}, r"no lexicon '\.\./own\.lex': neither a file in the bundle nor one of"),
        ({"lexicon": "none"}, r"no lexicon 'none'"),
        ({"lexicon": ""}, r"config\.json: not the config of a bundle"),
        ({"spelling": "runes"}, r"config\.json: not the config of a bundle \(spelling is 'runes'"),
        ({"spelling": "letters"}, r"config\.json: not the config of a bundle"),
    ],
)
def test_a_config_that_names_no_lexicon_of_its_own_is_refused(tmp_path: Path, changes: dict, message: str):
    folder = carrier.write_pronouncing_bundle(tmp_path / "bundle", ENTRIES)
    (tmp_path / "own.lex").write_bytes((folder / "own.lex").read_bytes())
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=message):
        load_model(folder)


def test_words_are_aligned_in_the_pronunciation_that_was_spoken(bundle: Path):
    for said in ("Du", "Di"):
        transcript = align(bundle, carrier.pronounced(f"iDR {said} kAt"), "Either the — cat!", carrier.RATE)
        assert [word.text for word in transcript.words] == ["Either", "the —", "cat!"]
        phones = [" ".join(phone.text for phone in word.phones) for word in transcript.words]
        assert phones == ["IH DH ER", "DH AH" if said == "Du" else "DH IH", "K AE T"]
        assert all(word.confidence > 0.9 for word in transcript.words)
        for word in transcript.words:
            times = [word.start, *(phone.start for phone in word.phones[1:]), word.end]
            assert [phone.start for phone in word.phones] == pytest.approx(times[:-1])
            assert [phone.end for phone in word.phones] == pytest.approx(times[1:])


def test_words_that_no_lexicon_has_are_named_unless_the_user_gives_them(bundle: Path, own: Path):
    samples = carrier.pronounced("Du marE")
    with pytest.raises(ArgumentError, match=r"cannot spell “Moirés” \(word 1\)"):
        align(bundle, samples, "Moirés", carrier.RATE)
    recognizer = Recognizer(bundle, DecoderOptions("greedy", lexicon=own), threads=1)
    aligned = align(recognizer, samples, "The Moiré", carrier.RATE)
    assert [phone.text for phone in aligned.words[1].phones] == ["M", "AA", "R", "EY"]


def test_the_best_spelling_has_the_highest_path_among_all():
    tokens = Tokens([BLANK, "▁a", "b", "▁ab", "A"])
    generator = np.random.default_rng(0)
    for _ in range(20):
        log_probs = np.log(generator.dirichlet(np.full(5, 0.3), size=9) + 1e-9)
        ways = [[[1], [3]], [[1, 2]], [[3, 4], [1]]]
        chosen = best_spellings(log_probs, ways)
        assert all(ids in way for ids, way in zip(chosen, ways, strict=True))
        first = [token for way in ways for token in way[0]]
        assert path_score(log_probs, [token for ids in chosen for token in ids]) >= path_score(log_probs, first) - 1e-6
    assert len(tokens) == 5


def path_score(log_probs: np.ndarray, targets: list[int]) -> float:
    """Of the best path, by the runs that `forced_align` finds."""
    aligned = forced_align(log_probs, targets)
    path = np.zeros(len(log_probs), dtype=int)
    for item in aligned:
        path[item.first : item.last + 1] = item.token
    return float(log_probs[np.arange(len(path)), path].sum())


def test_phones_of_one_token_share_its_time_and_the_last_ends_with_the_word():
    tokens = Tokens([BLANK, "▁", "▁Du", "kAt"])
    aligned = [AlignedToken(1, 0, 0, 0.0), AlignedToken(2, 2, 3, np.log(0.5)), AlignedToken(3, 6, 8, np.log(0.25))]
    phones = time_phones(aligned, tokens, 0.1)
    assert [(phone.text, round(phone.start, 6), round(phone.end, 6)) for phone in phones] == [
        *(("DH", 0.2, 0.4), ("AH", 0.4, 0.6), ("K", 0.6, 0.7), ("AE", 0.7, 0.8), ("T", 0.8, 0.9)),
    ]
    assert [round(phone.confidence, 6) for phone in phones] == [0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_word_is_pronounced_in_all_ways_of_its_parts(bundle: Path):
    tokens = load_bundle(bundle).tokens
    pronunciations = load_model(bundle, "greedy").decoder.pronunciations
    ways = spellings(["the", "a-cat"], tokens, pronunciations=pronunciations)
    spelled = [["".join(tokens.symbols[token] for token in ids) for ids in word] for word in ways]
    assert spelled == [["Du", "Di"], ["▁u▁kAt", "▁E▁kAt"]]


def test_phones_are_a_tier_of_a_textgrid_and_a_list_in_json(bundle: Path, tmp_path: Path):
    textgrid = pytest.importorskip("praatio.textgrid", reason="praatio is not installed: nothing read the textgrid")
    transcript = align(bundle, carrier.pronounced("Du kAt", silence=10), "The cat", carrier.RATE)
    path = tmp_path / "a.TextGrid"
    path.write_text(render(transcript, "textgrid", "a"))
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    assert grid.tierNames == ("words", "phones")
    for name, labels in (("words", "The cat"), ("phones", "DH AH K AE T")):
        entries = grid.getTier(name).entries
        assert [entry.label for entry in entries if entry.label] == labels.split()
        assert (entries[0].start, entries[-1].end) == (0, pytest.approx(transcript.duration, abs=1e-3))
        assert all(one.end == other.start for one, other in pairwise(entries))
    (word, _) = json.loads(render(transcript, "json", "a"))["segments"][0]["words"]
    assert [phone["phone"] for phone in word["phones"]] == ["DH", "AH"]
    assert word["phones"][0]["start"] == word["start"] == pytest.approx(10 * FRAME)
    assert word["phones"][-1]["end"] == word["end"]


def test_recordings_are_aligned_from_files(bundle: Path, tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", carrier.pronounced("Der hws"), carrier.RATE, subtype="PCM_16")
    assert align(bundle, tmp_path / "a.wav", "their house").words[0].phones[0].text == "DH"


def test_a_recurrent_model_weighs_words_even_with_letters_that_it_lacks(bundle: Path, own: Path, tmp_path: Path):
    pytest.importorskip("torch", reason="makes the model: pip install 'recurrent-asr[train]'")
    from neural_model import write_model

    folder = write_model(tmp_path / "recurrent", "characters")
    options = DecoderOptions("beam", lexicon=own, rescore=folder, hotwords="moiré", beam_width=8)
    transcript = load_model(bundle, options).transcribe(carrier.pronounced("Der iz u marE"), carrier.RATE)
    assert transcript.text.endswith(" is a Moiré")
    assert transcript.alternatives[0].rescoring < 0
