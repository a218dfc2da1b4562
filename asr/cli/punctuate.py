"""`asr punctuate`: marks, capitals and numbers for any text."""

import codecs
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from asr.cli import options
from asr.cli.outputs import Guard, write_text
from asr.errors import AsrError
from asr.lm.source import BUFFER, open_source
from asr.model.tagger import Tagger
from asr.recognize.punctuation import punctuated


def punctuate(
    source: Annotated[str, Argument(metavar="FILE|-", help="Text in UTF-8, or - for standard input.")],
    output: options.Output = None,
    force: options.Force = False,
    tagger: Annotated[
        Path | None, Option(metavar="FOLDER", help="A tagger of your own (`asr train`), instead of the packaged one.")
    ] = None,
) -> None:
    """Write any text with marks, capitals and numbers.

    Marks and capitals that it has are dropped first; words with digits or symbols stay as they are. Blank lines part
    paragraphs; each becomes a line. The text may be compressed (gzip, xz) and of any size.
    """
    Guard([source], force).check(output)
    own = None if tagger is None else Tagger(tagger)
    text = ended(punctuated(read_parts(source), tagger=own))
    if output is not None:
        write_text(output, text)
        return
    for part in text:
        print(part, end="", flush=True)


def ended(text: Iterator[str]) -> Iterator[str]:
    """With a line break at the end of a text that is not empty."""
    for part in text:
        yield from chain([part], text, ["\n"])


def read_parts(source: str) -> Iterator[str]:
    """A text in UTF-8, cut anywhere. AsrError."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with open_source(source) as file:
        try:
            while data := file.read1(BUFFER):  # type: ignore[attr-defined]
                yield decoder.decode(data)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise AsrError(f"{source}: not a text in UTF-8; convert it with iconv") from None
