"""Text for language models from snapshots of public repositories: one sentence a line, A-Z, apostrophe and space.

    python tools/language_model_text.py SNAPSHOTS OUT [NAME ...] [--without TEXTS ...] [--written] [--jobs N]

Writes OUT/NAME.txt for each NAME (all of `SOURCES`) and prints its words. A NAME may also be a file NAME.txt.xz that
is such a text already: only what --without names is left out of it. SNAPSHOTS holds OWNER+NAME/repo, a git
repository, for each source. Numbers are spelled out, brackets dropped, what is hardly prose left out, a sentence kept
once.

Left out are sentences that share eight words in a row with the texts that models are judged by, or are one of them
(hashes beside ../shared/corpora/text.py; books by ../shared/data/excluded_books.tsv), and with TEXTS, those that
weights are tuned on: manifests (.jsonl) or plain text.

Needs git and num2words.
"""

import argparse
import csv
import functools
import io
import json
import lzma
import re
import subprocess
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from hashlib import blake2b
from multiprocessing import Pool
from pathlib import Path

from spoken_text import LOST, plain, sentences, spoken, written

SHARED = Path(__file__).parents[1] / "../shared"
Document = str  # paragraphs separated by a blank line
Files = Iterable[tuple[str, str]]  # path and text

# ------------------------------------------------------------------ texts to leave out

GRAM = 8  # words in a row


class _HeldOutWords(dict[str, str]):
    """ "1" for words of the texts that models are judged by; an 8-gram with a "0" needs no look-up."""

    def __missing__(self, word: str) -> str:
        self[word] = str(int(zlib.crc32(word.encode()) in _hashes("excluded_words.u32.xz", "I")))
        return self[word]


_held_out_words = _HeldOutWords()


@functools.cache
def _hashes(name: str, code: str) -> frozenset[int]:
    values = array(code)
    values.frombytes(lzma.decompress((SHARED / "corpora" / name).read_bytes()))
    return frozenset(values)


def is_held_out(words: list[str]) -> bool:
    """Whether a sentence shares an 8-gram with the texts that models are judged by, or is one of them."""
    known = "".join(map(_held_out_words.__getitem__, words))
    length = min(GRAM, len(words))
    start = known.find("1" * length)
    while start >= 0:
        gram = " ".join(words[start : start + length]).encode()
        if int.from_bytes(blake2b(gram, digest_size=8).digest(), "little") in _hashes("excluded.u64.xz", "Q"):
            return True
        start = known.find("1" * length, start + 1)
    return False


