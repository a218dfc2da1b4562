"""The public interface: the packaged model on real speech, and all that may be given to it and comes back."""

import array
import inspect
import io
import json
import logging
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import carrier
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
import asr.model.engine
from asr.audio.sources import read
from asr.data.manifest import Entry
from asr.evaluate.wer import Utterance, evaluate
from asr.output.writers import render
from asr.recognize.offline import CONTEXT_SECONDS, WINDOW_SECONDS, cut_windows

MODEL = "en-bilstm"
RATE = 16_000  # hertz
SAMPLE = Path(__file__).parent / "data/sample.flac"
SAMPLE_TEXT = "The birds were singing in the garden, and the old man sat down by the river to read his letter."
UTTERANCES = 20
WORST_WER = 0.22  # 0.185 were measured
SAMPLE_ERRORS = 2  # words


@pytest.fixture(scope="module")
def recognizer() -> asr.Recognizer:
    return asr.load_model(MODEL, threads=1)


@pytest.fixture(scope="module")
def parts() -> list[np.ndarray]:
    """Speech of unequal lengths, so that a batch is padded."""
    samples = read(SAMPLE)
    return [samples[start * RATE :] for start in range(5)] + [samples[: end * RATE] for end in (1, 3)]


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """Samples of a recording of more than 3 windows."""
    return np.tile(read(SAMPLE), 13)


@pytest.fixture(scope="session")
def carrying(carrier_bundle: Path) -> asr.Recognizer:
    """Reads the audio of `carrier.speech`."""
    return asr.Recognizer(carrier_bundle, threads=1)


# The packaged model


def test_the_readme_example_gives_words_in_order_of_time(recognizer: asr.Recognizer) -> None:
    transcript = recognizer.transcribe(str(SAMPLE))
    words = transcript.words
    assert isinstance(transcript, asr.Transcript)
    assert transcript.text == " ".join(word.text for word in words) != ""
    assert words == tuple(word for segment in transcript.segments for word in segment.words)
    assert all(isinstance(word, asr.Word) and 0 <= word.confidence <= 1 for word in words)
    assert all(word.start < word.end <= transcript.duration + 0.04 for word in words)
    assert all(first.end <= second.start for first, second in pairwise(words))


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_text_and_times_do_not_depend_on_the_batch(
    decoder: str, recognizer: asr.Recognizer, parts: list[np.ndarray], talk: np.ndarray
) -> None:
    sources = [(samples, RATE) for samples in [*parts[:4], talk[: 30 * RATE], *parts[4:]]]

    def spoken(batch_size: int, order: list[int]) -> dict[int, list[tuple[str, float, float]]]:
        model = asr.Recognizer(recognizer, decoder, batch_size=batch_size)
        results = model.transcribe_all([sources[index] for index in order])
        return {
            index: [(word.text, word.start, word.end) for word in result.transcript.words]
            for index, result in zip(order, results, strict=True)
        }

    indices = list(range(len(sources)))
    alone: dict[int, list[tuple[str, float, float]]] = {}
    for index in indices:
        alone |= spoken(1, [index])
    assert any(alone.values())
    assert spoken(3, indices) == alone
    assert spoken(16, indices[::-1]) == alone


def test_windows_of_a_long_recording_give_the_log_probs_of_the_whole(
    recognizer: asr.Recognizer, talk: np.ndarray
) -> None:
    assert len(talk) > (3 * WINDOW_SECONDS + CONTEXT_SECONDS) * RATE
    whole = recognizer.engine.run([talk])[0].log_probs
    rows = []
    for samples, counting in cut_windows([talk], recognizer.frame_samples):
        (frames,) = recognizer.engine.run([samples])
        rows.append(frames.log_probs[counting])
    assert len(rows) >= 3
    joined = np.concatenate(rows)
    assert joined.shape == whole.shape
    same = joined.argmax(axis=1) == whole.argmax(axis=1)
    assert same.mean() > 0.97
    # Where the model is sure it does not matter what it hears seconds away, so words at an edge are whole.
    assert same[np.exp(whole.max(axis=1)) > 0.9].mean() > 0.995
    assert np.abs(np.exp(joined) - np.exp(whole)).sum(axis=1).mean() < 0.05


