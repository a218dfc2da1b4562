"""Columns of numbers on disk, read and written in pieces, and steps of work that are not done twice."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

import numpy as np

from asr.errors import LanguageModelError, one_line
from asr.files import replacing

STATE = "steps.json"


class Column:
    """Numbers of one type in a file. They are appended, and read in pieces: only what was read is in memory."""

    def __init__(self, path: Path, dtype: str):
        self._path, self._dtype = path, np.dtype(dtype)

    def __len__(self) -> int:
        return self._path.stat().st_size // self._dtype.itemsize if self._path.exists() else 0

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> np.ndarray: ...
    def __getitem__(self, place: int | slice) -> int | np.ndarray:
        begin, end, _ = (slice(place, place + 1) if isinstance(place, int) else place).indices(len(self))
        offset = begin * self._dtype.itemsize
        values = np.fromfile(self._path, self._dtype, max(end - begin, 0), offset=offset)
        return int(values[0]) if isinstance(place, int) else values

    def append(self, values: np.ndarray) -> None:
        with self._path.open("ab") as file:
            file.write(np.ascontiguousarray(values, dtype=self._dtype).data)

    def clear(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.open("wb").close()

    def mapped(self) -> np.ndarray:
        return np.asarray(np.memmap(self._path, self._dtype, "r")) if len(self) else np.zeros(0, self._dtype)

    def gather(self, places: np.ndarray, window: int) -> np.ndarray:
        """The numbers at the places, with no more than `window` others in memory."""
        if len(self) <= window:
            return self[:].take(places)
        gathered = np.empty(len(places), self._dtype)
        for begin in range(0, len(self), window):
            inside = np.flatnonzero((places >= begin) & (places < begin + window))
            gathered[inside] = self[begin : begin + window][places[inside] - begin]
        return gathered


class Ngrams:
    """The n-grams of one order in a text, sorted by context and word, as columns in a folder."""

    def __init__(self, folder: Path):
        self.context = Column(folder / "context", "u4")  # place of the first n − 1 words in the order below; or 0
        self.word = Column(folder / "word", "u4")  # id
        self.suffix = Column(folder / "suffix", "u4")  # place of the last n − 1 words in the order below; or 0
        self.count = Column(folder / "count", "u4")  # occurrences
        self.columns = [self.context, self.word, self.suffix, self.count]
        # Of one of several runs: by place in all runs together.
        self.place = Column(folder / "place", "u4")
        self.key = Column(folder / "key", "i8")  # context and word
        self.link = Column(folder / "link", "u4")  # suffix
        # For the model.
        self.adjusted = Column(folder / "adjusted", "u4")  # count that probabilities are estimated from
        self.prob = Column(folder / "prob", "f8")  # of the word after the context
        self.backoff = Column(folder / "backoff", "f8")  # weight of the order below after this n-gram
        self.node = Column(folder / "node", "u4")  # it or its longest suffix in the model

    def __len__(self) -> int:
        return len(self.word)


class Steps:
    """Steps of work on files in a folder. Steps that were done are not done again by a program that starts afresh with
    the same settings (anything that JSON can hold, or None if it is not known what the work is on).
    """

    def __init__(
        self,
        folder: Path,
        settings: Any = None,
        on_progress: Callable[[str, float], None] = lambda stage, share: None,
    ):
        self.folder, self._settings, self.on_progress = folder, json.loads(json.dumps(settings)), on_progress
        self._results: dict[str, Any] = {}
        self._lock = threading.Lock()
        folder.mkdir(exist_ok=True)
        try:
            state = json.loads((folder / STATE).read_text())
        except (OSError, ValueError):
            if any(folder.iterdir()):
                raise LanguageModelError(f"{folder}: is needed for temporary files, but exists; move it away") from None
        else:
            if state["settings"] is not None and state["settings"] == self._settings:
                self._results = state["results"]
            else:
                shutil.rmtree(folder)
                folder.mkdir()
        self._save()

    def run(self, name: str, outputs: list[Column], work: Callable[[], Any], share: float = 0.0) -> Any:
        """The result, for JSON, of a step that fills the outputs. Its name begins with the stage, of which `share` is
        done by then. Several threads may run steps. LanguageModelError, for instance if the disk is full.
        """
        self.on_progress(name.split()[0], share)
        if name not in self._results:
            for column in outputs:
                column.clear()
            try:
                result = work()
            except OSError as error:
                problem = f"{self.folder}: cannot be written ({error.strerror or one_line(error)})"
                raise LanguageModelError(f"{problem}; make room, or choose another output") from error
            with self._lock:
                self._results[name] = result
                self._save()
        return self._results[name]

    @property
    def begun(self) -> bool:
        """Whether steps have been done."""
        return bool(self._results)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self) -> None:
        with replacing(self.folder / STATE) as part:
            part.write_text(json.dumps({"settings": self._settings, "results": self._results}))
