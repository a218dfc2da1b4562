"""How fast live recognition is, and how late: the part `streaming` of tools/benchmark.py."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from asr.audio.microphone import BLOCK_SECONDS
from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.decode.build import DecoderName, DecoderOptions
from asr.evaluate.live import Instability
from asr.model.bundle import load_bundle
from asr.model.engine import StreamingEngine
from asr.recognize.batcher import Batcher
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import CHUNK_SECONDS, Event, Final, StreamingRecognizer

ROOT = Path(__file__).parents[1]
CHUNK = round(CHUNK_SECONDS * SAMPLE_RATE)
BLOCK = round(BLOCK_SECONDS * SAMPLE_RATE)  # what `asr listen` hears at a time
RECORDINGS = 100  # enough for a 99th percentile of words, some ten minutes
PAUSE_SECONDS = 2.0  # between recordings, and up to a chunk more
ROOMS = {"a quiet room (−66 dB)": 0.0005, "a louder room (−48 dB)": 0.004}  # amplitude of the noise in the pauses
SPEECH_LEVEL = 0.03  # of a recording's loudest 40 ms (−30 dB): what is below it at the end is not speech
DECODERS: tuple[DecoderName, ...] = ("greedy", "beam")
STREAMS = 32
STREAM_SECONDS = 60
BATCHED_CHUNKS = 100
LONG_SECONDS = 7200
STARTS = 5
MATCH_SECONDS = 1.5  # the same word of both models, not another one of the same spelling

Heard = tuple[Event, float]  # and the second of the stream at which it could be seen


def streaming(sources: Sequence[Path], model: str, offline_model: str) -> None:
    """Print the tables; where no decoder is named, of the default one."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores[:1])
    engine = StreamingEngine(load_bundle(model), threads=1)
    print("| live, one core | |\n| --- | --- |")
    audio, _ = one_stream(sources, min(ROOMS.values()))
    row("audio", f"{len(sources)} recordings, {len(audio) / SAMPLE_RATE / 60:.1f} min, pauses of {PAUSE_SECONDS:.0f} s")
    row("algorithmic delay", f"{1000 * engine.bundle.config.delay_seconds:.0f} ms")
    for decoder in DECODERS:
        heard, times = listen(StreamingRecognizer(engine, decoder), audio)
        row(f"{decoder}: compute for a second of audio", f"{sum(times) / (len(audio) / SAMPLE_RATE):.4f} s")
        row(f"{decoder}: compute for a chunk of {1000 * CHUNK_SECONDS:.0f} ms", percentiles(times, 50, 99))
        instability = Instability()
        for event, _ in heard:
            instability.see(event)
        row(f"{decoder}: words shown that did not stay", f"{instability.rate:.1%}")
        words = Recognizer(offline_model, decoder, threads=1).transcribe(audio, SAMPLE_RATE).words
        delays, written = word_delays(heard, [(word.text, word.end) for word in words])
        row(f"{decoder}: from the end of a word to a partial from which on it stays", percentiles(delays, 50, 95))
        row("… measured on the words that both models wrote", f"{len(delays)} of {written}")
    for name, noise in ROOMS.items():
        audio, ends = one_stream(sources, noise)
        for samples in (BLOCK, CHUNK):
            heard, _ = listen(StreamingRecognizer(engine), audio, samples)
            delays, early = final_delays(heard, ends)
            chunks = f"chunks of {1000 * samples / SAMPLE_RATE:.0f} ms"
            row(f"from the end of speech to the final, {name}, {chunks}", percentiles(delays, 50, 95, 100))
        row("… in time; finals before the end of a recording", f"{len(delays)} of {len(ends)}; {early}")
    for decoder in DECODERS:
        batching(engine, audio, decoder)
    long_stream(engine, audio)

    os.sched_setaffinity(0, cores)
    print(f"\n| live, {len(cores)} cores | |\n| --- | --- |")
    second_pass(model, offline_model, sources)
    for decoder in DECODERS:
        many_streams(engine, audio, len(cores), decoder, DecoderOptions(decoder))
    many_streams(engine, audio, len(cores), "beam of 16", DecoderOptions(beam_width=16))
    ready(model)


def row(name: str, value: str) -> None:
    print(f"| {name} | {value} |", flush=True)


def percentiles(seconds: Sequence[float], *which: int) -> str:
    if not seconds:
        return "none"
    return ", ".join(f"p{number} {1000 * np.percentile(seconds, number):.1f} ms" for number in which)


