"""One decoder for many threads and streams: every text as if alone, caches that stay small, nothing process-wide."""

import gc
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_beam import FRAME_SECONDS, PIECES, decode, model_like_log_probs

from asr.decode.base import Decoder, Hypothesis
from asr.decode.beam import BeamDecoder
from asr.decode.fusion import Fusion, FusionWeights
from asr.decode.greedy import GreedyDecoder
from asr.lm.estimate import estimate

THREADS, STREAMS = 8, 32
CACHED = 300  # so few states that threads drop them all the time


@pytest.fixture(autouse=True)
def threads_that_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def fusion() -> Fusion:
    decoder = BeamDecoder(PIECES, FRAME_SECONDS)
    texts = [decode(decoder, model_like_log_probs(80, seed))[0].text for seed in range(15, 30)]
    return Fusion(PIECES, estimate(texts, 2)[0], FusionWeights(0.5, 1.5, -5.0), {texts[0].split()[1]: 3.0})


def stream(decoder: Decoder, log_probs: np.ndarray, seed: int) -> list[list[Hypothesis]]:
    """Partial and final hypotheses of a stream in chunks of random sizes."""
    generator = np.random.default_rng(seed)
    cuts = np.cumsum(generator.integers(1, 40, len(log_probs)))
    state, results = decoder.reset(), []
    for chunk in np.split(log_probs, cuts[cuts < len(log_probs)]):
        decoder.advance(state, chunk)
        results.append([decoder.partial(state)])
    return [*results, decoder.finish(state)]


@pytest.mark.parametrize("name", ["greedy", "beam", "beam, 4-best"])
def test_threads_and_streams_share_one_decoder_and_each_text_is_as_if_alone(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asr.decode.fusion.CACHED", CACHED)
    shared = fusion()
    decoder = {
        "greedy": GreedyDecoder(PIECES, FRAME_SECONDS),
        "beam": BeamDecoder(PIECES, FRAME_SECONDS, 8, fusion=shared),
        "beam, 4-best": BeamDecoder(PIECES, FRAME_SECONDS, 8, fusion=shared, nbest=4),
    }[name]
    log_probs = [model_like_log_probs(150, seed) for seed in range(STREAMS)]
    alone = [stream(decoder, rows, seed) for seed, rows in enumerate(log_probs)]
    with ThreadPoolExecutor(THREADS) as threads:
        together = list(threads.map(stream, [decoder] * STREAMS, log_probs, range(STREAMS)))
    assert together == alone
    assert len({results[-1][0].text for results in alone}) > STREAMS / 2
    # What one thread adds between two looks at the size, for each of them.
    assert len(shared.cache.states) < CACHED + THREADS * 1500


def test_streams_take_turns_in_any_order_in_one_thread():
    decoder = BeamDecoder(PIECES, FRAME_SECONDS, 8, fusion=fusion())
    log_probs = [model_like_log_probs(150, seed) for seed in range(STREAMS)]
    alone = [decode(decoder, rows) for rows in log_probs]
    states, place = [decoder.reset() for _ in log_probs], [0] * STREAMS
    generator = np.random.default_rng(0)
    while open_streams := [number for number in range(STREAMS) if place[number] < len(log_probs[number])]:
        number, size = generator.choice(open_streams), int(generator.integers(1, 40))
        decoder.advance(states[number], log_probs[number][place[number] :][:size])
        place[number] += size
    assert [decoder.finish(state) for state in states] == alone


def test_decoding_leaves_the_garbage_collector_of_the_process_alone():
    decoder, seen, done = BeamDecoder(PIECES, FRAME_SECONDS), set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(gc.isenabled())

    watcher = threading.Thread(target=watch)
    watcher.start()
    decode(decoder, model_like_log_probs(600, seed=1))
    done.set()
    watcher.join()
    assert seen == {True}


def test_a_decoder_that_is_gone_leaves_no_states_behind():
    decoder = BeamDecoder(PIECES, FRAME_SECONDS, fusion=fusion())
    state = decoder.reset()
    decoder.advance(state, model_like_log_probs(300, seed=1))
    kind = type(state.beam[0].fusion_state)
    gc.collect()
    before = sum(type(thing) is kind for thing in gc.get_objects())
    mine = len(decoder.fusion.cache.states)
    assert mine > 100
    del decoder, state
    gc.collect()
    assert sum(type(thing) is kind for thing in gc.get_objects()) <= before - mine
