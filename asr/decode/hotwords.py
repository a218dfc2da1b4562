"""Hotwords: words and phrases, names above all, that beam search is to prefer."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, product

from asr.decode.lexicon import Pronunciations
from asr.errors import ArgumentError
from asr.model.tokens import CONTROL, Tokens
from asr.normalize import APOSTROPHES, lowered
from asr.output.transcript import TITLES

# Where no boost is given. A long word is rarely recognised by accident and has more letters that may be misrecognised.
NATS_PER_LETTER = 3.0
FREE_LETTERS = 2  # that bring no boost
HIGHEST_BOOST = 100.0  # nats
MAX_PHRASE = 200  # characters: of each beginning of a phrase something is kept
MAX_PHRASES = 10_000
SPOKEN_TITLES = {short.lower(): title for title, short in reversed(TITLES.items())}  # "dr.": "doctor"
VARIANTS = 16  # ways to pronounce a phrase, of all those in which its words may be

Hotwords = str | Sequence[str] | Mapping[str, float]


def default_boost(phrase: str, nats_per_letter: float = NATS_PER_LETTER) -> float:
    """Nats for each letter after the first two, at least for one."""
    return nats_per_letter * max(1, len(phrase.replace(" ", "")) - FREE_LETTERS)


def parse_hotwords(
    hotwords: Hotwords, tokens: Tokens, pronunciations: Pronunciations | None = None
) -> dict[str, float]:
    """Phrases, in the case and with the apostrophes that the model writes, and their boosts in nats.

    `hotwords` are written as "Ivanhoe, knee jerk:8", separated by commas or line ends; or a sequence of such phrases;
    or a mapping from phrases to boosts. Without a boost a phrase gets its `default_boost`. ArgumentError names a phrase
    that the tokens cannot spell, or that nobody can pronounce, or a bad boost.
    """
    items = _split_hotwords(hotwords)
    if len(items) > MAX_PHRASES:
        raise ArgumentError(f"hotwords: {len(items):,} phrases; give at most {MAX_PHRASES:,}")
    parsed = {}
    for phrase, boost, item in items:
        if len(phrase) > MAX_PHRASE:
            raise ArgumentError(f"hotword '{phrase[:40]}…': {len(phrase):,} letters; give at most {MAX_PHRASE}")
        if CONTROL.search(phrase):
            raise ArgumentError(f"hotword '{phrase}': it has control characters; leave them out")
        if phrase or boost is not None:
            spoken = _spoken(phrase)
            form = _spelled(spoken, tokens) if pronunciations is None else _pronounceable(spoken, pronunciations)
            parsed[form] = default_boost(spoken) if boost is None else _checked(boost, item)
    return parsed


def _split_hotwords(hotwords: Hotwords) -> list[tuple[str, object, str]]:
    """Phrases as they were given, their boosts, None without one, and the text of both. ArgumentError."""
    if isinstance(hotwords, Mapping):
        items: list[tuple] = [(phrase, boost, f"{phrase}:{boost}") for phrase, boost in hotwords.items()]
    else:
        written = hotwords.replace("\n", ",").split(",") if isinstance(hotwords, str) else hotwords
        try:
            if isinstance(written, Iterator):  # which could be read once only
                raise TypeError
            parted = [(item, *item.partition(":")) for item in written]
        except (TypeError, AttributeError):
            raise ArgumentError(
                f"hotwords: {hotwords!r:.80} is neither text, a list of phrases, nor a mapping from phrases to boosts"
            ) from None
        items = [(phrase, number if colon else None, item.strip()) for item, phrase, colon, number in parted]
    return [(_composed(str(phrase)), boost, item) for phrase, boost, item in items]


def _composed(phrase: str) -> str:
    return " ".join(unicodedata.normalize("NFC", phrase.translate(APOSTROPHES)).split())


def hotword_cases(hotwords: Hotwords) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The words of phrases as they are spoken, in lower case, and as they were given, of those that have capitals."""
    phrases = [phrase for phrase, _, _ in _split_hotwords(hotwords)]
    return {(*lowered(_spoken(phrase)).split(),): (*phrase.split(),) for phrase in phrases if phrase != lowered(phrase)}


