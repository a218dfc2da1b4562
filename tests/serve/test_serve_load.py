"""The load that tools/benchmark.py puts on a server."""

import asyncio
import os

import carrier
import pytest
from developer_tools import load_tool
from serving import Running, metric, pcm

pytest.importorskip("starlette", reason="pip install 'recurrent-asr[serve]'")


def test_every_chunk_of_every_stream_is_answered_in_real_time(server: Running) -> None:
    benchmark = load_tool("benchmark_serve")
    benchmark.WARM_SECONDS = 0.32
    before = metric(server, 'asr_audio_seconds_total{kind="live"}')
    audio = pcm(carrier.speech("one two three", 20))
    found = asyncio.run(benchmark.load(server.port, 3, 1.6, os.getpid(), audio[: len(audio) // 5120 * 5120]))
    heard = metric(server, 'asr_audio_seconds_total{kind="live"}') - before
    assert heard == pytest.approx(3 * (1.6 + 0.32), abs=0.5)  # twice as much if the rate were not known
    assert 0 < found["p50"] <= found["p99"] <= found["p100"] < 30
    assert found["server"] > 0
    everything, without_files = found["memory"]
    assert everything > without_files > 1e7
