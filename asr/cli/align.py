"""`asr align`: times of the words of a known text."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.audio.files import STANDARD_INPUT, find_audio
from asr.audio.sources import Excerpt
from asr.cli import options
from asr.cli.messages import audio_progress, complain, complain_of_counts, name_in, shown_warnings
from asr.cli.options import reject_if
from asr.cli.outputs import Guard, check_writable, write_text
from asr.cli.prepare import Columns
from asr.cli.transcribe import Targets, left_to_write
from asr.data.manifest import read_manifest, read_table
from asr.decode.build import DecoderOptions
from asr.errors import AsrError, one_line
from asr.lm.source import open_source
from asr.output.transcript import Word, split_segments
from asr.output.writers import render
from asr.recognize.align import MIN_CONFIDENCE
from asr.recognize.align import align as align_text
from asr.recognize.offline import DEFAULT_MODEL, OnProgress, Recognizer

TABLES = (".csv", ".tsv")


def align(
    audio: Annotated[
        str,
        Argument(metavar="AUDIO|-|FOLDER|TABLE", help="The recording, - for standard input, or without TEXT many."),
    ],
    text: Annotated[
        str | None, Argument(metavar="TEXT|FILE|-", help="Words spoken there, or a text file of them.")
    ] = None,
    *,
    output: options.Output = None,
    output_dir: Annotated[
        Path | None, Option(metavar="FOLDER", help="For many: write NAME.FORMAT files there.")
    ] = None,
    format: options.WordFormats = None,
    force: options.Force = False,
    skip_existing: options.SkipExisting = False,
    part: options.Part,
    columns: Columns,
    model: options.Model = DEFAULT_MODEL,
    language: options.Language = None,
    lexicon: options.Lexicon = None,
    phones: Annotated[
        bool, Option("--phones", help="With ctm: write phones in place of words, if the model spells phones.")
    ] = False,
    min_confidence: Annotated[
        float, Option(min=0, max=1, help="Half of the words must reach it, or the text does not fit the recording.")
    ] = MIN_CONFIDENCE,
    threads: options.Threads = 0,
) -> None:
    """Write when each word of a known text is spoken.

    Words keep their case and punctuation; numbers, prices and abbreviations are read aloud by the rules of the
    language. Words that are not spoken or cannot be spelled are reported and marked ("spoken": false in json, no length
    and confidence 0 elsewhere); a text that does not fit at all is an error. Without TEXT: every recording of a FOLDER
    with its text beside it, a.wav and a.txt, or of a TABLE, a manifest (.jsonl) or a .csv or .tsv file with the columns
    audio and text, into --output-dir. If the model spells phones, textgrid has a tier and json a list of them.
    """
    reject_if(part.channels == "each", "--channels", "a text is spoken on one channel, or on all")
    reject_if(audio == text == STANDARD_INPUT, "TEXT|FILE|-", "only one of recording and text can be standard input")
    if (text is None) != (output_dir is not None) or (output and output_dir):
        raise typer.BadParameter("goes with many recordings, and these with it", param_hint="--output-dir")
    reject_if(skip_existing and force, "--skip-existing", "--force excludes it")
    reject_if(skip_existing and output_dir is None, "--skip-existing", "goes with --output-dir")
    formats = list(dict.fromkeys(format or [options.chosen_format(None, output, "ctm")]))
    reject_if(len(formats) > 1 and output_dir is None, "--format", "several go with many recordings and --output-dir")
    reject_if(phones and formats != ["ctm"], "--phones", "goes with --format ctm")
    if columns != Columns() and (output_dir is None or Path(audio).suffix.lower() not in TABLES):
        raise typer.BadParameter("of a .csv or .tsv file", param_hint="--audio-column|--text-column|…")
    options.check_names(formats, [audio])
    words = None if text is None else read_text(text)
    guard = Guard([audio, text, lexicon], force)
    guard.check(output)
    bundle = options.load_model(model, language)
    if phones and bundle.config.spelling != "phones":
        raise AsrError(
            f"{bundle.config.name}: spells words with letters; --phones goes with a model that spells phones"
        )
    recognizer = Recognizer(bundle, DecoderOptions("greedy", lexicon=lexicon), threads=threads)
    aligner = Aligner(recognizer, part, formats, phones, min_confidence)
    with shown_warnings("asr.audio"), shown_warnings("asr.recognize.align"):
        if words is None:
            recordings, failed = find_recordings(Path(audio), columns)
            align_many(recordings, failed, output_dir or Path(), guard, skip_existing, aligner)
            return
        with audio_progress(lambda: [part.seconds(audio)]) as on_progress:
            (written,) = aligner(audio, words, on_progress)
    if output is not None:
        write_text(output, written)
    else:
        print(written, end="", flush=True)


@dataclass(frozen=True)
class Aligner:
    """Gives the alignment of a recording and its text as the options say."""

    recognizer: Recognizer
    part: options.Part
    formats: Sequence[str]
    phones: bool
    min_confidence: float

    def __call__(self, source: str | Path | Excerpt, text: str, on_progress: OnProgress | None) -> list[str]:
        """A text aligned with a recording, in each of the formats."""
        (excerpt,) = self.part.excerpts(source)
        transcript = align_text(
            self.recognizer, excerpt, text, on_progress=on_progress, min_confidence=self.min_confidence
        )
        if self.phones:
            own = [Word(**vars(phone)) for word in transcript.words for phone in word.phones]
            transcript = replace(transcript, segments=split_segments(own))
        return [render(transcript, format, name_in(format, str(source))) for format in self.formats]


# Of a recording the name, where it is, and its text or the file of that.
Recording = tuple[str, Path | Excerpt, str | Path]


def find_recordings(source: Path, columns: Columns) -> tuple[Sequence[Recording], int]:
    """The recordings of a folder or a table, and how many folders could not be read. AsrError if the table cannot."""
    if source.is_dir():
        problems: list[AsrError] = []
        found = find_audio(source, problems.append)
        for problem in problems:
            complain(problem)
        listed = [(str(path.relative_to(source).with_suffix("")), path, path.with_suffix(".txt")) for path in found]
        return listed, len(problems)
    try:
        is_table = source.suffix.lower() in TABLES
        entries = read_table(source, columns.names) if is_table else read_manifest(source)
        return [(entry.id, entry.source, entry.text) for entry in entries], 0
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AsrError(f"{source}: no table in UTF-8 ({one_line(error)}); save it as CSV") from error


def align_many(
    recordings: Sequence[Recording], failed: int, folder: Path, guard: Guard, skip_existing: bool, aligner: Aligner
) -> None:
    """Write the alignments of recordings to a folder; the problems of one do not stop the others.

    failed: how many failed before.
    """
    check_writable(folder / "new", make_folder=True)
    formats = aligner.formats
    targets: Targets = {}
    chosen: dict[str, Recording] = {}
    for recording in recordings:
        name, audio, _ = recording
        stem = f"{folder / name.lstrip('/').replace('..', '_')}"
        if stem in targets:
            complain(f"{audio}: another recording is written to {stem}.{formats[0]}; give each a name of its own")
            failed += 1
            continue
        targets[stem], chosen[stem] = {format: Path(f"{stem}.{format}") for format in formats}, recording
    left, skipped, kept = left_to_write(chosen, targets, guard, skip_existing)
    done = 0
    with audio_progress(lambda: [aligner.part.seconds(chosen[stem][1]) for stem in left]) as on_progress:
        for stem in left:
            _, audio, text = chosen[stem]
            try:
                words = text if isinstance(text, str) else read_text(str(text))
                for format, written in zip(formats, aligner(audio, words, on_progress), strict=True):
                    if format in targets[stem]:
                        write_text(targets[stem][format], written)
                done += 1
            except AsrError as error:
                complain(error if str(audio) in str(error) else f"{audio}: {error}")
                failed += 1
    complain_of_counts(done, folder, skipped=skipped, kept=kept, failed=failed)
    if failed or kept or not recordings:
        raise typer.Exit(1)


def read_text(source: str) -> str:
    """The content of a text file or of standard input, or the words themselves. AsrError if it cannot be read."""
    if source != STANDARD_INPUT and not os.path.exists(source):
        if len(source.split()) == 1 and (os.sep in source or Path(source).suffix[1:].isalnum()):
            raise AsrError(f"{source}: no such file; name an existing one, or give the words that are spoken")
        return source
    try:
        with open_source(source) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AsrError(f"{source}: not a text in UTF-8; save it as that") from error
