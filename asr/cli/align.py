"""`asr align`: times of the words of a known text."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from asr.audio.sources import STANDARD_INPUT, duration
from asr.cli import options
from asr.cli.messages import audio_progress, name_in
from asr.cli.outputs import Guard, write_text
from asr.decode.build import DecoderOptions
from asr.errors import AsrError
from asr.lm.source import open_source
from asr.output.transcript import Word, split_segments
from asr.output.writers import render
from asr.recognize.align import align as align_text
from asr.recognize.offline import DEFAULT_MODEL, Recognizer


def align(
    audio: Annotated[str, Argument(metavar="AUDIO|-", help="The recording, or - for standard input.")],
    text: Annotated[str, Argument(metavar="TEXT|FILE|-", help="Words spoken there, or a text file of them.")],
    output: options.Output = None,
    format: options.WordFormat = None,
    force: options.Force = False,
    model: options.Model = DEFAULT_MODEL,
    language: options.Language = None,
    lexicon: options.Lexicon = None,
    phones: Annotated[
        bool, Option("--phones", help="With ctm: write phones in place of words, if the model spells phones.")
    ] = False,
    threads: options.Threads = 0,
) -> None:
    """Write when each word of a known text is spoken.

    Words keep their case and punctuation. Numbers and signs must be written as they are spoken. A confidence far below
    that of its neighbors shows a word that is spoken otherwise, or not at all. If the model spells phones, textgrid has
    a tier and json a list of them.
    """
    if audio == text == STANDARD_INPUT:
        raise typer.BadParameter("only one of recording and text can be standard input", param_hint="TEXT|FILE|-")
    chosen = options.chosen_format(format, output, "ctm")
    if phones and chosen != "ctm":
        raise typer.BadParameter("goes with --format ctm", param_hint="--phones")
    options.check_names([chosen], [audio])
    words = read_text(text)
    Guard([audio, text, lexicon], force).check(output)
    decoding = DecoderOptions("greedy", lexicon=lexicon)
    bundle = options.load_model(model, language)
    if phones and bundle.config.spelling != "phones":
        raise AsrError(
            f"{bundle.config.name}: spells words with letters; --phones goes with a model that spells phones"
        )
    recognizer = Recognizer(bundle, decoding, threads=threads)
    with audio_progress(lambda: [duration(audio)]) as on_progress:
        transcript = align_text(recognizer, audio, words, on_progress=on_progress)
    if phones:
        own = [Word(**vars(phone)) for word in transcript.words for phone in word.phones]
        transcript = replace(transcript, segments=split_segments(own))
    written = render(transcript, chosen, name_in(chosen, audio))
    if output is not None:
        write_text(output, written)
    else:
        print(written, end="", flush=True)


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
