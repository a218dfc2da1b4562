"""Hotwords: words and phrases that the beam is to prefer, names above all, as people write them down."""

from asr.errors import AsrError
from asr.model.tokens import Tokens
from asr.normalize import APOSTROPHES

# Where no boost is written. A long word is rarely heard by accident and has more letters that may be heard wrongly.
NATS_PER_LETTER = 3.0
FREE_LETTERS = 2  # that bring no boost


def default_boost(phrase: str, nats_per_letter: float = NATS_PER_LETTER) -> float:
    """Nats for each letter after the first two, at least for one."""
    letters = len(phrase.replace(" ", ""))
    return nats_per_letter * max(1, letters - FREE_LETTERS)


def _written_boost(number: str) -> float:
    """0 if it is none that may be written."""
    try:
        boost = float(number)
    except ValueError:
        return 0.0
    return boost if 0 < boost <= 100 else 0.0


def parse_hotwords(text: str, tokens: Tokens) -> dict[str, float]:
    """Phrases and boosts in nats of `Ivanhoe, knee jerk:8`; commas or line ends part them, boosts may be left out.

    They are turned to the case that the tokens have. AsrError names a phrase that they cannot spell, or a bad boost.
    """
    letters = tokens.letters
    hotwords = {}
    for item in text.translate(APOSTROPHES).replace("\n", ",").split(","):
        phrase, colon, number = item.partition(":")
        phrase = " ".join(phrase.split())
        if not phrase and not colon:
            continue
        boost = _written_boost(number) if colon else default_boost(phrase)
        if not boost:
            raise AsrError(f"hotword '{item.strip()}': a boost is a number above 0 and up to 100, as in 'Ivanhoe:8'")
        spelled = next((form for form in (phrase, phrase.lower(), phrase.upper()) if letters >= {*form} - {" "}), "")
        if not spelled:
            shown = "".join(sorted(letters))
            raise AsrError(f"hotword '{phrase}': the model cannot spell it; write it with the letters {shown}")
        hotwords[spelled] = boost
    return hotwords
