import itertools
import math
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import carrier
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr.recognize.offline
from asr.audio.sources import read
from asr.decode.base import Hypothesis
from asr.errors import AudioError, BundleError
from asr.model.engine import Frames
from asr.recognize.offline import BATCH_SIZE, CONTEXT_SECONDS, WINDOW_SECONDS, Recognizer, Window, cut_windows

RATE, FRAME = carrier.RATE, carrier.FRAME
WINDOW, CONTEXT = WINDOW_SECONDS * RATE, CONTEXT_SECONDS * RATE
POSITION = 2.0**-24  # of full scale, for the next sample: exact, and within full scale for 17 minutes
LIMIT = WINDOW + CONTEXT  # samples of the longest recording that is one window


class PositionEngine:
    """For samples that are `positions`: says the position of each frame."""

    def run(self, waveforms: Sequence[np.ndarray]) -> list[Frames]:
        return [Frames(waveform[::FRAME, None] / POSITION / FRAME, None) for waveform in waveforms]


class BlankEngine:
    """Hears nothing; `batches` has the number of waveforms of each call."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, waveforms: Sequence[np.ndarray]) -> list[Frames]:
        self.batches.append(len(waveforms))
        heard = np.full(len(carrier.TOKENS), -20.0, dtype=np.float32)
        heard[0] = 0.0
        return [Frames(np.tile(heard, (math.ceil(len(waveform) / FRAME), 1)), None) for waveform in waveforms]


class RecordingDecoder:
    """Keeps what it is given; `finished` has the rows of each recording."""

    def __init__(self) -> None:
        self.finished: list[np.ndarray] = []

    def reset(self) -> list[np.ndarray]:
        return []

    def advance(self, state: list[np.ndarray], log_probs: np.ndarray, encoded: object = None) -> None:
        state.append(log_probs)

    def partial(self, state: list[np.ndarray]) -> Hypothesis:
        return Hypothesis((), (), 0.0, 0.0)

    def finish(self, state: list[np.ndarray]) -> list[Hypothesis]:
        self.finished.append(np.concatenate([np.zeros((0, 1)), *state]))
        return [self.partial(state)]


@pytest.fixture(scope="session")
def make(carrier_bundle: Path) -> Callable[..., Recognizer]:
    return lambda **options: Recognizer(carrier_bundle, threads=1, **options)


@pytest.fixture
def no_file(tmp_path: Path) -> Path:
    return tmp_path / "missing.wav"


def positions(samples: int) -> np.ndarray:
    return np.arange(samples, dtype=np.float32) * POSITION


def cut(samples: np.ndarray, at: Sequence[int]) -> Iterator[np.ndarray]:
    return iter(np.split(samples, sorted(at)))


def check_windows(windows: Sequence[Window], total: int) -> None:
    """The frames that count are those of the recording, in order, each with its context or the recording's edge."""
    frames: list[int] = []
    for samples, counting in windows:
        start, length = int(samples[0] / POSITION), len(samples)
        np.testing.assert_array_equal(samples, positions(total)[start : start + length])
        assert start % FRAME == 0
        last = math.ceil(length / FRAME) if counting.stop is None else counting.stop
        frames += range(start // FRAME + counting.start, start // FRAME + last)
        assert start == 0 or counting.start * FRAME >= CONTEXT
        assert start + length == total or length - last * FRAME >= CONTEXT
        assert length <= LIMIT + CONTEXT
    assert frames == list(range(math.ceil(total / FRAME)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_cover_every_frame_once_with_context_however_the_audio_is_cut(data: st.DataObject) -> None:
    total = data.draw(st.integers(0, 5 * WINDOW), label="samples")
    at = data.draw(st.lists(st.integers(0, total), max_size=12), label="cuts")
    windows = list(cut_windows(cut(positions(total), at), FRAME))
    check_windows(windows, total)
    whole = list(cut_windows([positions(total)], FRAME))
    assert [len(samples) for samples, _ in windows] == [len(samples) for samples, _ in whole]


@pytest.mark.parametrize(
    ("total", "windows"),
    [
        (0, 0),
        (1, 1),
        (FRAME, 1),
        (FRAME + 1, 1),
        (LIMIT - 1, 1),
        (LIMIT, 1),
        (LIMIT + 1, 2),
        (LIMIT + WINDOW, 2),
        (LIMIT + WINDOW + 1, 3),
    ],
)
def test_a_recording_of_one_window_and_its_context_is_one_window(total: int, windows: int) -> None:
    found = list(cut_windows([positions(total)], FRAME))
    check_windows(found, total)
    assert len(found) == windows


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(
        st.one_of(st.integers(0, 4 * WINDOW), st.sampled_from([0, 1, LIMIT, LIMIT + 1])),
        min_size=1,
        max_size=6,
    ),
    batch_size=st.sampled_from([1, 2, 3, 8, 16]),
)
def test_the_decoder_gets_every_frame_in_order(
    make: Callable[..., Recognizer], lengths: list[int], batch_size: int
) -> None:
    recognizer = make(batch_size=batch_size)
    recognizer.engine = PositionEngine()  # type: ignore[assignment]
    decoder = recognizer.decoder = RecordingDecoder()
    told: list[float] = []
    recognitions = list(
        recognizer.transcribe_all(
            [(positions(length), RATE) for length in lengths], lambda _, seconds: told.append(seconds)
        )
    )
    assert [recognition.transcript.duration for recognition in recognitions] == [length / RATE for length in lengths]
    frames = [math.ceil(length / FRAME) for length in lengths]
    assert [rows[:, 0].tolist() for rows in decoder.finished] == [list(range(count)) for count in frames]
    assert sum(told) == pytest.approx(sum(frames) * FRAME / RATE)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_words_and_times_are_those_of_the_recording(make: Callable[..., Recognizer], decoder: str) -> None:
    transcript = make(decoder=decoder).transcribe(carrier.speech("one two", silence=50), RATE)
    assert transcript.text == "one two"
    # The space has a frame and a blank one, too.
    times = [(word.text, round(word.start, 2), round(word.end, 2)) for word in transcript.words]
    assert times == [("one", 2.0, 2.26), ("two", 2.3, 2.56)]  # 0.06 s more than the frames, up to the end; half a frame
    assert all(0.99 < word.confidence <= 1 for word in transcript.words)
    assert transcript.duration == pytest.approx((50 + 14) * 0.04)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_words_at_the_edges_of_windows_are_neither_lost_nor_doubled(
    make: Callable[..., Recognizer], decoder: str
) -> None:
    # 40 words of 2.4 s: 96 s in 5 windows, whose edges fall at other places of the words.
    words = ["".join(letters) for letters in itertools.product("abcd", "efghi", "jk")]
    samples = np.concatenate([carrier.speech(f" {word}", silence=52) for word in words])
    transcript = make(decoder=decoder, batch_size=2).transcribe(samples, RATE)
    assert transcript.text == " ".join(words)
    assert [round(word.start, 2) for word in transcript.words] == [
        round(number * 2.4 + 54 * 0.04, 2) for number in range(len(words))
    ]


def test_results_come_in_the_order_of_the_sources_though_batches_are_sorted_by_length(
    make: Callable[..., Recognizer],
) -> None:
    names = ["a", "bb", "ccc", "dddd", "e", "ff"]
    silences = [900, 3, 2000, 0, 40, 700]
    sources = [(carrier.speech(" ".join(name), silence), RATE) for name, silence in zip(names, silences, strict=True)]
    recognitions = list(make(batch_size=2).transcribe_all(sources))
    assert all(recognition.source is source for recognition, source in zip(recognitions, sources, strict=True))
    assert [recognition.transcript.text.replace(" ", "") for recognition in recognitions] == names


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 639, 640, 641])
def test_the_shortest_recordings_give_a_transcript(make: Callable[..., Recognizer], samples: int) -> None:
    transcript = make().transcribe(np.zeros(samples, dtype=np.float32), RATE)
    assert (transcript.text, transcript.duration) == ("", samples / RATE)