def test_the_packaged_model_reads_the_sample(recognizer: asr.Recognizer) -> None:
    transcript = recognizer.transcribe(SAMPLE)
    result = evaluate([Utterance("sample", SAMPLE_TEXT, transcript.text, transcript.duration)])
    assert result.substitutions + result.deletions + result.insertions <= SAMPLE_ERRORS


def test_the_packaged_model_reads_english(recognizer: asr.Recognizer, dev_entries: list[Entry]) -> None:
    entries = dev_entries[:UTTERANCES]
    recognitions = recognizer.transcribe_all(entry.audio for entry in entries)
    utterances = [
        Utterance(entry.id, entry.text, recognition.transcript.text, recognition.transcript.duration)
        for entry, recognition in zip(entries, recognitions, strict=True)
    ]
    assert evaluate(utterances).wer < WORST_WER


def test_silence_and_noise_give_a_transcript(recognizer: asr.Recognizer) -> None:
    assert recognizer.transcribe(np.zeros(5 * RATE, dtype=np.float32), RATE).duration == 5
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)
    assert recognizer.transcribe(noise, RATE).duration == 5


@pytest.mark.parametrize("samples", [0, 1, 160, 640, 1000])
def test_the_shortest_recordings_give_a_transcript(recognizer: asr.Recognizer, samples: int) -> None:
    assert recognizer.transcribe(np.full(samples, 0.1, dtype=np.float32), RATE).duration == samples / RATE


def test_speech_at_another_rate_as_integers_is_read_as_the_file(recognizer: asr.Recognizer) -> None:
    samples, rate = soundfile.read(SAMPLE, dtype="int16")
    assert recognizer.transcribe(samples, rate) == recognizer.transcribe(SAMPLE)
    doubled = np.stack([np.repeat(samples, 3)] * 2, axis=1)  # 48 kHz, two channels
    words = recognizer.transcribe(doubled, 3 * rate).text.split()
    assert len(set(words) & set(SAMPLE_TEXT.lower().split())) > 10


# The package


def test_a_name_of_the_public_interface_is_there_for_each_that_is_listed() -> None:
    assert all(hasattr(asr, name) for name in asr.__all__)
    assert all(issubclass(getattr(asr, name), asr.AsrError) for name in asr.__all__ if name.endswith("Error"))


def test_everything_public_has_a_docstring() -> None:
    objects = {name: getattr(asr, name) for name in asr.__all__}
    for name, item in list(objects.items()):
        if isinstance(item, type):
            members = {key: value for key, value in vars(item).items() if not key.startswith("_")}
            objects |= {
                f"{name}.{key}": value
                for key, value in members.items()
                if isinstance(value, property | classmethod | staticmethod | types.FunctionType)
            }
    assert len(objects) > 30
    # A dataclass without a docstring is given its signature as one.
    bare = [
        name
        for name, item in objects.items()
        if not item.__doc__ or (isinstance(item, type) and item.__doc__.startswith(f"{item.__name__}("))
    ]
    assert bare == []


def test_the_version_is_that_of_the_installed_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", {"recurrent-asr": "1.2.3"}.__getitem__)
    assert asr.__version__ == "1.2.3"

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert asr.__version__ == "0+unknown", "a source tree that is not installed"
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = asr.other  # type: ignore[attr-defined]


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(inspect.getfile(asr)).parent / "py.typed").is_file()


# Sources


