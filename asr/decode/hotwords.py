"""Hotwords: words and phrases that the beam is to prefer, names above all, as people write them down."""

from asr.errors import AsrError
from asr.tokens import Tokens

HOTWORD_BOOST = 4.0  # nats, where none is written: a reading e⁴ times less likely wins if it has the word


def parse_hotwords(text: str, tokens: Tokens) -> dict[str, float]:
    """Phrases and boosts in nats of `Ivanhoe, knee jerk:8`; commas or line ends part them, boosts may be left out.

    They are turned to the case that the tokens have. AsrError names a phrase that they cannot spell, or a bad boost.
    """
    letters = tokens.letters
    hotwords = {}
    for item in text.replace("\n", ",").split(","):
        phrase, colon, number = item.partition(":")
        phrase = " ".join(phrase.split())
        if not phrase and not colon:
            continue
        try:
            boost = float(number) if colon else HOTWORD_BOOST
        except ValueError:
            boost = 0.0
        if not 0 < boost <= 100:
            raise AsrError(f"hotword '{item.strip()}': a boost is a number above 0 and up to 100, as in 'Ivanhoe:8'")
        spelled = next((form for form in (phrase, phrase.lower(), phrase.upper()) if letters >= {*form} - {" "}), "")
        if not spelled:
            shown = "".join(sorted(letters))
            raise AsrError(f"hotword '{phrase}': the model cannot spell it; write it with the letters {shown}")
        hotwords[spelled] = boost
    return hotwords