def test_memory_does_not_grow_with_the_length_of_the_recording(
    make: Callable[..., Recognizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = make()
    recognizer.engine = BlankEngine()  # type: ignore[assignment]

    def peak(minutes: int) -> int:
        block = 10 * RATE
        stream = (np.zeros(block, dtype=np.float32) for _ in range(6 * minutes))
        monkeypatch.setattr(asr.recognize.offline, "read_blocks", lambda *_, **__: stream)
        tracemalloc.start()
        try:
            assert recognizer.transcribe("stream").duration == 60 * minutes
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    ten, sixty = peak(10), peak(60)
    assert sixty < 1.05 * ten
    # Of float32: the batch's windows, one that is being read, and as much again to copy them.
    assert sixty < 2 * (BATCH_SIZE + 1) * 4 * (LIMIT + CONTEXT)


def test_long_recordings_run_in_full_batches(make: Callable[..., Recognizer]) -> None:
    recognizer = make(batch_size=4)
    engine = recognizer.engine = BlankEngine()  # type: ignore[assignment]
    assert recognizer.transcribe(np.zeros(16 * WINDOW, dtype=np.float32), RATE).text == ""
    assert engine.batches == [4, 4, 4, 4]


def test_results_come_before_all_sources_are_read(make: Callable[..., Recognizer]) -> None:
    recognizer = make()
    recognizer.engine = BlankEngine()  # type: ignore[assignment]
    begun: list[int] = []

    def sources() -> Iterator[tuple[np.ndarray, int]]:
        for number in range(200):
            begun.append(number)
            yield np.zeros(5 * RATE, dtype=np.float32), RATE

    most = max(len(begun) - done for done, _ in enumerate(recognizer.transcribe_all(sources())))
    assert most <= BATCH_SIZE * (WINDOW_SECONDS + CONTEXT_SECONDS) / 5 + 1


def test_a_truncated_file_gives_its_text_and_an_error(make: Callable[..., Recognizer], tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "cut.wav", "one two three four five six seven eight")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (recognition,) = make().transcribe_all([path])
    assert recognition.transcript.text.startswith("one two three")
    assert "one two three four five six seven eight".startswith(recognition.transcript.text)
    assert recognition.transcript.duration == pytest.approx(len(whole) / 4 / RATE, abs=0.05)
    assert isinstance(recognition.error, AudioError)
    with pytest.raises(AudioError, match="truncated"):
        make().transcribe(path)


def test_bad_files_leave_the_others_alone(make: Callable[..., Recognizer], tmp_path: Path, no_file: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is not audio\n" * 100)
    good = carrier.save(tmp_path / "good.wav", "good")
    sources = [no_file, good, tmp_path / "empty.wav", tmp_path / "text.wav", (carrier.speech("fine"), RATE), tmp_path]
    recognitions = list(make().transcribe_all(sources))
    assert [recognition.transcript.text for recognition in recognitions] == ["", "good", "", "", "fine", ""]
    assert [recognition.error is None for recognition in recognitions] == [False, True, False, False, True, False]


def test_transcribe_raises_for_a_missing_file(make: Callable[..., Recognizer], no_file: Path) -> None:
    with pytest.raises(AudioError, match=r"missing\.wav: no such file"):
        make().transcribe(no_file)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_count_as_silence(make: Callable[..., Recognizer], value: float) -> None:
    samples = carrier.speech("abc", silence=4)
    samples[: 2 * FRAME] = value
    assert make().transcribe(samples, RATE).text == "abc"


def test_another_sample_rate_is_refused(carrier_bundle: Path, tmp_path: Path) -> None:
    folder = carrier.write_bundle(tmp_path / "narrow")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("16000", "8000"))
    with pytest.raises(BundleError, match="8000 Hz"):
        Recognizer(folder)


def test_a_bundle_may_be_given_instead_of_its_name(make: Callable[..., Recognizer]) -> None:
    bundle = make().bundle
    assert Recognizer(bundle, threads=1).bundle is bundle


def test_reading_a_file_equals_reading_its_samples(make: Callable[..., Recognizer], tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "a.wav", "same words", silence=700)
    assert make().transcribe(path) == make().transcribe(str(path)) == make().transcribe(read(path), RATE)
