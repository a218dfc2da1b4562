"""The phones of American English, those of CMUdict without stress, as one letter each.

A pronunciation is a string of these letters, so tokens, byte-pair encoding and prefixes work on it as on a word.
ARPAbet, the form that people read and dictionaries have ("DH AH0"), is for files and the command line.
"""

from asr.errors import ArgumentError, one_line

PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH"),
    *("K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
LETTERS = "aAuowIbCdDeREfghijJklmnNOYprsStTUxvWyzZ"  # one for each phone, in the same order

_LETTER = {phone + stress: letter for phone, letter in zip(PHONES, LETTERS, strict=True) for stress in ("", *"012")}
_PHONE = dict(zip(LETTERS, PHONES, strict=True))


def parse(arpabet: str) -> str:
    """The letters of phones such as "DH AH0", of any case, with or without stress. ArgumentError for anything else."""
    try:
        return "".join(_LETTER[phone] for phone in arpabet.upper().split())
    except KeyError as error:
        raise ArgumentError(
            f"'{one_line(error.args[0], 20)}' is not a phone; those of ARPAbet are {', '.join(PHONES)}"
        ) from None


def arpabet(letters: str) -> str:
    """The phones of a pronunciation, separated by spaces, without stress. ArgumentError for a letter that is none."""
    try:
        return " ".join(_PHONE[letter] for letter in letters)
    except KeyError as error:
        raise ArgumentError(f"'{error.args[0]}' is not the letter of a phone; those are {LETTERS}") from None
