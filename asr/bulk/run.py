"""A bulk job: what is left of the plan goes to the workers, and complete parts are written."""

import io
import json
import queue
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import asr
from asr.bulk.cluster import connect, run_on_cluster
from asr.bulk.plan import Key, Part, Recording, find_changed, grouped, list_recordings, make_plan, write_plan
from asr.bulk.store import Store, is_url
from asr.bulk.worker import PIECES, Job, Row, Settings, Worker, cut
from asr.errors import AsrError, one_line
from asr.model.bundle import load_bundle
from asr.model.session import usable_cores
from asr.output.writers import json_line

JOB_RECORDINGS = 16  # short recordings are recognised together; a process that dies costs no more than these
JOB_BYTES = 8_000_000
SUMMED = ("path", "error", "duration")  # columns of rows that errors.jsonl and summary.json are made from


@dataclass
class Progress:
    """What was done so far; `seconds` are of audio."""

    recordings: int
    all_seconds: float
    done: int = 0
    errors: int = 0
    seconds: float = 0.0
    weight: float = 0.0  # of `all_seconds`
    errors_in_output: int = 0  # also of earlier runs; known at the end
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds of time, by the share that is done."""
        return max(0.0, self.elapsed * (self.all_seconds / self.weight - 1)) if self.weight else None

    def __str__(self) -> str:
        left = "" if self.left is None else f", {_time(self.left)} left"
        speed = self.seconds / max(self.elapsed, 1e-9)
        return (
            f"{self.done:,} of {self.recordings:,} recordings, {self.seconds / 3600:,.2f} h, "
            f"{speed:,.0f} times real time, errors: {self.errors:,}{left}"
        )


def _time(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def transcribe_all(
    sources: Sequence[str],
    settings: Settings,
    parquet: bool = False,
    workers: int = 0,
    cluster: str | None = None,
    retry_errors: bool = False,
    on_error: Callable[[object], object] = lambda problem: None,
    on_progress: Callable[[Progress], object] = lambda progress: None,
) -> Progress:
    """Transcribe recordings of the sources that the output lacks, or that were replaced since. Returns what was done.

    Args:
        sources: files, folders, patterns, manifests, addresses.
        settings: its output gets parts, rows of JSON or Parquet, and at the end summary.json and errors.jsonl.
        workers: processes; 0 for one per core.
        cluster: of Ray, as `connect` takes it; else the processes are on this machine.
        retry_errors: do recordings again whose row has an error.
        on_error: called with each folder that cannot be read, and each row's error.

    Raises AsrError if nothing can be done: no recordings, no access, other settings than the output was begun with.
    """
    if parquet:
        import pyarrow  # noqa: F401  # if it is missing, nothing is begun

    bundle, store, suffix = load_bundle(settings.model), Store(settings.output), "parquet" if parquet else "jsonl"
    described = _describe(settings, suffix)
    recordings = list_recordings(sources, on_error)
    processors = connect(cluster) if cluster else usable_cores()
    workers = workers or processors
    share_long = workers > 1 and not bundle.config.streaming
    writer = Writer(store, suffix)
    plan = make_plan(store, recordings, described, share_long)
    changed = find_changed(plan, recordings)
    plan = [replace(part, recordings=tuple(changed.get(item.key, item) for item in part.recordings)) for part in plan]
    if changed:  # texts and log-probabilities of what is no longer there
        store.remove(PIECES)
    for item in changed.values():
        for format in settings.formats:
            store.remove(f"files/{item.name}.{format}")
    parts = writer.begin(plan, changed, retry_errors)
    pieces, others = make_jobs(parts, workers, share_long)
    todo = [recording for part in parts for recording in part.recordings]
    progress = Progress(len(todo), sum(map(_weight, todo)))
    if todo:
        on_progress(progress)
    for jobs in (pieces, others):
        run = run_on_cluster if cluster else _run_here
        for job, rows in run(settings, workers, (job for job in jobs if job.part in writer.rows)):
            if job.part not in writer.rows:  # a piece of a recording of which another one failed
                continue
            for row in rows:
                _count(progress, row, on_error)
            of_all = 1.0 if not job.pieces else 0.5 if job.piece is None else 0.5 / job.pieces  # of a long recording
            progress.weight += of_all * sum(map(_weight, job.recordings))
            writer.add(job.part, job.recordings, rows)
            on_progress(progress)
    store.remove(PIECES)
    if changed:  # not before: a job that goes on after a kill has to find them again
        write_plan(store, described, plan)
    progress.errors_in_output = writer.finish(described)
    return progress


def _describe(settings: Settings, rows: str) -> dict[str, Any]:
    """Settings that rows and files depend on, named as the options of `asr bulk`, as JSON holds them."""
    decoding = asdict(settings.decoding)
    second_pass = None if decoding.pop("second_pass") else "none"
    described = {"model": settings.model, "decoder": decoding.pop("name"), **decoding, "second_pass": second_pass}
    described |= {"format": sorted(set(settings.formats)), "rows": rows, "style": settings.style}
    return json.loads(json.dumps(described, default=str))


def make_jobs(parts: Sequence[Part], workers: int, share_long: bool) -> tuple[list[Job], list[Job]]:
    """The jobs of parts: pieces of long recordings, if these are shared, and those to run after them."""
    pieces, decoding, others = list[Job](), list[Job](), list[Job]()
    recordings = sum(len(part.recordings) for part in parts)
    together = min(JOB_RECORDINGS, max(1, recordings // (4 * workers)))  # few: every worker gets some
    for part in parts:
        first = part.recordings[0]
        if share_long and first.long and len(part.recordings) == 1:
            shared, last = cut(part.name, first, workers)
            pieces += shared
            decoding.append(last)
        else:
            groups = grouped(part.recordings, together, JOB_BYTES, lambda recording: is_url(recording.path))
            others += [Job(part.name, tuple(group)) for group in groups]
    return pieces, decoding + others  # one process decodes a long recording: not at the very end


def _weight(recording: Recording) -> float:
    return recording.length or 1.0


def _count(progress: Progress, row: Row, on_error: Callable[[object], object]) -> None:
    progress.done += 1
    progress.seconds += row["duration"]
    if row["error"]:
        progress.errors += 1
        on_error(row["error"])


def _run_here(settings: Settings, count: int, jobs: Iterable[Job]) -> Iterator[tuple[Job, list[Row]]]:
    """The results of jobs, in any order, by processes of this machine, each with a thread that waits for it."""
    workers = [Worker(settings) for _ in range(count)]
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def do(job: Job) -> tuple[Job, list[Row]]:
        worker = idle.get()
        try:
            return job, worker(job)
        finally:
            idle.put(worker)

    pending: set[Future[tuple[Job, list[Row]]]] = set()
    with ThreadPoolExecutor(count) as threads:
        try:
            for job in jobs:
                pending.add(threads.submit(do, job))
                while len(pending) >= 2 * count:
                    ready, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in ready)
            while pending:
                ready, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ready)
        finally:
            for future in pending:
                future.cancel()
            for worker in workers:
                worker.close()


class Writer:
    """Parts in progress: each is written when it has the rows of all its recordings."""

    def __init__(self, store: Store, suffix: str):
        self.store, self.suffix = store, suffix
        self.parts: dict[str, Part] = {}  # in progress
        self.rows: dict[str, dict[Key, Row]] = {}  # of these
        self.totals: dict[str, Totals] = {}

    def begin(self, parts: Iterable[Part], changed: Collection[Key], retry_errors: bool) -> list[Part]:
        """What is left to do: parts with the recordings that have no row, are changed, or have an error to retry."""
        there = set(self.store.names())
        left = []
        for part in parts:
            rows = self.read(part, SUMMED) if f"part-{part.name}.{self.suffix}" in there else {}
            kept = {key for key, row in rows.items() if key not in changed and not (retry_errors and row["error"])}
            if len(kept) == len(part.recordings):
                self.totals[part.name] = _totals(rows.values())
                continue
            self.parts[part.name] = part
            self.rows[part.name] = {key: row for key, row in self.read(part).items() if key in kept} if kept else {}
            left.append(Part(part.name, tuple(item for item in part.recordings if item.key not in kept)))
        return left

    def add(self, part: str, recordings: Sequence[Recording], rows: Sequence[Row]) -> None:
        """Keep the rows of recordings, or none of a piece that is done; write the part if no other is missing."""
        found = self.rows[part]
        found |= {item.key: row for item, row in zip(recordings, rows, strict=False)}
        if len(found) < len(self.parts[part].recordings):
            return
        ordered = [found[item.key] for item in self.parts[part].recordings]
        self.store.write(f"part-{part}.{self.suffix}", _table(ordered) if self.suffix == "parquet" else _lines(ordered))
        self.totals[part] = _totals(ordered)
        del self.rows[part], self.parts[part]

    def read(self, part: Part, columns: Sequence[str] | None = None) -> dict[Key, Row]:
        """The rows of a part that is written; of Parquet only these columns are read."""
        name = f"part-{part.name}.{self.suffix}"
        content = self.store.read(name) or b""
        try:
            if self.suffix == "parquet":
                import pyarrow.parquet

                rows = pyarrow.parquet.read_table(io.BytesIO(content), columns=columns).to_pylist()
            else:
                rows = [json.loads(line) for line in content.splitlines()]
            _totals(rows)  # raises if a row lacks what it needs
            return {item.key: row for item, row in zip(part.recordings, rows, strict=True)}
        except Exception as error:  # of JSON, Parquet, or other rows than were written
            raise AsrError(
                f"{self.store.path}/{name}: damaged ({one_line(error)}); remove it to have its recordings done again"
            ) from None

    def finish(self, described: dict[str, Any]) -> int:
        """Write errors.jsonl and summary.json, of all parts, also of earlier runs. Returns the number of errors."""
        totals = [self.totals[part] for part in sorted(self.totals)]
        errors = [row for part in totals for row in part.errors]
        self.store.write("errors.jsonl", _lines(errors))
        summary = described | {
            "recordings": sum(part.recordings for part in totals),
            "errors": len(errors),
            "hours": round(sum(part.hours for part in totals), 3),
            "version": asr.__version__,
        }
        self.store.write("summary.json", json.dumps(summary, indent=2).encode() + b"\n")
        return len(errors)


class Totals(NamedTuple):
    """Of the rows of a part, for errors.jsonl and summary.json."""

    recordings: int
    hours: float
    errors: list[Row]


def _totals(rows: Collection[Row]) -> Totals:
    errors = [{"path": row["path"], "error": row["error"]} for row in rows if row["error"]]
    return Totals(len(rows), sum(row["duration"] for row in rows) / 3600, errors)


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(map(json_line, rows)).encode()


def _table(rows: Sequence[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    text, number = pyarrow.string(), pyarrow.float64()
    timed = [("start", number), ("end", number)]
    segment = pyarrow.struct([*timed, ("text", text)])
    word = pyarrow.struct([("word", text), ("written", text), *timed, ("confidence", number)])
    fields = [("path", text), ("offset", number), ("text", text), ("spoken", text)]
    fields += [("segments", pyarrow.list_(segment))]
    fields += [("words", pyarrow.list_(word)), ("confidence", number), ("duration", number)]
    schema = pyarrow.schema([*fields, ("error", text), ("problem", text), ("model", text), ("version", text)])
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema), content)
    return content.getvalue()
