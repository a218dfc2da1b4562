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

from asr.audio.files import read
from asr.audio.resample import SAMPLE_RATE
from asr.bundle import load_bundle
from asr.engine import StreamingEngine
from asr.recognizer import Recognizer
from asr.streaming import CHUNK_SECONDS, ENDPOINT, Event, Final, Flicker, StreamingRecognizer

ROOT = Path(__file__).parents[1]
CHUNK = round(CHUNK_SECONDS * SAMPLE_RATE)
RECORDINGS = 100  # enough for a 99th percentile of words, some ten minutes
PAUSE_SECONDS = 2.0  # between recordings
PAUSE_LEVEL = 0.0005  # of amplitude: a quiet room, −66 dB
SPEECH_LEVEL = 0.03  # of a recording's loudest 40 ms (−30 dB): what is below it at the end is not speech
STREAMS = 32
STREAM_SECONDS = 60
LONG_SECONDS = 7200
STARTS = 5
MATCH_SECONDS = 1.5  # the same word of both models, not another one of the same spelling

Heard = tuple[Event, float]  # and the second of the stream at which it could be seen


def streaming(sources: Sequence[Path], model: str, offline_model: str) -> None:
    """Print the tables. One core but where it says two."""
    every_core = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every_core)})
    engine = StreamingEngine(load_bundle(model), threads=1)
    audio, ends = one_stream(sources)
    print("| live, one core | |\n| --- | --- |")
    row("audio", f"{len(ends)} recordings, {len(audio) / SAMPLE_RATE / 60:.1f} min, pauses of {PAUSE_SECONDS:.0f} s")
    row("algorithmic delay", f"{1000 * engine.bundle.config.delay_seconds:.0f} ms")
    for decoder in ("greedy", "beam"):
        heard, times = listen(StreamingRecognizer(engine, decoder), audio)
        row(f"{decoder}: compute for a second of audio", f"{sum(times) / (len(audio) / SAMPLE_RATE):.4f} s")
        row(f"{decoder}: compute for a chunk of {1000 * CHUNK_SECONDS:.0f} ms", percentiles(times, 50, 99))
        flicker = Flicker()
        for event, _ in heard:
            flicker.see(event)
        row(f"{decoder}: words shown that did not stay", f"{flicker.rate:.1%}")
        if decoder == "greedy":
            words = Recognizer(offline_model, threads=1).transcribe(audio).words
            delays = word_delays(heard, [(word.text, word.end) for word in words])
            row("from the end of a word to a partial with it", f"{percentiles(delays, 50, 95)}, {len(delays)} words")
            waits = final_delays(heard, ends)
            row(
                f"from the end of speech to the final (rule: {ENDPOINT.after_speech:.1f} s)",
                f"{percentiles(waits, 50, 95)}, {len(waits)} utterances",
            )
    long_stream(engine, audio)

    os.sched_setaffinity(0, every_core)
    print(f"\n| live, {len(every_core)} cores | |\n| --- | --- |")
    second_pass(model, offline_model, sources)
    many_streams(engine, audio, len(every_core))
    ready(model)


def row(name: str, value: str) -> None:
    print(f"| {name} | {value} |", flush=True)


def percentiles(seconds: Sequence[float], *which: int) -> str:
    return ", ".join(f"p{number} {1000 * np.percentile(seconds, number):.1f} ms" for number in which)


