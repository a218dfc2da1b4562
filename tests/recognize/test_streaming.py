"""Live recognition: any chunks and any rate give the same finals; stable words stay; nothing is lost or doubled."""

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import carrier
import live_model
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from live_model import chunk_sizes, cut

from asr import (
    ArgumentError,
    AudioError,
    BundleError,
    Endpoint,
    Final,
    Partial,
    Recognizer,
    StreamingRecognizer,
    load_model,
)
from asr.decode.build import DecoderName, DecoderOptions
from asr.decode.word_times import DELAY
from asr.evaluate.live import Instability, transcribe_live
from asr.model.bundle import load_bundle
from asr.model.engine import StreamingEngine
from asr.model.tokens import Tokens
from asr.output.events import Event, Revised
from asr.output.transcript import Segment, Transcript, Word

RATE, FRAME, FRAME_SECONDS = carrier.RATE, carrier.FRAME, carrier.FRAME / carrier.RATE
UTTERANCES = ("hello to you", "it's a word", "so long")

Told = list[list[tuple[str, float, float]]]

every_decoder = pytest.mark.parametrize("decoder", ["greedy", "beam"])


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds / FRAME_SECONDS) * FRAME, dtype=np.float32)


def talk(*utterances: str, pause: float = 1.2) -> np.ndarray:
    """The utterances, each after a pause of so many seconds; nothing follows the last sample of the last letter."""
    samples = np.concatenate([part for text in utterances for part in (silence(pause), carrier.speech(" " + text))])
    return samples[:-FRAME]


TALK = talk(*UTTERANCES)


def noisy(samples: np.ndarray, deviation: float) -> np.ndarray:
    """Noise wherever the carrier's model does not look."""
    noise = np.random.default_rng(0).normal(0, deviation, len(samples)).astype(np.float32)
    noise[::FRAME] = 0
    return samples + noise


