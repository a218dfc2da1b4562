"""`asr evaluate`: error rates of a model on recordings with known text."""

import dataclasses
import json as json_module
import time
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.cli import options
from asr.cli.messages import audio_progress, complain
from asr.cli.outputs import Guard, write_text
from asr.data.manifest import read_manifest
from asr.evaluate.live import Instability, transcribe_live
from asr.evaluate.wer import Evaluation, Utterance, oracle, report
from asr.evaluate.wer import evaluate as score
from asr.recognize.offline import BATCH_SIZE, DEFAULT_MODEL, Recognizer
from asr.recognize.streaming import ENDPOINT, StreamingRecognizer


def evaluate(
    manifest: Annotated[Path, Argument(help="JSON Lines: audio, relative to the manifest, and text.")],
    *,
    output: Annotated[Path | None, Option("--output", "-o", help="Every utterance aligned, worst first.")] = None,
    force: options.Force = False,
    json: Annotated[bool, Option("--json", help="Print one JSON object.")] = False,
    streaming: Annotated[
        bool, Option("--streaming", help="Streaming evaluation, one chunk at a time, as `asr listen` runs.")
    ] = False,
    endpoints: Annotated[
        bool, Option("--endpoints/--no-endpoints", help="With --streaming: end utterances at pauses.")
    ] = True,
    model: options.Model = DEFAULT_MODEL,
    language: options.Language = None,
    decoding: options.FileDecoding,
    nbest: Annotated[
        int, Option(min=1, max=100, help="For beam: also the error rate of the best of so many hypotheses (oracle).")
    ] = 1,
    batch_size: options.BatchSize = BATCH_SIZE,
    threads: options.Threads = 0,
) -> None:
    """Print word and character error rates on a manifest.

    With a 95 % confidence interval and the real-time factor. Case and punctuation are not scored. A recording that
    cannot be read counts with the text up to there. --streaming adds the instability: the share of words that changed.
    """
    options.reject_if(nbest > 1 and streaming, "--nbest", "goes without --streaming")
    options.reject_if(not endpoints and not streaming, "--no-endpoints", "goes with --streaming")
    decoder = decoding.options(nbest)
    entries = read_manifest(manifest)
    Guard([manifest, *(entry.audio for entry in entries), *decoding.files], force).check(output)
    bundle = options.load_model(model, language)
    instability, more = Instability(), {}
    started = time.perf_counter()
    with audio_progress(lambda: [entry.seconds for entry in entries]) as on_progress:
        if streaming:
            ends = ENDPOINT if endpoints else None
            live = StreamingRecognizer(bundle, decoder, ends, threads=threads, style="spoken")
            recognitions = [transcribe_live(live, entry.source, instability, on_progress) for entry in entries]
            more["instability"] = instability.rate
        else:
            recognizer = Recognizer(bundle, decoder, batch_size, threads, style="spoken")
            recognitions = [*recognizer.transcribe_all((entry.source for entry in entries), on_progress)]
    elapsed = time.perf_counter() - started
    failures = [recognition.error for recognition in recognitions if recognition.error is not None]
    for failure in failures:
        complain(failure)
    utterances = [
        Utterance(entry.id, entry.text, recognition.transcript.text, recognition.transcript.duration)
        for entry, recognition in zip(entries, recognitions, strict=True)
    ]
    result = score(utterances, elapsed)
    if nbest > 1:
        texts = [[item.text for item in recognition.transcript.alternatives] for recognition in recognitions]
        more["oracle_wer"] = oracle(utterances, texts).wer
    print(json_module.dumps(dataclasses.asdict(result) | more) if json else _line(result, more, nbest))
    if output is not None:
        write_text(output, report(utterances))
    if failures:
        raise typer.Exit(1)


def _line(result: Evaluation, more: dict[str, float], nbest: int) -> str:
    names = {"instability": "instability {:.1%}", "oracle_wer": f"oracle WER of the {nbest} best {{:.2%}}"}
    return ", ".join([str(result), *(names[name].format(value) for name, value in more.items())])
