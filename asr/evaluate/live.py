"""Figures of streaming recognition: a recording recognized chunk by chunk, and how often partial words change."""

from dataclasses import dataclass
from pathlib import Path

from asr.audio.resample import SAMPLE_RATE
from asr.audio.sources import Excerpt, read_blocks
from asr.errors import AudioError
from asr.output.events import Event, Partial, Revised
from asr.output.transcript import Segment, Transcript
from asr.recognize.offline import OnProgress, Recognition
from asr.recognize.streaming import CHUNK_SECONDS, StreamingRecognizer


@dataclass
class Instability:
    """Instability of partial results: words that were shown, and those of them that changed or vanished later.

    A last word that grows counts as changed. A second pass that revises a final does not count.
    """

    shown: int = 0
    changed: int = 0
    _words: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        return self.changed / max(1, self.shown)

    def see(self, event: Event) -> None:
        if isinstance(event, Revised):
            return
        words = tuple(event.text.split())
        same = 0
        while same < min(len(words), len(self._words)) and words[same] == self._words[same]:
            same += 1
        self.shown += len(words) - same
        self.changed += len(self._words) - same
        self._words = words if isinstance(event, Partial) else ()


def transcribe_live(
    recognizer: StreamingRecognizer,
    source: str | Path | Excerpt,
    instability: Instability | None = None,
    on_progress: OnProgress | None = None,
) -> Recognition:
    """Recognize a recording chunk by chunk, with the recognizer's endpoints; its finals are the segments."""
    segments: dict[int, Segment] = {}  # by utterance
    samples = 0
    error = None

    def see(events: list[Event]) -> None:
        for event in events:
            if not isinstance(event, Partial):
                segments[event.utterance] = event.segment
            if instability is not None:
                instability.see(event)

    try:
        for chunk in read_blocks(source, CHUNK_SECONDS):
            see(recognizer.accept(chunk, SAMPLE_RATE))
            samples += len(chunk)
            if on_progress is not None:
                on_progress(source, len(chunk) / SAMPLE_RATE)
    except AudioError as problem:
        error = problem
    see(recognizer.finish())
    return Recognition(source, Transcript(tuple(segments.values()), samples / SAMPLE_RATE), error)
