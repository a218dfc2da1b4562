"""The written form of words, of files and of live streams, with a tagger and numbers by rules."""

from collections.abc import Collection, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import carrier
import numpy as np
import pytest
import rule_tagger
from hypothesis import given, settings
from hypothesis import strategies as st
from live_model import chunk_sizes, cut

import asr
from asr.decode.build import DecoderOptions
from asr.errors import ArgumentError, AsrError
from asr.evaluate.live import Instability, transcribe_live
from asr.model.tagger import MARKS, Tag
from asr.output.events import Final, Partial
from asr.output.numbers import Number
from asr.output.transcript import Segment, Word
from asr.recognize import written
from asr.recognize.batcher import Batcher
from asr.recognize.endpoint import Endpoint
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import StreamingRecognizer
from asr.recognize.written import PIECE, Formatter, Writing


@pytest.fixture
def tagger(monkeypatch: pytest.MonkeyPatch) -> rule_tagger.RuleTagger:
    return rule_tagger.install(monkeypatch)


def timed(text: str, pause: float = 0.05) -> list[Word]:
    """Words of 0.3 s; after each the pause, or 0.4 s for `/` and 1 s for `//`."""
    words: list[Word] = []
    now = 0.0
    for item in text.split():
        if item.startswith("/"):
            now += {"/": 0.4, "//": 1.0}[item]
        else:
            words.append(Word(item, now, now + 0.3, 0.9))
            now += 0.3 + pause
    return words


def write(text: str, hotwords: str = "") -> str:
    """The text of a recording of these words."""
    formatter = written.find_formatter("written", "en", hotwords)
    assert formatter is not None
    return " ".join(filter(None, Writing(formatter).add(timed(text), complete=True)))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("where is ada // she is in london / i think", "Where is Ada? She is in London, I think."),
        ("yes // i'm here and i'll stay // i've said so", "Yes. I'm here and I'll stay. I've said so."),
        ("it cost five dollars // maybe two", "It cost $5. Maybe two."),
        ("on may the third / we left", "On May 3rd, we left."),
        ("may the third was cold", "May 3rd was cold."),
        ("call one two / three five // now", "Call 12, 35. Now."),
        ("doctor smith met the doctor // smith left", "Dr. Smith met the doctor. Smith left."),
        ("mister smith and missus mcdonald saw professor ada in saint london", None),
        ("the u s or the u k comma i e u comma s // d c", "The U.S. or the U.K. comma, i.e. u comma, s. D.C."),
        ("the u s a // in the u s a man", "The U.S.A. In the U.S. a man."),
        ("tell the doctor i am here", "Tell the doctor I am here."),
        ("a dash b colon c comma d", "A dash – b colon: c comma, d."),
        ("and so comma", "And so comma."),  # a recording does not end with a comma
        ("who is it", "Who is it?"),
        ("is it question", "Is it question?"),
    ],
)
def test_words_are_written(tagger: object, words: str, text: str | None) -> None:
    assert write(words) == (text or "Mr. Smith and Mrs. McDonald saw Prof. Ada in St. London.")


@pytest.mark.parametrize(
    ("hotwords", "text"),
    [
        ("iPhone, NATO:8", "iPhone sales and NATO's budget."),
        ("Sales And", "Iphone Sales And nato's budget."),
        ("nato, iphone", "Iphone sales and nato's budget."),  # no capitals: the tagger decides
        ("IPHONE SALES\niPhone", "IPHONE SALES and nato's budget."),
    ],
)
def test_hotwords_keep_the_case_that_they_were_given_in(tagger: object, hotwords: str, text: str) -> None:
    assert write("iphone sales and nato's budget", hotwords) == text


def test_a_hotword_is_not_a_number(tagger: object) -> None:
    assert write("one two", "One Two") == "One Two."


def test_a_word_that_is_more_than_letters_stays_and_full_stops_are_not_doubled(
    tagger: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "find_numbers", lambda words, breaks: [Number(1, 4, "5 p.m.")])
    assert write("at five p m") == "At 5 p.m."
    assert write("at five p m // Covid-19") == "At 5 p.m. Covid-19."
    monkeypatch.setattr(written, "find_numbers", lambda words, breaks: [])
    assert asr.punctuate("at 3.5 the U.S. won") == "At 3.5 the U.S. won."


def test_a_number_does_not_begin_before_what_is_written(tagger: object) -> None:
    formatter = written.find_formatter("written", "en")
    assert formatter is not None
    assert formatter.write(timed("paid two five dollars"), 2, 4, False) == (["$5.", ""], True)


