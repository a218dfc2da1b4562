"""Forced alignment against brute force and torchaudio, and on real speech against what the decoder hears by itself."""

import itertools
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import carrier
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.sources import read
from asr.data.manifest import Entry
from asr.decode.word_times import AFTER_SPIKE, DELAY, AlignedToken
from asr.errors import AsrError, AudioError
from asr.model.bundle import load_bundle
from asr.model.tokens import BLANK, WORD_START, Tokens
from asr.normalize import normalize
from asr.recognize import align as align_module
from asr.recognize.align import align, forced_align, spellings, split_words
from asr.recognize.offline import Recognizer

FRAME = 0.04  # seconds
RATE = carrier.RATE
PIECES = Tokens([BLANK, "▁t", "he", "▁the", "re", "▁", *"ehrt'"])


@st.composite
def problems(draw: st.DrawFn, longest: int = 40) -> tuple[np.ndarray, list[int]]:
    """Log-probs (frames, tokens) and targets that fit into them, equal neighbours included."""
    vocabulary = draw(st.integers(2, 5))
    targets = draw(st.lists(st.integers(1, vocabulary - 1), min_size=1, max_size=max(1, longest // 3)))
    needed = len(targets) + sum(one == other for one, other in itertools.pairwise(targets))
    frames = draw(st.integers(needed, max(needed, longest)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.log(rng.dirichlet(np.ones(vocabulary), size=frames)).astype(np.float32), targets


def path_of(aligned: Sequence[AlignedToken], frames: int) -> list[int]:
    """The symbol of each frame; the runs must be in order and apart."""
    path, free_from = [0] * frames, 0
    for item in aligned:
        assert free_from <= item.first <= item.last < frames
        free_from = item.last + 1
        path[item.first : free_from] = [item.token] * (free_from - item.first)
    return path


def spelled_by(path: Sequence[int]) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


def score(log_probs: np.ndarray, path: Sequence[int]) -> float:
    return float(log_probs[np.arange(len(path)), path].sum(dtype=np.float64))


@given(problems(longest=6))
def test_no_path_that_spells_the_targets_is_better(problem: tuple[np.ndarray, list[int]]) -> None:
    log_probs, targets = problem
    if log_probs.size > 30:
        return
    paths = itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    best = max(score(log_probs, path) for path in paths if spelled_by(path) == targets)
    path = path_of(forced_align(log_probs, targets), len(log_probs))
    assert spelled_by(path) == targets
    assert score(log_probs, path) == pytest.approx(best, rel=1e-6)


@pytest.fixture(scope="module")
def torchaudio_path() -> Callable[[np.ndarray, list[int]], list[int]]:
    """`torchaudio.functional.forced_align` of one recording."""
    torch = pytest.importorskip("torch", reason="torchaudio is the yardstick: pip install 'recurrent-asr[train]'")
    functional = pytest.importorskip(
        "torchaudio.functional", reason="the yardstick: pip install 'recurrent-asr[train]'"
    )

    def path(log_probs: np.ndarray, targets: list[int]) -> list[int]:
        symbols, _ = functional.forced_align(torch.tensor(log_probs)[None], torch.tensor([targets], dtype=torch.int32))
        return symbols[0].tolist()

    return path


@given(problem=problems())
def test_the_path_is_that_of_torchaudio(
    torchaudio_path: Callable[[np.ndarray, list[int]], list[int]], problem: tuple[np.ndarray, list[int]]
) -> None:
    log_probs, targets = problem
    assert path_of(forced_align(log_probs, targets), len(log_probs)) == torchaudio_path(log_probs, targets)


@given(problem=problems(), levels=st.integers(1, 3))
def test_where_several_paths_are_best_the_score_is_as_high_as_torchaudios(
    torchaudio_path: Callable[[np.ndarray, list[int]], list[int]], problem: tuple[np.ndarray, list[int]], levels: int
) -> None:
    log_probs, targets = np.maximum(problem[0].round(), -levels), problem[1]
    ours = path_of(forced_align(log_probs, targets), len(log_probs))
    assert spelled_by(ours) == targets
    assert score(log_probs, ours) >= score(log_probs, torchaudio_path(log_probs, targets))


def test_a_run_has_its_tokens_highest_log_prob() -> None:
    probs = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.3, 0.6]])
    log_probs = np.log(probs).astype(np.float32)
    first, second = forced_align(log_probs, [1, 2])
    assert (first.first, first.last, second.first, second.last) == (1, 2, 3, 3)
    assert np.exp([first.log_prob, second.log_prob]) == pytest.approx([0.8, 0.6])


def test_equal_tokens_are_parted_by_a_blank_even_where_none_is_heard() -> None:
    log_probs = np.log(np.full((3, 2), [1e-6, 1 - 1e-6])).astype(np.float32)
    assert path_of(forced_align(log_probs, [1, 1]), 3) == [1, 0, 1]


@pytest.mark.parametrize(("frames", "targets"), [(0, [1]), (2, [1, 2, 1]), (3, [1, 2, 2])])
def test_a_text_that_the_audio_cannot_hold_is_refused(frames: int, targets: list[int]) -> None:
    with pytest.raises(AsrError, match="too long for the audio") as caught:
        forced_align(np.zeros((frames, 3), dtype=np.float32), targets)
    assert f"there are {frames}" in str(caught.value)


def test_memory_is_a_small_part_of_the_trellis() -> None:
    frames, targets = 4000, [1, 2] * 300
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(3), size=frames)).astype(np.float32)
    tracemalloc.start()
    try:
        aligned = forced_align(log_probs, targets)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert spelled_by(path_of(aligned, frames)) == targets
    assert peak < frames * len(targets) / 4  # bytes; a byte for each state would be 8 times that


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align_module, "TRELLIS_BYTES", 10_000)
    with pytest.raises(AsrError, match="cut the recording and its text"):
        forced_align(np.zeros((1000, 3), dtype=np.float32), [1, 2] * 100)


