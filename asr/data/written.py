"""Texts as they are written and as they are spoken → words with the mark after each and its case; batches of them.

A line of a text is a sentence: as written, a tab, as spoken. An empty line stands where a document ends or something
was left out. Numbers and titles are other words when they are spoken: what was written there gives no marks inside.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.data.batch import cut
from asr.data.config import WrittenConfig
from asr.errors import LanguageModelError, RecipeError, one_line
from asr.evaluate.tagging import Counts
from asr.files import read_text
from asr.lm.source import open_source
from asr.model.tagger import CASES, MARKS, extras, scaled_pauses, word_features

Labeled = tuple[str, int, int]  # a word as spoken, in lower case; its mark and its case, by their places in the lists

TOKEN = re.compile(r"[A-Za-z0-9']*[A-Za-z0-9][A-Za-z0-9']*")
DOTS = re.compile(r"\.{2,}|…")
MARK = re.compile(r"[.,?!:;–—]|--|(?<=\s)-(?=\s)")  # a hyphen is none
SHORTENED = re.compile(r"\.[\"')]*(?:[,;:]|\s+[a-z])")  # what follows a word whose full stop is its own: a.m., etc.
NUMERAL = re.compile(r"[IVX]{2,}|[VX]")
MIN_LISTED = 5  # times that a word is written so, to be listed
MAX_LISTED = 5000
ENDS = tuple(map(MARKS.index, ".?!"))  # of sentences
SORTED = 4096  # runs among which the similar ones are put together


def label_words(written: str, spoken: str) -> list[Labeled]:
    """The words of a sentence as spoken, labeled by how it is written; none where the two do not belong together."""
    found = [(match.group().strip("'"), match.end()) for match in TOKEN.finditer(written)]
    tokens = [(token, _mark(written, token, end)) for token, end in found if token]
    words = spoken.lower().split()
    lower = [token.lower() for token, _ in tokens]
    if lower == words:
        return [(word, mark, _case(token)) for word, (token, mark) in zip(words, tokens, strict=True)]
    labeled = [(word, 0, 0) for word in words]
    same = 0
    for operation, begin, end, first, last in SequenceMatcher(None, lower, words, autojunk=False).get_opcodes():
        if operation == "equal":
            same += last - first
            labeled[first:last] = [
                (word, mark, _case(token))
                for word, (token, mark) in zip(words[first:last], tokens[begin:end], strict=True)
            ]
        elif operation == "insert" and first:  # the dollars of "$3 million;", whose mark stands after "million"
            labeled[last - 1] = (words[last - 1], labeled[first - 1][1], 0)
            labeled[first - 1] = (words[first - 1], 0, labeled[first - 1][2])
        elif operation == "replace":
            labeled[first:last] = _label_others(tokens[begin:end], words[first:last], end == len(tokens))
    return labeled if 2 * same >= len(words) else []


def _label_others(tokens: Sequence[tuple[str, int]], words: Sequence[str], ended: bool) -> list[Labeled]:
    """Words that are written as other tokens: numbers, titles, numerals. ended: whether the sentence is."""
    before: list[Labeled] = []
    after: list[Labeled] = []
    while len(tokens) > 1 and len(words) > 1 and tokens[0][0].isalpha():  # Jan. 5
        before.append((words[0], _inside(tokens[0][1]), _case(tokens[0][0])))
        tokens, words = tokens[1:], words[1:]
    if len(tokens) > 1 and len(words) > 1 and tokens[-1][0].isalpha():  # 1990, Mr.
        token, mark = tokens[-1]
        after.append((words[-1], mark if ended else _inside(mark), _case(token)))
        tokens, words = tokens[:-1], words[:-1]
    token, mark = tokens[-1]
    name = token.isalpha() and not NUMERAL.fullmatch(token)
    cases = [0 if not token.isalpha() or word == "the" else _case(token) if name else 1 for word in words]
    marks = [*[0] * (len(words) - 1), _inside(mark) if name and not ended else mark]
    return [*before, *zip(words, marks, cases, strict=True), *after]


def _inside(mark: int) -> int:
    """The mark after a shortened word, whose full stop ends no sentence."""
    return 0 if MARKS[mark] == "." else mark


def _mark(written: str, token: str, end: int) -> int:
    """The mark between a token, which ends there, and the next one."""
    following = TOKEN.search(written, end)
    between = DOTS.sub("." if following is None else ",", written[end : following.start() if following else None])
    if following is not None:
        if between in (".", ":", "::"):  # Node.js, 10:30, 3.5
            return 0
        letter = len(token) == 1 and token.isalpha()  # of an abbreviation, or an initial
        if letter or SHORTENED.match(between + following.group()[0]):
            between = between.removeprefix(".")
    found = MARK.search(between)
    if found is None:
        return 0
    mark = "–" if found.group() in ("—", "-", "--") else found.group()
    # “he said --, …”, “what?!”: a mark that ends the sentence is the stronger one.
    stronger = next((other for other in "?!." if other in between), mark)
    return MARKS.index(stronger if mark in ",–" else mark)


def _case(token: str) -> int:
    if token == token.lower():
        return 0
    if token == token[:1].upper() + token[1:].lower():
        return 1
    return 2 if token.removesuffix("'s") == token.removesuffix("'s").upper() else 3


def read_sentences(paths: Iterable[str]) -> Iterator[list[Labeled]]:
    """The sentences of texts, labeled; an empty one where a document ends. RecipeError for other files."""
    for path in paths:
        try:
            with open_source(path) as file:
                for number, line in enumerate(file, 1):
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    written, tab, spoken = text.rstrip("\r\n").partition("\t")
                    if written and not tab:
                        raise RecipeError(f"{path}:{number}: no tab; a line is a sentence as written, a tab, as spoken")
                    shouted = sum(map(str.isupper, written)) > len(written) // 3
                    yield [] if not written or shouted else label_words(written, spoken)
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path}: not UTF-8; save it as that") from error
        except LanguageModelError as error:
            raise RecipeError(str(error)) from error
        yield []


@dataclass
class LabeledText:
    """Words (N,), by their place in `vocabulary`, their marks and cases (N,); ends of the sentences (S,), and which of
    these end a document."""

    vocabulary: list[str]
    words: np.ndarray
    marks: np.ndarray
    cases: np.ndarray
    ends: np.ndarray
    last: np.ndarray

    @classmethod
    def read(cls, paths: Sequence[str]) -> "LabeledText":
        """RecipeError for a text without words."""
        places: dict[str, int] = {}
        words, marks, cases, ends, last = array("I"), array("B"), array("B"), array("Q"), array("B")
        for sentence in read_sentences(paths):
            for word, mark, case in sentence:
                words.append(places.setdefault(word, len(places)))
                marks.append(mark)
                cases.append(case)
            if sentence:
                ends.append(len(words))
                last.append(0)
            elif last:
                last[-1] = 1
        if not words:
            raise RecipeError(f"no sentences in {', '.join(paths)}; a line is a sentence as written, a tab, as spoken")
        return cls(
            [*places],
            words=np.frombuffer(words, np.uint32),
            marks=np.frombuffer(marks, np.uint8),
            cases=np.frombuffer(cases, np.uint8),
            ends=np.frombuffer(ends, np.uint64).astype(np.int64),
            last=np.frombuffer(last, bool),
        )

    def runs(self, most: int, *seed: int) -> np.ndarray:
        """Runs of consecutive sentences of one document, (R, 2) begin and end, in another order for each seed.

        Each is given a length of up to `most` words, drawn evenly by its logarithm: a recording may be one sentence,
        or a talk. A sentence that is longer is a run by itself, cut to `most`.
        """
        generator = np.random.default_rng(seed)
        drawn = map(int, np.exp(generator.uniform(np.log(4), np.log(most), 2 * len(self.ends) + 1)).astype(np.int64))
        runs, begin, end, length = array("q"), 0, 0, next(drawn)
        for sentence, last in zip(self.ends.tolist(), self.last.tolist(), strict=True):
            if end > begin and sentence - begin > length:
                runs.extend((begin, end))
                begin, length = end, next(drawn)
            end = sentence
            if last:
                runs.extend((begin, end))
                begin, length = end, next(drawn)
        pairs = np.frombuffer(runs, np.int64).reshape(-1, 2)
        pairs = np.stack([pairs[:, 0], np.minimum(pairs[:, 1], pairs[:, 0] + most)], axis=1)
        return generator.permutation(pairs)


def listed_forms(paths: Iterable[str]) -> list[str]:
    """Words that are mostly written with capitals inside, such as McDonald, the most frequent first."""
    counts: Counter[str] = Counter()
    for path in paths:
        with open_source(path) as file:
            for line in file:
                written = line.decode("utf-8").partition("\t")[0]
                counts.update(token.strip("'") for token in TOKEN.findall(written))
    forms: dict[str, Counter[str]] = {}
    for token, count in counts.items():
        forms.setdefault(token.lower(), Counter())[token] += count
    chosen = {}
    for found in forms.values():
        (token, count), *_ = found.most_common(1)
        if count >= MIN_LISTED and _case(token) == CASES.index("listed") and token.isascii():
            chosen[token] = count
    return sorted(chosen, key=lambda token: -chosen[token])[:MAX_LISTED]


class Speech:
    """How words sound and are misheard: statistics of recordings, by which a text is made like a recogniser's.

    They are a JSON file (`tools/speech_statistics.py`): quantiles of the pause after a word in seconds by its mark, of
    the confidence of right and of wrong words, and what was heard how often for each word, "" for nothing.
    """

    def __init__(self, path: str, vocabulary: Sequence[str]):
        try:
            values = json.loads(read_text(Path(path)))
            pauses, confidences = values["pauses"], values["confidences"]
            self.pauses = np.array([pauses.get(mark, pauses["."]) for mark in MARKS], dtype=np.float64)
            self.confidences = np.array([confidences[name] for name in ("right", "wrong")], dtype=np.float64)
            for quantiles in (self.pauses, self.confidences):
                if quantiles.ndim != 2 or quantiles.shape[1] < 2 or not np.isfinite(quantiles).all():
                    raise ValueError("pauses and confidences are not lists of two numbers or more, all of one length")
            places = {word: place for place, word in enumerate(vocabulary)}
            self.heard: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by word: words, -1 for none, and their shares
            for said, counts in values["confusions"].items():
                if said in places:
                    words = [places.setdefault(word, len(places)) if word else -1 for word in counts]
                    shares = np.array([*counts.values()], dtype=np.float64)
                    if not ((shares >= 0).all() and 0 < shares.sum() < np.inf):
                        raise ValueError(f"the counts of '{said}' are {[*counts.values()]!r:.40}")
                    self.heard[places[said]] = np.array(words), shares / shares.sum()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecipeError(f"{path}: no statistics of speech ({one_line(error)}); see recipes/written") from error
        self.vocabulary = [*places]

    def misheard(self, words: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
        """Words (N,), some of them as they were misheard, -1 for those that were not heard."""
        words = words.astype(np.int64)
        for place in np.flatnonzero(generator.random(len(words)) < share).tolist():
            if (found := self.heard.get(int(words[place]))) is not None:
                words[place] = generator.choice(found[0], p=found[1])
        return words

    def draw(self, quantiles: np.ndarray, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """A value for each row, of the distribution that this row of quantiles describes."""
        place = generator.random(len(rows)) * (quantiles.shape[1] - 1)
        low = place.astype(np.int64)
        below, above = quantiles[rows, low], quantiles[rows, np.minimum(low + 1, quantiles.shape[1] - 1)]
        return below + (place - low) * (above - below)


def drop_words(kept: np.ndarray, marks: np.ndarray, cases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Marks and cases (N,) of the words that are kept, (N,) bool, where the others were not heard.

    The mark of a lost word goes to the word before, if that has none or the end of a sentence is lost; the capital of
    the first word of a sentence to the next one.
    """
    marks, cases = marks.copy(), cases.copy()
    for place in np.flatnonzero(~kept)[::-1].tolist():
        if place and (not marks[place - 1] or (marks[place] in ENDS and marks[place - 1] not in ENDS)):
            marks[place - 1] = marks[place]
    first = True  # of a sentence
    for place in range(len(kept)):
        if kept[place]:
            cases[place] = max(cases[place], first)
            first = bool(marks[place] in ENDS)
    return marks[kept], cases[kept]


