"""Measure taggers: F1 of marks and capitals on texts, on recognized words, and on the IWSLT 2011 test.

    python tools/measure_written.py TAGGER … [--text NAME=FILE …] [--recognized MANIFEST] [--iwslt FILE …]
        [--dictionary TEXT] [--speech recipes/written/speech.json]

Texts: sentences as written, a tab, as spoken (`asr.data.written`). With --speech each is tagged twice, by its words
alone and with pauses and confidences as they were measured for such marks. The baseline writes each word in the case
that it mostly has in --dictionary, a full stop after pauses of half a second, a comma after those of a fifth.
MANIFEST: recordings whose texts are as written; they are recognized by en-bilstm, and the marks of a text belong to the
recognized word that is aligned with theirs. IWSLT: a word and COMMA, PERIOD, QUESTION or O a line, as in
https://github.com/xashru/punctuation-restoration (data/en/test2011); other marks that are found count as the nearest.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np

from asr.data.manifest import read_manifest
from asr.data.written import Labeled, Speech, drop_words, label_words, read_sentences
from asr.evaluate.tagging import Counts
from asr.model.tagger import MARKS, Tagger
from asr.normalize import normalize
from asr.recognize.offline import Recognizer

SHOWN = (",", ".", "?", "!", ":", ";", "capital", "upper", "capitals")
FULL_STOP, COMMA = 0.5, 0.2  # seconds of the baseline
NEAREST = {":": ",", ";": ".", "–": ",", "!": "."}
LABELS = {"COMMA": ",", "PERIOD": ".", "QUESTION": "?", "O": ""}
Document = list[Labeled]


class Baseline:
    """The case that a word mostly has in a text, and marks by pauses alone."""

    def __init__(self, path: str):
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        first = True  # of a sentence, where every word has a capital
        for sentence in read_sentences([path]):
            for word, mark, case in sentence:
                if not first:
                    counts[word][case] += 1
                first = MARKS[mark] in (".", "?", "!")
            first = True
        self.cases = {word: found.most_common(1)[0][0] for word, found in counts.items()}

    def choose(self, words: list[str], pauses: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        cases = np.array([self.cases.get(word, 1) for word in words])
        if pauses is None:
            return np.zeros(len(words), dtype=np.int64), cases
        stops, commas = MARKS.index("."), MARKS.index(",")
        marks = np.where(pauses >= FULL_STOP, stops, np.where(pauses >= COMMA, commas, 0))
        ended = np.concatenate([[True], marks[:-1] == stops])
        return marks, np.where(ended & (cases == 0), 1, cases)


def documents(path: str) -> list[Document]:
    found: list[Document] = [[]]
    for sentence in read_sentences([path]):
        if sentence:
            found[-1] += sentence
        elif found[-1]:
            found.append([])
    return [document for document in found if document]


def chosen(
    model: Tagger | Baseline, words: list[str], pauses: np.ndarray | None, sure: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Marks and cases of words, by their places in the lists."""
    if isinstance(model, Baseline):
        return model.choose(words, pauses)
    scores = model.scores(words, None if pauses is None else [*pauses], None if sure is None else [*sure])
    return scores[:, : len(MARKS)].argmax(axis=1), scores[:, len(MARKS) :].argmax(axis=1)


def on_text(model: Tagger | Baseline, texts: list[Document], speech: Speech | None) -> Counts:
    counts, generator = Counts(), np.random.default_rng(1)
    for document in texts:
        words, marks, cases = ([*column] for column in zip(*document, strict=True))
        pauses = sure = None
        if speech is not None:
            pauses = speech.draw(speech.pauses, np.array(marks), generator)
            sure = speech.draw(speech.confidences, np.zeros(len(words), dtype=np.int64), generator)
        counts.add(*chosen(model, words, pauses, sure), np.array(marks), np.array(cases))
    return counts