@given(st.lists(st.sampled_from(["Hello,", "—", "«", "well-known", "...", "O'Brien's", "'tis", "42", "&", "a"])))
def test_words_keep_their_spelling_and_marks_go_with_a_neighbour(text: list[str]) -> None:
    words = split_words(" \n".join(text))
    assert all(normalize(word) for word in words)
    assert len(words) == sum(bool(normalize(word)) for word in text)
    if words:
        assert " ".join(words) == " ".join(text)


def test_a_mark_goes_with_the_word_before_it_or_at_the_start_with_the_one_after() -> None:
    assert split_words("— Yes — he said … no") == ["— Yes —", "he", "said …", "no"]


def test_a_word_is_spelled_as_it_is_scored() -> None:
    spelled = spellings(["“There”", "re-the", "’t", "ETHER’E"], PIECES)
    assert ["".join(PIECES.symbols[token] for token in ids) for (ids,) in spelled] == [
        "▁there",
        "▁re▁the",
        "▁t",
        "▁ether'e",
    ]
    assert spellings(["there"], PIECES) == [[[3, 4]]]  # ▁the re


def test_a_lone_word_start_is_spelled_between_words_only() -> None:
    tokens = Tokens([BLANK, WORD_START, *"abc"])
    assert spellings(["cab", "a"], tokens) == [[[4, 2, 3]], [[1, 2]]]


def test_a_model_in_capitals_is_spelled_in_capitals() -> None:
    tokens = Tokens([BLANK, WORD_START, *"ABC"])
    assert spellings(["Cab"], tokens, upper=True) == [[[4, 2, 3]]]


def test_words_that_the_model_cannot_spell_are_named() -> None:
    with pytest.raises(AsrError) as caught:
        spellings(["the", "42", "thé", "tree", "9", "the", "8th"], PIECES)
    assert str(caught.value) == (
        "the model cannot spell “42” (word 2), “thé” (word 3), “9” (word 5) and 1 more; "
        "write numbers and signs as they are spoken, with the letters 'ehrt"
    )


@pytest.fixture(scope="module", params=["whole", "live"])
def reader(request: pytest.FixtureRequest, carrier_bundle: Path, streaming_carrier_bundle: Path) -> Recognizer:
    """Reads the audio of `carrier.speech`."""
    return Recognizer(carrier_bundle if request.param == "whole" else streaming_carrier_bundle, threads=1)


