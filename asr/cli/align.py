"""`asr align`: times of the words of a known text."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.audio.files import STANDARD_INPUT, find_audio
from asr.audio.sources import Excerpt, duration
from asr.cli import options
from asr.cli.messages import audio_progress, complain, complain_of_counts, name_in, shown_warnings
from asr.cli.outputs import Guard, check_writable, write_text
from asr.data.manifest import read_manifest, read_table
from asr.data.text import read_aloud
from asr.decode.build import DecoderOptions
from asr.errors import AsrError, one_line
from asr.lm.source import open_source
from asr.normalize import normalize
from asr.output.transcript import Transcript, Word, split_segments
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
    part: options.Part,
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
    language. Words that are not spoken are reported and marked ("spoken": false in json, no length and confidence 0
    elsewhere); a text that does not fit at all is an error. Without TEXT: every recording of a FOLDER with its text
    beside it, a.wav and a.txt, or of a TABLE, a manifest (.jsonl) or a .csv or .tsv file with the columns audio and
    text, into --output-dir. If the model spells phones, textgrid has a tier and json a list of them.
    """
    if part.channels == "each":
        raise typer.BadParameter("a text is spoken on one channel, or on all", param_hint="--channels")
    if audio == text == STANDARD_INPUT:
        raise typer.BadParameter("only one of recording and text can be standard input", param_hint="TEXT|FILE|-")
    if (text is None) != (output_dir is not None) or (output and output_dir):
        raise typer.BadParameter("goes with many recordings, and these with it", param_hint="--output-dir")
    formats = list(dict.fromkeys(format or [options.chosen_format(None, output, "ctm")]))
    if len(formats) > 1 and output_dir is None:
        raise typer.BadParameter("several go with many recordings and --output-dir", param_hint="--format")
    if phones and formats != ["ctm"]:
        raise typer.BadParameter("goes with --format ctm", param_hint="--phones")
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
    timed = partial(time_words, recognizer, part, formats, phones, min_confidence)
    with shown_warnings("asr.audio"), shown_warnings("asr.recognize.align"):
        if words is None or output_dir is not None:
            align_many(Path(audio), output_dir or Path(), formats, guard, timed)
            return
        with audio_progress(lambda: [part.seconds(audio)]) as on_progress:
            (written,) = timed(audio, words, on_progress)
    if output is not None:
        write_text(output, written)
    else:
        print(written, end="", flush=True)


Timing = Callable[[str | Path | Excerpt, str, OnProgress | None], list[str]]


def time_words(
    recognizer: Recognizer,
    part: options.Part,
    formats: Sequence[str],
    phones: bool,
    min_confidence: float,
    source: str | Path | Excerpt,
    text: str,
    on_progress: OnProgress | None,
) -> list[str]:
    """A text aligned with a recording, in each of the formats."""
    reading: Callable[[str], str] = normalize
    if find_spec("unicode_rbnf") is not None:  # which comes with the packages for training
        reading = partial(read_aloud, language=recognizer.bundle.config.language)
    (excerpt,) = part.excerpts(source)
    transcript = align_text(
        recognizer, excerpt, text, on_progress=on_progress, read_aloud=reading, min_confidence=min_confidence
    )
    tell_unspoken(str(source), transcript)
    if phones:
        own = [Word(**vars(phone)) for word in transcript.words for phone in word.phones]
        transcript = replace(transcript, segments=split_segments(own))
    return [render(transcript, format, name_in(format, str(source))) for format in formats]


def align_many(source: Path, folder: Path, formats: Sequence[str], guard: Guard, timed: Timing) -> None:
    """Write the alignments of all recordings to a folder; the problems of one do not stop the others."""
    problems: list[AsrError] = []
    recordings: list[tuple[str, Path | Excerpt, Path | str]]  # the name, the recording, its text or the file of that
    if source.is_dir():
        found = find_audio(source, problems.append)
        recordings = [(str(path.relative_to(source).with_suffix("")), path, path.with_suffix(".txt")) for path in found]
    else:
        try:
            entries = read_table(source) if source.suffix.lower() in TABLES else read_manifest(source)
            recordings = [(entry.id, entry.source, entry.text) for entry in entries]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise AsrError(f"{source}: no table in UTF-8 ({one_line(error)}); save it as CSV") from error
    check_writable(folder / "new", make_folder=True)
    done: set[Path] = set()
    for problem in problems:
        complain(problem)
    with audio_progress(lambda: [duration(str(audio)) for _, audio, _ in recordings]) as on_progress:
        for name, audio, text in recordings:
            stem = folder / name.lstrip("/").replace("..", "_")
            targets = [stem.with_name(f"{stem.name}.{format}") for format in formats]
            try:
                if stem in done:
                    raise AsrError(
                        f"another recording was written to {targets[0]} already; give each a name of its own"
                    )
                if refusal := next(filter(None, map(guard.refusal, targets)), None):
                    raise AsrError(refusal)
                words = text if isinstance(text, str) else read_text(str(text))
                for target, written in zip(targets, timed(audio, words, on_progress), strict=True):
                    write_text(target, written)
                done.add(stem)
            except AsrError as error:
                complain(error if str(audio) in str(error) else f"{audio}: {error}")
    failed = len(recordings) + len(problems) - len(done)
    complain_of_counts(len(done), folder, failed=failed)
    if failed or not recordings:
        raise typer.Exit(1)


def tell_unspoken(name: str, transcript: Transcript) -> None:
    words = [word.text for word in transcript.words if not word.spoken]
    if words:
        more = ", …" if len(words) > 5 else ""
        total = len(transcript.words)
        complain(f"{name}: not spoken are {len(words)} of the {total} words: {' '.join(words[:5])}{more}")


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
