"""Recognition with an attention decoder in the bundle: what it changes, and what it must not depend on."""

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="makes the decoder: pip install 'recurrent-asr[train]'")

import carrier
import live_model
from attention_bundle import LETTERS, write_bundle
from hypothesis import given, settings

from asr.decode.attention import COVERAGE_WEIGHT, COVERED, AttentionSearch
from asr.decode.base import Hypothesis
from asr.decode.build import DecoderOptions, make_decoder
from asr.decode.rescoring import LONGEST_SECONDS, RescoringDecoder
from asr.errors import ArgumentError
from asr.model.bundle import load_bundle
from asr.model.second_pass import GRAPH, AttentionModel
from asr.output.events import Final
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import StreamingRecognizer

BEAM = DecoderOptions("beam", lm="NONE", nbest=16)
FRAME_SECONDS = carrier.FRAME / carrier.RATE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "attentive")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "live", streaming=True)


def speech(seconds: float, begin: float = 0.5) -> np.ndarray:
    """A stretch of real speech without a pause."""
    return live_model.speech()[round(begin * carrier.RATE) : round((begin + seconds) * carrier.RATE)]


def test_hypotheses_are_the_beams_in_the_order_of_the_weighed_sums(folder: Path) -> None:
    plain = Recognizer(folder, replace(BEAM, second_pass=False), threads=1).transcribe(speech(1.2), carrier.RATE)
    rescored = Recognizer(folder, BEAM, threads=1).transcribe(speech(1.2), carrier.RATE)
    assert len(plain.alternatives) > 3
    assert {item.text for item in rescored.alternatives} == {item.text for item in plain.alternatives}
    assert [item.text for item in rescored.alternatives] != [item.text for item in plain.alternatives]
    before = {item.text: item.score for item in plain.alternatives}
    for item in rescored.alternatives:
        assert item.score == pytest.approx(before[item.text] + item.rescoring)
        assert item.rescoring < 0
    assert [item.score for item in rescored.alternatives] == sorted(
        (item.score for item in rescored.alternatives), reverse=True
    )


def test_words_keep_the_times_and_confidences_of_the_beam(folder: Path) -> None:
    uncalibrated = load_bundle(folder)
    decoder = replace(uncalibrated.config.decoder, attention_confidence=(1.0, 0.0))
    uncalibrated = replace(uncalibrated, config=replace(uncalibrated.config, decoder=decoder))
    frames, _ = Recognizer(folder, "greedy", threads=1).frames_and_level(speech(1.2), carrier.RATE)
    found: list[list[Hypothesis]] = []
    for second_pass in (False, True):
        decoder = make_decoder(replace(BEAM, second_pass=second_pass), uncalibrated)
        state = decoder.reset()
        decoder.advance(state, *frames)
        found.append(decoder.finish(state))
    plain = {item.text: item.words for item in found[0]}
    assert {item.text: item.words for item in found[1]} == plain
    assert found[1][0].words != found[0][0].words


def test_a_bundle_without_the_graph_is_decoded_by_the_beam_alone(folder: Path, tmp_path: Path) -> None:
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    (without / GRAPH).unlink()
    expected = Recognizer(folder, replace(BEAM, second_pass=False), threads=1).transcribe(speech(3), carrier.RATE)
    assert Recognizer(without, BEAM, threads=1).transcribe(speech(3), carrier.RATE) == expected
    with pytest.raises(ArgumentError, match="attentive has no attention decoder; choose beam or greedy"):
        Recognizer(without, "attention")


@pytest.mark.parametrize("name", ["beam", "attention"])
def test_a_recording_does_not_depend_on_the_files_beside_it(folder: Path, name: str) -> None:
    recognizer = Recognizer(folder, DecoderOptions(name, lm="NONE", nbest=4), threads=1, batch_size=3)  # type: ignore[arg-type]
    sources = [(speech(seconds, begin), carrier.RATE) for seconds, begin in [(1, 0), (3, 1), (0.5, 2), (2.2, 0.3)]]
    alone = [recognizer.transcribe(*source) for source in sources]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 1]):
        together = recognizer.transcribe_all(sources[place] for place in order)
        texts = [[item.text for item in each.transcript.alternatives] for each in together]
        assert texts == [[item.text for item in alone[place].alternatives] for place in order]


@settings(max_examples=15)
@given(live_model.chunk_sizes(carrier.RATE))
def test_finals_do_not_depend_on_the_chunks(live: Path, sizes: list[int]) -> None:
    samples = np.concatenate([speech(1.5), np.zeros(20_000, dtype=np.float32), speech(1.2, 2.5)])
    recognizer = StreamingRecognizer(live, BEAM, threads=1)

    def finals(chunks: list[np.ndarray]) -> list[tuple[str, list[float]]]:
        events = [event for chunk in chunks for event in recognizer.accept(chunk, carrier.RATE)]
        found = [event for event in [*events, *recognizer.finish()] if isinstance(event, Final)]
        return [(event.text, [round(word.start, 3) for word in event.segment.words]) for event in found]

    assert finals(live_model.cut(samples, sizes)) == finals([samples])


