"""`asr evaluate`: how well a model does on recordings whose text is known."""

import dataclasses
import json as json_module
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from asr.cli import options
from asr.cli.outputs import write_text
from asr.data.manifest import read_manifest
from asr.evaluate.live import Flicker, transcribe_live
from asr.evaluate.wer import Utterance, report
from asr.evaluate.wer import evaluate as score
from asr.recognize.offline import Recognition, Recognizer
from asr.recognize.streaming import StreamingRecognizer


def evaluate(
    manifest: Annotated[
        Path, typer.Argument(help='JSON Lines with "audio" and "text"; audio relative to the manifest.')
    ],
    model: options.Model = options.MODEL,
    decoder: options.Decoder = options.DECODER,
    beam_width: options.BeamWidth = options.BEAM,
    lm: options.LanguageModel = None,
    hotwords: options.Hotwords = None,
    hotwords_file: options.HotwordsFile = None,
    rescore: options.Rescore = None,
    batch_size: options.BatchSize = options.BATCH,
    output: Annotated[
        Path | None, typer.Option(help="Write every utterance aligned with its text, worst first.")
    ] = None,
    streaming: Annotated[
        bool,
        typer.Option("--streaming", help="Let a live model hear each recording chunk by chunk, one after the other."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print word and character error rates with a 95 % confidence interval and the real-time factor.

    Case and punctuation are not scored. A recording that cannot be read counts with the text up to there. Flicker, of a
    live model, is the share of words shown in partial texts that did not stay as they were.
    """
    decoding = options.decoder_options(decoder, beam_width, lm, hotwords, hotwords_file, rescore)
    entries = read_manifest(manifest)
    if output is not None:
        write_text(output, "", mode="a")  # known before the work, not after it; an older report stays until then
    paths = (entry.audio for entry in entries)
    flicker = Flicker()
    recognitions = []
    started = time.perf_counter()
    with options.audio_progress(lambda: [entry.seconds for entry in entries]) as on_progress:
        results: Iterator[Recognition]
        if streaming:
            live = StreamingRecognizer(model, decoding, endpoint=None)
            results = (transcribe_live(live, path, flicker, on_progress) for path in paths)
        else:
            results = Recognizer(model, decoding, batch_size).transcribe_all(paths, on_progress)
        for recognition in results:
            if recognition.error is not None:
                options.complain(recognition.error)
            recognitions.append(recognition)
    elapsed = time.perf_counter() - started
    pairs = [
        Utterance(entry.id, entry.text, recognition.transcript.text, recognition.transcript.duration)
        for entry, recognition in zip(entries, recognitions, strict=True)
    ]
    result = score(pairs)
    result = dataclasses.replace(result, rtf=elapsed / result.seconds if result.seconds else None)
    if json:
        print(json_module.dumps(result.as_json() | ({"flicker": flicker.rate} if streaming else {})))
    else:
        print(f"{result}, flicker {flicker.rate:.1%}" if streaming else result)
    if output is not None:
        write_text(output, report(pairs))
    if any(recognition.error is not None for recognition in recognitions):
        raise typer.Exit(1)
