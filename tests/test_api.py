"""The packaged model through the public interface, on real speech."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.audio.sources import read
from asr.data.manifest import Entry
from asr.evaluate.wer import Utterance, evaluate
from asr.recognize.offline import CONTEXT_SECONDS, WINDOW_SECONDS, cut_windows

MODEL = "en-bilstm"
RATE = 16_000  # hertz
UTTERANCES = 20
# An untrained model writes nothing, or nonsense: both are at 100 %.
WORST_WER = 0.7


@pytest.fixture(scope="module")
def recognizer() -> asr.Recognizer:
    return asr.load_model(MODEL, threads=1)


@pytest.fixture(scope="module")
def short_files(dev_entries: list[Entry]) -> list[Path]:
    """Of unequal lengths, 5 to 7 s, so that a batch is padded."""
    files = [entry.audio for entry in dev_entries if entry.seconds is not None and 5 < entry.seconds < 7]
    return files[:7]


@pytest.fixture(scope="module")
def talk(dev_entries: list[Entry]) -> np.ndarray:
    """Samples of a recording of at least 3 windows."""
    samples, parts = 0, []
    for entry in dev_entries:
        parts.append(read(entry.audio))
        samples += len(parts[-1])
        if samples > (3 * WINDOW_SECONDS + CONTEXT_SECONDS) * RATE:
            break
    return np.concatenate(parts)


def test_the_readme_example_gives_words_in_order_of_time(recognizer: asr.Recognizer, short_files: list[Path]) -> None:
    transcript = recognizer.transcribe(str(short_files[0]))
    words = transcript.words
    assert isinstance(transcript, asr.Transcript)
    assert transcript.text == " ".join(word.text for word in words) != ""
    assert words == tuple(word for segment in transcript.segments for word in segment.words)
    assert all(isinstance(word, asr.Word) and 0 <= word.confidence <= 1 for word in words)
    assert all(word.start < word.end <= transcript.duration + 0.04 for word in words)
    assert all(first.end <= second.start for first, second in pairwise(words))


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_text_and_times_do_not_depend_on_the_batch(
    decoder: str, recognizer: asr.Recognizer, short_files: list[Path], talk: np.ndarray
) -> None:
    sources = [*short_files[:4], talk[: 30 * RATE], *short_files[4:]]

    def spoken(batch_size: int, order: list[int]) -> dict[int, list[tuple[str, float, float]]]:
        model = asr.Recognizer(recognizer.bundle, decoder, batch_size=batch_size, threads=1)
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
    (whole,) = recognizer.engine.log_probs([talk])
    rows = []
    for window in cut_windows([talk], recognizer.frame_samples):
        (log_probs,) = recognizer.engine.log_probs([window.samples])
        rows.append(log_probs[window.first_frame : window.last_frame])
    assert len(rows) >= 3
    joined = np.concatenate(rows)
    assert joined.shape == whole.shape
    same = joined.argmax(axis=1) == whole.argmax(axis=1)
    assert same.mean() > 0.97
    # Where the model is sure it does not matter what it hears seconds away, so words at an edge are whole.
    assert same[np.exp(whole.max(axis=1)) > 0.9].mean() > 0.995
    assert np.abs(np.exp(joined) - np.exp(whole)).sum(axis=1).mean() < 0.05


def test_the_packaged_model_reads_english(recognizer: asr.Recognizer, dev_entries: list[Entry]) -> None:
    entries = dev_entries[:UTTERANCES]
    recognitions = recognizer.transcribe_all(entry.audio for entry in entries)
    utterances = [
        Utterance(entry.id, entry.text, recognition.transcript.text, recognition.transcript.duration)
        for entry, recognition in zip(entries, recognitions, strict=True)
    ]
    assert evaluate(utterances).wer < WORST_WER


def test_silence_and_noise_give_a_transcript(recognizer: asr.Recognizer) -> None:
    assert recognizer.transcribe(np.zeros(5 * RATE, dtype=np.float32)).duration == 5
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)
    assert recognizer.transcribe(noise).duration == 5


@pytest.mark.parametrize("samples", [0, 1, 160, 640, 1000])
def test_the_shortest_recordings_give_a_transcript(recognizer: asr.Recognizer, samples: int) -> None:
    assert recognizer.transcribe(np.full(samples, 0.1, dtype=np.float32)).duration == samples / RATE


def test_a_name_of_the_public_interface_is_there_for_each_that_is_listed() -> None:
    assert all(hasattr(asr, name) for name in asr.__all__)
    assert all(issubclass(getattr(asr, name), asr.AsrError) for name in asr.__all__ if name.endswith("Error"))


@pytest.mark.parametrize(
    "samples",
    [np.zeros(16_000, dtype=np.int16), np.zeros((2, 16_000), dtype=np.float32), np.zeros(16_000, dtype=np.complex64)],
    ids=["integers", "channels", "complex"],
)
def test_samples_of_another_kind_are_refused(recognizer: asr.Recognizer, samples: np.ndarray) -> None:
    with pytest.raises(asr.AudioError, match=r"samples must be float, shape \(samples,\)"):
        recognizer.transcribe(samples)


def test_float64_samples_give_the_text_of_float32(recognizer: asr.Recognizer, talk: np.ndarray) -> None:
    short = talk[:80_000]
    assert recognizer.transcribe(short.astype(np.float64)) == recognizer.transcribe(short)
