"""Measure speed and memory, and print tables in Markdown.

    python tools/benchmark.py offline [--manifest dev.jsonl]    # recognition of files, one core
    python tools/benchmark.py streaming [--manifest dev.jsonl]  # live recognition
    python tools/benchmark.py serve [--manifest dev.jsonl]      # live streams and a file of `asr serve`, extra `serve`
    python tools/benchmark.py bulk [--manifest dev.jsonl]       # many recordings on all cores, extra `bulk`
    python tools/benchmark.py decoding --manifest dev.jsonl     # beam search with a language model, beside others
    python tools/benchmark.py train [--recipe RECIPE.yaml]      # needs the extra `train`
    python tools/benchmark.py loader [--recipe RECIPE.yaml]     # batches without a model

`offline` runs the command `asr transcribe` as a user would, each time in a new process on one core. The recordings
are utterances of the manifest one after the other; without one, the bundled sample over and over.
"""

import argparse
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import soundfile
from benchmark_decoding import decoding
from benchmark_serve import file_over_http, serving
from benchmark_streaming import RECORDINGS, streaming

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import read
from asr.data.manifest import read_manifest
from asr.decode.beam import BEAM_WIDTH
from asr.recognize.streaming import CHUNK_SECONDS

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "tests/data/sample.flac"
MINUTE = 60 * SAMPLE_RATE
SHORT_SECONDS = 5
REPEATS = 5


def machine() -> str:
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def write_recording(path: Path, sources: list[Path], samples: int) -> None:
    """The sources one after the other, again from the first when they end, `samples` in all."""
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for source in cycle(sources):
            audio = read(source)[:samples]
            file.write(audio)
            samples -= len(audio)
            if samples <= 0:
                return


def run(command: list[str], cores: set[int]) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of a command that is held to `cores`."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1000


def recordings(manifest: Path | None) -> list[Path]:
    return [entry.audio for entry in read_manifest(manifest)] if manifest else [SAMPLE]


