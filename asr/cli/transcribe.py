"""`asr transcribe`: text of recordings."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.audio.files import STANDARD_INPUT, find_audio, local_name
from asr.cli import options
from asr.cli.messages import audio_progress, complain, complain_of_counts, name_in, printable, shown_warnings
from asr.cli.options import reject_if
from asr.cli.outputs import Guard, check_layout, check_writable, write_text
from asr.errors import AsrError, AudioError
from asr.output.subtitles import Layout
from asr.output.transcript import Segment, merge_channels
from asr.output.writers import SPOKEN_FORMATS, TxtWriter, render
from asr.recognize.offline import BATCH_SIZE, DEFAULT_MODEL, Recognition, Recognizer, Source

# One recording's text in these formats says which recording it is, so several may follow each other.
SEVERAL_TO_STDOUT = ("txt", "json", "ctm", "jsonl")
NAMED = 3  # files that exist: so many have a line each

Targets = dict[str, dict[str, Path]]  # for each recording that is written to files, its formats and their paths


def transcribe(
    sources: Annotated[
        list[str], Argument(metavar="FILE|FOLDER|-", help="Audio files, folders of them, or - for standard input.")
    ],
    *,
    output: Annotated[
        str | None,
        Option("--output", "-o", metavar="FILE|FOLDER", help="File to write; a folder for several recordings."),
    ] = None,
    output_dir: Annotated[str | None, Option(metavar="FOLDER", help="Write NAME.FORMAT files there.")] = None,
    format: options.Formats = None,
    force: options.Force = False,
    skip_existing: options.SkipExisting = False,
    part: options.Part,
    style: options.Style = None,
    layout: options.TextLayout,
    model: options.Model = DEFAULT_MODEL,
    language: options.Language = None,
    decoding: options.FileDecoding,
    nbest: Annotated[int, Option(min=1, max=100, help="For beam: alternatives to write, in json.")] = 1,
    batch_size: options.BatchSize = BATCH_SIZE,
    threads: options.Threads = 0,
) -> None:
    """Write the words spoken in audio files.

    Text goes to standard output, each segment as soon as it is done, everything else to standard error. A file that
    cannot be read gives one line there; the others are still done, and the exit code is 1. `-` reads all of standard
    input before starting. Files that exist are kept unless --force is given. The lines of jsonl are a manifest to train
    from, with a confidence each; recordings that cannot be read to their end are not in it.
    """
    formats = list(dict.fromkeys(format or [options.chosen_format(None, output, "txt")]))
    reject_if(nbest > 1 and formats != ["json"], "--nbest", "goes with --format json")
    if part.channels == "each" and "jsonl" in formats:
        raise typer.BadParameter("a manifest has one text for each recording", param_hint="--channels")
    check_layout(layout, formats)
    options.check_names(formats, sources)
    decoder = decoding.options(nbest)
    folder = output_folder(output, output_dir)
    reject_if(skip_existing and force, "--skip-existing", "--force excludes it")
    reject_if(skip_existing and folder is None, "--skip-existing", "goes with a folder to write to")
    files, failed = expand(sources)
    several = len(files) + failed > 1
    targets = output_paths(files, folder, output, formats)
    guard = Guard([*files, *decoding.files], force)
    left, skipped, kept = left_to_write(files, targets, guard, skip_existing)
    written = 0
    if left:
        bundle = options.load_model(model, language)
        chosen = options.chosen_style(style if {*formats} - {*SPOKEN_FORMATS} else "spoken", bundle)
        recognizer = Recognizer(bundle, decoder, batch_size, threads, style=chosen)
        run = Run(recognizer, part, formats, layout, targets, len(files) > 1)
        with shown_warnings("asr.audio", once=True):
            run(left)
        written, failed = run.written, failed + run.failed
    if folder is not None and several:
        complain_of_counts(written, folder, skipped=skipped, kept=kept, failed=failed)
    if failed or kept:
        raise typer.Exit(1)


@dataclass
class Run:
    """Writes the texts of recordings to their targets, or to standard output in the first of the formats."""

    recognizer: Recognizer
    part: options.Part
    formats: list[str]
    layout: Layout
    targets: Targets
    several: bool
    written: int = 0  # recordings
    failed: int = 0
    apart: Collection[str] = ()  # recordings whose channels are recognized apart

    def __call__(self, files: Collection[str]) -> None:
        excerpts: dict[str, Sequence[Source]] = {}
        for name in files:
            try:
                excerpts[name] = self.part.excerpts(name)
            except AudioError as error:
                self.failed += 1
                complain(error)
        everything = [excerpt for parts in excerpts.values() for excerpt in parts]
        self.apart = {str(parts[0]) for parts in excerpts.values() if len(parts) > 1}
        on_segment = self.show if not self.targets and self.formats == ["txt"] else None
        with audio_progress(lambda: [self.part.seconds(excerpt) for excerpt in everything], [*files]) as on_progress:
            recognitions = self.recognizer.transcribe_all(everything, on_progress, on_segment=on_segment)
            for name, parts in excerpts.items():
                self.write(name, list(islice(recognitions, len(parts))))

    def show(self, source: Source, segment: Segment) -> None:
        """Print a segment as it comes; those of channels that are recognized apart wait for each other."""
        if str(source) not in self.apart:
            self.print_segments(str(source), [segment])

    def print_segments(self, name: str, segments: Sequence[Segment]) -> None:
        heading = f"{printable(name)}\t" if self.several else ""
        lines = TxtWriter(name, self.layout).add(*segments).splitlines(keepends=True) or ["\n"]
        print("".join(heading + line for line in lines), end="", flush=True)

    def write(self, name: str, recognitions: Sequence[Recognition]) -> None:
        """Write one recording, of which each channel was recognized apart or all were mixed."""
        apart, error = len(recognitions) > 1, next((item.error for item in recognitions if item.error), None)
        transcripts = [recognition.transcript for recognition in recognitions]
        transcript = merge_channels(transcripts) if apart else transcripts[0]
        if error is not None:
            self.failed += 1
            complain(error)
        for number, recognition in enumerate(recognitions, 1):
            if error is None and recognition.problem:
                complain(f"{name}:{f' channel {number}:' if apart else ''} {recognition.problem}")
        usable = error is None or transcript.segments
        formats = [format for format in self.formats if usable and (error is None or format != "jsonl")]
        if name not in self.targets and formats == ["txt"]:
            if apart or not transcript.segments:
                self.print_segments(name, transcript.segments)
            return
        try:
            for format in formats:
                text = render(transcript, format, name_in(format, name), self.layout)
                if name not in self.targets:
                    print(text, end="", flush=True)
                elif format in self.targets[name]:
                    write_text(self.targets[name][format], text)
            self.written += bool(formats) and name in self.targets
        except AsrError as problem:
            self.failed += error is None
            complain(problem)


def expand(sources: list[str]) -> tuple[dict[str, Path], int]:
    """The files to read, of folders the audio below them, with their places in a folder; how many sources failed."""
    files: dict[str, Path] = {}
    problems: list[str] = []
    for source in map(local_name, sources):
        if not source:  # an unset shell variable; Path("") would be the current folder
            raise typer.BadParameter("a source has no name", param_hint="FILE|FOLDER|-")
        if source == STANDARD_INPUT or not os.path.isdir(source):
            files[source] = Path("stdin" if source == STANDARD_INPUT else Path(source).name)
            continue
        closed: list[AsrError] = []
        found = find_audio(source, closed.append)
        problems += map(str, closed)
        if not found and not closed:
            problems.append(f"{source}: no audio files in this folder")
        files |= {str(path): path.relative_to(source) for path in found}
    for problem in problems:
        complain(problem)
    return files, len(problems)


def output_folder(output: str | None, output_dir: str | None) -> Path | None:
    """The folder to write to: --output-dir, or an --output that is a folder or ends like one."""
    if output is not None and output_dir is not None:
        raise typer.BadParameter("--output and --output-dir exclude each other", param_hint="--output-dir")
    if output is not None and (output.endswith(("/", os.sep)) or os.path.isdir(output)):
        output_dir = output
    return None if output_dir is None else Path(output_dir)


def output_paths(files: dict[str, Path], folder: Path | None, output: str | None, formats: Sequence[str]) -> Targets:
    """Where each file's text goes, tried before the work: nothing for standard output.

    In a folder NAME.txt, or NAME.mp3.txt where two files share a name but for the suffix.
    """
    if folder is None:
        reject_if(len(formats) > 1, "--format", "several need a folder, as in --output texts/")
        if len(files) > 1 and (output or formats[0] not in SEVERAL_TO_STDOUT):
            what = f"{len(files)} recordings need" if output else f"{formats[0]} of several recordings needs"
            raise typer.BadParameter(f"{what} a folder, as in --output texts/", param_hint="--output")
        if output:
            check_writable(Path(output))
        return {name: {formats[0]: Path(output)} for name in files} if output else {}
    stems = Counter(relative.with_suffix("") for relative in files.values())
    stems.update({*files.values()})  # whole names, such as x.mp3 beside x.mp3.wav
    targets: Targets = {}
    written: dict[Path, str] = {}
    for name, relative in files.items():
        stem = relative if stems[relative.with_suffix("")] > 1 else relative.with_suffix("")
        targets[name] = {format: folder / f"{stem}.{format}" for format in formats}
        for path in targets[name].values():
            if (other := written.setdefault(path, name)) != name:
                raise AsrError(f"{path}: {other} and {name} would both be written there; transcribe them apart")
    check_writable(folder / "new", make_folder=True)
    return targets


def left_to_write(
    files: Collection[str], targets: Targets, guard: Guard, skip_existing: bool
) -> tuple[list[str], int, int]:
    """The files whose targets may be written, and how many are skipped and kept; messages name the first that are kept.

    skip_existing: take targets that are there out of `targets`; files that have none left are skipped.
    """
    if skip_existing:
        for name, chosen in targets.items():
            targets[name] = {format: path for format, path in chosen.items() if not guard.is_there(path)}
    left = [name for name in files if targets.get(name, True)]
    problems = {}
    for name in left:
        refusals = map(guard.refusal, targets.get(name, {}).values())
        if problem := next(filter(None, refusals), None):
            problems[name] = problem
    for problem in [*problems.values()][:NAMED]:
        complain(problem)
    if len(problems) > NAMED:
        complain(f"{len(problems) - NAMED} more are kept likewise")
    return [name for name in left if name not in problems], len(files) - len(left), len(problems)
