"""Texts spelled by pronunciation: as a manifest says, from a lexicon, or by letter-to-phone rules."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from asr.data.config import PhonesConfig, TokenizerConfig
from asr.data.manifest import Entry
from asr.decode.lexicon import Pronunciations
from asr.errors import RecipeError
from asr.lm.g2p import Pronouncer
from asr.lm.lexicon import Lexicon
from asr.model.bundle import LEXICON, PACKAGED, PRONOUNCER
from asr.model.phones import LETTERS
from asr.normalize import primary_language

SHOWN = 5  # words that a message names


class PhoneSpeller:
    """Spells texts in phone letters (`asr.model.phones`), words separated by spaces.

    A word has the lexicon's most usual pronunciation, or, if the lexicon lacks it, the likeliest by letter-to-phone
    rules, if there are some. Nothing is opened before a word is looked up.

    lexicon: a packaged one's name, or a dictionary, whose words come before those of the packaged lexicon of the
    language, if there is one.
    """

    def __init__(self, lexicon: str, language: str):
        self.name = lexicon
        self.own = None if _language(lexicon) else Path(lexicon)
        self.packaged = PACKAGED / f"{_language(lexicon) or primary_language(language)}-lexicon" / LEXICON
        self.words: Counter[str] = Counter()  # that were looked up
        self._spelled: dict[str, str] = {}
        self._missing: list[str] = []  # in the lexicon

    @property
    def rules(self) -> Path:
        """The file of the letter-to-phone rules, which may be missing."""
        beside = self.packaged if self.own is None or self.packaged.is_file() else self.own
        return beside.with_name(PRONOUNCER)

    @cached_property
    def lexicon(self) -> Lexicon:
        if self.own is None:
            return Lexicon.load(self.packaged)
        own = Lexicon.load(self.own)
        if not self.packaged.is_file():
            return own
        words = {word for word, _ in own}
        return Lexicon.of(chain(own, (entry for entry in Lexicon.load(self.packaged) if entry[0] not in words)))

    @cached_property
    def _pronunciations(self) -> Pronunciations:
        return Pronunciations(self.lexicon, lambda: Pronouncer.load(self.rules) if self.rules.is_file() else None)

    def keep(self, run: Path, texts: Iterable[str]) -> Lexicon:
        """The lexicon to write words by. A dictionary's is made once and kept in the run's folder.

        There, of words that are pronounced alike, the first is the most frequent one in the texts.
        """
        if self.own is None:
            return self.lexicon
        if not (run / LEXICON).exists():
            count = Counter(chain.from_iterable(map(str.split, texts)))
            Lexicon.of(sorted(self.lexicon, key=lambda entry: -count[entry[0]])).save(run / LEXICON)
        return Lexicon.load(run / LEXICON)

    def put(self, run: Path, bundle: Path) -> str:
        """Copy what was kept, and the rules, into a bundle. Returns the lexicon's name for the bundle's config."""
        if self.own is None:
            return self.name
        shutil.copy(run / LEXICON, bundle)
        if self.rules.is_file():
            shutil.copy(self.rules, bundle / PRONOUNCER)
        return LEXICON

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
            found = self.lexicon.pronunciations(word)
            if not found:
                self._missing.append(word)
                found = self._pronunciations.of(word)
            self._spelled[word] = found[0] if found else ""
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


def make_speller(tokenizer: TokenizerConfig, second: PhonesConfig, language: str) -> PhoneSpeller | None:
    """None where phones are not spelled, or only by a second head with an alphabet or a language of its own."""
    needed = second.weight and {*second.alphabet} == {*LETTERS} and suits(tokenizer.lexicon, language)
    return PhoneSpeller(tokenizer.lexicon, language) if needed or tokenizer.spelling == "phones" else None


def suits(lexicon: str, language: str) -> bool:
    """Whether a lexicon is for a language: a packaged one of it, or a file, whatever that holds."""
    return _language(lexicon) in ("", primary_language(language))


def _language(lexicon: str) -> str:
    """The language of a packaged lexicon, which is named LANGUAGE-lexicon; empty for a file."""
    language, _, kind = lexicon.partition("-")
    return language if kind == "lexicon" else ""


def _few(words: Counter[str]) -> str:
    return ", ".join(word for word, _ in words.most_common(SHOWN)) + f", … ({len(words):,})" * (len(words) > SHOWN)