def test_words_have_the_times_and_confidences_that_the_decoder_gives_them(reader: Recognizer) -> None:
    samples = carrier.speech("the cat's meow ", silence=30)
    transcript, heard = align(reader, samples, "The cat’s — meow?!", RATE), reader.transcribe(samples, RATE)
    assert transcript.text == "The cat’s — meow?!"
    assert [(word.start, word.end) for word in transcript.words] == [(word.start, word.end) for word in heard.words]
    assert [word.confidence for word in transcript.words] == pytest.approx([word.confidence for word in heard.words])
    assert transcript.duration == pytest.approx(heard.duration, abs=FRAME)


def test_a_word_of_two_parts_lasts_from_the_first_to_the_last(reader: Recognizer) -> None:
    word, after = align(reader, carrier.speech("ab cd ef", silence=10), "ab-cd ef", RATE).words
    # Each character has two frames; the last one's second is blank.
    early, late = (DELAY, 0) if reader.bundle.config.streaming else (0, AFTER_SPIKE)
    first, last = 10 * FRAME - early, (10 + 2 * 5 - 1) * FRAME + late
    assert (word.text, word.start, word.end) == ("ab-cd", pytest.approx(first), pytest.approx(last))
    assert after.start == pytest.approx((10 + 2 * 6 - 0.5) * FRAME - early), "within speech half a frame earlier"
    assert word.confidence == pytest.approx(1, abs=1e-3)


def test_a_recording_of_several_windows_is_aligned_as_a_whole(reader: Recognizer) -> None:
    text = "one two three four five six seven eight nine ten " * 25  # 98 s
    transcript = align(reader, carrier.speech(text), text, RATE)
    assert transcript.words == reader.transcribe(carrier.speech(text), RATE).words
    assert len(transcript.segments) > 1


def test_words_that_were_not_spoken_are_marked_and_move_no_others(reader: Recognizer) -> None:
    samples = carrier.speech("the cat sat", silence=20)
    words = align(reader, samples, "the black cat sat", RATE).words
    assert [(word.text, word.spoken) for word in words] == [
        ("the", True), ("black", False), ("cat", True), ("sat", True)
    ]  # fmt: skip
    assert (words[1].start, words[1].end, words[1].confidence) == (words[0].end, words[0].end, 0)
    right = align(reader, samples, "the cat sat", RATE).words
    assert [(word.text, word.start) for word in words if word.spoken] == [(word.text, word.start) for word in right]
    assert words[1].to_dict()["spoken"] is False


def test_a_text_that_does_not_fit_is_refused(reader: Recognizer) -> None:
    samples = carrier.speech("the cat sat on the mat", silence=20)
    with pytest.raises(AsrError, match=r"does not fit the recording: \d of its 3 words were not found"):
        align(reader, samples, "quick brown fox", RATE)
    assert len(align(reader, samples, "the quick brown mat", RATE, min_confidence=0).words) == 4


def test_speech_that_the_text_does_not_have_is_passed_over(reader: Recognizer) -> None:
    before, between, after = (
        carrier.speech(f" {text}") for text in ("some other words that", "go on and on", "the end")
    )
    parts = [before, carrier.speech(" cat sat"), between, carrier.speech(" mat"), after]
    words = align(reader, np.concatenate(parts), "cat sat mat", RATE).words
    frames = np.cumsum([0, *(len(part) / RATE for part in parts)])
    assert [word.spoken for word in words] == [True] * 3
    assert words[0].start == pytest.approx(frames[1], abs=0.1)
    assert words[2].start == pytest.approx(frames[3], abs=0.1)


def test_a_word_stays_with_its_neighbor_where_one_like_it_is_far_away() -> None:
    probs = np.full((200, 4), [0.97, 0.01, 0.01, 0.01])
    probs[10] = [0.05, 0.93, 0.01, 0.01]
    probs[20:158:4] = probs[160] = [0.001, 0.01, 0.01, 0.979]
    probs[162] = [0.05, 0.01, 0.93, 0.01]
    first, second = forced_align(np.log(probs), [1, 2], [0, 1])
    assert second.first == 162
    assert 158 <= first.first < 162


