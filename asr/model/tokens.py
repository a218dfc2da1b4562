"""The output alphabet of a model: id 0 is the CTC blank, `▁` marks the start of a word.

Characters and BPE pieces share one rule, sentencepiece's: a token that starts with `▁` begins a
new word. In a character model `▁` is a token of its own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from asr.errors import ArgumentError, BundleError, one_line
from asr.files import read_text
from asr.normalize import lowered

BLANK_ID = 0
BLANK = "<blank>"
WORD_START = "▁"
MAX_TOKENS = 1 << 16
MAX_SYMBOL = 64  # characters
MAX_WORD = 1000
CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")  # characters that a terminal obeys


class Tokens:
    """Symbols by id. `symbols[0]` is the blank."""

    def __init__(self, symbols: Sequence[str]):
        if not symbols or symbols[BLANK_ID] != BLANK:
            raise BundleError(f"the first token must be {BLANK}, found {list(symbols[:1])}; make the bundle again")
        if len(set(symbols)) != len(symbols):
            raise BundleError("a token is named twice; make the bundle again")
        if len(symbols) > MAX_TOKENS:
            raise BundleError(f"{len(symbols)} tokens, more than {MAX_TOKENS}; make the bundle again")
        if wrong := [symbol for symbol in symbols if not 0 < len(symbol) <= MAX_SYMBOL or CONTROL.search(symbol)]:
            raise BundleError(f"{wrong[0]!r:.60} cannot be a token; make the bundle again")
        self.symbols = tuple(symbols)
        self.ids = {symbol: token for token, symbol in enumerate(symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def letters(self) -> set[str]:
        """The characters that words may have."""
        return {*"".join(symbol for token, symbol in enumerate(self.symbols) if token != BLANK_ID)} - {WORD_START}

    def starts_word(self, token: int) -> bool:
        return self.symbols[token].startswith(WORD_START)

    def pieces(self, word: str) -> list[str]:
        """How a word is spelled, `▁` first: as the model was trained to, if the alphabet has its letters.

        Byte-pair encoding (Sennrich et al. 2016) joins the two neighbours first whose pair was the first to be learned.
        sentencepiece numbers pieces in that order, so its ids do for its model. Characters have no pairs and stay.
        ArgumentError for a word of more than 1,000 letters, since the time grows with their square.
        """
        if len(word) > MAX_WORD:
            raise ArgumentError(f"'{word[:40]}…' has {len(word):,} letters; a word has at most {MAX_WORD}")
        pieces = [WORD_START, *word]
        while pairs := [
            (self.ids[left + right], place)
            for place, (left, right) in enumerate(pairwise(pieces))
            if left + right in self.ids
        ]:
            _, place = min(pairs)
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return pieces

    def spell(self, text: str, tokenizer: Mapping[str, Any]) -> list[str]:
        """How a text is spelled by a model with these settings of its tokenizer; a piece may be no token."""
        fold = {"lower": lowered, "upper": str.upper}.get(tokenizer.get("case", ""), str)
        pieces = [piece for word in fold(text).split() for piece in self.pieces(word)]
        return pieces if tokenizer.get("kind") == "bpe" else pieces[1:]  # characters: `▁` between words only

    def text(self, ids: Iterable[int]) -> str:
        """The text that token ids spell: words separated by single spaces."""
        spelled = "".join(self.symbols[i] for i in ids if i != BLANK_ID)
        return " ".join(spelled.replace(WORD_START, " ").split())

    @classmethod
    def load(cls, path: Path) -> "Tokens":
        """Read `tokens.txt`: one symbol a line, the line number is the id."""
        try:
            # Not splitlines: a token may be a character that it takes for the end of a line.
            return cls(read_text(path).removesuffix("\n").split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: cannot read the tokens ({one_line(error)})") from error
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error

    def save(self, path: Path) -> None:
        path.write_text("".join(f"{symbol}\n" for symbol in self.symbols), encoding="utf-8")
