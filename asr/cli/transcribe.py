"""`asr transcribe`: recordings in, text out."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from asr.audio.sources import STANDARD_INPUT, duration, find_audio
from asr.cli import options
from asr.errors import AsrError
from asr.files import replacing
from asr.output.writers import render
from asr.recognize.offline import Recognizer

# One recording's text in these formats says which recording it is, so several may follow each other.
SEVERAL_TO_STDOUT = ("txt", "json", "ctm", "jsonl")


def transcribe(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="FILE|FOLDER|-", help="Audio files, folders of them, or - for standard input."),
    ],
    model: options.Model = options.MODEL,
    decoder: options.Decoder = options.DECODER,
    beam_width: options.BeamWidth = options.BEAM,
    lm: options.LanguageModel = None,
    hotwords: options.Hotwords = None,
    hotwords_file: options.HotwordsFile = None,
    rescore: options.Rescore = None,
    nbest: Annotated[int, typer.Option(min=1, max=100, help="For beam: alternatives to write, in json.")] = 1,
    format: Annotated[options.Format, typer.Option(help="What to write.")] = options.FORMAT,
    output_dir: Annotated[
        Path | None, typer.Option(help="Write NAME.FORMAT files there, not to standard output.")
    ] = None,
    batch_size: options.BatchSize = options.BATCH,
) -> None:
    """Write the words spoken in audio files.

    Text goes to standard output, everything else to standard error. A file that cannot be read gives
    one line there; the others are still done, and the exit code is 1. The lines of jsonl are a manifest to
    train from, with a confidence each; recordings that cannot be read to their end are not in it.
    """
    if nbest > 1 and format.value != "json":
        raise typer.BadParameter("goes with --format json", param_hint="--nbest")
    options.check_names(format, sources)
    files, failed = expand(sources)
    if output_dir is None and len(files) > 1 and format.value not in SEVERAL_TO_STDOUT:
        raise typer.BadParameter(f"{format.value} of several recordings needs --output-dir", param_hint="--format")
    targets = output_paths(files, output_dir, format.value) if output_dir is not None else {}
    if output_dir is not None:
        check_writable(output_dir)
    decoding = options.decoder_options(decoder, beam_width, lm, hotwords, hotwords_file, rescore, nbest)
    recognizer = Recognizer(model, decoding, batch_size)
    with options.audio_progress(lambda: [duration(path) for path, _ in files]) as on_progress:
        for recognition in recognizer.transcribe_all((path for path, _ in files), on_progress):
            name = str(recognition.source)
            if recognition.error is not None:
                failed = True
                options.complain(recognition.error)
                if not recognition.transcript.segments or format.value == "jsonl":
                    continue
            text = render(recognition.transcript, format.value, options.name_in(format, name))
            if name in targets:
                try:
                    write(targets[name], text)
                except AsrError as error:
                    failed = True
                    options.complain(error)
            else:
                heading = f"{options.printable(name)}\t" if format.value == "txt" and len(files) > 1 else ""
                print(heading + text, end="", flush=True)
    if failed:
        raise typer.Exit(1)


def expand(sources: list[str]) -> tuple[list[tuple[str, Path]], bool]:
    """Files to read with their names for output, and whether a source failed; folders give the audio below them."""
    files: list[tuple[str, Path]] = []
    failed = False
    for source in sources:
        if not source:  # an unset shell variable; Path("") would be the current folder
            raise typer.BadParameter("a source has no name", param_hint="FILE|FOLDER|-")
        if source == STANDARD_INPUT or not Path(source).is_dir():
            files.append((source, Path("stdin" if source == STANDARD_INPUT else Path(source).name)))
            continue
        found = find_audio(source)
        if not found:
            failed = True
            options.complain(f"{source}: no audio files in this folder")
        files += [(str(path), path.relative_to(source)) for path in found]
    return list(dict(files).items()), failed


def output_paths(files: list[tuple[str, Path]], folder: Path, format: str) -> dict[str, Path]:
    """Where each file's text goes: NAME.txt, or NAME.mp3.txt where two files share a name but for the suffix."""
    stems = Counter(relative.with_suffix("") for _, relative in files)
    paths = {}
    for name, relative in files:
        stem = relative if stems[relative.with_suffix("")] > 1 else relative.with_suffix("")
        paths[name] = folder / f"{stem}.{format}"
    twice = [path for path, count in Counter(paths.values()).items() if count > 1]
    if twice:
        raise AsrError(f"two of the files would both be written to {twice[0]}; transcribe them in separate commands")
    return paths


def check_writable(folder: Path) -> None:
    """Make the folder and try it, before hours of audio are recognised for nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise AsrError(f"{folder}: cannot be written ({error.strerror}); choose another --output-dir") from error


def write(path: Path, text: str) -> None:
    """Write whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AsrError(f"{path}: cannot be written ({error.strerror}); choose another --output-dir") from error