def _spoken(phrase: str) -> str:
    """With the titles in it as words: "Dr. Who" is spoken "doctor Who"."""
    return " ".join(SPOKEN_TITLES.get(word.lower(), word) for word in phrase.split())


def _checked(boost: object, item: str) -> float:
    try:
        nats = float(boost)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        nats = 0.0
    if not 0 < nats <= HIGHEST_BOOST:
        raise ArgumentError(f"hotword '{item}': a boost is a number above 0 and up to 100, as in 'Ivanhoe:8'")
    return nats


def _spelled(phrase: str, tokens: Tokens) -> str:
    for form in (phrase, lowered(phrase), phrase.upper()):
        if form and tokens.letters >= {*form} - {" "}:
            return form
    letters = "".join(sorted(tokens.letters))
    raise ArgumentError(f"hotword '{phrase}': the model cannot spell it; write it with the letters {letters}")


def _pronounceable(phrase: str, pronunciations: Pronunciations) -> str:
    form = " ".join(map(pronunciations.form, phrase.split()))
    mute = [word for word in form.split() if not pronunciations.of(word)]
    if mute or not form:
        raise ArgumentError(
            f"hotword '{phrase}': '{' '.join(mute)}' has no pronunciation; "
            "write it with letters as it is spoken, or give its phones in a lexicon"
        )
    return form


def spellings(words: Iterable[str], pronunciations: Pronunciations) -> dict[str, list[str]]:
    """The words by each of their pronunciations."""
    by_pronunciation = defaultdict(list)
    for word in sorted(words):
        for pronunciation in pronunciations.of(word):
            by_pronunciation[pronunciation].append(word)
    return dict(by_pronunciation)


def pronounced(hotwords: Mapping[str, float], pronunciations: Pronunciations) -> dict[str, float]:
    """The pronunciations of phrases, a space between words, and their boosts; of equal ones the higher boost."""
    boosts: dict[str, float] = {}
    for phrase, boost in hotwords.items():
        for words in islice(product(*map(pronunciations.of, phrase.split())), VARIANTS):
            spelled = " ".join(words)
            boosts[spelled] = max(boost, boosts.get(spelled, 0.0))
    return boosts


class HotwordMatcher:
    """Finds hotwords in text that grows at its end.

    A phrase in progress has a provisional boost, the larger the more of it there is; it counts until the phrase is
    complete or something else follows.
    """

    def __init__(self, boosts: Mapping[str, float]):
        self.boosts = dict(boosts)
        self.words = {word for phrase in boosts for word in phrase.split()}
        self.provisional = {"": 0.0}  # nats, of each prefix of a hotword, spaces included
        for phrase, boost in boosts.items():
            for length in range(1, len(phrase) + 1):
                # Squared: evenly, the first letters of many hotwords would take the place of others in the beam.
                share = boost * (length / len(phrase)) ** 2
                self.provisional[phrase[:length]] = max(share, self.provisional.get(phrase[:length], 0.0))
        # No prefix has a provisional boost of more than this for each of its characters.
        self.highest_rate = max((boost / len(phrase) for phrase, boost in boosts.items()), default=0.0)
        # All hotwords that one word completes are ends of the longest of them.
        self.highest_gain = max(map(self.completed, boosts), default=0.0) + max(boosts.values(), default=0.0)

    def prefix(self, text: str) -> str:
        """The longest end of the text, from the start of a word on, with which a hotword starts; or nothing."""
        return next((end for end in _ends(text) if end in self.provisional), "") if self.boosts else ""

    def completed(self, prefix: str) -> float:
        """Sum of the boosts of all hotwords that end where `prefix` ends."""
        return sum(self.boosts.get(end, 0.0) for end in _ends(prefix))


def _ends(text: str) -> Iterator[str]:
    """The text, then without its first word, its first two words, and so on, but not without all of them."""
    while text.strip():
        yield text
        text = text.partition(" ")[2]