Recording = tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def recognized(manifest: Path) -> list[Recording]:
    """Words, pauses, confidences, marks and cases of recordings, as recognized and as they are written."""
    recognizer, found = Recognizer("en-bilstm"), []
    for entry in read_manifest(manifest):
        words = recognizer.transcribe(entry.source).words
        labeled = label_words(entry.text, normalize(entry.text))
        if not words or not labeled:
            continue
        marks, cases = np.zeros(len(words), dtype=np.int64), np.zeros(len(words), dtype=np.int64)
        said, heard = " ".join(word for word, *_ in labeled), " ".join(word.text for word in words)
        chunks = jiwer.process_words(said, heard).alignments[0]
        kept, places = np.ones(len(labeled), dtype=bool), list[int]()  # words that were heard as some, and these
        for chunk in chunks:
            if chunk.type == "delete":
                kept[chunk.ref_start_idx : chunk.ref_end_idx] = False
            elif chunk.type != "insert":
                places += range(chunk.hyp_start_idx, chunk.hyp_end_idx)
        labels = (np.array(column) for column in zip(*((mark, case) for _, mark, case in labeled), strict=True))
        marks[places], cases[places] = drop_words(kept, *labels)
        gaps = [max(0.0, after.start - word.end) for word, after in pairwise(words)]
        sure = np.array([word.confidence for word in words])
        found.append(([word.text for word in words], np.array([*gaps, np.nan]), sure, marks, cases))
    return found


def iwslt(path: Path) -> Document:
    """Its words as a recogniser writes them: i'm in place of i and 'm, compounds apart."""
    document: Document = []
    for line in filter(None, path.read_text(encoding="utf-8").splitlines()):
        token, _, label = line.partition("\t")
        mark = MARKS.index(LABELS[label.strip()])
        if (token.startswith("'") or token == "n't") and document:
            document[-1] = (document[-1][0] + token, mark, 0)
            continue
        parts = [part for part in token.replace("-", " ").split() if part]
        document += [(part, mark if part is parts[-1] else 0, 0) for part in parts]
    return document


def row(name: str, what: str, counts: Counts, names: Iterable[str] = SHOWN) -> None:
    scores = counts.f1(fewest=20)
    cells = [f"{scores[item]:.3f}" if item in scores else "–" for item in names]
    print(f"| {name} | {what} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("taggers", nargs="+")
    parser.add_argument("--text", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--recognized", type=Path)
    parser.add_argument("--iwslt", action="append", default=[], type=Path)
    parser.add_argument("--dictionary")
    parser.add_argument("--speech")
    arguments = parser.parse_args()
    models: dict[str, Tagger | Baseline] = {}
    for path in arguments.taggers:
        tagger = Tagger(path)
        models[f"{tagger.config.name}, {tagger.config.model['cell']}"] = tagger
    if arguments.dictionary:
        models["pauses and dictionary"] = Baseline(arguments.dictionary)
    speech = Speech(arguments.speech, []) if arguments.speech else None
    print(f"| text | tagger | {' | '.join(SHOWN)} |\n| --- | --- |{' --- |' * len(SHOWN)}")
    for item in arguments.text:
        name, _, path = item.partition("=")
        texts = documents(path)
        size = f"{name}, {sum(map(len, texts)):,} words"
        for title, model in models.items():
            if isinstance(model, Tagger):
                row(size, title, on_text(model, texts, None))
            if speech:
                row(f"{size}, with pauses", title, on_text(model, texts, speech))
    if arguments.recognized:
        recordings = recognized(arguments.recognized)
        for title, model in models.items():
            counts = Counts()
            for words, pauses, sure, marks, cases in recordings:
                counts.add(*chosen(model, words, pauses, sure), marks, cases)
            row(f"recognized, {len(recordings)} recordings", title, counts)
    for path in arguments.iwslt:
        document = iwslt(path)
        words, marks, cases = ([*column] for column in zip(*document, strict=True))
        for title, model in models.items():
            if isinstance(model, Tagger):
                started = time.process_time()
                found, _ = chosen(model, words, None, None)
                speed = len(words) / (time.process_time() - started)
                nearest = np.array([MARKS.index(NEAREST.get(mark, mark)) for mark in MARKS])
                counts = Counts()
                counts.add(nearest[found], np.array(cases), np.array(marks), np.array(cases))
                row(f"IWSLT 2011 {path.name}", f"{title}, {speed:,.0f} words a CPU second", counts)


if __name__ == "__main__":
    main()