class AnyTagger:
    """Whatever it was made with, again and again; it looks at nothing."""

    language = "en"

    def __init__(self, marks: Sequence[str]):
        self.marks = marks

    def tag(self, words: Sequence[str], pauses: object = None, confidences: object = None) -> list[Tag]:
        marks = [self.marks[len(word) % len(self.marks)] for word in words]
        return [Tag(mark, word) for word, mark in zip(words, marks, strict=True)]


@pytest.mark.parametrize(("mark", "end"), [("", "."), (",", "."), (".", "."), ("?", "?")])
def test_a_stream_that_ends_within_a_word_ends_its_sentence(mark: str, end: str) -> None:
    formatter = Formatter(AnyTagger([mark]), {})  # type: ignore[arg-type]
    assert formatter.write(timed("was"), 0, 1, True, after=0.0, ended=True) == ([f"Was{end}"], True)
    assert formatter.write(timed("was"), 0, 1, True, after=0.0) == (["Was"], False)


@given(
    st.lists(st.integers(1, 9), max_size=400),
    st.lists(st.sampled_from(MARKS), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 420), st.integers(1, 6)), max_size=60),
    st.lists(st.integers(0, 60), max_size=20),
)
def test_every_word_is_in_one_token_for_any_tags_and_numbers(
    lengths: list[int], marks: list[str], spans: list[tuple[int, int]], parts: list[int]
) -> None:
    texts = [f"{'x' * length}q" + "abcdefghij"[place % 10] * (place // 10) for place, length in enumerate(lengths)]

    def find(words: Sequence[str], breaks: Collection[int]) -> list[Number]:
        """Numbers at the same words wherever these stand."""
        numbers, end = [], 0
        for start, length in sorted(spans):
            place = words.index(texts[start]) if start < len(texts) and texts[start] in words else -1
            if place >= end and place + length <= len(words):
                end = place + length
                numbers.append(Number(place, end, "=".join(words[place:end])))
        return numbers

    words = [Word(text, 0.3 * place, 0.3 * place + 0.2, 0.9) for place, text in enumerate(texts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written, "find_numbers", find)
        formatter = Formatter(AnyTagger(marks), {})  # type: ignore[arg-type]
        whole = Writing(formatter).add(words, complete=True)
        writing, pieces = Writing(formatter), []
        for begin, end in pairwise(accumulate(parts, initial=0)):
            pieces += writing.add(words[begin:end])
        pieces += writing.add(words[sum(parts) :], complete=True)
    assert len(whole) == len(words)
    assert pieces == whole
    joined = " ".join(filter(None, whole)).replace("=", " ")
    plain = [part.strip("".join(MARKS)).lower() for part in joined.split()]
    assert [part for part in plain if part] == texts
    assert not whole or joined[-1] in ".?!"


def test_a_long_recording_is_tagged_in_pieces_with_words_on_both_sides(tagger: rule_tagger.RuleTagger) -> None:
    words = timed(" ".join(f"w{'abcdefghij'[place % 10]}" for place in range(5 * PIECE)))
    formatter = written.find_formatter("written", "en")
    assert formatter is not None
    Writing(formatter).add(words, complete=True)
    assert [len(call) for call in tagger.calls] == [PIECE + 20, *[PIECE + 40] * 3, PIECE + 20]


# Files


TALK = " ".join(
    f"part {number} was where ada went {'stop' if index % 3 else 'comma'} it cost two five dollars and so on"
    for index, number in enumerate(("one two three", "four", "five one") * 20)
)


def test_a_transcript_has_both_forms(tagger: object, carrier_bundle: Path) -> None:
    transcript = Recognizer(carrier_bundle, "greedy", threads=1).transcribe(carrier.speech(TALK), carrier.RATE)
    plain = Recognizer(carrier_bundle, "greedy", threads=1, style="spoken").transcribe(
        carrier.speech(TALK), carrier.RATE
    )
    assert transcript.text == plain.text == plain.written == TALK
    assert transcript.written.startswith("Part 123 was where Ada went comma, it cost $25 and so on part four was")
    assert str(transcript) == transcript.written
    assert [(word.text, word.start, word.end) for word in transcript.words] == [
        (word.text, word.start, word.end) for word in plain.words
    ]
    price = next(word for word in transcript.written_words if word.text == "$25")
    cost, dollars = (next(word for word in transcript.words if word.text == text) for text in ("cost", "dollars"))
    assert cost.end <= price.start < price.end == dollars.end
    assert transcript.alternatives[0].text == TALK
    with pytest.raises(ArgumentError, match="style"):
        Recognizer(carrier_bundle, "greedy", style="fancy")  # type: ignore[arg-type]


@pytest.mark.parametrize("streaming", [False, True])
def test_segments_shown_meanwhile_are_those_of_the_transcript(
    tagger: object, carrier_bundle: Path, streaming_carrier_bundle: Path, streaming: bool
) -> None:
    bundle = streaming_carrier_bundle if streaming else carrier_bundle
    recognizer = Recognizer(bundle, "greedy", batch_size=1, threads=1)
    shown: list[Segment] = []
    talk = carrier.speech(f"{TALK} {TALK}"), carrier.RATE
    progress: list[int] = []
    (recognition,) = recognizer.transcribe_all(
        [talk], lambda *_: progress.append(len(shown)), on_segment=lambda _, segment: shown.append(segment)
    )
    assert shown == [*recognition.transcript.segments]
    assert progress[-1] > len(shown) // 2, "half of them before the end"
    assert recognition.transcript == recognizer.transcribe(*talk)
    written_texts = [segment.written for segment in shown]
    assert all("$25" in text or "$" not in text for text in written_texts)
    assert max(map(len, written_texts)) <= 84


def test_a_language_without_a_tagger_stays_as_it_is_spoken(
    tagger: object, carrier_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "find_tagger", lambda language: None)
    transcript = Recognizer(carrier_bundle, "greedy", threads=1).transcribe(carrier.speech("one two"), carrier.RATE)
    assert (str(transcript), transcript.words[0].written) == ("one two", None)


# Live


UTTERANCES = ("where is ada", "she paid two five dollars", "to smith and", "may the third came")
STREAM = np.concatenate([carrier.speech(text, 30) for text in UTTERANCES])


def live(bundle: Path, sizes: Sequence[int], **options: object) -> list[object]:
    recognizer = StreamingRecognizer(bundle, "greedy", threads=1, **options)  # type: ignore[arg-type]
    events: list[object] = []
    for chunk in cut(STREAM, sizes):
        events += recognizer.accept(chunk, carrier.RATE)
    return [*events, *recognizer.finish()]


def test_finals_are_written_and_partial_results_as_spoken(tagger: object, streaming_carrier_bundle: Path) -> None:
    events = live(streaming_carrier_bundle, [FRAMES * carrier.FRAME for FRAMES in [4] * 200])
    finals = [event for event in events if isinstance(event, Final)]
    assert [final.text for final in finals] == [*UTTERANCES]
    assert [final.written for final in finals] == ["Where is Ada?", "She paid $25.", "To Smith and.", "May 3rd came."]
    assert all(event.text == event.text.lower() for event in events if isinstance(event, Partial))


def test_an_utterance_goes_on_with_the_sentence_of_the_one_before(
    tagger: object, streaming_carrier_bundle: Path
) -> None:
    # The silence that ends an utterance is too short for the tagger's full stop.
    finals = [
        event.written
        for event in live(streaming_carrier_bundle, [1600] * 999, endpoint=Endpoint(after_speech=0.28))
        if isinstance(event, Final)
    ]
    assert finals[0][0] == "W"
    assert finals[0][-1].isalpha()
    assert finals[1].startswith("she paid $25")
    assert finals[-1].endswith("came.")


@settings(max_examples=25)
@given(sizes=chunk_sizes(), second=st.booleans())
def test_what_is_written_does_not_depend_on_the_chunks(
    streaming_carrier_bundle: Path, carrier_bundle: Path, sizes: list[int], second: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        rule_tagger.install(patch)
        options = {"second_pass": Recognizer(carrier_bundle, "greedy", threads=1)} if second else {}
        finals = [event for event in live(streaming_carrier_bundle, sizes, **options) if isinstance(event, Final)]
        whole = [event for event in live(streaming_carrier_bundle, [], **options) if isinstance(event, Final)]
    assert finals == whole
    assert whole[0].written == "Where is Ada?"


def test_the_second_pass_is_written_with_the_words_before(
    tagger: rule_tagger.RuleTagger, carrier_bundle: Path, streaming_carrier_bundle: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor:
        events = live(streaming_carrier_bundle, [6400] * 99, second_pass=str(carrier_bundle), executor=executor)
    revised = {event.utterance: event.written for event in events if isinstance(event, asr.Revised)}
    assert revised == {event.utterance: event.written for event in events if isinstance(event, Final)}
    assert ("where", "is", "ada", "she", "paid", "two", "five", "dollars") in tagger.calls


def test_a_live_stream_spoken_has_no_written_form(tagger: object, streaming_carrier_bundle: Path) -> None:
    events = live(streaming_carrier_bundle, [], style="spoken", second_pass=str(streaming_carrier_bundle))
    finals = [event for event in events if isinstance(event, Final)]
    assert [final.written for final in finals] == [*UTTERANCES]
    with pytest.raises(ArgumentError, match="style"):
        StreamingRecognizer(streaming_carrier_bundle, "greedy", style="fancy")  # type: ignore[arg-type]


def test_instability_is_of_spoken_words(tagger: object, streaming_carrier_bundle: Path, tmp_path: Path) -> None:
    path, figures = carrier.save(tmp_path / "a.wav", "where is ada and smith"), []
    for style in ("written", "spoken"):
        recognizer = StreamingRecognizer(streaming_carrier_bundle, "greedy", threads=1, style=style)  # type: ignore[arg-type]
        instability = Instability()
        transcribe_live(recognizer, path, instability)
        figures.append((instability.shown, instability.changed))
    assert figures[0] == figures[1]


def test_streams_of_a_batcher_have_the_case_of_their_own_hotwords(
    tagger: object, streaming_carrier_bundle: Path
) -> None:
    batcher = Batcher(streaming_carrier_bundle, DecoderOptions(lm="NONE", hotwords="Paid"), threads=1)
    texts = []
    for hotwords in (None, ["iPaid"], []):
        stream = batcher.open(hotwords=hotwords)
        stream.feed(carrier.speech("she paid"), carrier.RATE)
        stream.finish()
        events = []
        while not stream.done:
            events += [event for _, news in batcher.step() for event in news]
        texts += [event.written for event in events if isinstance(event, Final)]
    assert texts == ["She Paid.", "She paid.", "She paid."]


# Any text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n \n", ""),
        ("...", ""),
        ("THERE IS ADA stop she", "There is Ada stop. She."),
        ("Hello , “John”!  (And) -- ada—smith", "Hello john and Ada Smith."),
        ("one\n\n\ntwo three\r\n\r\nfour", "One.\n\n23.\n\nFour."),
        ("-5 (-3.5) .5 5-10, '-7' -no", "-5 -3.5 .5 5-10 -7 no."),
        (r"/etc/passwd is \\here /one/ *two*", r"/etc/passwd is \\here 12."),
        ("it's AT&T's $25, 3.5% U.S. COVID-19", "It's AT&T's $25 3.5% U.S. COVID-19."),
        ("don’t\tgo\x1b[31m", "Don't go[31m."),
        ("\u4f60\u597d \u0645\u0631\u062d\u0628\u0627 ада", "\u4f60\u597d \u0645\u0631\u062d\u0628\u0627 ада."),
        ("FORTY-TWO (and sixty-First) twenty-five-year-old", "Forty two and sixty first twenty-five-year-old."),
        (["where", "is", "ada"], "Where is Ada."),
        (timed("where is ada // here"), "Where is Ada? Here."),
        ([], ""),
    ],
)
def test_any_text_is_punctuated(tagger: object, text: str | list[str], expected: str) -> None:
    assert asr.punctuate(text) == expected


@given(st.text(st.sampled_from("ab. \n\r,—'’5$\t") | st.characters(), max_size=400), st.lists(st.integers(0, 40)))
def test_a_text_in_parts_is_punctuated_as_a_whole(text: str, sizes: list[int]) -> None:
    from asr.recognize.punctuation import punctuated

    with pytest.MonkeyPatch.context() as patch:
        rule_tagger.install(patch)
        places = [0, *accumulate(sizes), len(text)]
        parts = [text[begin:end] for begin, end in pairwise(sorted(min(place, len(text)) for place in places))]
        whole = asr.punctuate(text)
        assert "".join(punctuated(parts)) == whole
    for paragraph in whole.split("\n\n") if whole else []:
        assert paragraph.endswith((".", "?", "!"))
        assert "\n" not in paragraph


def test_punctuating_without_a_tagger_or_a_word_without_an_end_is_an_error(
    tagger: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AsrError, match="10,000 characters"):
        asr.punctuate("a" * 20_000)
    for words in (None, 5, b"one", ["one", 2], [*timed("one"), "two"], [None]):
        with pytest.raises(ArgumentError, match="give a text"):
            asr.punctuate(words)  # type: ignore[arg-type]
    with pytest.raises(asr.BundleError, match="'de'"):
        asr.punctuate("eins zwei", "de")
