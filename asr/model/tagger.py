"""Marks after words and their capitals, by a recurrent tagger that onnxruntime runs.

It is a folder that `asr train` writes: config.json (`TaggingConfig`), tagger.onnx, listed.txt (words written with
capitals inside, such as McDonald, one a line), MODEL_CARD.md. The graph: features (B, T, 5) int64, extras (B, T, 4),
lengths (B,) int64 → log_probs (B, T, 12), of the marks after each word and then of its case.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np

from asr.errors import ArgumentError, BundleError, one_line
from asr.files import read_text
from asr.model.bundle import PACKAGED, ModelConfig, limits, read_config, require_inside
from asr.model.session import Graph
from asr.model.tokens import CONTROL

KIND = "tagger"  # in errors
GRAPH = "tagger.onnx"
LISTED = "listed.txt"
MARKS = ("", ",", ".", "?", "!", ":", ";", "–")
CASES = ("lower", "capital", "upper", "listed")
FEATURES = 5  # of a word
SECONDS = 0.1  # of silence, by which pauses are measured


@dataclass(frozen=True, kw_only=True)
class TaggingConfig(ModelConfig):
    """config.json."""

    rows: int = field(metadata=limits(1, 1 << 24))  # of the table that words are hashed into
    kind: Literal["tagger"]


class Tag(NamedTuple):
    """The mark after a word, one of `MARKS`, and the word in its case."""

    mark: str
    form: str


@lru_cache(1 << 17)
def word_features(word: str, rows: int) -> tuple[int, ...]:
    """Rows of the embedding table whose sum stands for a word in lower case, so that no word is unknown.

    Two hashes of the word, so that few words share both (Serrà & Karatzoglou 2017, "Getting deep recommenders fit:
    Bloom embeddings"), its first and last three letters, and its length.
    """
    encoded = word.encode("utf-8", "replace")
    digest = blake2b(encoded, digest_size=8).digest()
    parts = (b"^" + encoded[:3], encoded[-3:] + b"$", b"=%d" % min(len(encoded), 15))
    hashes = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"), *map(crc32, parts))
    return tuple(number % rows for number in hashes)


def extras(values: np.ndarray | None, count: int) -> np.ndarray:
    """(count, 2) float32: values that are known, else 0, and whether they are known. NaN is not known."""
    columns = np.zeros((count, 2), dtype=np.float32)
    if values is not None:
        if len(values) != count:
            raise ArgumentError(f"{len(values)} pauses or confidences for {count} words; give one for each word")
        columns[:, 1] = ~np.isnan(values)
        columns[:, 0] = np.nan_to_num(values)
    return columns


def scaled_pauses(pauses: np.ndarray) -> np.ndarray:
    """Seconds of silence → ln(1 + pause / 0.1 s): 0 for none, 2.4 for a second."""
    return np.log1p(np.clip(pauses, 0.0, 5.0) / SECONDS)


class Tagger:
    """Opens a tagger's folder, or a packaged one's name. Threads may share it. BundleError if it cannot be opened.

    graph: another than its own.
    """

    def __init__(self, source: str | Path = "en-written", graph: Path | None = None):
        packaged = PACKAGED / source
        folder = packaged if (packaged / GRAPH).is_file() else Path(source)
        self.config = read_config(folder, TaggingConfig, KIND)
        path = graph or require_inside(folder, GRAPH, KIND)
        listed = require_inside(folder, LISTED, KIND)
        try:
            words = read_text(listed).split()
            if wrong := [word for word in words if CONTROL.search(word)]:
                raise ValueError(f"{wrong[0]!r:.40} is not a word")
            self._listed = {word.lower(): word for word in words}
        except (OSError, ValueError) as error:
            raise BundleError(f"{listed}: cannot be read ({one_line(error)}); copy it again") from error
        self._graph = Graph(path, threads=1)
        if self._graph.inputs != ["features", "extras", "lengths"]:
            raise BundleError(f"{path}: not the graph of a tagger; copy it again")

    def tag(
        self,
        words: Sequence[str],
        pauses: Sequence[float] | None = None,
        confidences: Sequence[float] | None = None,
    ) -> list[Tag]:
        """The tags of words as they are spoken, in lower case and without marks.

        Args:
            pauses: seconds of silence after each word.
            confidences: of each word, 0…1.

        Both may be left out, and have NaN where they are not known. ArgumentError unless there is one for each word.
        """
        words = [word.lower() for word in words]
        scores = self.scores(words, pauses, confidences)
        marks, cases = scores[:, : len(MARKS)].argmax(axis=1), scores[:, len(MARKS) :].argmax(axis=1)
        chosen = zip(words, marks.tolist(), cases.tolist(), strict=True)
        return [Tag(MARKS[mark], self.write(word, CASES[case])) for word, mark, case in chosen]

    def write(self, word: str, case: str) -> str:
        """The word, which is in lower case, in one of `CASES`."""
        stem = word.removesuffix("'s")  # of NASA's and McDonald's, the ending stays
        if case == "listed" and stem in self._listed:
            return self._listed[stem] + word[len(stem) :]
        if case == "upper":
            return stem.upper() + word[len(stem) :]
        return word if case == "lower" else word[:1].upper() + word[1:]

    def scores(
        self,
        words: Sequence[str],
        pauses: Sequence[float] | None = None,
        confidences: Sequence[float] | None = None,
    ) -> np.ndarray:
        """Log-probabilities (T, marks + cases), float32, of words in lower case; the arguments of `tag`."""
        if not words:
            return np.zeros((0, len(MARKS) + len(CASES)), dtype=np.float32)
        features = np.array([word_features(word, self.config.rows) for word in words], np.int64)
        silence = None if pauses is None else scaled_pauses(np.asarray(pauses, dtype=np.float64))
        sure = None if confidences is None else np.clip(np.asarray(confidences, dtype=np.float64), 0.0, 1.0)
        others = np.concatenate([extras(silence, len(words)), extras(sure, len(words))], axis=1)
        return self.run(features[None], others[None], np.array([len(words)]))[0]

    def run(self, features: np.ndarray, extras: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The graph: features (B, T, 5), extras (B, T, 4), lengths (B,) → log-probabilities (B, T, marks + cases)."""
        inputs = {"features": features, "extras": extras, "lengths": lengths}
        shape = (*features.shape[:2], len(MARKS) + len(CASES))
        return self._graph.run(inputs, shape)["log_probs"]


@cache
def find_tagger(language: str) -> Tagger | None:
    """The packaged tagger of a language, if there is one."""
    for graph in sorted(PACKAGED.glob(f"*/{GRAPH}")):
        if read_config(graph.parent, TaggingConfig, KIND).language == language:
            return Tagger(graph.parent)
    return None
