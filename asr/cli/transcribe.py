"""`asr transcribe`: text of recordings."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.audio.sources import STANDARD_INPUT, duration, find_audio
from asr.cli import options
from asr.cli.messages import audio_progress, complain, name_in, printable
from asr.cli.outputs import Guard, check_writable, write_text
from asr.decode.beam import BEAM_WIDTH
from asr.decode.build import DEFAULT_DECODER
from asr.errors import AsrError
from asr.output.writers import render
from asr.recognize.offline import BATCH_SIZE, DEFAULT_MODEL, Recognizer

# One recording's text in these formats says which recording it is, so several may follow each other.
SEVERAL_TO_STDOUT = ("txt", "json", "ctm", "jsonl")
NAMED = 3  # files that exist: so many have a line each


def transcribe(
    sources: Annotated[
        list[str], Argument(metavar="FILE|FOLDER|-", help="Audio files, folders of them, or - for standard input.")
    ],
    output: Annotated[
        str | None,
        Option("--output", "-o", metavar="FILE|FOLDER", help="File to write; a folder for several recordings."),
    ] = None,
    output_dir: Annotated[str | None, Option(metavar="FOLDER", help="Write NAME.FORMAT files there.")] = None,
    format: options.Format = None,
    force: options.Force = False,
    model: options.Model = DEFAULT_MODEL,
    language: options.Language = None,
    decoder: options.Decoder = DEFAULT_DECODER,
    beam_width: options.BeamWidth = BEAM_WIDTH,
    lm: options.LanguageModel = None,
    hotwords: options.Hotwords = None,
    hotwords_file: options.HotwordsFile = None,
    rescore: options.Rescore = None,
    lexicon: options.Lexicon = None,
    nbest: Annotated[int, Option(min=1, max=100, help="For beam: alternatives to write, in json.")] = 1,
    batch_size: options.BatchSize = BATCH_SIZE,
    threads: options.Threads = 0,
) -> None:
    """Write the words spoken in audio files.

    Text goes to standard output, everything else to standard error. A file that cannot be read gives one line there;
    the others are still done, and the exit code is 1. `-` reads all of standard input before starting. Files that exist
    are kept unless --force is given. The lines of jsonl are a manifest to train from, with a confidence each;
    recordings that cannot be read to their end are not in it.
    """
    chosen = options.chosen_format(format, output, "txt")
    if nbest > 1 and chosen != "json":
        raise typer.BadParameter("goes with --format json", param_hint="--nbest")
    options.check_names(chosen, sources)
    decoding = options.decoder_options(decoder, beam_width, lm, hotwords, hotwords_file, rescore, lexicon, nbest)
    files, failed = expand(sources)
    several = len(files) + failed > 1
    folder = output_folder(output, output_dir)
    targets = output_paths(files, folder, output, chosen)
    left, kept = without_kept(files, targets, Guard([*files, lm, hotwords_file, lexicon], force))
    recognizer = Recognizer(options.load_model(model, language), decoding, batch_size, threads)
    written, errors = transcribe_files(recognizer, left, targets, chosen, len(files) > 1)
    failed += errors
    if folder is not None and several:
        rest = (f", {kept} kept" if kept else "") + (f", {failed} failed" if failed else "")
        complain(f"{written} written to {os.path.join(folder, '')}{rest}")
    if failed or kept:
        raise typer.Exit(1)


def transcribe_files(
    recognizer: Recognizer, files: Collection[str], targets: dict[str, Path], format: str, several: bool
) -> tuple[int, int]:
    """Write each file's text to its target or to standard output; how many were written there, and how many failed."""
    written = failed = 0
    with audio_progress(lambda: [*map(duration, files)]) as on_progress:
        for recognition in recognizer.transcribe_all(files, on_progress):
            name = str(recognition.source)
            if recognition.error is not None:
                failed += 1
                complain(recognition.error)
                if not recognition.transcript.segments or format == "jsonl":
                    continue
            text = render(recognition.transcript, format, name_in(format, name))
            if name not in targets:
                heading = f"{printable(name)}\t" if format == "txt" and several else ""
                print(heading + text, end="", flush=True)
                continue
            try:
                write_text(targets[name], text)
                written += 1
            except AsrError as error:
                failed += 1
                complain(error)
    return written, failed


def expand(sources: list[str]) -> tuple[dict[str, Path], int]:
    """The files to read, of folders the audio below them, with their places in a folder; how many sources failed."""
    files: dict[str, Path] = {}
    failed = 0
    for source in sources:
        if not source:  # an unset shell variable; Path("") would be the current folder
            raise typer.BadParameter("a source has no name", param_hint="FILE|FOLDER|-")
        if source == STANDARD_INPUT or not os.path.isdir(source):
            files[source] = Path("stdin" if source == STANDARD_INPUT else Path(source).name)
            continue
        problems: list[AsrError] = []
        found = find_audio(source, problems.append)
        for problem in problems:
            complain(problem)
        failed += len(problems)
        if not found and not problems:
            failed += 1
            complain(f"{source}: no audio files in this folder")
        files |= {str(path): path.relative_to(source) for path in found}
    return files, failed


def output_folder(output: str | None, output_dir: str | None) -> Path | None:
    """The folder to write to: --output-dir, or an --output that is a folder or ends like one."""
    if output is not None and output_dir is not None:
        raise typer.BadParameter("--output and --output-dir exclude each other", param_hint="--output-dir")
    if output is not None and (output.endswith(("/", os.sep)) or os.path.isdir(output)):
        output_dir = output
    return None if output_dir is None else Path(output_dir)


def output_paths(files: dict[str, Path], folder: Path | None, output: str | None, format: str) -> dict[str, Path]:
    """Where each file's text goes, tried before the work: none for standard output.

    In a folder NAME.txt, or NAME.mp3.txt where two files share a name but for the suffix.
    """
    if folder is None:
        if len(files) > 1 and (output or format not in SEVERAL_TO_STDOUT):
            what = f"{len(files)} recordings need" if output else f"{format} of several recordings needs"
            raise typer.BadParameter(f"{what} a folder, as in --output texts/", param_hint="--output")
        if output:
            check_writable(Path(output))
        return dict.fromkeys(files, Path(output)) if output else {}
    stems = Counter(relative.with_suffix("") for relative in files.values())
    paths = {}
    for name, relative in files.items():
        stem = relative if stems[relative.with_suffix("")] > 1 else relative.with_suffix("")
        paths[name] = folder / f"{stem}.{format}"
    twice = [path for path, count in Counter(paths.values()).items() if count > 1]
    if twice:
        raise AsrError(f"two of the files would both be written to {twice[0]}; transcribe them in separate commands")
    check_writable(folder / "new", make_folder=True)
    return paths


def without_kept(files: Collection[str], targets: dict[str, Path], guard: Guard) -> tuple[list[str], int]:
    """The files whose targets may be written, and how many others there are, the first of which messages name."""
    problems = {name: problem for name, path in targets.items() if (problem := guard.refusal(path))}
    for problem in [*problems.values()][:NAMED]:
        complain(problem)
    if len(problems) > NAMED:
        complain(f"{len(problems) - NAMED} more are kept likewise")
    return [name for name in files if name not in problems], len(problems)
