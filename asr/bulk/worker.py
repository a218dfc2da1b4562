"""A process that recognises recordings, and what is done when it dies or takes too long."""

import io
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np

import asr
from asr.audio.level import Level
from asr.bulk.plan import Recording
from asr.bulk.store import Store, local_file
from asr.decode.build import DecoderOptions
from asr.errors import AsrError, AudioError, one_line
from asr.model.engine import Frames
from asr.output.transcript import Style, Transcript
from asr.output.writers import render
from asr.recognize.offline import WINDOW_SECONDS, Recognition, Recognizer

PIECES = "pieces"  # the folder of log-probabilities of long recordings, until these are decoded
PIECE_SECONDS = 200.0  # at least, of a long recording: ten windows
TRIES = 2  # of a recording whose process dies or takes too long
PATIENCE = 60.0  # seconds that a job may take beside the length of its audio
UNKNOWN_SECONDS = 3600.0  # the length of a recording whose header is not here

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """model: a name or a folder. formats: of files to write beside the rows. patience: replaces that of the module.
    style: of texts, as that of `Recognizer`.
    """

    model: str
    decoding: DecoderOptions
    output: str
    formats: tuple[str, ...] = ()
    patience: float | None = None
    style: Style = "written"


@dataclass(frozen=True)
class Job:
    """Recordings of a part, or one of the pieces of a long one (of `pieces`), or its decoding (`piece` None)."""

    part: str
    recordings: tuple[Recording, ...]
    piece: int | None = None
    pieces: int = 0

    @property
    def seconds(self) -> float:
        return sum(item.duration or item.seconds or max(item.length, UNKNOWN_SECONDS) for item in self.recordings)

    def split(self) -> "Iterator[Job]":
        """A job for each recording."""
        return (replace(self, recordings=(recording,)) for recording in self.recordings)


class JobFailed(Exception):
    """The process died, took too long, or raised something else than AsrError."""


