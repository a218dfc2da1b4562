"""Numbers as people write them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """words[start:end] are written as `text`."""

    start: int
    end: int
    text: str


def find_numbers(words: Sequence[str], breaks: Collection[int] = ()) -> list[Number]:
    """The numbers among spoken words. breaks: a mark follows words[i]."""
    return []