def one_stream(sources: Sequence[Path], level: float) -> tuple[np.ndarray, list[float]]:
    """Recordings one after the other, cut where their speech ends, with noisy pauses; and those ends, in seconds."""
    noise = np.random.default_rng(1)
    parts, ends, samples = [], [], 0
    for source in sources:
        audio = read(source)
        frames = audio[: len(audio) // 640 * 640].reshape(-1, 640)
        levels = np.sqrt(np.square(frames).mean(axis=1))
        speech = audio[: 640 * (1 + int(np.flatnonzero(levels > SPEECH_LEVEL * levels.max())[-1]))]
        # Speech ends anywhere in a chunk.
        pause = noise.normal(0, level, round(PAUSE_SECONDS * SAMPLE_RATE) + noise.integers(CHUNK)).astype(np.float32)
        parts += [speech, pause]
        ends.append((samples + len(speech)) / SAMPLE_RATE)
        samples += len(speech) + len(pause)
    return np.concatenate(parts), ends


def listen(recognizer: StreamingRecognizer, audio: np.ndarray, samples: int = CHUNK) -> tuple[list[Heard], list[float]]:
    """What was seen when, if the audio came by the clock in chunks of `samples`, and the compute time of each chunk."""
    heard: list[Heard] = []
    times = []
    for start in range(0, len(audio), samples):
        chunk = audio[start : start + samples]
        started = time.perf_counter()
        events = recognizer.accept(chunk, SAMPLE_RATE)
        times.append(time.perf_counter() - started)
        heard += [(event, (start + len(chunk)) / SAMPLE_RATE + times[-1]) for event in events]
    return heard, times


def word_delays(heard: Sequence[Heard], aligned: Sequence[tuple[str, float]]) -> tuple[list[float], int]:
    """From the end of each word, as the offline model aligns it, to the first text from which on it is in its place.

    Only words that both models wrote count; and how many the live one wrote in all.
    """
    shown: list[tuple[str, float, float]] = []  # word, its end in the stream, when it was seen to stay
    utterance: list[tuple[list[str], float]] = []
    for event, at in heard:
        words = event.segment.words if isinstance(event, Final) else event.words
        utterance.append(([word.text for word in words], at))
        if isinstance(event, Final):
            for place, word in enumerate(words):
                seen = at
                for texts, earlier in reversed(utterance):
                    if texts[place : place + 1] != [word.text]:
                        break
                    seen = earlier
                shown.append((word.text, word.end, seen))
            utterance = []
    matcher = SequenceMatcher(None, [word for word, _, _ in shown], [word for word, _ in aligned], autojunk=False)
    pairs = [
        (shown[block.a + offset], aligned[block.b + offset])
        for block in matcher.get_matching_blocks()
        for offset in range(block.size)
    ]
    return [at - end for (_, live_end, at), (_, end) in pairs if abs(live_end - end) < MATCH_SECONDS], len(shown)


def final_delays(heard: Sequence[Heard], ends: Sequence[float]) -> tuple[list[float], int]:
    """From the end of each recording's speech to the final of its last utterance, if that came in the pause.

    And how many finals came while a recording was still being spoken.
    """
    finals = [at for event, at in heard if isinstance(event, Final)]
    delays = [min((at - end for at in finals if at >= end), default=np.inf) for end in ends]
    delays = [delay for delay in delays if delay < PAUSE_SECONDS]
    return delays, len(finals) - len(delays)


def long_stream(engine: StreamingEngine, audio: np.ndarray) -> None:
    """Two hours as fast as possible: does anything grow?"""
    recognizer = StreamingRecognizer(engine)
    chunks = [audio[start : start + CHUNK] for start in range(0, len(audio), CHUNK)]
    times, memory = [], []
    for chunk in islice(cycle(chunks), round(LONG_SECONDS / CHUNK_SECONDS)):
        started = time.perf_counter()
        recognizer.accept(chunk, SAMPLE_RATE)
        times.append(time.perf_counter() - started)
        memory.append(resident())
    tenth = len(times) // 12  # ten minutes
    row(
        f"{LONG_SECONDS / 3600:.0f} h stream: first 10 min",
        f"{percentiles(times[:tenth], 50, 99)}, {memory[tenth]:.0f} MB",
    )
    row(
        f"{LONG_SECONDS / 3600:.0f} h stream: last 10 min",
        f"{percentiles(times[-tenth:], 50, 99)}, {memory[-1]:.0f} MB",
    )


def resident() -> float:
    """Memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def second_pass(model: str, offline_model: str, sources: Sequence[Path]) -> None:
    """The time to `finish` an utterance of about five seconds, without and with a second pass."""
    for name, second in (("no second pass", None), ("second pass", Recognizer(offline_model))):
        recognizer = StreamingRecognizer(model, second_pass=second)
        times = []
        for source in sources:
            audio = read(source)
            if 4.5 <= len(audio) / SAMPLE_RATE <= 5.5:
                recognizer.accept(audio, SAMPLE_RATE)
                started = time.perf_counter()
                recognizer.finish()
                times.append(time.perf_counter() - started)
        row(
            f"{name}: from the last sample of 4.5 – 5.5 s to the final",
            f"{percentiles(times, 50, 100)}, {len(times)} utterances",
        )


def many_streams(engine: StreamingEngine, audio: np.ndarray, cores: int, name: str, options: DecoderOptions) -> None:
    """Streams at different places of the audio, each with its recogniser, by the clock, in a thread for each core."""
    late = []

    def work(numbers: Sequence[int]) -> None:
        recognizers = [StreamingRecognizer(engine, options) for _ in numbers]
        began = time.perf_counter()
        for start in range(0, STREAM_SECONDS * SAMPLE_RATE, CHUNK):
            due = began + (start + CHUNK) / SAMPLE_RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            for number, recognizer in zip(numbers, recognizers, strict=True):
                begin = (start + number * 7 * SAMPLE_RATE) % (len(audio) - CHUNK)
                recognizer.accept(audio[begin : begin + CHUNK], SAMPLE_RATE)
                late.append(time.perf_counter() - due)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, [range(core, STREAMS, cores) for core in range(cores)]))
    row(f"{name}: {STREAMS} streams in real time: from a chunk's end to its text", percentiles(late, 50, 99))


def batching(engine: StreamingEngine, audio: np.ndarray, decoder: DecoderName) -> None:
    """The time for a chunk of each of many streams: one stream after the other, and with one model call for all."""
    recognizers = [StreamingRecognizer(engine, decoder) for _ in range(STREAMS)]
    batcher = Batcher(engine, decoder)
    streams = [batcher.open() for _ in range(STREAMS)]
    single, batched = [], []
    for start in range(0, BATCHED_CHUNKS * CHUNK, CHUNK):
        begins = [(start + number * 7 * SAMPLE_RATE) % (len(audio) - CHUNK) for number in range(STREAMS)]
        chunks = [audio[begin : begin + CHUNK] for begin in begins]
        started = time.perf_counter()
        for recognizer, chunk in zip(recognizers, chunks, strict=True):
            recognizer.accept(chunk, SAMPLE_RATE)
        single.append(time.perf_counter() - started)
        started = time.perf_counter()
        for stream, chunk in zip(streams, chunks, strict=True):
            stream.feed(chunk, SAMPLE_RATE)
        batcher.step()
        batched.append(time.perf_counter() - started)
    for name, times in (("one after the other", single), ("in a batcher", batched)):
        row(f"{decoder}: a chunk of each of {STREAMS} streams, {name}", percentiles(times, 50, 99))


def ready(model: str) -> None:
    """From start to listening, with a virtual microphone where PulseAudio can make one."""
    sys.path.insert(0, str(ROOT / "tests"))
    command = [sys.executable, "-c", "from asr.cli.main import main; main()", "listen", "--model", model]
    try:
        import pytest
        from virtual_microphone import virtual_microphone
    except ImportError as reason:
        row("`asr listen`, start to listening", f"not measured: {reason}")
        return
    try:
        with tempfile.TemporaryDirectory() as folder, virtual_microphone(Path(folder)) as microphone:
            # A real microphone never pauses; the virtual one hands out audio in pieces as short as its player's.
            microphone.play(np.zeros(60 * SAMPLE_RATE, dtype=np.float32), wait=False)
            times = []
            for _ in range(STARTS):
                started = time.perf_counter()
                process = subprocess.Popen(command, env=microphone.environment, stderr=subprocess.PIPE, text=True)
                assert process.stderr is not None
                while "listening" not in (line := process.stderr.readline()):
                    if not line:
                        raise RuntimeError("asr listen ended before it listened")
                times.append(time.perf_counter() - started)
                process.terminate()
                process.communicate()
    except pytest.skip.Exception as reason:
        row("`asr listen`, start to listening", f"not measured: {reason}")
        return
    row("`asr listen`, start to listening", f"{statistics.median(times):.2f} ({min(times):.2f} – {max(times):.2f}) s")
