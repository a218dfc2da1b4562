"""Texts spelled by pronunciation: as a manifest says, from a lexicon, or by letter-to-phone rules."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from asr.data.config import PhonesConfig, TokenizerConfig
from asr.data.manifest import Entry
from asr.errors import RecipeError
from asr.lm.lexicon import Lexicon
from asr.model.phones import LETTERS

SHOWN = 5  # words that a message names


class Pronunciation:
    """Spells texts in phone letters (`asr.model.phones`), words separated by spaces.

    A word has the lexicon's most usual pronunciation, or, if the lexicon lacks it, the likeliest by letter-to-phone
    rules, if the language has some. Nothing is opened before a word is looked up.
    """

    def __init__(self, lexicon: str, language: str):
        self.name = lexicon
        self.language = language
        self.words: Counter[str] = Counter()  # that were looked up
        self._spelled: dict[str, str] = {}
        self._missing: list[str] = []  # in the lexicon

    @cached_property
    def _lexicon(self) -> Lexicon:
        return Lexicon.load(self.name)

    _pronouncer = None

    def __call__(self, entry: Entry) -> str:
        """The entry's own phones, or those of its words; empty if one of them cannot be pronounced.

        RecipeError for phones of its own that are none.
        """
        if entry.phones is None or not entry.text:
            spelled = [self.word(word) for word in entry.text.split()]
            return " ".join(spelled) if all(spelled) else ""
        if wrong := {*entry.phones} - {*LETTERS, " "}:
            raise RecipeError(f"'{entry.id}': '{min(wrong)}' in its \"phones\" is no letter of a phone ({LETTERS})")
        return entry.phones

    def word(self, word: str) -> str:
        """Its pronunciation, or nothing."""
        self.words[word] += 1
        if word not in self._spelled:
            found = self._lexicon.pronunciations(word)
            if not found:
                self._missing.append(word)
                found = [self._pronouncer.say(word) if self._pronouncer else ""]
            self._spelled[word] = found[0]
        return self._spelled[word]

    def report(self) -> Iterator[str]:
        """A line each about the words that were looked up and are not in the lexicon, and that cannot be pronounced."""
        missing = Counter({word: self.words[word] for word in self._missing if self._spelled[word]})
        unknown = Counter({word: self.words[word] for word in self._missing if not self._spelled[word]})
        if missing:
            share = missing.total() / self.words.total()
            yield f"{share:.1%} of the words are not in {self.name} and pronounced by their letters: {_few(missing)}"
        if unknown:
            yield f"left out are the texts with words that cannot be pronounced: {_few(unknown)}"


def make_pronunciation(tokenizer: TokenizerConfig, second: PhonesConfig, language: str) -> Pronunciation | None:
    """None where phones are not spelled, or only by a second head with an alphabet or a language of its own."""
    needed = second.weight and {*second.alphabet} == {*LETTERS} and suits(tokenizer.lexicon, language)
    return Pronunciation(tokenizer.lexicon, language) if needed or tokenizer.spelling == "phones" else None


def suits(lexicon: str, language: str) -> bool:
    """Whether a lexicon is for a language: a packaged one, named LANGUAGE-lexicon, or a file, whatever that holds."""
    name, _, kind = lexicon.partition("-")
    return kind != "lexicon" or name == language.partition("-")[0]


def _few(words: Counter[str]) -> str:
    return ", ".join(word for word, _ in words.most_common(SHOWN)) + f", … ({len(words):,})" * (len(words) > SHOWN)
