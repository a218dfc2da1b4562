import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import carrier
import numpy as np
import pytest
from hypothesis import given, settings
from live_model import chunk_sizes, cut, write_bundle
from live_model import speech as recording

from asr.audio.sources import read
from asr.data.manifest import Entry
from asr.errors import ArgumentError, BundleError
from asr.model.bundle import Bundle, load_bundle, write_config
from asr.model.engine import FRAMES_PER_RUN, Engine, Stream, StreamingEngine, open_engine, open_streaming_engine
from asr.model.tokens import Tokens

FRAME = carrier.FRAME


@pytest.fixture(scope="session")
def carrier_engine(carrier_bundle: Path) -> Engine:
    return Engine(load_bundle(carrier_bundle), threads=1)


@pytest.fixture(scope="session")
def packaged() -> Engine:
    return Engine(load_bundle("en-bilstm"), threads=1)


@pytest.fixture(scope="session")
def live(live_bundle: Path) -> StreamingEngine:
    return StreamingEngine(load_bundle(live_bundle), threads=1)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return carrier.write_bundle(tmp_path / "model")


def log_probs(engine: Engine, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [frames.log_probs for frames in engine.run(waveforms)]


def advance(engine: StreamingEngine, streams: Sequence[Stream], chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [frames.log_probs for frames in engine.run(streams, chunks)]


def finish(engine: StreamingEngine, streams: Sequence[Stream]) -> list[np.ndarray]:
    return advance(engine, streams, [engine.tail(stream) for stream in streams])


def noise(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, samples).astype(np.float32)


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Engine(load_bundle(folder), threads=1)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_one_frame_for_every_40_ms_begun(carrier_engine: Engine) -> None:
    lengths = [1, 639, 640, 641, 1280, 16_000]
    rows = log_probs(carrier_engine, [np.zeros(length, dtype=np.float32) for length in lengths])
    assert [row.shape for row in rows] == [(-(-length // 640), len(carrier.TOKENS)) for length in lengths]
    assert all(row.dtype == np.float32 for row in rows)


def test_rows_are_log_probabilities(packaged: Engine) -> None:
    (row,) = log_probs(packaged, [noise(16_000, 0)])
    np.testing.assert_allclose(np.exp(row.astype(np.float64)).sum(axis=1), 1, atol=1e-4)


def test_padding_does_not_change_a_row_of_the_batch(packaged: Engine) -> None:
    waveforms = [noise(length, seed) for seed, length in enumerate([5_000, 33_333, 640, 20_001])]
    for together, waveform in zip(log_probs(packaged, waveforms), waveforms, strict=True):
        (alone,) = log_probs(packaged, [waveform])
        np.testing.assert_allclose(together, alone, atol=1e-3)


def test_threads_share_one_engine(packaged: Engine) -> None:
    waveforms = [noise(12_000 + 1_000 * seed, seed) for seed in range(8)]
    expected = [log_probs(packaged, [waveform])[0] for waveform in waveforms]
    with ThreadPoolExecutor(2) as pool:
        found = [rows for (rows,) in pool.map(lambda waveform: log_probs(packaged, [waveform]), waveforms)]
    for rows, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(rows, wanted)


def test_another_graph_than_the_bundles_own_can_be_run(carrier_bundle: Path, tmp_path: Path) -> None:
    graph = tmp_path / "other.onnx"
    graph.write_bytes((carrier_bundle / "model.onnx").read_bytes())
    (rows,) = log_probs(Engine(load_bundle(carrier_bundle), graph, threads=1), [carrier.speech("ab")])
    assert carrier.TOKENS.text(rows.argmax(axis=1).tolist()) == "ab"


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07" * 1000])
def test_a_corrupt_graph_is_one_line(copied: Path, content: bytes) -> None:
    (copied / "model.onnx").write_bytes(content)
    assert "model.onnx: cannot be run" in refusal(copied)


def test_a_truncated_graph_is_one_line(copied: Path) -> None:
    graph = (copied / "model.onnx").read_bytes()
    (copied / "model.onnx").write_bytes(graph[: len(graph) // 2])
    assert "model.onnx: cannot be run" in refusal(copied)


def test_a_truncated_token_list_is_refused_before_anything_is_recognised(copied: Path) -> None:
    Tokens(carrier.TOKENS.symbols[:20]).save(copied / "tokens.txt")
    assert "tokens.txt has 20 tokens, model.onnx 29" in refusal(copied)


def test_a_graph_that_gives_a_single_number_is_one_line(copied: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="changes the graph: pip install 'recurrent-asr[train]'")
    graph = onnx.load(copied / "model.onnx")
    output = graph.graph.output[0]
    graph.graph.node.append(onnx.helper.make_node("ReduceMax", [output.name], ["single"], keepdims=0))
    graph.graph.output.insert(0, onnx.helper.make_tensor_value_info("single", onnx.TensorProto.FLOAT, []))
    onnx.save(graph, copied / "model.onnx")
    assert "tokens.txt has 29 tokens, model.onnx none" in refusal(copied)


def test_a_graph_that_vanished_after_the_bundle_was_opened_is_one_line(copied: Path) -> None:
    bundle: Bundle = load_bundle(copied)
    (copied / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be run"):
        Engine(bundle)


def heard(engine: StreamingEngine, chunks: Sequence[np.ndarray]) -> np.ndarray:
    """All log-probs of one stream."""
    stream = engine.start()
    rows = [row for chunk in chunks for row in advance(engine, [stream], [chunk])]
    return np.concatenate([*rows, *finish(engine, [stream])])


def streams(count: int) -> list[np.ndarray]:
    """Recordings that begin at different words and end at different samples, the last of them with nothing at all."""
    return [recording()[1_000 * number : 77_000 - 2_345 * number] for number in range(count - 1)] + [recording()[:0]]


@pytest.fixture(scope="session")
def live_float(tmp_path_factory: pytest.TempPathFactory) -> StreamingEngine:
    """The live model with its weights in float32."""
    folder = write_bundle(tmp_path_factory.mktemp("engines") / "float", int8=False)
    return StreamingEngine(load_bundle(folder), threads=1)


@settings(deadline=None, max_examples=20)
@given(sizes=chunk_sizes())
def test_chunks_of_a_stream_say_what_the_whole_says(
    live: StreamingEngine, live_float: StreamingEngine, sizes: list[int]
) -> None:
    for engine in (live, live_float):
        whole = heard(engine, [recording()])
        assert len(np.unique(whole.argmax(axis=1))) > 10  # it depends on what is said
        np.testing.assert_allclose(heard(engine, cut(recording(), sizes)), whole, atol=1e-4)


def test_single_samples_say_what_the_whole_says(live: StreamingEngine) -> None:
    samples = recording()[: 10 * FRAME + 1]
    np.testing.assert_allclose(heard(live, cut(samples, [1] * len(samples))), heard(live, [samples]), atol=1e-4)


def test_chunks_of_real_recordings_say_what_the_whole_says(live: StreamingEngine, dev_entries: list[Entry]) -> None:
    for number, entry in enumerate(dev_entries[:: max(1, len(dev_entries) // 4)]):
        samples = read(entry.audio)
        sizes = np.random.default_rng(number).integers(0, 20_000, 400)
        np.testing.assert_allclose(heard(live, cut(samples, sizes)), heard(live, [samples]), atol=1e-4)


def test_a_stream_longer_than_one_run_says_what_its_chunks_say(live: StreamingEngine) -> None:
    samples = np.tile(recording(), 9)
    assert len(samples) > 2 * FRAMES_PER_RUN * FRAME
    np.testing.assert_allclose(heard(live, [samples]), heard(live, cut(samples, [7_777] * 100)), atol=1e-4)


def test_what_follows_the_end_of_a_stream_is_as_silence(live: StreamingEngine) -> None:
    samples = recording()
    longer = np.pad(samples, (0, 20 * FRAME))
    frames = math.ceil(len(samples) / FRAME)
    np.testing.assert_allclose(heard(live, [longer])[:frames], heard(live, [samples]), atol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 639, 640, 641, 1_279, 1_280, 1_281, 5 * 640])
@pytest.mark.parametrize("step", [1, 640, 10_000])
def test_a_stream_has_one_frame_for_every_40_ms_begun(live: StreamingEngine, samples: int, step: int) -> None:
    rows = heard(live, cut(recording()[:samples], [step] * (samples // step)))
    assert rows.shape == (math.ceil(samples / FRAME), len(carrier.TOKENS))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, heard(live, [recording()[:samples]]), atol=1e-4)


def test_a_frame_comes_as_soon_as_its_lookahead_is_heard(live: StreamingEngine) -> None:
    stream, lookahead = live.start(), live.bundle.config.lookahead
    counts = []
    for samples in [*[FRAME] * (lookahead + 2), FRAME - 1, 1, 0, 2 * FRAME + 5]:
        (rows,) = advance(live, [stream], [recording()[:samples]])
        counts.append(len(rows))
    assert counts == [*[0] * lookahead, 1, 1, 0, 1, 0, 2]


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (3, 0), (3, 1), (3, 2), (32, 0)])
def test_streams_that_advance_together_say_what_each_says_alone(live: StreamingEngine, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = streams(count)
    chunks = [iter(cut(source, rng.integers(0, rng.choice([1_000, 30_000]), 400))) for source in sources]
    open_streams = {number: live.start() for number in range(count)}
    found: list[list[np.ndarray]] = [[] for _ in sources]
    while open_streams:
        # Some begin late, some pause, some end while others go on.
        chosen = [number for number in open_streams if rng.random() < 0.7]
        given = {number: next(chunks[number], None) for number in chosen}
        going = [number for number in chosen if given[number] is not None]
        ending = [number for number in chosen if given[number] is None]
        for numbers, rows in (
            (going, advance(live, [open_streams[number] for number in going], [given[number] for number in going])),
            (ending, finish(live, [open_streams[number] for number in ending])),
        ):
            for number, row in zip(numbers, rows, strict=True):
                found[number].append(row)
        for number in ending:
            del open_streams[number]
    for rows, source in zip(found, sources, strict=True):
        np.testing.assert_allclose(np.concatenate(rows), heard(live, [source]), atol=1e-4)


def test_streams_in_threads_share_one_engine(live: StreamingEngine) -> None:
    sources = streams(8)
    expected = [heard(live, [source]) for source in sources]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda source: heard(live, cut(source, [2_560] * 40)), sources))
    for rows, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=1e-4)


def test_what_a_stream_holds_does_not_grow(live: StreamingEngine) -> None:
    stream = live.start()
    sizes = set()
    for chunk in cut(np.tile(recording(), 5), [2_560] * 150):
        advance(live, [stream], [chunk])
        assert len(stream.pending) < FRAME
        sizes.add(sum(array.size for array in stream.state.values()))
    assert len(sizes) == 1


def test_samples_given_to_a_stream_are_left_alone_and_may_be_reused(live: StreamingEngine) -> None:
    stream, buffer, rows = live.start(), np.zeros(1_000, dtype=np.float32), []
    samples = recording()[:20_000]
    for chunk in samples.reshape(-1, len(buffer)):
        buffer[:] = chunk  # as an audio callback does
        rows += advance(live, [stream], [buffer])
        np.testing.assert_array_equal(buffer, chunk)
    np.testing.assert_allclose(np.concatenate([*rows, *finish(live, [stream])]), heard(live, [samples]), atol=1e-4)


@pytest.mark.parametrize("bidirectional", [True, False], ids=["whole recordings", "streams"])
def test_encoded_frames_come_from_graphs_that_have_them(bidirectional: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from asr.nn.ctc_model import AcousticConfig, AcousticModel
    from asr.nn.export import export_onnx

    lookahead = 0 if bidirectional else 3
    config = AcousticConfig("gru", bidirectional, layers=1, hidden_size=24, lookahead=lookahead)
    model = AcousticModel(config, len(carrier.TOKENS)).eval()
    folder = carrier.write_bundle(tmp_path / "model", streaming=not bidirectional)
    write_config(folder, replace(carrier.CONFIG, streaming=not bidirectional, lookahead=lookahead))
    samples = [recording()[:30_000], recording()[10_000:20_001]]
    for encoded in (False, True):
        export_onnx(model, folder / "model.onnx", encoded)
        engine = open_engine(folder, threads=1)
        if isinstance(engine, StreamingEngine):
            streams = [engine.start(), engine.start()]
            first, second = zip(*(np.split(waveform, [7_000]) for waveform in samples), strict=True)
            halves = [engine.run(streams, chunks) for chunks in (first, second)]
            ends = engine.run(streams, [engine.tail(stream) for stream in streams])
            parts = [[part[number] for part in (*halves, ends)] for number in range(2)]
            if not encoded:
                assert all(frames.encoded is None for stream in parts for frames in stream)
                continue
            found = [np.concatenate([frames.encoded for frames in stream]) for stream in parts]
        else:
            results = engine.run(samples)
            if not encoded:
                assert all(frames.encoded is None for frames in results)
                continue
            found = [frames.encoded for frames in results]
        for vectors, waveform in zip(found, samples, strict=True):
            with torch.no_grad():
                _, expected, _ = model(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
            np.testing.assert_allclose(vectors, expected[0].numpy(), atol=1e-4)


def test_a_model_for_whole_recordings_cannot_stream(carrier_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"whole recordings, not chunk by chunk; choose a live model") as caught:
        open_streaming_engine(carrier_bundle, threads=1)
    assert "\n" not in str(caught.value)
    assert str(carrier_bundle) in str(caught.value)


def test_a_model_is_opened_from_its_name_its_folder_or_its_bundle(carrier_bundle: Path) -> None:
    for model in ("en-gru", carrier_bundle, str(carrier_bundle), load_bundle(carrier_bundle)):
        engine = open_engine(model, threads=1)
        assert isinstance(engine, StreamingEngine if model == "en-gru" else Engine)


def test_an_open_model_is_shared(live: StreamingEngine) -> None:
    class Recognizer:
        engine = live

    assert open_engine(live) is live
    assert open_engine(Recognizer()) is live


@pytest.mark.parametrize("model", [None, 7, b"en-gru", ["en-gru"]])
def test_what_is_no_model_is_one_line_that_names_the_argument(model: object) -> None:
    with pytest.raises(ArgumentError, match=r"^model must be a name, a folder") as caught:
        open_engine(model)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