def one_stream(sources: Sequence[Path]) -> tuple[np.ndarray, list[float]]:
    """Recordings one after the other, cut where their speech ends, with pauses; and those ends, in seconds."""
    noise = np.random.default_rng(1)
    parts, ends, samples = [], [], 0
    for source in sources:
        audio = read(source)
        frames = audio[: len(audio) // 640 * 640].reshape(-1, 640)
        level = np.sqrt(np.square(frames).mean(axis=1))
        speech = audio[: 640 * (1 + int(np.flatnonzero(level > SPEECH_LEVEL * level.max())[-1]))]
        pause = noise.normal(0, PAUSE_LEVEL, round(PAUSE_SECONDS * SAMPLE_RATE)).astype(np.float32)
        parts += [speech, pause]
        ends.append((samples + len(speech)) / SAMPLE_RATE)
        samples += len(speech) + len(pause)
    return np.concatenate(parts), ends


def listen(recognizer: StreamingRecognizer, audio: np.ndarray) -> tuple[list[Heard], list[float]]:
    """What was seen when, if the audio came by the clock, and the compute time of each chunk."""
    heard: list[Heard] = []
    times = []
    for start in range(0, len(audio), CHUNK):
        chunk = audio[start : start + CHUNK]
        started = time.perf_counter()
        events = recognizer.accept(chunk, SAMPLE_RATE)
        times.append(time.perf_counter() - started)
        heard += [(event, (start + len(chunk)) / SAMPLE_RATE + times[-1]) for event in events]
    return heard, times


def word_delays(heard: Sequence[Heard], aligned: Sequence[tuple[str, float]]) -> list[float]:
    """From the end of each word, as the offline model aligns it, to the first text that has it in its place.

    Only words that both models wrote count.
    """
    shown: list[tuple[str, float, float]] = []  # word, its end in the stream, when it was seen
    utterance: list[tuple[list[str], float]] = []
    for event, at in heard:
        words = event.segment.words if isinstance(event, Final) else event.words
        utterance.append(([word.text for word in words], at))
        if isinstance(event, Final):
            for place, word in enumerate(words):
                first = next(at for texts, at in utterance if texts[place : place + 1] == [word.text])
                shown.append((word.text, word.end, first))
            utterance = []
    matcher = SequenceMatcher(None, [word for word, _, _ in shown], [word for word, _ in aligned], autojunk=False)
    pairs = [
        (shown[block.a + offset], aligned[block.b + offset])
        for block in matcher.get_matching_blocks()
        for offset in range(block.size)
    ]
    return [at - end for (_, live_end, at), (_, end) in pairs if abs(live_end - end) < MATCH_SECONDS]


def final_delays(heard: Sequence[Heard], ends: Sequence[float]) -> list[float]:
    """From the end of each recording's speech to the final of its last utterance, if that came in the pause."""
    finals = [at for event, at in heard if isinstance(event, Final)]
    delays = [min((at - end for at in finals if at >= end), default=np.inf) for end in ends]
    return [delay for delay in delays if delay < PAUSE_SECONDS]


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
    """What the second pass adds to the final of an utterance of about five seconds."""
    recognizer = Recognizer(offline_model)
    times = []
    for source in sources:
        audio = read(source)
        if 4.5 <= len(audio) / SAMPLE_RATE <= 5.5:
            started = time.perf_counter()
            recognizer.transcribe(audio)
            times.append(time.perf_counter() - started)
    row("second pass, utterances of 4.5 – 5.5 s", f"{percentiles(times, 50, 100)}, {len(times)} utterances")


def many_streams(engine: StreamingEngine, audio: np.ndarray, cores: int) -> None:
    """Streams that start at different places of the audio, each with its recogniser, in a thread for each core."""

    def work(numbers: Sequence[int]) -> None:
        recognizers = [StreamingRecognizer(engine) for _ in numbers]
        for start in range(0, STREAM_SECONDS * SAMPLE_RATE, CHUNK):
            for number, recognizer in zip(numbers, recognizers, strict=True):
                begin = (start + number * 7 * SAMPLE_RATE) % (len(audio) - CHUNK)
                recognizer.accept(audio[begin : begin + CHUNK], SAMPLE_RATE)

    started = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, [range(core, STREAMS, cores) for core in range(cores)]))
    elapsed = time.perf_counter() - started
    row(
        f"{STREAMS} streams of {STREAM_SECONDS} s at once",
        f"{elapsed:.1f} s, {elapsed / STREAM_SECONDS:.2f} of real time",
    )


def ready(model: str) -> None:
    """From start to listening, with a virtual microphone where PulseAudio can make one."""
    sys.path.insert(0, str(ROOT / "tests"))
    command = [sys.executable, "-c", "from asr.cli.main import main; main()", "listen", "--model", model]
    try:
        from virtual_microphone import virtual_microphone

        with tempfile.TemporaryDirectory() as folder, virtual_microphone(Path(folder)) as microphone:
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
    except BaseException as reason:  # pytest's skip is no Exception
        if isinstance(reason, KeyboardInterrupt):
            raise
        row("`asr listen`, start to listening", f"not measured: {reason}")
        return
    row("`asr listen`, start to listening", f"{statistics.median(times):.2f} ({min(times):.2f} – {max(times):.2f}) s")