def offline(manifest: Path | None, model: str) -> None:
    sources = recordings(manifest)
    transcribe = [sys.executable, "-c", "from asr.cli.main import main; main()", "transcribe", "--model", model]
    every_core = os.sched_getaffinity(0)
    one_core = {min(every_core)}
    print(f"{machine()}; one core; {model}\n")
    print("| recording | decoder | wall seconds | real-time factor | peak memory |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for minutes, repeats in ((5, REPEATS), (60, 1)):
            recording = Path(folder) / f"{minutes}.wav"
            write_recording(recording, sources, minutes * MINUTE)
            for options in (["--decoder", "greedy"], ["--decoder", "beam", "--beam-width", str(BEAM_WIDTH)]):
                runs = [run([*transcribe, *options, str(recording)], one_core) for _ in range(repeats)]
                walls, memory = [wall for wall, _ in runs], max(peak for _, peak in runs)
                print(
                    f"| {minutes} min | {' '.join(options[1::2])} | {spread(walls)} | "
                    f"{statistics.median(walls) / (60 * minutes):.4f} | {memory:.0f} MB |",
                    flush=True,
                )
        recording = Path(folder) / "short.wav"
        write_recording(recording, sources, SHORT_SECONDS * SAMPLE_RATE)
        print(f"\nFrom start to printed text, {SHORT_SECONDS} s file:", end=" ")
        for name, cores in (("one core", one_core), ("all cores", every_core)):
            walls = [run([*transcribe, str(recording)], cores)[0] for _ in range(REPEATS + 1)][1:]
            print(f"{name} {spread(walls)} s", end="; " if cores is one_core else ".\n", flush=True)


WHISPER = """
import sys
from faster_whisper import BatchedInferencePipeline, WhisperModel
model, cores, *paths = sys.argv[1:]
whisper = BatchedInferencePipeline(WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=int(cores)))
for path in paths:
    list(whisper.transcribe(path, language="en", batch_size=8)[0])
"""


def bulk(manifest: Path | None, seconds: float, price: float, cluster: bool, whisper: str) -> None:
    """`asr bulk` on every core beside `asr transcribe` on one, `xargs -P` and faster-whisper where these are installed.

    Then what starting costs, and a table of hours a day and their price.
    """
    sources, every_core = recordings(manifest), os.sched_getaffinity(0)
    cores, program = len(every_core), [sys.executable, "-c", "from asr.cli.main import main; main()"]
    print(f"{machine()}\n\n| recordings | command | wall seconds | times real time | of {cores} × one core |")
    print("| --- | --- | --- | --- | --- |")
    hours = 0.0
    with tempfile.TemporaryDirectory() as name:
        for kind, length in (("long", 300.0), ("short", float(SHORT_SECONDS))):
            folder = Path(name) / kind
            folder.mkdir()
            count = max(cores, round(seconds / length))
            for number in range(count):
                turned = sources[number % len(sources) :] + sources[: number % len(sources)]
                write_recording(folder / f"{number}.wav", turned, round(length * SAMPLE_RATE))
            commands = {
                "asr transcribe, one core": ([*program, "transcribe", "-o", f"{folder}-text/", str(folder)], 1),
                "asr bulk": ([*program, "bulk", str(folder), f"{folder}-rows"], cores),
            }
            if shutil.which("xargs") and shutil.which("taskset"):
                # The most that the cores give together: nothing is shared out, and none waits for another.
                for place, core in enumerate(sorted(every_core)):
                    part = Path(f"{folder}-{core}")
                    part.mkdir()
                    for path in sorted(folder.iterdir())[place::cores]:
                        (part / path.name).symlink_to(path)
                each = ["taskset", "-c", "CORE", *program, "transcribe", "-o", f"{folder}-text-CORE/", f"{folder}-CORE"]
                numbers = " ".join(map(str, sorted(every_core)))
                piped = f"printf '%s\\n' {numbers} | xargs -P {cores} -I CORE {shlex.join(each)}"
                commands[f"asr transcribe, {cores} at once, each on its core and its share"] = (
                    ["sh", "-c", piped],
                    cores,
                )
            if shutil.which("xargs"):
                each = " ".join(map(shlex.quote, [*program, "transcribe", "-f", "json"]))
                share = max(1, count // (4 * cores))
                piped = f"find {folder} -name '*.wav' | xargs -P {cores} -n {share} {each}"
                commands[f"xargs -P {cores} -n {share} asr transcribe"] = (["sh", "-c", piped], cores)
            if cluster:
                ray = [*program, "bulk", str(folder), f"{folder}-ray", "--cluster", "local"]
                commands["asr bulk --cluster local"] = (ray, cores)
            if find_spec("faster_whisper"):
                paths = [str(path) for path in sorted(folder.iterdir())]
                title = f"faster-whisper, {whisper}, int8, batches of 8"
                commands[title] = ([sys.executable, "-c", WHISPER, whisper, str(cores), *paths], cores)
            alone = 0.0
            for title, (command, used) in commands.items():
                wall, _ = run(command, every_core if used > 1 else {min(every_core)})
                speed = count * length / wall
                alone = alone or speed
                hours = speed / cores if title == "asr bulk" else hours
                share_of_cores = f"{speed / alone / cores:.0%}" if used > 1 else ""
                print(
                    f"| {count} of {length:.0f} s | {title} | {wall:.1f} | {speed:.0f} | {share_of_cores} |", flush=True
                )
        if not find_spec("faster_whisper"):
            print("\nfaster-whisper is not installed: no row beside it (pip install faster-whisper)")
        for more in ((), ("--cluster", "local")) if cluster else ((),):
            one = [*program, "bulk", str(folder / "0.wav"), f"{folder}-one", *more]
            walls = []
            for _ in range(REPEATS if not more else 1):
                shutil.rmtree(f"{folder}-one", ignore_errors=True)
                walls.append(run(one, every_core)[0])
            print(f"\n`asr bulk {' '.join(more)}` of one recording of {SHORT_SECONDS} s: {spread(walls)} s")
    print(
        f"\n| cores | hours of audio a day | cost of 1,000 hours at ${price} per core and hour |\n| --- | --- | --- |"
    )
    for number in (1, 16, 1000):
        print(f"| {number:,} | {24 * number * hours:,.0f} | ${1000 / hours * price:.2f} |")


def spread(values: list[float]) -> str:
    """Median, and the range where there are several."""
    middle = statistics.median(values)
    return f"{middle:.2f}" + (f" ({min(values):.2f} – {max(values):.2f})" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    offline_parser = commands.add_parser("offline")
    offline_parser.add_argument("--manifest", type=Path)
    offline_parser.add_argument("--model", default="en-bilstm")
    streaming_parser = commands.add_parser("streaming")
    streaming_parser.add_argument("--manifest", type=Path)
    streaming_parser.add_argument("--model", default="en-gru")
    streaming_parser.add_argument("--offline-model", default="en-bilstm", help="aligns the words; the second pass")
    serve_parser = commands.add_parser("serve")
    serve_parser.add_argument("--manifest", type=Path)
    serve_parser.add_argument("--decoder", nargs="+", default=["beam", "greedy"])
    serve_parser.add_argument("--streams", type=int, nargs="+", default=[1, 25, 50, 75, 100, 150])
    serve_parser.add_argument("--seconds", type=float, default=60.0, help="of each row")
    bulk_parser = commands.add_parser("bulk")
    bulk_parser.add_argument("--manifest", type=Path)
    bulk_parser.add_argument("--seconds", type=float, default=14400.0, help="of audio for each row")
    bulk_parser.add_argument("--whisper", default="tiny.en", help="model of faster-whisper: a name or a folder")
    bulk_parser.add_argument("--price", type=float, default=0.04, help="dollars for a core and an hour")
    bulk_parser.add_argument("--cluster", action="store_true", help="also by Ray")
    decoding_parser = commands.add_parser("decoding")
    decoding_parser.add_argument("--manifest", type=Path, required=True)
    decoding_parser.add_argument("--every", type=int, default=4, help="take one in so many utterances")
    decoding_parser.add_argument("--model", default="en-bilstm")
    decoding_parser.add_argument("--lm", default="en-lm", help="a packaged name or a file")
    decoding_parser.add_argument("--rounds", type=int, default=3)
    for name in ("train", "loader"):
        train_parser = commands.add_parser(name)
        train_parser.add_argument("--recipe", type=Path, default=ROOT / "recipes/starter/bilstm.yaml")
        train_parser.add_argument("overrides", nargs="*", help="of the recipe's fields, as of asr train")
        train_parser.add_argument("--batches", type=int, default=20, help="of the recipe's, to make an epoch")
        train_parser.add_argument("--epochs", type=int, default=6, help="the first one is not timed")
    arguments = parser.parse_args()
    if arguments.command == "offline":
        offline(arguments.manifest, arguments.model)
    elif arguments.command == "streaming":
        print(f"{machine()}; {arguments.model}\n")
        streaming(recordings(arguments.manifest)[:RECORDINGS], arguments.model, arguments.offline_model)
    elif arguments.command == "bulk":
        bulk(arguments.manifest, arguments.seconds, arguments.price, arguments.cluster, arguments.whisper)
    elif arguments.command == "serve":
        print(f"{machine()}; real time, chunks of {1000 * CHUNK_SECONDS:.0f} ms\n")
        sources = recordings(arguments.manifest)
        serving(sources[:RECORDINGS], arguments.decoder, arguments.streams, arguments.seconds)
        with tempfile.TemporaryDirectory() as folder:
            recording = Path(folder) / "5.wav"
            write_recording(recording, sources, 5 * MINUTE)
            file_over_http(recording, REPEATS)
    elif arguments.command == "decoding":
        print(f"{machine()}; one core; {arguments.model}")
        entries = read_manifest(arguments.manifest)[:: arguments.every]
        decoding(entries, arguments.model, arguments.lm, arguments.rounds)
    else:
        from benchmark_training import loader, training  # imports torch

        print(f"{machine()}; {arguments.recipe}")
        if arguments.command == "train":
            training(arguments.recipe, arguments.overrides, arguments.batches, arguments.epochs)
        else:
            loader(arguments.recipe, arguments.overrides)


if __name__ == "__main__":
    main()