def test_live_and_offline_write_the_same(live: Path) -> None:
    samples = speech(2)
    recognizer = StreamingRecognizer(live, BEAM, endpoint=None, threads=1)
    events = [*recognizer.accept(samples, carrier.RATE), *recognizer.finish()]
    assert events[-1].text == Recognizer(live, BEAM, threads=1).transcribe(samples, carrier.RATE).text


def stretch(seconds: float, vocabulary: int) -> np.ndarray:
    """Log-probs (frames, vocabulary) of speech that never pauses."""
    frames = round(seconds / FRAME_SECONDS)
    logits = np.random.default_rng(frames).normal(0, 2, (frames, vocabulary))
    logits[::2, 0] += 6
    logits[1::2, 1:] += 6
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def test_a_part_that_is_too_long_is_left_as_the_beam_has_it(folder: Path) -> None:
    """And none of its encoded frames is kept."""
    bundle = load_bundle(folder)
    log_probs = stretch(LONGEST_SECONDS + 2, len(bundle.tokens))
    encoded = np.zeros((len(log_probs), 64), dtype=np.float32)
    decoder = make_decoder(replace(BEAM, beam_width=2, nbest=2), bundle)
    assert isinstance(decoder, RescoringDecoder)
    state = decoder.reset()
    for begin in range(0, len(log_probs), 50):
        decoder.advance(state, log_probs[begin : begin + 50], encoded[begin : begin + 50])
    assert not state.encoded
    assert decoder.finish(state)[0].rescoring == 0


def test_of_long_silence_little_is_kept_and_given(folder: Path) -> None:
    bundle = load_bundle(folder)
    decoder = make_decoder(BEAM, bundle)
    assert isinstance(decoder, RescoringDecoder)
    silence = np.full((5_000, len(bundle.tokens)), -20.0, dtype=np.float32)
    silence[:, 0] = 0.0
    spoken = stretch(2, len(bundle.tokens))
    encoded = np.random.default_rng(0).standard_normal((5_000 + len(spoken), 64)).astype(np.float32)
    gains = []
    for before in (decoder.silence_frames, 5_000):
        state = decoder.reset()
        decoder.advance(state, silence[:before], encoded[5_000 - before : 5_000])
        assert sum(map(len, state.encoded)) <= decoder.silence_frames
        decoder.advance(state, spoken, encoded[5_000:])
        gains.append({item.text: item.rescoring for item in decoder.finish(state)})
    assert gains[0] == pytest.approx(gains[1], abs=1e-4)


def test_decoding_by_attention_finds_what_a_search_of_everything_finds(folder: Path) -> None:
    """Of all sequences of at most three tokens; the search ends there since no frame is left."""
    model, encoded = (
        AttentionModel(folder, "lower"),
        np.random.default_rng(4).standard_normal((3, 64)).astype(np.float32),
    )
    vocabulary = len(LETTERS)
    best = (-np.inf, "")
    for length in (1, 2):
        sequences = np.array(list(product(range(1, vocabulary), repeat=length)))
        tokens = np.concatenate([np.zeros((len(sequences), 1), dtype=np.int64), sequences], axis=1)
        log_probs, _, weights = model.run(tokens, model.start(len(tokens)), encoded)
        ends = np.concatenate([sequences, np.zeros((len(sequences), 1), dtype=np.int64)], axis=1)
        scores = np.take_along_axis(log_probs, ends[:, :, None], axis=2).sum(axis=(1, 2))
        scores += COVERAGE_WEIGHT * (weights[:, -1, :length].sum(axis=1) > COVERED).sum(axis=1)
        best = max(best, (scores.max(), LETTERS.text(sequences[scores.argmax()])))
    empty = model.score([""], encoded)[0]
    search = AttentionSearch(model, FRAME_SECONDS, beam_width=vocabulary**2)
    first, *others = search.rescore([], encoded)
    assert first.score == pytest.approx(max(best[0], empty), abs=1e-3)
    assert first.text == (best[1] if best[0] > empty else "")
    assert [item.score for item in others] == sorted((item.score for item in others), reverse=True)


def test_words_by_attention_are_in_order_and_inside_the_recording(folder: Path) -> None:
    transcript = Recognizer(folder, "attention", threads=1).transcribe(speech(3), carrier.RATE)
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times
    assert all(0 <= time <= 3 for time in times)
    starts = [word.start for word in transcript.words]
    assert starts == sorted(starts)


@pytest.mark.parametrize("seconds", [1, 3])
def test_loops_end(folder: Path, seconds: int) -> None:
    """A decoder that never ends by itself does so when every frame has had its token."""
    model = AttentionModel(folder, "lower")
    run = model.run

    def endless(*inputs: np.ndarray) -> tuple:
        step = run(*inputs)
        step.log_probs[:, :, 0] = -30.0
        return step

    model.run = endless  # type: ignore[method-assign, assignment]
    encoded = np.random.default_rng(0).standard_normal((25 * seconds, 64)).astype(np.float32)
    found = AttentionSearch(model, FRAME_SECONDS, 4).rescore([], encoded)
    assert found