def test_right_texts_are_found_within_long_speech_and_wrong_ones_refused(recorded_entries: list[Entry]) -> None:
    recognizer, parts = Recognizer("en-bilstm", "greedy"), [read(entry.audio) for entry in recorded_entries[:20]]
    ends = np.cumsum([len(part) for part in parts]) / RATE
    samples = np.concatenate(parts)
    for number in range(1, 20, 4):
        text = recorded_entries[number].text
        spoken = [word for word in align(recognizer, samples, text, RATE).words if word.spoken]
        assert ends[number - 1] - 0.3 < spoken[0].start < spoken[-1].end < ends[number] + 0.3, text
    others = " ".join(entry.text for entry in recorded_entries[20:]).split()
    for start, count in ((0, 8), (10, 8), (20, 12), (40, 20)):
        with pytest.raises(AsrError, match="does not fit"):
            align(recognizer, samples, " ".join(others[start : start + count]), RATE)


def test_numbers_are_read_aloud_and_written_as_they_were(carrier_bundle: Path) -> None:
    bundle = load_bundle(carrier_bundle)
    samples = carrier.speech("it cost five dollars in nineteen eighty four")
    english = Recognizer(replace(bundle, config=replace(bundle.config, language="en")), threads=1)
    words = align(english, samples, "It cost $5 in 1984.", RATE).words
    assert [word.text for word in words] == ["It", "cost", "$5", "in", "1984."]
    assert all(word.confidence > 0.9 for word in words)
    own = {"V$": "five dollars", "MCMLXXXIV": "nineteen eighty four"}
    read = align(english, samples, "It cost V$ in MCMLXXXIV", RATE, read_aloud=lambda word: own.get(word, word)).words
    assert [(word.start, word.end) for word in read] == [(word.start, word.end) for word in words]


def test_a_word_that_cannot_be_spelled_is_marked_and_moves_no_others(
    reader: Recognizer, caplog: pytest.LogCaptureFixture
) -> None:
    samples = carrier.speech("the cat sat", silence=20)
    right = align(reader, samples, "the cat sat", RATE).words
    for text, expected in (("α the cat β sat", [3, 0, 1, 3, 2]), ("the cat sat 5$/h", [0, 1, 2, 3])):
        caplog.clear()
        words = align(reader, samples, text, RATE).words
        assert [word.text for word in words] == text.split()
        assert [word.spoken for word in words] == [number < 3 for number in expected]
        assert [word for word in words if word.spoken] == list(right)
        (message,) = caplog.messages
        assert "cannot spell “α” (word 1), “β” (word 4); " in message or "cannot spell “5$/h” (word 4); " in message
    with pytest.raises(AsrError, match=r"cannot spell “α” \(word 1\), “β” \(word 2\); "):
        align(reader, samples, "α β", RATE)


def test_a_number_or_a_price_with_spaces_is_one_word() -> None:
    text = "$ 5 and £ 2.50, 5 € 20 then 10 000 and 1\u2009500\u202f000 $, e. g. 555 123 4567 or 2000 500"
    assert split_words(text) == [
        *("$ 5", "and", "£ 2.50,", "5 €", "20", "then", "10 000", "and", "1\u2009500\u202f000 $,", "e. g."),
        *("555", "123", "4567", "or", "2000", "500"),
    ]


def test_a_wrong_text_of_real_speech_is_refused_and_two_wrong_words_are_marked(recorded_entries: list[Entry]) -> None:
    """Of today's model: 12 of 12 refused, and of 12 the two words marked, in 10 of them no others."""
    recognizer, refused, marked, alone = Recognizer("en-bilstm", "greedy"), 0, 0, 0
    entries = [entry for entry in recorded_entries if (entry.seconds or 0) > 4][:12]
    for entry, other in zip(entries, entries[1:] + entries[:1], strict=True):
        words = entry.text.split()
        with_two = " ".join([*words[:3], "umbrella", "chocolate", *words[3:]])
        unspoken = {word.text for word in align(recognizer, entry.audio, with_two).words if not word.spoken}
        marked += unspoken >= {"umbrella", "chocolate"}
        alone += unspoken == {"umbrella", "chocolate"}
        try:
            align(recognizer, entry.audio, " ".join(other.text.split()[: len(words)]))
        except AsrError:
            refused += 1
        align(recognizer, entry.audio, entry.text)  # a right text is not refused
    assert (refused >= 11, marked >= 11, alone >= 9) == (True, True, True), (refused, marked, alone)


