"""`asr evaluate`: how well a model does on recordings whose text is known."""

import dataclasses
import json as json_module
import time
from pathlib import Path
from typing import Annotated

import typer

from asr.cli import options
from asr.errors import AsrError
from asr.evaluate import Utterance, report
from asr.evaluate import evaluate as score
from asr.manifest import read_manifest
from asr.recognizer import Recognizer


def evaluate(
    manifest: Annotated[
        Path, typer.Argument(help='JSON Lines with "audio" and "text"; audio relative to the manifest.')
    ],
    model: options.Model = options.MODEL,
    decoder: options.Decoder = options.DECODER,
    beam_width: options.BeamWidth = options.BEAM,
    batch_size: options.BatchSize = options.BATCH,
    output: Annotated[
        Path | None, typer.Option(help="Write every utterance aligned with its text, worst first.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print word and character error rates with a 95 % confidence interval and the real-time factor.

    Case and punctuation are not scored. A recording that cannot be read counts with the text up to there.
    """
    entries = read_manifest(manifest)
    if output is not None:
        write_report(output, "", mode="a")  # known before the work, not after it; an older report stays until then
    recognizer = Recognizer(model, decoder.value, beam_width, batch_size)
    utterances, failed = [], 0
    started = time.perf_counter()
    with options.audio_progress(lambda: [entry.seconds for entry in entries]) as on_progress:
        recognitions = recognizer.transcribe_all((entry.audio for entry in entries), on_progress)
        for entry, recognition in zip(entries, recognitions, strict=True):
            if recognition.error is not None:
                failed += 1
                options.complain(recognition.error)
            transcript = recognition.transcript
            utterances.append(Utterance(entry.id, entry.text, transcript.text, transcript.duration))
    elapsed = time.perf_counter() - started
    result = score(utterances)
    result = dataclasses.replace(result, rtf=elapsed / result.seconds if result.seconds else None)
    print(json_module.dumps(result.as_json()) if json else result)
    if output is not None:
        write_report(output, report(utterances))
    if failed:
        raise typer.Exit(1)


def write_report(path: Path, text: str, mode: str = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise AsrError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error
