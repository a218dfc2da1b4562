"""Recognized words as people write them: marks and capitals by a tagger, numbers by rules, hotwords as given."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from asr.decode.hotwords import Hotwords, hotword_cases
from asr.model.tagger import Tagger, find_tagger
from asr.output.numbers import Number, find_numbers
from asr.output.transcript import SEGMENT_PAUSE, TITLES, Style, Word, check_style

PIECE = 100  # words that are tagged together
CONTEXT = 20  # words before and after these that the tagger reads too
CUT_PAUSE = 0.25  # seconds after the last word; what is shorter parts words of one sentence, as far as anybody knows
SENTENCE_MARKS = (".", "?", "!")
FIRST_PERSON = ("i", "i'm", "i'll", "i've", "i'd")
DOTTED = {  # what is spoken as letters and written with full stops
    **{"u s": "U.S.", "u s a": "U.S.A.", "u k": "U.K.", "u n": "U.N.", "d c": "D.C.", "p h d": "Ph.D."},
    **{"i e": "i.e.", "e g": "e.g.", "a k a": "a.k.a."},
}
LETTERS = re.compile(r"[^\W\d_]+(['-][^\W\d_]+)*")


class Formatter:
    """Makes the written form of words. Threads may share it.

    Args:
        cases: phrases in lower case, as words, and their words in the case that they are to have.
    """

    def __init__(self, tagger: Tagger, cases: Mapping[tuple[str, ...], tuple[str, ...]]):
        self._tagger, self._cases = tagger, cases
        self._longest = max(map(len, cases), default=0)

    def write(
        self,
        words: Sequence[Word],
        begin: int,
        end: int,
        capital: bool,
        after: float | None = SEGMENT_PAUSE,
        ended: bool = False,
    ) -> tuple[list[str], bool]:
        """The written form of words[begin:end], or of a few more if the last ones are a number.

        Args:
            words: the others are context.
            capital: whether words[begin] begins a sentence.
            after: seconds of silence after the last word; None if the words have no times.
            ended: whether the recording ends with the last word.

        Returns a text for each word, see `Word.written`, and whether the next word begins a sentence.
        """
        texts = [word.text.lower() for word in words]
        pauses = confidences = None
        if after is not None:
            pauses = [*(max(0.0, later.start - word.end) for word, later in pairwise(words)), after]
            confidences = [word.confidence for word in words]
        tags = self._tagger.tag(texts, pauses, confidences)
        marks, forms = [tag.mark for tag in tags], [tag.form for tag in tags]
        if ended:
            marks[-1] = marks[-1] if marks[-1] in SENTENCE_MARKS else "."
        elif after is not None and after < CUT_PAUSE:
            marks[-1] = ""
        given = {place for place, word in enumerate(words) if _is_written(word.text)}
        for place in given:
            forms[place] = words[place].text
        self._give_cases(texts, forms, given)
        breaks = {place for place, mark in enumerate(marks) if mark}
        found = find_numbers(texts, breaks)
        if any(number.start < begin < number.end for number in found):  # what is before has been written
            found = find_numbers(texts, breaks | {begin - 1})
        found += _dotted(texts, forms, breaks)
        numbers = {number.start: number for number in found if given.isdisjoint(range(number.start, number.end))}
        written: list[str] = []
        while (place := begin + len(written)) < end:
            number = numbers.get(place) or Number(place, place + 1, _form(place, texts, forms, marks, given))
            mark, text = marks[number.end - 1], _capitalized(number.text) if capital else number.text
            written += [_marked(text, mark), *[""] * (number.end - place - 1)]
            capital = mark in SENTENCE_MARKS
        return written, capital

    def _give_cases(self, texts: Sequence[str], forms: list[str], given: set[int]) -> None:
        """Write phrases in the case that they are to have, and add the places of their words to `given`."""
        for place in range(len(texts) if self._cases else 0):
            for length in range(min(self._longest, len(texts) - place), 0, -1):
                *first, last = texts[place : place + length]
                name = last.removesuffix("'s")
                case = self._cases.get((*first, last)) or self._cases.get((*first, name))
                places = range(place, place + length)
                if case is not None and given.isdisjoint(places):
                    forms[place : place + length] = [*case[:-1], case[-1] + last[len(case[-1]) :]]
                    given.update(places)


def _is_written(text: str) -> bool:
    """Whether a word is more than letters, in a text to punctuate, or a lexicon has it with capitals (Moiré)."""
    return not LETTERS.fullmatch(text) or text not in (text.lower(), text.upper())


def _form(place: int, texts: Sequence[str], forms: Sequence[str], marks: Sequence[str], given: set[int]) -> str:
    """A word that is no number."""
    if place in given:
        return forms[place]
    if texts[place] in FIRST_PERSON:
        return texts[place].capitalize()
    following = "".join(forms[place + 1 : place + 2])
    name = following[:1].isupper() and following.lower() not in (*FIRST_PERSON, *TITLES)
    if name and texts[place] in TITLES and not marks[place]:
        return TITLES[texts[place]]
    return forms[place]


def _dotted(texts: Sequence[str], forms: Sequence[str], breaks: set[int]) -> Iterator[Number]:
    """Abbreviations of letters; no mark parts their words."""
    for place in (place for place, text in enumerate(texts) if len(text) == 1):
        for end in (place + 2, place + 3):
            text = DOTTED.get(" ".join(texts[place:end])) if end <= len(texts) else None
            goes_on = end < len(texts) and end - 1 not in breaks
            article = text == "U.S.A." and goes_on and forms[end - 1] == "a"  # in the U.S. a man
            if text and not article and breaks.isdisjoint(range(place, end - 1)):
                yield Number(place, end, text)


def _capitalized(text: str) -> str:
    """With a capital, if it has none, where a digit does not come before it; a path stays."""
    first = next((place for place, character in enumerate(text) if character.isalnum()), None)
    if first is None or text[0] in "/\\" or text != text.lower():
        return text
    return text[:first] + text[first].title() + text[first + 1 :]


def _marked(text: str, mark: str) -> str:
    if mark == "." and text.endswith("."):  # as p.m. does
        return text
    return f"{text} {mark}" if mark == "–" else text + mark


def find_formatter(style: Style, language: str, hotwords: Hotwords = ()) -> Formatter | None:
    """None if texts are to stay as they are spoken, or no tagger of the language is installed. ArgumentError."""
    tagger = find_tagger(language) if check_style(style) == "written" else None
    return None if tagger is None else Formatter(tagger, hotword_cases(hotwords))


@dataclass(frozen=True)
class Before:
    """What comes before an utterance of a live stream: the last words, and whether a sentence begins after them."""

    formatter: Formatter | None
    words: tuple[Word, ...] = ()
    capital: bool = True

    def write(self, words: Sequence[Word], until: float, ended: bool) -> tuple[tuple[Word, ...], "Before"]:
        """The words of the utterance with their written form, and what is before the next one.

        until: seconds at which the silence after them ends, as far as it is known. ended: whether the stream does.
        """
        if self.formatter is None:
            return tuple(replace(word, written=None) for word in words), self
        together = (*self.words, *words)
        after = max(0.0, until - words[-1].end)
        texts, capital = self.formatter.write(together, len(self.words), len(together), self.capital, after, ended)
        written = tuple(replace(word, written=text) for word, text in zip(words, texts, strict=True))
        return written, Before(self.formatter, together[-CONTEXT:], capital)


class Writing:
    """The written form of one recording while its words come.

    It is made of pieces of 100 words with 20 words of context on both sides, and so depends on the words alone, not on
    how many come at a time. Memory does not grow with the recording.

    Args:
        timed: whether words have times and confidences.
    """

    def __init__(self, formatter: Formatter, timed: bool = True):
        self._formatter, self._timed = formatter, timed
        self._words: list[Word] = []  # the last ones that are written, and all that are not
        self._begin = 0  # the first of them that is not
        self._left = PIECE  # words of the piece in progress
        self._capital = True

    def add(self, words: Iterable[Word], complete: bool = False) -> list[str]:
        """Take the next words, the last ones if `complete`. Returns the written form of those that are next and that
        no further words change, see `Word.written`.
        """
        self._words += words
        written: list[str] = []
        while len(self._words) > self._begin + (0 if complete else self._left + CONTEXT):
            end = self._begin + self._left
            window, following = self._words[: end + CONTEXT], self._words[end + CONTEXT :]
            after = following[0].start - window[-1].end if following else SEGMENT_PAUSE
            texts, self._capital = self._formatter.write(
                window,
                self._begin,
                min(end, len(window)),
                self._capital,
                after if self._timed else None,
                ended=not following,
            )
            written += texts
            self._left = (self._left - len(texts)) % PIECE or PIECE
            kept = max(0, self._begin + len(texts) - CONTEXT)
            self._begin += len(texts) - kept
            del self._words[:kept]
        return written
