"""A tagger and numbers by a few rules, in place of the trained one and of all that people say."""

from collections.abc import Collection, Sequence

import carrier
import pytest

from asr.model.tagger import Tag
from asr.output.numbers import Number
from asr.recognize import written

LANGUAGES = ("en", carrier.CONFIG.language)
NAMES = {"ada": "Ada", "smith": "Smith", "london": "London", "nasa": "NASA", "mcdonald": "McDonald"}
QUESTIONS = ("who", "where")
DIGITS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}
LONG_PAUSE, SHORT_PAUSE = 0.5, 0.3  # seconds
SAID_MARKS = {"stop": ".", "comma": ",", "dash": "–", "colon": ":", "question": "?"}  # after these words


class RuleTagger:
    """A full stop at a long pause, or a question mark after a word that asks; a comma at a short one."""

    language = "en"

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def tag(
        self,
        words: Sequence[str],
        pauses: Sequence[float] | None = None,
        confidences: Sequence[float] | None = None,
    ) -> list[Tag]:
        assert pauses is None or len(pauses) == len(words)
        assert confidences is None or len(confidences) == len(words)
        self.calls.append(tuple(words))
        tags, asks = [], False
        for word, pause in zip(words, pauses or [0.0] * len(words), strict=True):
            asks = asks or word in QUESTIONS
            mark = "." if pause > LONG_PAUSE else "," if pause > SHORT_PAUSE else ""
            mark = SAID_MARKS.get(word, mark)
            mark = "?" if mark == "." and asks else mark
            asks = asks and mark not in (".", "?")
            tags.append(Tag(mark, NAMES.get(word, word)))
        return tags


def digit_runs(words: Sequence[str], breaks: Collection[int] = ()) -> list[Number]:
    """Two digits or more in a row are one number; after "dollars" a price, and "may the third" a day."""
    numbers, place = [], 0
    while place < len(words):
        if tuple(words[place : place + 3]) == ("may", "the", "third"):
            numbers.append(Number(place, place + 3, "May 3rd"))
            place += 3
            continue
        end = place
        while end < len(words) and words[end] in DIGITS and not (end > place and end - 1 in breaks):
            end += 1
        text = "".join(DIGITS[word] for word in words[place:end])
        if end > place and words[end : end + 1] == ["dollars"]:
            numbers.append(Number(place, end + 1, f"${text}"))
        elif end > place + 1:
            numbers.append(Number(place, end, text))
        place = max(end, place + 1)
    return numbers


def install(monkeypatch: pytest.MonkeyPatch) -> RuleTagger:
    """Let recognition and the command line find these."""
    from asr.cli import options

    tagger = RuleTagger()
    for module in (written, options):
        monkeypatch.setattr(module, "find_tagger", lambda language: tagger if language in LANGUAGES else None)
    monkeypatch.setattr(written, "find_numbers", digit_runs)
    return tagger