class Overlap:
    """Sentences that share `GRAM` words in a row with some texts.

    Such a run holds a whole aligned half-gram (words 0-3, 4-7, ... of the sentence), so only those are looked up first.
    """

    def __init__(self, paths: Iterable[Path]):
        self._grams: set[str] = set()
        self._halves: set[str] = set()
        for path in paths:
            for line in path.read_text(encoding="utf-8").splitlines():
                text = json.loads(line)["text"] if path.suffix == ".jsonl" else line
                words = re.findall(r"[A-Z']+", text.upper())
                self._grams.update(" ".join(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1))
                self._halves.update(" ".join(words[i : i + GRAM // 2]) for i in range(len(words) - GRAM // 2 + 1))

    def __contains__(self, words: list[str]) -> bool:
        half = GRAM // 2
        return any(" ".join(words[i : i + half]) in self._halves for i in range(0, len(words), half)) and any(
            " ".join(words[i : i + GRAM]) in self._grams for i in range(len(words) - GRAM + 1)
        )


@functools.cache
def _excluded_books() -> tuple[frozenset[str], tuple[str, ...]]:
    rows = [line.split("\t") for line in (SHARED / "data/excluded_books.tsv").read_text(encoding="utf-8").splitlines()]
    titles = (_title(row[1]) for row in rows if len(row) > 1)
    return frozenset(row[0] for row in rows), tuple(title for title in titles if len(title) >= 9)


def _title(title: str) -> str:
    return " ".join(re.findall(r"[A-Z0-9]+", re.split(r"[;:(]|, Or", title)[0].upper().replace("'", "")))


def _is_excluded_book(number: str, title: str) -> bool:
    numbers, titles = _excluded_books()
    return number in numbers or any(f" {name} " in f" {_title(title)} " for name in titles)


# ------------------------------------------------------------------ documents -> sentences

_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|<[^>]{1,200}>")


def sentences_of(document: Document) -> Iterator[tuple[str, str]]:
    """The sentences of the document's prose, as written and as spoken; empty ones where something was left out.

    Paragraphs that end without punctuation, tables and lists are left out.
    """
    for paragraph in re.split(r"\n\s*\n", plain(document)):
        paragraph = " ".join(_BRACKETS.sub(" ", paragraph).split())
        if (
            len(paragraph) < 8
            or paragraph[-1] not in ".!?:;,\"'"
            or "http" in paragraph
            or "@" in paragraph
            or "|" in paragraph
        ):
            yield "", ""
            continue
        for sentence in sentences(paragraph):
            words = spoken(sentence)
            yield (written(sentence), " ".join(words)) if words and not is_held_out(words) else ("", "")
    yield "", ""


# ------------------------------------------------------------------ readers


def git_directory(snapshots: Path, repository: str) -> Path:
    folder = snapshots / repository.replace("/", "+") / "repo"
    if not folder.exists():
        sys.exit(f"{repository}: no snapshot in {snapshots}; bring it there first")
    return folder / ".git" if (folder / ".git").exists() else folder


def blobs(git: Path, revision: str, pattern: str) -> Files:
    """Path and text of the files whose path matches; files that the snapshot lacks are passed over."""
    listing = subprocess.run(
        ["git", "--git-dir", git, "ls-tree", "-r", "-z", revision], stdout=subprocess.PIPE, check=True
    ).stdout
    command = ["git", "--git-dir", git, "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for entry in filter(None, listing.decode("utf-8", "replace").split("\0")):
            about, path = entry.split("\t", 1)
            _, kind, name = about.split()
            if kind != "blob" or not re.search(pattern, path):
                continue
            reader.stdin.write(f"{name}\n".encode())
            reader.stdin.flush()
            header = reader.stdout.readline().split()
            if len(header) == 3:
                data = reader.stdout.read(int(header[2]))
                reader.stdout.read(1)
                yield path, _decoded(data)
        reader.stdin.close()


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:  # older books
        return data.decode("cp1252", "replace")


# Words between square brackets that an editor put into a quotation; notes of a typist are no words of it.
_INSERTED = re.compile(
    r"\[((?!sic|as read|music|laugh|applause|inaudible|unclear|pause|citation)"
    r"[A-Za-z][a-z']*(?: [A-Za-z][a-z']*){0,4})\]"
)
# What templates leave that WikiExtractor drops: "stands at tall", "an area of , with".
_GAP = re.compile(
    r" (?:(?:an?|the) (?=(?:of|by|in|is|was|to|at|and|with|from|for|on)\b)"
    r"|of (?=(?:by|of|is|was|from|at|with)\b)|(?=[,;:]|\.(?!\.))"
    r"|(?:additional|approximately|roughly|about|nearly) (?=(?:of|tall|wide|long|high|deep)\b))"
)


def _without_brackets(line: str) -> str:
    return _BRACKETS.sub("\x03", line).replace(" \x03", "").replace("\x03", "")


_titles_read: set[str] = set()  # an article of several snapshots is read once


def wikipedia(files: Files) -> Iterator[Document]:
    """Files of WikiExtractor: <doc … title="…">, the title, paragraphs, </doc>."""
    for _, text in files:
        for title, body in re.findall(r'<doc id="[^"]*" url="[^"]*" title="([^\n]*)">\n(.*?)</doc>', text, re.DOTALL):
            if title not in _titles_read:
                _titles_read.add(title)
                lines = (
                    _GAP.sub(LOST, _without_brackets(_INSERTED.sub(r"\1", line))) for line in body.splitlines()[1:]
                )
                yield "\n\n".join(
                    line for line in lines if line.count(" ") >= 7 and "formula_" not in line and "codice_" not in line
                )


def podcasts(files: Files) -> Iterator[Document]:
    for path, text in files:
        if not path.startswith("bigtent/"):
            lines = (line for line in text.splitlines() if not line.startswith(("#", "---", "!", "<")))
            lines = (re.sub(r"^\*\*[^*]+:\*\*\s*|\\?\[[\d:]+\\?\]", "", line) for line in lines)
            lines = (re.sub(r"\\?\[(?:unintelligible|inaudible)[^\]]*\]", LOST, line) for line in lines)
            lines = (re.sub(r"\\?\[[^\]]*?\\?\](?!\()|\\", "", line) for line in lines)
            yield "\n\n".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line) for line in lines)


def hearings(files: Files) -> Iterator[Document]:
    for _, text in files:
        lines = (line for line in text.splitlines() if not re.match(r'\.\. |   |[=\-^~"*#]{3,}\s*$', line))
        lines = (_INSERTED.sub(r"\1", re.sub(r"^\*\*[^*]{1,60}\*\*:\s*|[`|]", "", line)) for line in lines)
        yield "\n\n".join(re.sub(r" (?=[,;]|\.(?!\.))", LOST, line) for line in lines)


# Typed without the apostrophe: dont, im, its a, theyre.
_CONTRACTED = re.compile(
    r"\b(?:((?:do|did|does|is|was|were|would|could|should|have|has|had|are|ai|ca)n)t|(i)(m|ve)|(they|you|we)(ve)|(they|you)(re)"
    r"|(that|what)s|(it|he|she|there|where|who)s(?= (?:an?|the|not|so|my|her|his|what|why|how|just|really)\b))\b",
    re.IGNORECASE,
)


def _contraction(match: re.Match[str]) -> str:
    negative, i, end_i, have, end_have, are, end_are, that, it = match.groups()
    if negative:
        return f"{negative}'t"
    return f"{i or have or are or that or it}'{end_i or end_have or end_are or 's'}"


def conversations(files: Files) -> Iterator[Document]:
    for _, text in files:
        for row in csv.DictReader(io.StringIO(text)):
            lines = (said for name, said in row.items() if said and name and name.startswith("Answer.sentence"))
            yield "\n\n".join(
                _CONTRACTED.sub(_contraction, line if line[-1] in ".!?" else f"{line}.") for line in lines
            )


def meetings(files: Files) -> Iterator[Document]:
    for _, text in files:
        content = json.loads(text)
        if isinstance(content, dict):
            turns = (turn["content"] for turn in content["meeting_transcripts"])  # tokenised: it 's, do n't
            yield "\n\n".join(
                re.sub(r" ?' ?(?=(?:s|t|re|ve|ll|d|m)\b)", "'", turn.replace(" n't", "n't")) for turn in turns
            )


def speeches(files: Files) -> Iterator[Document]:
    for _, text in files:
        yield "\n\n".join(line for line in text.splitlines() if not line.startswith("President:"))


_FOOTNOTE = re.compile(r"([a-z]{3}[.!?;:][\"'”’]?)\s+\[?\d{1,3}\]?\.?(?=\s+[\"'“‘]?[A-Z])")


def gutenberg(files: Files) -> Iterator[Document]:
    for path, text in files:
        text = text.replace("\r", "")
        fields = {
            name: value.strip()
            for name, value in re.findall(r"^(Title|Language):[ \t]*(.+)$", text[:6000], re.MULTILINE)
        }
        start = re.search(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*\*\*", text[:20_000], re.DOTALL)
        title = fields.get("Title", "")
        if fields.get("Language") != "English" or not start or "COPYRIGHTED" in text[:6000]:
            continue
        if not re.search("Dictionary|Thesaurus", title) and not _is_excluded_book(Path(path).stem, title):
            end = r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|\n\s*End of (?:the )?Project Gutenberg"
            yield _FOOTNOTE.sub(r"\1", re.split(end, text[start.end() :])[0])


def plain_novels(files: Files) -> Iterator[Document]:
    for path, text in files:
        title = text.lstrip("\ufeff").split("\n", 1)[0].strip()
        if not path.startswith("DE19") and not _is_excluded_book("", title):
            yield text


def tei_novels(files: Files) -> Iterator[Document]:
    for _, text in files:
        head, _, body = text.partition("<text")
        title = re.search(r"<title(?: [^>]*)?>(.*?)</title>", head, re.DOTALL)
        if title and not _is_excluded_book("", title[1].replace(": ELTeC edition", "").strip()):
            body = re.sub(r"<(head|note|trailer|label)\b.*?</\1>", " ", body, flags=re.DOTALL)
            yield re.sub(r"<[^>]+>", " ", re.sub(r"</?(p|l|lg|div|quote|said)\b[^>]*>", "\n\n", body))


Reader = Callable[[Files], Iterator[Document]]
# Reader, and repositories with their revision and the pattern of the paths to read.
SOURCES: dict[str, tuple[Reader, list[tuple[str, str, str]]]] = {
    "wikipedia": (wikipedia, [
        ("ag-gipp/wikiextractor", "6b6a412dda77cbbda4af9614ebecf30950ae0553", r"^text(-excellent)?/.*/wiki_\d+"),
        ("hudsonmiears/Automatic-Text-Selector", "8a9755705745e7980814ade707993bbd11cd8579", r"^extracted/.*/wiki_\d+"),
        ("Vibhas-hs-edu/WikiTasks", "HEAD", r"^text/AA/wiki_\d+"),
        ("jason-feng/wikiVisual", "1c0fac92f29f17c1603bfffbe864e0dfdff66897", r"^text/A[A-D]/wiki_\d+"),
        ("ZhouYii/PatchedDistro", "961716d8a5a0df1a6373a4d61e360a0b5d1b85cd", r"^data/A[A-I]/wiki_\d+"),
    ]),
    "podcasts": (podcasts, [("thechangelog/transcripts", "44a0e16c5919d332e05de481919fbfca90a2c90b", r"/.*\.md$")]),
    "hearings": (hearings, [
        ("dracos/uk-covid19-inquiry", "2a75adafddaebb8099d1bbbc64ead64a0106ff81", r"/.*\d.*\.rst$"),
        ("dracos/pohi", "ebbacaee48e46c498c233e35f7ea973965435475", r"/.*\d.*\.rst$"),
        ("dracos/lampard-inquiry", "b2c30606d648d2a38c68ab5de34cc4408b4ffe08", r"/.*\d.*\.rst$"),
    ]),
    "conversations": (conversations, [
        ("jfainberg/self_dialogue_corpus", "113a1b0ff10308f1227c13a4aaded9bc85577816", r"^corpus/.*\.csv$"),
    ]),
    "meetings": (meetings, [("Yale-LILY/QMSum", "83d7768c1f2b4dfeb091385d3dc7e239b8e5bb7e", r"^data/ALL/.*\.json$")]),
    "speeches": (speeches, [
        ("kfogel/presidential-speeches", "a4c8b38eeba49703f515a701db03e60417e042e6", r"^data/(19[3-9]|20).*\.txt$"),
    ]),
    "gutenberg": (gutenberg, [("Quentin-Palmisano/projet-DAAR", "HEAD", r"\.txt$")]),
    "novels": (plain_novels, [("mahlberg-lab/corpora", "HEAD", r"^[^/]+/[^/]+\.txt$")]),
    "novels-tei": (tei_novels, [("COST-ELTeC/ELTeC-eng", "HEAD", r"^level1/.*\.xml$")]),
}  # fmt: skip


def documents(snapshots: Path, name: str) -> Iterator[Document]:
    reader, repositories = SOURCES[name]
    for repository, revision, pattern in repositories:
        yield from reader(blobs(git_directory(snapshots, repository), revision, pattern))


def _all_sentences(document: Document) -> list[tuple[str, str]]:
    return list(sentences_of(document))


def _given(path: str) -> Iterator[list[tuple[str, str]]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        yield from ([("", line.strip())] for line in file)


def build(snapshots: Path, out: Path, name: str, without: Overlap, jobs: int, keep_written: bool) -> None:
    words, left_out, seen, gap = 0, 0, set(), True
    target = out / f"{Path(name).name.split('.')[0]}.txt"
    part = target.with_suffix(".part")
    with Pool(jobs) if jobs > 1 else nullcontext() as pool, part.open("w") as file:
        if name in SOURCES:
            read = documents(snapshots, name)
            texts = pool.imap(_all_sentences, read, chunksize=8) if pool else map(sentences_of, read)
        else:
            texts = _given(name)
        for document in texts:
            for original, sentence in document:
                key = hash(sentence)
                if not sentence or key in seen:
                    kept = False
                else:
                    seen.add(key)
                    kept = sentence.split() not in without
                    left_out += not kept
                if kept:
                    words += sentence.count(" ") + 1
                    file.write(f"{original}\t{sentence}\n" if keep_written else f"{sentence}\n")
                elif keep_written and not gap:
                    file.write("\n")
                gap = not kept
    part.rename(target)
    print(
        f"{name}: {words:,} words, {len(seen) - left_out:,} sentences, {left_out:,} left out by --without", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("snapshots", type=Path, metavar="SNAPSHOTS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(SOURCES))
    parser.add_argument("--without", type=Path, nargs="+", default=[], metavar="TEXTS")
    parser.add_argument(
        "--written",
        action="store_true",
        help="put each sentence as it was written before it, with a tab between; an empty line where any was left out",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in SOURCES and not name.endswith(".txt.xz")]:
        parser.error(f"no source {unknown}; known: {' '.join(SOURCES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    overlap = Overlap(options.without)
    for name in options.names or SOURCES:
        build(options.snapshots, options.out, name, overlap, options.jobs, options.written)


if __name__ == "__main__":
    main()
