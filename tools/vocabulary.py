"""Vocabulary of a language model, chosen from texts of several kinds: one word a line, the most useful first.

    python tools/vocabulary.py KIND ... --words N --output FILE [--titles SNAPSHOTS] [--measure TEXTS ...]

A KIND is a text, or several with commas between (a.txt,b.txt). A word's rank is its share of a kind's blocks of text,
the mean over the kinds: blocks and not occurrences, because the hero of one book is no word of the language. Candidates
occur in `MIN_BLOCKS` blocks, and in two kinds, or in a title of an encyclopaedia's article (names), or in
`MIN_BLOCKS_OF_ONE_KIND` blocks of their only kind: misspellings and mark-up occur in one.

`--measure` prints the share of unknown words by source; TEXTS are manifests (.jsonl) or plain text.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from language_model_text import SOURCES, blobs, git_directory
from spoken_text import plain

BLOCK = 200_000  # characters, a book chapter or two
MIN_BLOCKS = 4
MIN_BLOCKS_OF_ONE_KIND = 40


def block_counts(paths: Iterable[Path]) -> Counter[str]:
    """In how many blocks of the texts each word occurs."""
    blocks: Counter[str] = Counter()
    for path in paths:
        with path.open(encoding="utf-8") as file:
            while block := file.read(BLOCK):
                blocks.update(set((block + file.readline()).split()))
    return blocks


def title_words(snapshots: Path) -> set[str]:
    """Words of the titles of all articles."""
    words: set[str] = set()
    for repository, revision, pattern in SOURCES["wikipedia"][1]:
        for _, text in blobs(git_directory(snapshots, repository), revision, pattern):
            for title in re.findall(r'^<doc id="[^"]*" url="[^"]*" title="([^\n]*)">$', text, re.MULTILINE):
                words.update(word.strip("'") for word in re.findall(r"[A-Z']+", plain(title).upper()))
    return words


def words_by_source(paths: Iterable[Path]) -> dict[str, list[str]]:
    words: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line) if path.suffix == ".jsonl" else {"text": line}
            words[entry.get("source", path.stem)].extend(re.findall(r"[A-Z']+", entry["text"].upper()))
    return words


def candidates(kinds: list[Counter[str]], titles: set[str]) -> list[str]:
    kinds_of: Counter[str] = Counter()
    blocks: Counter[str] = Counter()
    for kind in kinds:
        kinds_of.update(kind.keys())
        blocks.update(kind)
    return sorted(
        word
        for word, count in blocks.items()
        if count >= MIN_BLOCKS and (kinds_of[word] > 1 or word in titles or count >= MIN_BLOCKS_OF_ONE_KIND)
    )


def ranked(words: Iterable[str], kinds: list[Counter[str]]) -> list[str]:
    totals = [kind.total() for kind in kinds]
    return sorted(words, key=lambda word: -sum(kind[word] / total for kind, total in zip(kinds, totals, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", metavar="KIND")
    parser.add_argument("--words", type=int, required=True, metavar="N")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--titles", type=Path, metavar="SNAPSHOTS")
    parser.add_argument("--measure", type=Path, nargs="+", default=[], metavar="TEXTS")
    options = parser.parse_args()
    kinds = [block_counts(map(Path, kind.split(","))) for kind in options.kinds]
    words = candidates(kinds, title_words(options.titles) if options.titles else set())
    order = ranked(words, kinds)
    options.output.write_text("".join(f"{word}\n" for word in order[: options.words]), encoding="utf-8")
    print(f"{min(len(order), options.words):,} of {len(order):,} candidates")
    known = set(order[: options.words])
    for source, text in words_by_source(options.measure).items():
        print(f"{source}: {sum(word not in known for word in text) / len(text):.2%} of {len(text):,} words unknown")


if __name__ == "__main__":
    main()