class Worker:
    """One process, started when it is first needed and restarted after it died or was ended for taking too long.

    If that happens in a job of several recordings, each is tried again by itself; one that it happens with twice has
    an error for a result.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.closed = False
        self._pool: ProcessPoolExecutor | None = None
        self._process = 0

    def __call__(self, job: Job, tries: int = TRIES) -> list[Row]:
        """The rows of its recordings; of a piece none unless it failed. AsrError if results cannot be written."""
        try:
            return self._run(job)
        except JobFailed as failure:
            if len(job.recordings) > 1:
                return [row for each in job.split() for row in self(each)]
            if tries > 1:
                return self(job, tries - 1)
            return [make_row(self.settings, job.recordings[0], None, str(failure))]

    def _run(self, job: Job) -> list[Row]:
        limit = job.seconds + PATIENCE if self.settings.patience is None else self.settings.patience
        try:
            if self._pool is None:
                # Not forked: a copy of a process with threads may find locks that nobody opens.
                context = get_context("spawn")
                self._pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(self.settings,))
                self._process = self._pool.submit(os.getpid).result()
            return self._pool.submit(_recognize, job).result(limit)
        except AsrError:
            raise
        except Exception as error:  # BrokenProcessPool, TimeoutError, whatever else a recording brings about
            self._end()
            if self.closed:
                raise AsrError("stopped; the same command goes on") from None
            if isinstance(error, TimeoutError):
                reason = f"was not done in {limit:.0f} s"
            elif isinstance(error, BrokenProcessPool):
                reason = "ended the process that read it"
            else:
                reason = f"cannot be recognized ({one_line(error)})"
            raise JobFailed(f"{job.recordings[0].path}: {reason}; left out") from None

    def _end(self) -> None:
        pool, process, self._pool, self._process = self._pool, self._process, None, 0
        if process:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if pool is not None:  # waits for the pool's thread, which would else meet closed pipes when Python ends
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """End the process, whatever it does."""
        self.closed = True
        self._end()


def make_row(
    settings: Settings,
    recording: Recording,
    transcript: Transcript | None,
    error: str | None,
    problem: str | None = None,
) -> Row:
    whole: Row = transcript.to_dict() if transcript else {"text": "", "segments": []}
    return {
        "path": recording.path.encode("utf-8", "backslashreplace").decode(),  # JSON and Parquet take no half characters
        **({"offset": recording.offset} if recording.offset or recording.duration is not None else {}),
        **{name: whole[name] for name in ("text", "spoken") if name in whole},
        "segments": [{name: segment[name] for name in ("start", "end", "text")} for segment in whole["segments"]],
        "words": [word for segment in whole["segments"] for word in segment["words"]],
        "confidence": round(transcript.confidence, 3) if transcript else 0.0,
        "duration": round(transcript.duration, 3) if transcript else 0.0,
        "error": error,
        "problem": None if error else problem,
        "model": settings.model,
        "version": asr.__version__,
    }


# What follows runs in the process.

_settings: Settings
_recognizer: Recognizer
_store: Store


def _start(settings: Settings) -> None:
    global _settings, _recognizer, _store
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    parent = parent_process()

    def follow() -> None:
        """End when the parent does, also if it is killed."""
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _settings, _store = settings, Store(settings.output)
    _recognizer = Recognizer(settings.model, settings.decoding, threads=1, style=settings.style)


def _recognize(job: Job) -> list[Row]:
    if job.pieces and job.piece is not None:
        return _compute_piece(job, job.piece)
    if job.pieces:
        return [_decode_pieces(job)]
    rows: dict[Recording, Row] = {}
    with ExitStack() as stack:
        sources, opened = [], []
        for recording in job.recordings:
            try:
                source = stack.enter_context(local_file(recording.path))
            except AudioError as error:
                rows[recording] = make_row(_settings, recording, None, str(error))
                continue
            sources.append(recording.excerpt(source))
            opened.append(recording)
        for recording, result in zip(opened, _recognizer.transcribe_all(sources), strict=True):
            why = str(result.error).replace(str(result.source), recording.path) if result.error else None
            rows[recording] = _finish(recording, result, why)
    return [rows[recording] for recording in job.recordings]


def _finish(recording: Recording, result: Recognition, error: str | None) -> Row:
    """The row of a recording, whose files are written."""
    transcript = result.transcript
    if error is None or transcript.segments:
        for format in _settings.formats:
            text = render(transcript, format, recording.path)
            _store.write(f"files/{recording.name}.{format}", text.encode("utf-8", "replace"))
    return make_row(_settings, recording, transcript, error, result.problem)


def _piece_name(job: Job, piece: int) -> str:
    return f"{PIECES}/{job.part}-{piece}-of-{job.pieces}"


def _compute_piece(job: Job, piece: int) -> list[Row]:
    """Write the log-probabilities of a stretch of windows; the last one is open at its end."""
    (recording,), name = job.recordings, _piece_name(job, piece)
    if _store.exists(f"{name}.json"):
        return []
    # Every piece is read from the recording's start, so that its samples are those of one reading, whatever the format.
    windows = int(recording.length / WINDOW_SECONDS) + 1
    size = -(-windows // job.pieces)
    stop = None if piece == job.pieces - 1 else (piece + 1) * size
    try:
        with local_file(recording.path) as source:
            frames, level, failure = _recognizer.window_frames(source, slice(piece * size, stop))
    except AudioError as error:
        return [make_row(_settings, recording, None, str(error))]
    problem = None if failure is None else str(failure).replace(source, recording.path)
    content = io.BytesIO()
    np.savez(content, **{key: value for key, value in frames._asdict().items() if value is not None})
    _store.write(f"{name}.npz", content.getvalue())
    described = {"level": asdict(level), "error": problem}
    _store.write(f"{name}.json", json.dumps(described).encode())  # the last, because it says that the piece is there
    return []


def _decode_pieces(job: Job) -> Row:
    def read(name: str) -> bytes:
        content = _store.read(name)
        if content is None:
            raise AsrError(f"{_settings.output}: {name} is gone; run the command again")
        return content

    names: list[str] = []
    described: dict[str, Any] = {"level": {}, "error": None}
    for piece in range(job.pieces):
        names.append(_piece_name(job, piece))
        described = json.loads(read(f"{names[-1]}.json"))
        if described["error"]:  # the pieces behind it could not be read either
            break
    saved = (np.load(io.BytesIO(read(f"{name}.npz")), allow_pickle=False) for name in names)
    pieces = (Frames(arrays["log_probs"], arrays.get("encoded")) for arrays in saved)
    result = _recognizer.decode(pieces, Level(**described["level"]))
    return _finish(job.recordings[0], result, described["error"])


def cut(part: str, recording: Recording, workers: int) -> tuple[Sequence[Job], Job]:
    """A long recording as pieces for several processes, and the decoding of them, which comes after."""
    pieces = max(1, min(workers, int(recording.length / PIECE_SECONDS)))
    jobs = [Job(part, (recording,), piece, pieces) for piece in range(pieces)]
    return jobs, Job(part, (recording,), None, pieces)
