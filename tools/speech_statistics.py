"""Measure how written text sounds and is misheard, for the training of a tagger (`data.speech` of its recipe).

    python tools/speech_statistics.py MANIFEST … OUTPUT.json [--model en-bilstm]

The texts of the manifests are as they were written, with marks. Each recording is aligned with its text, for the pause
after each word by the mark that follows it; and recognized, for what each word was heard as, and for the confidence of
right and wrong words. Pauses and confidences are written as 21 quantiles.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np

from asr.data.manifest import read_manifest
from asr.errors import AsrError
from asr.model.tagger import MARKS
from asr.normalize import normalize
from asr.recognize.align import align
from asr.recognize.offline import Recognizer

FEW = 100  # pauses: marks with fewer share theirs
STRONG = ".?!:;–"
MARK = re.compile(r"(?<=[A-Za-z0-9'])([.,?!:;–])[\"')]*$")
INITIAL = re.compile(r"^[A-Z]\.$|^(?:Mr|Mrs|Dr|St|Jr|Sr)\.$")


def quantiles(values: list[float]) -> list[float]:
    return [round(float(value), 3) for value in np.quantile(values, np.linspace(0, 1, 21))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="en-bilstm")
    arguments = parser.parse_args()
    recognizer = Recognizer(arguments.model)
    entries = [entry for path in arguments.manifests for entry in read_manifest(path)]
    pauses: dict[str, list[float]] = defaultdict(list)
    confidences: dict[str, list[float]] = {"right": [], "wrong": []}
    heard: dict[str, Counter[str]] = defaultdict(Counter)
    failed = 0
    for entry in entries:
        try:
            aligned = align(recognizer, entry.source, entry.text).words
            words = recognizer.transcribe(entry.source).words
        except AsrError:
            failed += 1
            continue
        for word, following in pairwise(aligned):
            found = None if INITIAL.match(word.text) else MARK.search(word.text)
            pauses[found[1] if found else ""].append(max(0.0, following.start - word.end))
        said = normalize(entry.text).split()
        if not said or not words:
            continue
        result = jiwer.process_words(" ".join(said), " ".join(word.text for word in words))
        for chunk in result.alignments[0]:
            for place in range(chunk.ref_end_idx - chunk.ref_start_idx):
                index = chunk.hyp_start_idx + place
                word = "" if chunk.type == "delete" else words[index].text
                heard[said[chunk.ref_start_idx + place]][word] += 1
            for index in range(chunk.hyp_start_idx, chunk.hyp_end_idx):
                confidences["right" if chunk.type == "equal" else "wrong"].append(words[index].confidence)
    shared = [pause for mark in STRONG for pause in pauses[mark]]
    statistics = {
        "about": f"{len(entries) - failed} recordings, {sum(map(len, pauses.values()))} pauses",
        "pauses": {mark: quantiles(found if len(found := pauses[mark]) >= FEW else shared) for mark in MARKS},
        "confidences": {name: quantiles(values) for name, values in confidences.items()},
        "confusions": {
            said: dict(counts.most_common()) for said, counts in sorted(heard.items()) if set(counts) - {said}
        },
    }
    lines = json.dumps(statistics, ensure_ascii=False).replace('}, "', '},\n"')
    arguments.output.write_text(lines + "\n", encoding="utf-8")
    print(f"{statistics['about']}; {failed} could not be aligned or recognized")


if __name__ == "__main__":
    main()