def at_rate(samples: np.ndarray, rate: int) -> np.ndarray:
    """The carrier at another rate, half a frame later: the model then looks at the middles of frames, where a resampled
    step has settled."""
    return np.repeat(np.pad(samples[::FRAME], (1, 0)), rate // 25)[rate // 50 :]


@pytest.fixture(scope="session")
def engine(streaming_carrier_bundle: Path) -> StreamingEngine:
    return StreamingEngine(load_bundle(streaming_carrier_bundle), threads=1)


@pytest.fixture(scope="session")
def make(engine: StreamingEngine) -> Callable[..., StreamingRecognizer]:
    return lambda **options: StreamingRecognizer(engine, threads=1, **options)


@pytest.fixture(scope="session")
def offline(carrier_bundle: Path) -> dict[str, Recognizer]:
    """The same model for whole recordings, by decoder."""
    return {decoder: Recognizer(carrier_bundle, decoder, threads=1) for decoder in ("greedy", "beam")}


@pytest.fixture(scope="session")
def at_once(streaming_carrier_bundle: Path) -> dict[str, Recognizer]:
    """The live model for whole recordings, by decoder."""
    return {decoder: Recognizer(streaming_carrier_bundle, decoder, threads=1) for decoder in ("greedy", "beam")}


@pytest.fixture(scope="session")
def shouting(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """A model for whole recordings that writes what it hears in capitals: it shows which of two passes wrote a text."""
    folder = carrier.write_bundle(tmp_path_factory.mktemp("bundles") / "shouting")
    blank, *others = carrier.TOKENS.symbols
    Tokens([blank, *(symbol.upper() for symbol in others)]).save(folder / "tokens.txt")
    return Recognizer(folder, threads=1)


def listen(recognizer: StreamingRecognizer, chunks: Sequence[np.ndarray], rate: int = RATE) -> list[Event]:
    events = [event for chunk in chunks for event in recognizer.accept(chunk, rate)]
    return events + recognizer.finish()


def told(events: Sequence[Event]) -> Told:
    """The words and times of each final, to the millisecond."""
    return [
        [(word.text, round(word.start, 3), round(word.end, 3)) for word in event.segment.words]
        for event in events
        if isinstance(event, Final)
    ]


def flat(finals: Told) -> list[tuple[str, float, float]]:
    return [word for final in finals for word in final]


def texts(events: Sequence[Event]) -> list[str]:
    return [event.segment.text for event in events if isinstance(event, Final)]


def check_events(answers: Sequence[list[Event]]) -> int:
    """Events of calls in turn keep all promises; how many words became stable before their final."""
    shown, stable, end, early = "", [], 0.0, 0
    for events in answers:
        assert all(isinstance(event, Final) for event in events[:-1])
        for event in events:
            final = isinstance(event, Final)
            words = event.segment.words if final else event.words
            text = event.segment.text if final else event.text
            assert " ".join(word.text for word in words) == text
            assert [word.text for word in words[: len(stable)]] == stable
            assert all(end <= word.start < word.end for word in words)
            if final:
                assert words
                early += len(stable)
                shown, stable, end = "", [], words[-1].end
            else:
                assert text != shown
                now = event.stable_prefix.split()
                assert now[: len(stable)] == stable
                assert text.split()[: len(now)] == now
                shown, stable = text, now
    return early


# Exactness


@every_decoder
@pytest.mark.parametrize("endpoint", [None, Endpoint()], ids=["one utterance", "endpoints"])
@settings(deadline=None, max_examples=15)
@given(sizes=chunk_sizes())
def test_finals_are_what_the_whole_file_says_however_it_is_cut(
    make: Callable[..., StreamingRecognizer],
    at_once: dict[str, Recognizer],
    decoder: str,
    endpoint: Endpoint | None,
    sizes: list[int],
) -> None:
    finals = told(listen(make(decoder=decoder, endpoint=endpoint), cut(TALK, sizes)))
    whole = Final(Segment(at_once[decoder].transcribe(TALK, RATE).words))
    assert [flat(finals)] == told([whole])
    spoken = [" ".join(word for word, *_ in final) for final in finals]
    assert spoken == ([" ".join(UTTERANCES)] if endpoint is None else list(UTTERANCES))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_any_rate_gives_the_text_and_times_of_16_khz(
    make: Callable[..., StreamingRecognizer], rate: int, data: st.DataObject
) -> None:
    sizes = data.draw(chunk_sizes(10 * rate, rate // 25))
    finals = told(listen(make(), cut(at_rate(TALK, rate), sizes), rate))
    expected = told(listen(make(), [TALK]))
    assert [[word for word, *_ in final] for final in finals] == [[word for word, *_ in final] for final in expected]
    for (_, *times), (_, *wanted) in zip(flat(finals), flat(expected), strict=True):
        assert times == pytest.approx(wanted, abs=FRAME_SECONDS + 1e-6)


@every_decoder
@settings(deadline=None, max_examples=5)
@given(sizes=chunk_sizes())
def test_a_model_with_memory_and_lookahead_gives_the_finals_of_the_whole_stream(
    live_bundle: Path, decoder: str, sizes: list[int]
) -> None:
    samples = np.concatenate([live_model.speech()[:40_000], silence(3), live_model.speech()[40_000:]])
    recognizer = StreamingRecognizer(live_bundle, DecoderOptions(decoder, 4), Endpoint(0.3, 2.0, 1.5), threads=1)
    finals = told(listen(recognizer, cut(samples, sizes)))
    assert len(finals) > 2
    assert finals == told(listen(recognizer, [samples]))


@every_decoder
@pytest.mark.parametrize("repeats", [1, 9])  # 45 s are more than a window of the models for whole recordings
def test_without_endpoints_a_stream_gives_what_the_file_gives(live_bundle: Path, decoder: str, repeats: int) -> None:
    samples = np.tile(live_model.speech(), repeats)
    offline = load_model(live_bundle, DecoderOptions(decoder, 4), threads=1).transcribe(samples, RATE)
    recognizer = StreamingRecognizer(live_bundle, DecoderOptions(decoder, 4), endpoint=None, threads=1)
    (final,) = listen(recognizer, cut(samples, [2_560] * 400))[-1:]
    assert isinstance(final, Final)
    assert final.segment.text == offline.text
    assert len(offline.words) > 5 * repeats
    for live, whole in zip(final.segment.words, offline.words, strict=True):
        assert (live.start, live.end) == pytest.approx((whole.start, whole.end))
        assert live.confidence == pytest.approx(whole.confidence, abs=1e-3)


@pytest.mark.parametrize("lead", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("left", [1, 100, FRAME])
@every_decoder
def test_the_last_word_is_never_lost(
    make: Callable[..., StreamingRecognizer], decoder: str, lead: float, left: int
) -> None:
    samples = np.concatenate([silence(lead), carrier.speech("the end")])[: left - 2 * FRAME]  # inside the last letter
    assert texts(listen(make(decoder=decoder), cut(samples, [2_560] * 9))) == ["the end"]


def test_the_last_word_of_a_stream_at_another_rate_is_not_lost_in_the_resampler(
    make: Callable[..., StreamingRecognizer],
) -> None:
    samples = at_rate(carrier.speech("the end")[:-FRAME], 48_000)
    assert texts(listen(make(), cut(samples, [480] * 99), 48_000)) == ["the end"]


# Events


@every_decoder
@settings(deadline=None, max_examples=15)
@given(sizes=chunk_sizes(2 * RATE))
def test_stable_words_stay_and_each_event_is_news(
    make: Callable[..., StreamingRecognizer], decoder: str, sizes: list[int]
) -> None:
    recognizer = make(decoder=decoder)
    answers = [recognizer.accept(chunk, RATE) for chunk in cut(TALK, sizes)]
    check_events([*answers, recognizer.finish()])


@every_decoder
def test_stable_words_of_a_restless_model_stay(live_bundle: Path, decoder: str) -> None:
    recognizer = StreamingRecognizer(live_bundle, decoder, Endpoint(0.3, 2.0, 4.0), threads=1)
    answers = [recognizer.accept(chunk, RATE) for chunk in cut(np.tile(live_model.speech(), 3), [1_280] * 200)]
    assert check_events([*answers, recognizer.finish()]) > 10


@every_decoder
def test_words_are_shown_as_they_are_spoken_and_become_stable(
    make: Callable[..., StreamingRecognizer], decoder: str
) -> None:
    recognizer = make(decoder=decoder)
    partials = [
        (event.text, event.stable_prefix)
        for frame in np.split(carrier.speech("to be or"), len("to be or") * 2)
        for event in recognizer.accept(frame, RATE)
    ]
    assert partials == [
        *[("t", ""), ("to", ""), ("to b", "to"), ("to be", "to"), ("to be o", "to be"), ("to be or", "to be")]
    ]


def test_times_of_partials_are_those_of_the_stream(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()
    (final, partial) = recognizer.accept(talk("one", "two", pause=2), RATE)
    assert isinstance(final, Final)
    assert isinstance(partial, Partial)
    assert [word.start for word in partial.words] == pytest.approx([4 + 10 * FRAME_SECONDS - DELAY])
    assert partial.words == recognizer.finish()[0].segment.words


def test_a_final_comes_as_soon_as_the_silence_is_long_enough(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()
    recognizer.accept(np.concatenate([silence(1), carrier.speech("word")]), RATE)
    waits = [bool(recognizer.accept(silence(FRAME_SECONDS), RATE)) for _ in range(25)]
    # The frame after the last letter was silent, too.
    assert waits.index(True) + 2 == round(Endpoint().after_speech / FRAME_SECONDS)
    assert waits.count(True) == 1


@pytest.mark.parametrize("deviation", [0.0, 0.0003, 0.01])  # digital silence, −70 dB, −40 dB
def test_utterances_end_at_pauses_and_never_inside(make: Callable[..., StreamingRecognizer], deviation: float) -> None:
    sentence = np.concatenate([carrier.speech("some words"), silence(0.6), carrier.speech(" and more"), silence(2.5)])
    samples = noisy(np.tile(np.concatenate([silence(2.5), sentence]), 8), deviation)
    assert texts(listen(make(), cut(samples, [2_560] * 500))) == ["some words and more"] * 8


@every_decoder
def test_speech_without_a_pause_is_cut_and_nothing_is_lost_or_doubled(
    make: Callable[..., StreamingRecognizer], decoder: str
) -> None:
    samples = carrier.speech(" ".join(["abcdefghij"] * 20))
    longest = 4.0
    finals = told(listen(make(decoder=decoder, endpoint=Endpoint(max_utterance=longest)), [samples]))
    assert "".join(word for word, *_ in flat(finals)) == "abcdefghij" * 20
    assert len(finals) >= 4
    for final in finals:
        assert final[-1][2] - final[0][1] <= longest + FRAME_SECONDS


def test_silence_gives_no_events(make: Callable[..., StreamingRecognizer]) -> None:
    assert listen(make(), [silence(1)] * 12) == []


# Streams


def test_nothing_heard_gives_nothing(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()
    assert recognizer.finish() == []
    assert recognizer.accept(np.zeros(0, dtype=np.float32), RATE) == []
    assert recognizer.finish() == recognizer.finish() == []


@pytest.mark.parametrize("options", [{}, {"endpoint": None}, {"decoder": "beam"}])
def test_after_finish_a_new_stream_begins_at_time_0(
    make: Callable[..., StreamingRecognizer], options: dict[str, Any]
) -> None:
    recognizer = make(**options)
    first = listen(recognizer, cut(TALK, [2_560] * 20))
    assert recognizer.finish() == []
    assert listen(recognizer, cut(TALK, [2_560] * 20)) == first
    assert texts(listen(recognizer, [at_rate(TALK, 48_000)], 48_000)) == texts(first)  # at another rate, if it likes


def test_a_stream_that_was_cut_off_leaves_no_trace(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()
    recognizer.accept(carrier.speech("xyz")[: 5 * FRAME - 17], RATE)
    recognizer.finish()
    assert listen(recognizer, [TALK]) == listen(make(), [TALK])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_not_audio_count_as_silence(make: Callable[..., StreamingRecognizer], value: float) -> None:
    samples = TALK.copy()
    samples[: round(1.0 * RATE)] = value
    assert told(listen(make(), cut(samples, [1_000] * 9))) == told(listen(make(), [TALK]))


@pytest.mark.parametrize(
    "same",
    [
        np.round(TALK * 32768).astype(np.int16),
        np.stack([2 * TALK, np.zeros_like(TALK)], axis=1),
        np.round(TALK * 32768).astype(np.int16)[:, None],
        TALK.astype(np.float64),
    ],
    ids=["int16", "two channels", "one channel of int16", "float64"],
)
def test_samples_of_any_kind_are_the_same_stream(make: Callable[..., StreamingRecognizer], same: np.ndarray) -> None:
    assert told(listen(make(), cut(same, [2_560] * 99))) == told(listen(make(), [TALK]))


@settings(deadline=None, max_examples=15)
@given(sizes=chunk_sizes())
def test_an_inverted_channel_does_not_silence_a_stream_however_it_is_cut(
    make: Callable[..., StreamingRecognizer], sizes: list[int]
) -> None:
    samples = noisy(TALK, 1e-4)  # no recording begins with digital silence
    stereo = np.stack([samples, -samples], axis=1)
    assert told(listen(make(), cut(stereo, sizes))) == told(listen(make(), [TALK]))


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (np.zeros(100, dtype=np.int64), RATE, "int64"),
        (np.zeros((2, 100), dtype=np.float32), RATE, r"\(2, 100\)"),
        (np.zeros((), dtype=np.float32), RATE, r"\(\)"),
        (np.round(TALK * 32768), RATE, "divide int16 values by 32768"),
        ("talk.wav", RATE, "samples"),
        (np.zeros(100, dtype=np.float32), None, "sample_rate: missing"),
        (np.zeros(100, dtype=np.float32), 0, "sample_rate: 0 is impossible"),
        (np.zeros(100, dtype=np.float32), -16_000, "sample_rate: -16000 is impossible"),
    ],
    ids=[
        "wide integers",
        "many channels",
        "a number",
        "int16 values as floats",
        "a path",
        "no rate",
        "rate 0",
        "rate below 0",
    ],
)
def test_samples_of_another_kind_are_refused_in_one_line_and_the_stream_goes_on(
    make: Callable[..., StreamingRecognizer], samples: np.ndarray, rate: int, reason: str
) -> None:
    recognizer = make()
    before, after = np.split(TALK, [50_000])
    for chunks in ([TALK], [before, after]):
        events = [event for chunk in chunks[:-1] for event in recognizer.accept(chunk, RATE)]
        with pytest.raises(ArgumentError, match=reason) as caught:
            recognizer.accept(samples, rate)
        assert "\n" not in str(caught.value)
        assert told(events + listen(recognizer, chunks[-1:])) == told(listen(make(), [TALK]))


def test_another_rate_within_a_stream_is_refused_in_one_line(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()
    before, after = np.split(TALK, [50_000])
    events = recognizer.accept(before, RATE)
    with pytest.raises(AudioError, match="began at 16000 Hz and goes on at 48000 Hz"):
        recognizer.accept(after, 48_000)
    assert told(events + listen(recognizer, [after])) == told(listen(make(), [TALK]))


def test_recognisers_that_share_an_engine_do_not_disturb_each_other(live_bundle: Path) -> None:
    shared = StreamingEngine(load_bundle(live_bundle), threads=1)
    sources = [live_model.speech(), live_model.speech()[20_000:]]
    decoders: tuple[DecoderName, ...] = ("beam", "greedy")
    alone = [StreamingRecognizer(shared, decoder) for decoder in decoders]
    expected = [told(listen(recognizer, [source])) for recognizer, source in zip(alone, sources, strict=True)]
    first, second = (StreamingRecognizer(shared, decoder) for decoder in decoders)
    events: tuple[list[Event], list[Event]] = ([], [])
    for left, right in zip(cut(sources[0], [1_111] * 100), cut(sources[1], [3_000] * 100), strict=True):
        events[0].extend(first.accept(left, RATE))
        events[1].extend(second.accept(right, RATE))
    events[1].extend(second.finish())
    events[0].extend(first.finish())
    assert [told(each) for each in events] == expected


def test_memory_and_work_do_not_grow_with_the_length_of_the_stream(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the states of its fusion lead to is pickled, too: none that other tests have used, and led far.
    monkeypatch.setattr("asr.decode.build._fusions", {})
    minute = np.concatenate([
        *[np.concatenate([carrier.speech("some words in a minute"), silence(1.2)])] * 8,
        carrier.speech("without a pause " * 24),
        silence(5.6),
    ])  # fmt: skip
    assert len(minute) == 60 * RATE
    recognizer = make(second_pass=shouting)
    held, longest = [], []
    for _ in range(30):
        texts = []
        for number, chunk in enumerate(cut(minute, [5_120] * 187)):
            texts += [event.text for event in recognizer.accept(chunk, RATE) if isinstance(event, Partial)]
            if number in (0, 130, 187):
                shared = ("engine", "decoder", "second_pass", "turn", "_on_revision")
                held.append(
                    len(pickle.dumps([value for name, value in vars(recognizer.stream).items() if name not in shared]))
                )
        longest.append(max(map(len, texts)))
    # After the first minute nothing but the digits of some counts.
    assert all(later <= earlier + 100 for earlier, later in zip(held[3:6] * 28, held[6:], strict=True))
    # The work for a chunk grows with the utterance, of which this is the longest.
    assert set(longest) == {longest[0]}


# Models


def test_a_model_for_whole_recordings_is_refused_in_one_line(carrier_bundle: Path) -> None:
    with pytest.raises(BundleError, match="choose a live model") as caught:
        StreamingRecognizer(carrier_bundle)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model"):
        StreamingRecognizer(tmp_path / "none")


def test_a_model_for_another_sample_rate_is_refused(tmp_path: Path) -> None:
    folder = carrier.write_bundle(tmp_path / "narrow", streaming=True)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("16000", "8000"))
    with pytest.raises(BundleError, match="8000 Hz"):
        StreamingRecognizer(folder)


def test_a_model_may_be_a_folder_a_bundle_or_an_engine(streaming_carrier_bundle: Path, engine: StreamingEngine) -> None:
    models = (streaming_carrier_bundle, str(streaming_carrier_bundle), load_bundle(streaming_carrier_bundle), engine)
    assert [texts(listen(StreamingRecognizer(model, threads=1), [TALK])) for model in models] == [list(UTTERANCES)] * 4


def test_recognizers_share_each_others_model(streaming_carrier_bundle: Path) -> None:
    whole = load_model(streaming_carrier_bundle, threads=1)
    live = StreamingRecognizer(whole)
    assert texts(listen(live, [TALK])) == list(UTTERANCES)
    assert live.engine is whole.engine is StreamingRecognizer(live).engine is Recognizer(live).engine
    assert Recognizer(live).transcribe(TALK, RATE).text == " ".join(UTTERANCES)


def test_an_open_model_for_whole_recordings_is_refused_in_one_line(offline: dict[str, Recognizer]) -> None:
    with pytest.raises(BundleError, match="choose a live model") as caught:
        StreamingRecognizer(offline["greedy"])
    assert "\n" not in str(caught.value)


# Second pass


@settings(deadline=None, max_examples=10)
@given(sizes=chunk_sizes())
def test_the_second_pass_writes_the_finals_and_their_times(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer, sizes: list[int]
) -> None:
    events = listen(make(second_pass=shouting), cut(TALK, sizes))
    first = told(listen(make(), [TALK]))
    assert texts(events) == [text.upper() for text in UTTERANCES]
    for (_, *times), (_, *wanted) in zip(flat(told(events)), flat(first), strict=True):
        assert times == pytest.approx(wanted, abs=0.09)  # its frames begin elsewhere
    assert all(event.text.islower() for event in events if isinstance(event, Partial))


def test_the_second_pass_without_endpoints_hears_the_whole_stream(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer
) -> None:
    events = listen(make(second_pass=shouting, endpoint=None), cut(TALK, [2_560] * 99))
    assert texts(events) == [" ".join(UTTERANCES).upper()]


@pytest.mark.parametrize("rules", [Endpoint(max_utterance=3.0), Endpoint(after_speech=0.2)], ids=["cut", "hasty"])
@pytest.mark.parametrize("size", [FRAME, 2_560, 10 * RATE])
def test_the_second_pass_hears_no_word_of_the_next_utterance(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer, rules: Endpoint, size: int
) -> None:
    # Pauses of 0.28 s, shorter than the margin of the second pass.
    samples = np.concatenate([np.concatenate([carrier.speech("abcdefgh "), silence(0.28)]) for _ in range(10)])
    first = listen(make(endpoint=rules), [samples])
    second = listen(make(endpoint=rules, second_pass=shouting), cut(samples, [size] * (len(samples) // size)))
    assert texts(second) == [text.upper() for text in texts(first)]


def test_a_second_pass_that_hears_nothing_leaves_the_first_ones_text(
    make: Callable[..., StreamingRecognizer], offline: dict[str, Recognizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = offline["greedy"]
    monkeypatch.setattr(deaf, "transcribe", lambda samples, _rate: Transcript((), len(samples) / RATE))
    assert told(listen(make(second_pass=deaf), [TALK])) == told(listen(make(), [TALK]))


def test_the_second_pass_may_be_a_models_folder(make: Callable[..., StreamingRecognizer], carrier_bundle: Path) -> None:
    assert texts(listen(make(second_pass=str(carrier_bundle)), [TALK])) == list(UTTERANCES)


def test_in_an_executor_the_second_pass_follows_the_finals(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer
) -> None:
    with ThreadPoolExecutor(1) as executor:
        gate = threading.Event()
        executor.submit(gate.wait, 60)
        recognizer = make(second_pass=shouting, executor=executor)
        events = [event for chunk in cut(TALK, [2_560] * 99) for event in recognizer.accept(chunk, RATE)]
        assert texts(events) == list(UTTERANCES[:2])  # at once, with the live text
        assert not any(isinstance(event, Revised) for event in events)
        gate.set()
        events += recognizer.finish()
        revised = [(event.utterance, event.text) for event in events if isinstance(event, Revised)]
        assert revised == list(enumerate(text.upper() for text in UTTERANCES))
        waiting = listen(make(second_pass=shouting), cut(TALK, [2_560] * 99))
        assert [event.segment for event in events if isinstance(event, Revised)] == [
            event.segment for event in waiting if isinstance(event, Final)
        ]
        live = listen(make(), cut(TALK, [2_560] * 99))
        assert [event for event in events if not isinstance(event, Revised)] == live


def test_a_revision_comes_with_the_next_samples(make: Callable[..., StreamingRecognizer], shouting: Recognizer) -> None:
    with ThreadPoolExecutor(1) as executor:
        recognizer = make(second_pass=shouting, executor=executor)
        recognizer.accept(TALK, RATE)
        executor.submit(int).result()  # what was handed in before is done
        events = recognizer.accept(silence(FRAME_SECONDS), RATE)
        assert [event.text for event in events if isinstance(event, Revised)] == ["HELLO TO YOU", "IT'S A WORD"]


@pytest.mark.parametrize("kind", ["name", "recognizer", "bundle"])
def test_a_second_pass_may_be_any_model(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer, kind: str
) -> None:
    second = {"name": str(shouting.bundle.path), "recognizer": shouting, "bundle": shouting.bundle}[kind]
    assert texts(listen(make(second_pass=second), [TALK])) == [text.upper() for text in UTTERANCES]


def test_a_second_pass_shares_the_model_of_a_streaming_recognizer(make: Callable[..., StreamingRecognizer]) -> None:
    other = make()
    recognizer = make(second_pass=other)
    assert recognizer.second_pass.engine is other.engine
    assert texts(listen(recognizer, [TALK])) == list(UTTERANCES)


# Asynchronous


async def in_chunks(samples: np.ndarray, size: int = 2_560) -> AsyncIterator[np.ndarray]:
    for start in range(0, len(samples), size):
        await asyncio.sleep(0)
        yield samples[start : start + size]


def test_events_come_asynchronously_as_they_come_otherwise(make: Callable[..., StreamingRecognizer]) -> None:
    async def collect(recognizer: StreamingRecognizer) -> list[Event]:
        return [event async for event in recognizer.events(in_chunks(TALK), RATE)]

    recognizer = make()
    expected = listen(make(), cut(TALK, [2_560] * 99))
    assert asyncio.run(collect(recognizer)) == expected
    assert asyncio.run(collect(recognizer)) == expected  # another stream


def test_a_consumer_that_stops_early_leaves_no_trace(make: Callable[..., StreamingRecognizer]) -> None:
    async def first(recognizer: StreamingRecognizer) -> Event:
        events = recognizer.events(in_chunks(TALK), RATE)
        event = await anext(events)
        await events.aclose()
        return event

    recognizer = make()
    assert asyncio.run(first(recognizer)).text == "he"
    assert listen(recognizer, [TALK]) == listen(make(), [TALK])


def test_a_consumer_that_is_cancelled_at_the_end_leaves_the_next_stream_alone(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def slow(samples: np.ndarray, rate: int) -> Transcript:
        entered.set()
        assert gate.wait(60)
        return Transcript((), len(samples) / rate)

    monkeypatch.setattr(shouting, "transcribe", slow)
    recognizer = make(second_pass=shouting, endpoint=None)

    async def cancel_it() -> None:
        async def collect() -> None:
            async for _ in recognizer.events(in_chunks(TALK), RATE):
                pass

        task = asyncio.create_task(collect())
        await asyncio.to_thread(entered.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        recognizer.accept(TALK, RATE)  # while the end of the first stream is still worked on in a thread
        gate.set()

    asyncio.run(cancel_it())  # waits for that thread
    assert texts(recognizer.finish()) == [" ".join(UTTERANCES)]


def test_streams_of_one_recognizer_may_run_side_by_side(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()

    async def collect(size: int) -> list[Event]:
        return [event async for event in recognizer.events(in_chunks(TALK, size), RATE)]

    async def both() -> list[list[Event]]:
        return await asyncio.gather(collect(2_560), collect(4_000))

    assert [texts(events) for events in asyncio.run(both())] == [list(UTTERANCES)] * 2


def test_threads_that_give_one_stream_its_samples_take_turns(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make(endpoint=None)
    silences = [silence(FRAME_SECONDS)] * 400
    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(lambda chunk: recognizer.accept(chunk, RATE), silences))
    ((_, start, _),) = told([*recognizer.accept(carrier.speech("a"), RATE), *recognizer.finish()])[0]
    assert start == pytest.approx(len(silences) * FRAME_SECONDS - DELAY, abs=FRAME_SECONDS)


def test_after_a_second_pass_that_fails_a_new_stream_begins(
    make: Callable[..., StreamingRecognizer], shouting: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(samples: np.ndarray, rate: int) -> Transcript:
        raise BundleError("boom")

    recognizer = make(second_pass=shouting, endpoint=None)
    with monkeypatch.context() as patched:
        patched.setattr(shouting, "transcribe", broken)
        recognizer.accept(TALK, RATE)
        with pytest.raises(BundleError, match="boom"):
            recognizer.finish()
    assert listen(recognizer, [TALK]) == listen(make(second_pass=shouting, endpoint=None), [TALK])


def test_a_cancelled_stream_leaves_no_trace(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()
    recognizer.accept(at_rate(TALK, 48_000)[:100_001], 48_000)
    recognizer.cancel()
    assert recognizer.finish() == []
    assert listen(recognizer, [TALK]) == listen(make(), [TALK])


def test_what_is_printed_is_short_and_round(make: Callable[..., StreamingRecognizer]) -> None:
    recognizer = make()
    events = [recognizer.accept(chunk, RATE) for chunk in np.split(talk("to be"), [25_000])]
    partials = ["Partial('to b', stable 'to', 1.22–1.56 s)", "Partial('to be', stable 'to', 1.22–1.64 s)"]
    assert [repr(event) for batch in events for event in batch] == partials
    assert repr(recognizer) == "<StreamingRecognizer carrier, 1.64 s>"
    assert repr(recognizer.finish()) == "[Final(0: 'to be', 1.22–1.64 s)]"
    assert repr(Revised(Segment(words("well")), 3)) == "Revised(3: 'well', 0.00–1.00 s)"
    assert repr(Partial("", "", ())) == "Partial('', stable '')"


# Recordings in place of a microphone


def test_a_recording_is_heard_as_from_a_microphone(make: Callable[..., StreamingRecognizer], tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "one two", silence=50)
    told_seconds: list[float] = []
    recognizer = make()
    recognition = transcribe_live(recognizer, path, on_progress=lambda _, seconds: told_seconds.append(seconds))
    assert (recognition.source, recognition.error) == (path, None)
    assert (recognition.transcript.text, recognition.transcript.duration) == ("one two", pytest.approx(64 * 0.04))
    assert sum(told_seconds) == pytest.approx(64 * 0.04)
    assert transcribe_live(recognizer, path) == recognition  # a new stream


@pytest.mark.parametrize("second", ["none", "waiting", "later"])
def test_the_finals_of_a_recording_are_its_segments_with_their_times(
    make: Callable[..., StreamingRecognizer], offline: dict[str, Recognizer], tmp_path: Path, second: str
) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, TALK, RATE, subtype="FLOAT")
    whole, instability = offline["greedy"].transcribe(path), Instability()
    with ThreadPoolExecutor(1) as executor:
        recognizer = make(
            decoder="greedy",
            second_pass=None if second == "none" else offline["greedy"],
            executor=executor if second == "later" else None,
        )
        transcript = transcribe_live(recognizer, path, instability).transcript
    assert [segment.text for segment in transcript.segments] == list(UTTERANCES)
    assert transcript.text == whole.text
    assert transcript.duration == pytest.approx(len(TALK) / RATE)
    for word, expected in zip(transcript.words, whole.words, strict=True):
        assert (word.start, word.end) == pytest.approx((expected.start, expected.end), abs=FRAME_SECONDS + 0.03)
    # A chunk is two letters: of the words, all but the short ones are shown before they are complete.
    assert instability.changed == instability.shown - len(transcript.words) > 0


def test_a_truncated_recording_gives_its_text_and_an_error(
    make: Callable[..., StreamingRecognizer], tmp_path: Path
) -> None:
    path = carrier.save(tmp_path / "cut.wav", "one two three four five six seven eight")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    recognition = transcribe_live(make(), path)
    assert recognition.transcript.text.startswith("one two three")
    assert isinstance(recognition.error, AudioError)


def test_a_missing_recording_is_an_error_and_no_text(make: Callable[..., StreamingRecognizer], tmp_path: Path) -> None:
    recognition = transcribe_live(make(), tmp_path / "missing.wav")
    assert recognition.transcript == Transcript((), 0.0)
    assert isinstance(recognition.error, AudioError)


def words(text: str) -> tuple[Word, ...]:
    return tuple(Word(word, number, number + 1, 1.0) for number, word in enumerate(text.split()))


def event(text: str) -> Event:
    """A partial, or with a full stop a final."""
    return Final(Segment(words(text[:-1]))) if text.endswith(".") else Partial(text, "", words(text))


@pytest.mark.parametrize(
    ("shown", "count", "changed"),
    [
        ([], 0, 0),
        (["one", "one two", "one two."], 2, 0),
        (["on", "one", "one."], 2, 1),
        (["one two", "won two", "won two."], 4, 2),
        (["one two three", "one."], 3, 2),
        (["one", "", "one."], 2, 1),
        (["one", "two."], 2, 1),
        (["one.", "one.", "two"], 3, 0),
    ],
)
def test_flicker_counts_words_shown_and_words_that_did_not_stay(shown: list[str], count: int, changed: int) -> None:
    instability = Instability()
    for text in shown:
        instability.see(event(text))
    assert (instability.shown, instability.changed) == (count, changed)
    assert instability.rate == pytest.approx(changed / count if count else 0)