def test_a_wrong_text_whose_words_have_no_confidence_is_refused(recorded_entries: list[Entry]) -> None:
    recognizer = Recognizer("en-bilstm", "greedy")
    (entry,) = (entry for entry in recorded_entries if entry.id == "2277-149874-0002")
    text = "the quick brown fox jumped over the lazy dog near paris"
    words = align(recognizer, entry.audio, text, min_confidence=0).words
    assert sum(word.confidence < 0.0005 for word in words) >= 9  # 10 of 11
    with pytest.raises(AsrError, match=r"does not fit the recording: 1[01] of its 11 words"):
        align(recognizer, entry.audio, text)


def test_words_have_the_length_that_they_were_spoken_with(recorded_entries: list[Entry]) -> None:
    """The last word ends where the level falls; its token is a spike before that."""
    recognizer, errors = Recognizer("en-bilstm", "greedy"), []
    for entry in recorded_entries[:24]:
        samples = read(entry.audio)
        level = 10 * np.log10([np.mean(samples[i : i + 400] ** 2) + 1e-12 for i in range(0, len(samples) - 400, 160)])
        loudest = np.quantile(level, 0.95)
        if loudest - np.quantile(level, 0.05) < 35:
            continue  # where speech ends cannot be told from the noise
        end = (np.flatnonzero(level > loudest - 25)[-1] + 2) / 100
        errors.append(align(recognizer, entry.audio, entry.text).words[-1].end - end)
    assert len(errors) > 5
    assert np.median(np.abs(errors)) < 0.08


@pytest.mark.parametrize("text", ["", " \n", "— … !"])
def test_a_text_without_words_is_refused(reader: Recognizer, text: str) -> None:
    with pytest.raises(AsrError, match="no words"):
        align(reader, carrier.speech("words"), text, RATE)


def test_audio_that_cannot_be_read_to_its_end_is_refused(reader: Recognizer, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "all the words that were spoken", silence=200)
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(AudioError, match="truncated"):
        align(reader, path, "all the words")


def test_progress_adds_up_to_the_recording(reader: Recognizer) -> None:
    told: list[float] = []
    samples = carrier.speech("words " * 120)
    align(reader, samples, "words " * 120, RATE, on_progress=lambda _, seconds: told.append(seconds))
    assert sum(told) == pytest.approx(len(samples) / carrier.RATE)


def test_words_of_real_speech_are_where_the_decoder_hears_them(dev_entries: list[Entry]) -> None:
    """The decoder knows nothing of the text; where it hears the right word, it hears it where the text has it."""
    recognizer = Recognizer("en-bilstm", threads=1)
    agreed = heard_right = 0
    entries = dev_entries[:20]
    for entry in entries:
        words, heard = align(recognizer, entry.audio, entry.text).words, recognizer.transcribe(entry.audio).words
        assert [word.text for word in words] == entry.text.split()
        assert all(one.end <= other.start for one, other in itertools.pairwise(words))
        spoken, decoded = [word.text.lower() for word in words], [word.text for word in heard]
        for match in SequenceMatcher(None, spoken, decoded, autojunk=False).get_matching_blocks():
            for ours, theirs in zip(words[match.a :][: match.size], heard[match.b :][: match.size], strict=True):
                heard_right += 1
                agreed += abs(ours.start - theirs.start) <= 2 * FRAME and abs(ours.end - theirs.end) <= 2 * FRAME
    assert heard_right > 0.6 * sum(len(entry.text.split()) for entry in entries)
    assert agreed >= 0.95 * heard_right