@dataclass
class TaggedBatch:
    """Runs of words, the shorter ones padded: what `TaggerModel` takes, and marks, cases (B, T), −1 in the padding."""

    ids: list[str]
    features: Tensor
    extras: Tensor
    lengths: Tensor
    marks: Tensor
    cases: Tensor

    @property
    def amount(self) -> float:
        """Words."""
        return float(self.lengths.sum())

    def score(self, log_probs: np.ndarray, counts: Counts) -> None:
        """Count the marks and cases that are likeliest by log_probs (B, T, marks + cases)."""
        inside, written = self.marks.numpy() >= 0, (self.marks.numpy(), self.cases.numpy())
        found = (part.argmax(axis=2) for part in np.split(log_probs, [len(MARKS)], axis=2))
        counts.add(*(each[inside] for each in (*found, *written)))


class TaggedText:
    """Batches of runs of a corpus, about `batch_words` words each, of similar length."""

    def __init__(self, corpus: LabeledText, config: WrittenConfig, rows: int, seed: int):
        self.corpus, self.config, self.seed = corpus, config, seed
        self.speech = Speech(config.speech, corpus.vocabulary) if config.speech else None
        vocabulary = self.speech.vocabulary if self.speech else corpus.vocabulary
        self.table = np.array([word_features(word, rows) for word in vocabulary], dtype=np.int32)

    def batches(self, epoch: int, words: int, plain: bool = False, skip: int = 0) -> Iterator[TaggedBatch]:
        """Batches of so many words in all, drawn for an epoch, without the first `skip`; the same ones every time.

        plain: no errors, and nothing is known of how the words sound.
        """
        passes = range(-(-words // len(self.corpus.words)))  # over a short text several
        runs = np.concatenate([self.corpus.runs(self.config.max_words, self.seed, epoch, number) for number in passes])
        lengths = runs[:, 1] - runs[:, 0]
        runs = runs[: np.searchsorted(lengths.cumsum(), words) + 1]
        groups: list[np.ndarray] = []
        for begin in range(0, len(runs), SORTED):
            some = runs[begin : begin + SORTED]
            some = some[np.argsort(some[:, 1] - some[:, 0], kind="stable")]
            spans = cut((some[:, 1] - some[:, 0]).tolist(), self.config.batch_words, len(some))
            groups += [some[first:last] for first, last in spans]
        order = np.random.default_rng((self.seed, epoch)).permutation(len(groups)).tolist()
        for group in order[skip:]:
            yield self.make(groups[group], (self.seed, epoch, group), plain)

    def make(self, runs: np.ndarray, seed: tuple[int, ...], plain: bool) -> TaggedBatch:
        generator = np.random.default_rng(seed)
        rows = [self._row(begin, end, generator, plain) for begin, end in runs.tolist()]
        words, beside, marks, cases = zip(*rows, strict=True)
        lengths = torch.tensor([*map(len, words)])
        features = _padded([self.table[each] for each in words], torch.int64)
        name = f"epoch {seed[1] + 1}, words {runs[0, 0]:,} to {runs[0, 1]:,} and {len(runs) - 1:,} other runs"
        labels = (_padded(each, torch.int64, -1) for each in (marks, cases))
        return TaggedBatch([name], features, _padded(beside, torch.float32), lengths, *labels)

    def _row(self, begin: int, end: int, generator: np.random.Generator, plain: bool) -> tuple[np.ndarray, ...]:
        """Words, what is known beside them (T, 4), marks and cases of a run."""
        corpus, config = self.corpus, self.config
        words, marks, cases = (item[begin:end] for item in (corpus.words, corpus.marks, corpus.cases))
        if self.speech is None or plain:
            return words, np.zeros((len(words), 4), dtype=np.float32), marks, cases
        heard = words.astype(np.int64)
        if generator.random() < config.misheard_runs:
            heard = self.speech.misheard(words, config.misheard_share, generator)
        if (heard < 0).any() and (heard >= 0).any():
            kept = heard >= 0
            marks, cases = drop_words(kept, marks, cases)
            heard, words = heard[kept], words[kept]
        heard = np.where(heard < 0, words, heard)
        pauses = self.speech.draw(self.speech.pauses, marks, generator)
        sure = self.speech.draw(self.speech.confidences, (heard != words).astype(np.int64), generator)
        known_pauses, known_sure = (generator.random(2) >= config.unknown_share).tolist()
        others = [
            extras(scaled_pauses(pauses) if known_pauses else None, len(heard)),
            extras(sure if known_sure else None, len(heard)),
        ]
        return heard, np.concatenate(others, axis=1), marks, cases


def _padded(rows: Sequence[np.ndarray], dtype: torch.dtype, padding: float = 0) -> Tensor:
    """(B, T, …) of rows (t, …)."""
    return pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True, padding_value=padding)
