"""Marks, capitals and numbers for any text, such as somebody else's transcript."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from asr.errors import ArgumentError, AsrError, BundleError
from asr.model.tagger import Tagger
from asr.model.tokens import CONTROL
from asr.normalize import APOSTROPHES
from asr.output.quantities import ONES, ORDINALS
from asr.output.transcript import Word
from asr.recognize.written import LETTERS, Formatter, Writing, find_formatter

LONGEST_WORD = 10_000  # characters
UNITS = "|".join([*ONES, *(word for word, value in ORDINALS.items() if value < 10)])
# What parts words without a space: dashes, and hyphens of numbers ("twenty-five", but "a twenty-five-year-old").
DASHES = re.compile(rf"[—–…]|--+|\.\.+|(?<=ty)-(?=(?:{UNITS})(?![\w-]))", re.IGNORECASE)
ABBREVIATION = re.compile(r"([^\W\d_]\.)+[^\W\d_]")  # without its last full stop
OUTER = ".,;:!?¿¡\"'`()[]{}<>«»“”„‚|*_-/\\"  # characters at the ends of words that are no part of them
# Where a word begins: at the sign or point of a number, the slashes of a path (not of /emphasis/), any other character.
BEGIN = re.compile(rf"-?\.?\d|(?<![/\\])[/\\]++\w(?!.*[/\\]\W*$)|[^{re.escape(OUTER)}]")


def punctuate(words: str | Iterable[str | Word], language: str = "en", tagger: Tagger | None = None) -> str:
    """A text as people write it, with marks, capitals and numbers.

    Args:
        words: a text, or words; those of a transcript have pauses, too. Marks and capitals that they have are dropped
            first; what has digits or symbols stays as it is. Blank lines part paragraphs, which are written apart.
        tagger: in place of the packaged one of the language.

    Raises BundleError if no model for the language is installed, ArgumentError for what is no text.
    """
    if isinstance(words, str):
        return "".join(punctuated([words], language, tagger))
    items = [*words] if isinstance(words, Iterable) else [words]
    timed, texts = [item for item in items if isinstance(item, Word)], [item for item in items if isinstance(item, str)]
    if timed and len(timed) == len(items):
        return " ".join(filter(None, Writing(_formatter(language, tagger)).add(timed, complete=True)))
    if len(texts) != len(items):
        raise ArgumentError(f"words: {words!r:.80}; give a text, a list of words, or the words of a transcript")
    return punctuate(" ".join(texts), language, tagger)


def punctuated(text: Iterable[str], language: str = "en", tagger: Tagger | None = None) -> Iterator[str]:
    """The same in parts for a text that comes in parts, cut anywhere, in bounded memory.

    AsrError if a word does not end. BundleError.
    """
    formatter, space = _formatter(language, tagger), ""
    writing = Writing(formatter, timed=False)
    for word in _words(text):
        ended = word is None
        if texts := writing.add([] if word is None else [Word(word, 0.0, 0.0, 1.0)], complete=ended):
            yield space + " ".join(filter(None, texts))
            space = " "
        if ended:
            writing, space = Writing(formatter, timed=False), "\n\n"


def _formatter(language: str, tagger: Tagger | None) -> Formatter:
    if tagger is not None:
        return Formatter(tagger, {})
    formatter = find_formatter("written", language) if isinstance(language, str) else None
    if formatter is None:
        raise BundleError(f"no model of written text is installed for {language!r:.40}; install one that has it")
    return formatter


def _words(text: Iterable[str]) -> Iterator[str | None]:
    """The words of a text, and None at the end of each paragraph that has any."""
    rest, begun = "", False
    for part in chain(text, ["\n\n."]):  # the end of the text ends a paragraph
        *complete, last = re.split(r"(\s+)", rest + part)
        if complete and not last:  # the space may go on in the next part
            *complete, last, space = complete
            last += "\n\n" if _is_blank(space) else " "
        if len(last) > LONGEST_WORD:
            raise AsrError(f"a word of over {LONGEST_WORD:,} characters, '{last[:20]}…', is no text; put spaces in it")
        rest = last
        for token, space in zip(complete[::2], complete[1::2], strict=True):
            for word in filter(None, map(_plain, DASHES.split(token))):
                begun = True
                yield word
            if begun and _is_blank(space):
                begun = False
                yield None


def _is_blank(space: str) -> bool:
    """Whether there is an empty line in it, of any system."""
    return max(space.count("\n"), space.count("\r")) > 1


def _plain(token: str) -> str:
    """A word in small letters without the marks around it, or as it is if it is more than letters."""
    bare = CONTROL.sub("", token).translate(APOSTROPHES)
    begin = BEGIN.search(bare)
    word = bare[begin.start() :].rstrip(OUTER) if begin else ""
    if ABBREVIATION.fullmatch(word):
        return f"{word}."
    return word.lower() if LETTERS.fullmatch(word) else word