def forms(samples: np.ndarray, rate: int, folder: Path) -> dict[str, tuple[Any, ...]]:
    """The arguments by which the same 16-bit audio, (n, channels), may be given."""
    integers = np.round(samples * 32768).astype(np.int16)
    mono = integers.mean(axis=1).astype(np.int16)
    path = folder / "talk.wav"
    soundfile.write(path, integers, rate)
    content = path.read_bytes()
    arrays = {
        "int16": integers,
        "int16 of another byte order": integers.astype(">i2"),
        "int32": integers.astype(np.int32) * 65536,
        "float16": samples.astype(np.float16),
        "float32": samples.astype(np.float32),
        "float64": samples,
        "columns": np.asfortranarray(samples),
        "read only view": np.broadcast_to(samples, samples.shape),
        "one channel": mono,
        "list": samples.mean(axis=1).tolist(),
        "list of integers": mono.tolist(),
        "list of frames": samples.tolist(),
        "array.array": array.array("h", mono.tolist()),
    }
    files = {
        "path": path,
        "name": str(path),
        "bytes": content,
        "bytearray": bytearray(content),
        "memoryview": memoryview(content),
        "BytesIO": io.BytesIO(content),
        "open file": path.open("rb"),
        "unbuffered": path.open("rb", buffering=0),
    }
    return {name: (value, rate) for name, value in arrays.items()} | {name: (value,) for name, value in files.items()}


@settings(max_examples=15)
@given(
    text=st.lists(st.text("abcxyz'", min_size=1, max_size=6), max_size=4).map(" ".join),
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    weights=st.lists(st.sampled_from([0.5, 1.0, 1.5]), min_size=1, max_size=4),
)
def test_all_forms_of_the_same_audio_give_the_same_text(
    carrying: asr.Recognizer,
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    rate: int,
    weights: list[float],
) -> None:
    samples = np.repeat(np.pad(carrier.speech(text)[:: carrier.FRAME], (1, 0)), rate // 25)[rate // 50 :]
    shares = np.array(weights) / np.mean(weights)  # of the channels, whose mean is the audio
    channels = np.round(samples[:, None].astype(np.float64) * shares * 32768) / 32768
    for name, arguments in forms(channels, rate, tmp_path_factory.mktemp("forms")).items():
        assert carrying.transcribe(*arguments).text == text, name


def test_standard_input_is_a_source(carrying: asr.Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = carrier.save(tmp_path / "talk.wav", "from a pipe").read_bytes()
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))
    assert carrying.transcribe("-").text == "from a pipe"


def test_several_sources_of_different_forms(carrying: asr.Recognizer, tmp_path: Path) -> None:
    path = carrier.save(tmp_path / "one.wav", "one")
    sources = [path, (carrier.speech("two"), RATE), path.read_bytes(), ([0.0] * 640, RATE), io.BytesIO(b"no audio")]
    results = list(carrying.transcribe_all(sources))
    assert [result.transcript.text for result in results] == ["one", "two", "one", "", ""]
    assert all(result.source is source for result, source in zip(results, sources, strict=True))
    assert [result.error is None for result in results] == [True, True, True, True, False]


SPEECH = carrier.speech("words")
WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "samples without a rate": ((SPEECH,), "sample_rate: missing"),
    "a list without a rate": (([0.0, 0.1],), "sample_rate: missing"),
    "a rate with a path": (("talk.wav", RATE), "sample_rate: goes with samples only"),
    "a rate with bytes": ((b"RIFF", RATE), "sample_rate: goes with samples only"),
    "no rate at all": ((SPEECH, 0), "sample_rate: 0 is impossible"),
    "a negative rate": ((SPEECH, -RATE), "sample_rate: -16000 is impossible"),
    "kilohertz": ((SPEECH, 44.1), "sample_rate: 44.1 is impossible"),
    "a rate as text": ((SPEECH, "16000"), "sample_rate: '16000' is impossible"),
    "wide integers": ((SPEECH.astype(np.int64), RATE), "source: of type int64; give int16, int32 or floats"),
    "unsigned": ((np.full(640, 128, dtype=np.uint8), RATE), "source: of type uint8"),
    "truth values": ((SPEECH > 0, RATE), "source: of type bool"),
    "complex": ((SPEECH.astype(np.complex64), RATE), "source: of type complex64"),
    "integers beyond 16 bits": (([0, 70_000], RATE), "source: of type int64"),
    "channels first": ((np.zeros((2, 16_000), dtype=np.float32), RATE), r"source: of shape \(2, 16000\)"),
    "no channels": ((np.zeros((16, 0), dtype=np.float32), RATE), r"source: of shape \(16, 0\)"),
    "three axes": ((np.zeros((2, 2, 2), dtype=np.float32), RATE), r"source: of shape \(2, 2, 2\)"),
    "a number": ((0.5, RATE), "source: of type float, not an array; give it the shape"),
    "an array of a number": ((np.array(0.5), RATE), r"source: of shape \(\)"),
    "nothing": ((None, RATE), "source: of type NoneType"),
    "a generator": ((iter([0.5]), RATE), "source: of type list_iterator"),
    "a ragged list": (([[0.0], [0.1, 0.2]], RATE), "source: not an array"),
    "words": ((["a", "b"], RATE), "source: of type <U1"),
    "int16 values as floats": ((np.round(SPEECH * 32768), RATE), "source: floats up to .*, where full scale is 1"),
    "quiet int16 values as floats": ((np.array([0.0, 1.0, -2.0]), RATE), "source: floats up to 2"),
    "resampled int16 values": ((SPEECH * 32768 + 0.3, RATE), "source: floats up to"),
    "a text file": ((io.StringIO("words"),), "source: a text file"),
    "an empty name": (("",), "source: an empty name"),
    "a file object that gives text": ((types.SimpleNamespace(read=lambda _: "words"),), "file object: gives str"),
    "nothing and no rate": ((None,), "source: of type NoneType"),
    "a mapping and no rate": (({},), "source: of type dict"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_source_or_rate_is_one_line_that_names_the_argument(
    carrying: asr.Recognizer, arguments: tuple[Any, ...], message: str
) -> None:
    for call in (carrying.transcribe, carrying.log_probs):
        with pytest.raises(asr.ArgumentError, match=f"^{message}") as caught:
            call(*arguments)
        assert isinstance(caught.value, ValueError)
        assert len(str(caught.value).splitlines()) == 1


def test_a_wrong_source_among_others_leaves_these_alone(
    carrying: asr.Recognizer, streaming_carrier_bundle: Path
) -> None:
    wrong = [(SPEECH * 32768 + 0.3, RATE), "", SPEECH, (SPEECH, RATE, 1), io.StringIO("words")]
    for recognizer in (carrying, asr.Recognizer(streaming_carrier_bundle, threads=1)):
        results = list(recognizer.transcribe_all([(SPEECH, RATE), *wrong, (SPEECH, RATE)]))
        assert [result.transcript.text for result in results] == ["words", *[""] * len(wrong), "words"]
        assert [type(result.error) for result in results] == [type(None), *[asr.ArgumentError] * len(wrong), type(None)]
        assert {result.problem for result in results} == {None}


@pytest.mark.parametrize("sources", ["talk.wav", Path("talk.wav"), b"RIFF", SPEECH, asr.Excerpt("talk.wav"), None, 3])
def test_what_is_no_list_of_sources_is_a_wrong_argument(carrying: asr.Recognizer, sources: Any) -> None:
    with pytest.raises(asr.ArgumentError, match=r"^sources: .* is no list; give \[source\]"):
        next(carrying.transcribe_all(sources))


def test_what_made_a_source_hard_to_recognize_is_said_of_samples_too(
    carrying: asr.Recognizer, caplog: pytest.LogCaptureFixture
) -> None:
    quiet, empty, damaged = carrying.transcribe_all(
        [(np.zeros(RATE), RATE), (np.zeros(0), RATE), (np.full(RATE, np.nan), RATE)]
    )
    assert quiet.problem == damaged.problem == "almost silent (all samples are 0); record it louder"
    assert empty.problem == "empty (0 samples); record it again"
    assert "samples: 100% of its samples are no numbers or too large" in caplog.text


def test_beyond_the_end_of_samples_there_is_no_sound(carrying: asr.Recognizer) -> None:
    with pytest.raises(asr.AudioError, match=r"^samples: there is no sound between 60 s and 61 s"):
        carrying.transcribe(asr.Excerpt(SPEECH, start=60, end=61), RATE)


def test_words_of_a_part_of_samples_have_the_times_of_the_whole(carrying: asr.Recognizer) -> None:
    samples = carrier.speech("some words", silence=100)
    whole = carrying.transcribe(samples, RATE)
    part = carrying.transcribe(asr.Excerpt(samples, start=2.0), RATE)
    assert part.start == 2.0
    assert part.text == whole.text == "some words"
    assert [word.start for word in part.words] == pytest.approx([word.start for word in whole.words])
    assert part.words[0].start == pytest.approx(4.0)


@pytest.mark.parametrize("loud", [1.5, 8.0])
def test_floats_a_little_beyond_full_scale_are_audio(carrying: asr.Recognizer, loud: float) -> None:
    samples = np.concatenate([carrier.speech("loud"), loud * np.sin(np.arange(6400) / 7)])
    assert carrying.transcribe(samples, RATE).text.startswith("loud")


# Models and options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0; give 1 to 1024"),
        ({"batch_size": 10**9}, "batch_size: 1000000000; give 1 to 1024"),
        ({"threads": 10**9}, "threads: 1000000000; give 0 to 1024"),
        ({"threads": -1}, "threads: -1; give 0 to 1024"),
        ({"threads": "2"}, "threads: '2'; give 0 to 1024"),
        ({"batch_size": 0.5}, "batch_size: 0.5; give 1 to 1024"),
        ({"providers": 3}, "providers: 3 is not a list"),
        ({"decoder": asr.DecoderOptions("greedy", hotwords=["map"])}, "hotwords: the greedy decoder ignores them"),
        ({"decoder": "beem"}, "decoder: there is no 'beem'; choose greedy or beam"),
        ({"decoder": None}, "decoder: there is no None"),
        ({"decoder": asr.DecoderOptions("beam", hotwords=3)}, "hotwords: 3"),  # type: ignore[arg-type]
        ({"decoder": asr.DecoderOptions("beam", hotwords=[3])}, r"hotwords: \[3\]"),  # type: ignore[list-item]
        ({"providers": ["abacus"]}, "providers: no 'abacus'"),
        ({"model": 3}, "model must be"),
        ({"decoder": asr.DecoderOptions("beam", hotwords=iter(["map"]))}, "hotwords: <list_iterator"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_are_one_line_that_names_the_argument(
    carrier_bundle: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(asr.ArgumentError, match=f"^{message}"):
        asr.Recognizer(**({"model": carrier_bundle, "threads": 1} | options))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The graphs that were opened since."""
    paths: list[Path] = []
    original = asr.model.engine.Graph

    def record(path: Path, *arguments: Any, **options: Any) -> Any:
        paths.append(path)
        return original(path, *arguments, **options)

    monkeypatch.setattr(asr.model.engine, "Graph", record)
    return paths


def test_a_recognizer_is_made_of_a_name_a_folder_a_bundle_or_another_ones_model(
    carrier_bundle: Path, streaming_carrier_bundle: Path, opened: list[Path]
) -> None:
    first = asr.Recognizer(carrier_bundle, threads=1, providers=["cpu"])
    models = [str(carrier_bundle), asr.load_bundle(carrier_bundle), first, asr.Recognizer(first, "greedy")]
    assert [asr.Recognizer(model).transcribe(SPEECH, RATE).text for model in models] == ["words"] * 4
    assert len(opened) == 3, "the last two share the first one's"
    live = asr.StreamingRecognizer(streaming_carrier_bundle, threads=1)
    assert asr.load_model(live).transcribe(SPEECH, RATE).text == "words"
    assert len(opened) == 4


def doubtful(text: str, place: int, other: str) -> np.ndarray:
    """Samples that spell the text, but whose letter at `place` may as well be `other`, the one beside it in order."""
    return (carrier.speech(text) + carrier.speech(text[:place] + other + text[place + 1 :])) / 2


@pytest.mark.parametrize("hotwords", [["map:5"], "map:5", {"map": 5.0}, ["a map:5", "tale"]])
def test_hotwords_of_one_call_are_for_that_call_only(
    carrier_bundle: Path, opened: list[Path], hotwords: list[str] | str | dict[str, float]
) -> None:
    recognizer = asr.Recognizer(carrier_bundle, asr.DecoderOptions("beam", hotwords=["nap:5"]), threads=1)
    samples = doubtful("take a nap", 7, "m")
    assert recognizer.transcribe(samples, RATE).text == "take a nap"
    assert recognizer.transcribe(samples, RATE, hotwords=hotwords).text == "take a map"
    (result,) = recognizer.transcribe_all([(samples, RATE)], hotwords=hotwords)
    assert result.transcript.text == "take a map"
    assert recognizer.transcribe(samples, RATE).text == "take a nap"
    assert len(opened) == 1


@pytest.mark.parametrize("text", [None, 3, "", "— …", "2024", "птицы"])
def test_a_text_that_cannot_be_aligned_is_a_wrong_argument(carrying: asr.Recognizer, text: Any) -> None:
    with pytest.raises(asr.ArgumentError, match=r"text|cannot spell") as caught:
        asr.align(carrying, SPEECH, text, RATE)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("least", ["0.5", None, -0.1, 1.5])
def test_a_confidence_that_cannot_be_is_a_wrong_argument(carrying: asr.Recognizer, least: Any) -> None:
    with pytest.raises(asr.ArgumentError, match=r"^min_confidence: .*; give 0 to 1"):
        asr.align(carrying, SPEECH, "words", RATE, min_confidence=least)


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        (("0.5",), "after_speech: '0.5'"),
        ((None,), "after_speech: None"),
        ((0.0,), "after_speech: 0.0"),
        ((0.8, -1.0), "before_speech: -1.0"),
        ((0.8, 5.0, float("inf")), "max_utterance: inf"),
    ],
)
def test_impossible_endpoints_are_a_wrong_argument(rules: Any, wrong: str) -> None:
    with pytest.raises(asr.ArgumentError, match=rf"^{wrong}; give seconds, above 0$"):
        asr.Endpoint(*rules)


@pytest.mark.parametrize("endpoint", [0.5, 0, "0.5"])
def test_an_endpoint_of_another_type_is_a_wrong_argument(streaming_carrier_bundle: Path, endpoint: Any) -> None:
    with pytest.raises(asr.ArgumentError, match="endpoint: "):
        asr.StreamingRecognizer(streaming_carrier_bundle, "greedy", endpoint, threads=1)


def test_hotwords_are_refused_where_they_would_be_ignored(carrier_bundle: Path) -> None:
    with pytest.raises(asr.ArgumentError, match="hotwords: the greedy decoder ignores them"):
        asr.Recognizer(carrier_bundle, "greedy", threads=1).transcribe(SPEECH, RATE, hotwords=["map"])


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_threads_that_share_a_recognizer_get_their_texts_as_if_alone(carrier_bundle: Path, decoder: str) -> None:
    recognizer = asr.Recognizer(carrier_bundle, decoder, threads=1)
    texts = [f"{one} {other}" for one in ("one", "two", "three", "four") for other in ("a", "bb", "ccc", "dddd", "")]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda text: recognizer.transcribe(carrier.speech(text), RATE).text, texts * 5)
        assert list(results) == [text.strip() for text in texts] * 5


def test_align_is_public_and_takes_a_name_or_a_recognizer(carrying: asr.Recognizer, carrier_bundle: Path) -> None:
    samples = carrier.speech("the cat sat", silence=10)
    transcript = asr.align(carrying, samples, "The cat sat.", RATE)
    assert transcript == asr.align(carrier_bundle, samples, "The cat sat.", sample_rate=RATE)
    assert [word.text for word in transcript.words] == ["The", "cat", "sat."]
    assert [word.start for word in transcript.words] == [
        word.start for word in carrying.transcribe(samples, RATE).words
    ]
    assert transcript.language == carrier.CONFIG.language
    with pytest.raises(asr.ArgumentError, match=r"^sample_rate: missing"):
        asr.align(carrying, samples, "The cat sat.")


def test_names_are_completed_before_they_are_used() -> None:
    code = "import asr; assert {*asr.__all__} <= {*dir(asr)}"  # a new process, in which none was used
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [None, 5, b"en-gru"])
def test_what_is_no_name_of_a_bundle_is_a_wrong_argument(name: Any) -> None:
    with pytest.raises(asr.ArgumentError, match=r"^name: .* is neither a model's name nor a folder"):
        asr.load_bundle(name)


def test_a_graph_may_be_named_by_a_text(carrier_bundle: Path) -> None:
    graph = str(carrier_bundle / "model.onnx")
    assert asr.Recognizer(carrier_bundle, threads=1, graph=graph).transcribe(SPEECH, RATE).text == "words"


@pytest.mark.parametrize("hotwords", [None, ["letter", "river:5"]])
def test_threads_that_share_the_packaged_model_get_its_text(
    recognizer: asr.Recognizer, hotwords: list[str] | None
) -> None:
    alone = recognizer.transcribe(SAMPLE, hotwords=hotwords)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: recognizer.transcribe(SAMPLE, hotwords=hotwords), range(12))) == [alone] * 12


# Results


@pytest.fixture(scope="module")
def transcript(carrying: asr.Recognizer) -> asr.Transcript:
    samples = np.concatenate([carrier.speech("good morning"), carrier.speech(" ada", silence=40)])
    return carrying.transcribe(samples, RATE)


def test_a_transcript_is_its_text_and_knows_its_language(transcript: asr.Transcript) -> None:
    assert str(transcript) == f"{transcript}" == transcript.text == "good morning ada"
    assert transcript.language == carrier.CONFIG.language


def test_a_transcript_as_subtitles_is_as_the_writers_have_it(transcript: asr.Transcript) -> None:
    assert transcript.to_srt() == render(transcript, "srt", "any") != ""
    assert transcript.to_vtt() == render(transcript, "vtt", "any")
    assert transcript.to_srt().startswith("1\n00:00:00,000 --> 00:00:01,")


def test_a_transcript_as_a_dict_is_what_the_json_writer_writes(transcript: asr.Transcript) -> None:
    values = transcript.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert json.loads(render(transcript, "json", "a.wav")) == {"audio": "a.wav", **values}
    assert (values["language"], values["text"]) == (carrier.CONFIG.language, "good morning ada")
    numbers = [word[key] for segment in values["segments"] for word in segment["words"] for key in ("start", "end")]
    assert all(number == round(number, 3) for number in [values["duration"], *numbers])


def test_reprs_are_short_and_have_rounded_times(carrying: asr.Recognizer, transcript: asr.Transcript) -> None:
    word = asr.Word("hello", 1.0 / 3, 2.0 / 3, 0.98765)
    assert repr(word) == "Word('hello', 0.33, 0.67, 0.99)"
    assert repr(asr.Segment((word,))) == "<Segment 0.33–0.67 s: 'hello'>"
    assert repr(transcript) == "<Transcript 2.88 s, words: 3: 'good morning ada'>"
    assert repr(carrying) == "<Recognizer carrier, beam>"
    long = asr.Transcript((asr.Segment((word,) * 1000),), 1e4)
    assert len(repr(long)) < 120 > len(repr(long.segments[0]))


# Logging


def test_what_was_opened_converted_and_cut_short_is_logged(
    carrier_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asr")
    recognizer = asr.Recognizer(carrier_bundle, threads=1)
    recognizer.transcribe(np.zeros((480, 2), dtype=np.int16), 48_000)
    path = carrier.save(tmp_path / "cut.wav", "cut short", silence=50)
    path.write_bytes(path.read_bytes()[:-20_000])
    list(recognizer.transcribe_all([path]))
    debug = "\n".join(record.message for record in caplog.records if record.levelno == logging.DEBUG)
    assert "carrier/model.onnx: threads 1" in debug
    assert "samples: int16, shape (480, 2), 48000 Hz\nresampled from 48000 to 16000 Hz" in debug
    assert "cut.wav: WAV, 16000 Hz, channels: 1" in debug
    (warning,) = (record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert "cut.wav: truncated or damaged" in warning


def test_without_a_handler_nothing_is_printed(tmp_path: Path) -> None:
    program = "import asr; (result,) = asr.load_model(threads=1).transcribe_all(['missing.wav']); assert result.error"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
