"""The folders that training writes: files in them, how far each run came, how well it did. Without torch."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from statistics import fmean as mean
from typing import Any

from asr.errors import AsrError, one_line
from asr.files import open_input, read_text, replacing, walk
from asr.model.bundle import check_fields, limits

RECIPE = "recipe.yaml"  # every field of the recipe
RECORD = "run.json"  # `Record`
CURVE = "curve.jsonl"  # a line for each epoch
STEPS = "steps.jsonl"  # a line for each update
SKIPPED = "skipped.jsonl"  # a line for each update without effect, since loss or gradient were not finite
LAST, BEST = "last.safetensors", "best.safetensors"  # checkpoints
LARGEST = 1e12  # of the numbers in a curve
# By kind, the field of the curve that says how good an epoch is: the lower the better.
MEASURES = {"acoustic": "dev_wer", "language": "dev_perplexity", "tagger": "dev_error"}


@dataclass(frozen=True)
class Record:
    """run.json."""

    kind: str
    epochs: int = field(metadata=limits(1, 10**9))  # planned
    command: str
    machine: str  # that trained it, and its versions

    def save(self, folder: Path) -> None:
        with replacing(folder / RECORD) as part:
            part.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Record":
        """AsrError if it is missing or damaged."""
        try:
            values = json.loads(read_text(folder / RECORD))
            record = cls(**{item.name: values[item.name] for item in fields(cls)})
            check_fields(record)
            if record.kind not in MEASURES:
                raise ValueError(f"kind {record.kind!r}")
            return record
        except FileNotFoundError:
            raise AsrError(f"{folder / RECORD}: missing; asr train --resume {folder} writes it anew") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise damaged(folder / RECORD, error) from error


@dataclass(frozen=True)
class Run:
    """Progress and result of a run. Without an epoch yet, `best` is None."""

    folder: Path
    kind: str
    epochs: int  # done
    planned: int | None  # None where run.json is damaged or missing
    best: float | None  # WER, a fraction, or perplexity
    best_epoch: int | None
    step: int
    minutes: float
    changed: datetime
    damage: tuple[str, ...]  # a line for each file that is missing or damaged


def find_runs(folder: Path, on_error: Callable[[AsrError], object] | None = None) -> list[Run]:
    """The run in a folder, or those at any depth below it, the latest last. AsrError if there is none.

    on_error: called for each folder below it that cannot be read; without it the first one is raised.
    """

    try:
        os.scandir(folder).close()
    except OSError as error:
        raise AsrError(f"{folder}: cannot be read ({error.strerror}); name the folder that holds the runs") from error
    runs = []
    for path, below, files in walk(folder, on_error):
        if {RECIPE, CURVE} & set(files):
            below.clear()
            runs.append(read_run(Path(path)))
    if not runs:
        raise AsrError(f"{folder}: no runs there; name the folder that holds them, `output` in their recipes")
    return sorted(runs, key=lambda run: (run.changed, run.folder))


def read_run(folder: Path) -> Run:
    """As much as can be read; never an error, but lines in `damage`."""
    damage = [] if (folder / RECIPE).is_file() else [f"{folder / RECIPE}: missing; the run cannot go on without it"]
    record, curve = None, []
    try:
        record = Record.load(folder)
    except AsrError as error:
        damage.append(str(error))
    try:
        curve = read_curve(folder)
    except AsrError as error:
        damage.append(str(error))
    kind = record.kind if record else next((kind for kind, name in MEASURES.items() if curve and name in curve[0]), "?")
    measured = [epoch for epoch in curve if kind in MEASURES and MEASURES[kind] in epoch]
    best = min(measured, key=lambda epoch: rank_epoch(epoch, MEASURES[kind]), default=None)
    damage += [problem for path in sorted(folder.glob("*.safetensors")) if (problem := checkpoint_damage(path))]
    if curve and not (folder / LAST).is_file():
        damage.append(f"{folder / LAST}: missing; the run cannot go on without it")
    return Run(
        folder=folder,
        kind=kind,
        epochs=len(curve),
        planned=record.epochs if record else None,
        best=best[MEASURES[kind]] if best else None,
        best_epoch=best["epoch"] if best else None,
        step=curve[-1]["step"] if curve else 0,
        minutes=curve[-1]["minutes"] if curve else 0.0,
        changed=datetime.fromtimestamp(max(path.stat().st_mtime for path in (folder, folder / CURVE) if path.exists())),
        damage=tuple(damage),
    )


def rank_epoch(epoch: dict[str, Any], measure: str) -> tuple[float, ...]:
    """Mean measure of the dev sets; among equals, as on the blank-only plateau, the dev loss. With CTC-CRF the loss."""
    loss = epoch.get("dev_loss", 0.0)
    if epoch.get("ranked_by_loss"):
        return (loss,)
    return mean([epoch[measure], *epoch.get("more_wer", {}).values()]), loss


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a run; none where it has just begun. AsrError if the file is damaged."""
    path = folder / CURVE
    try:
        lines = [json.loads(line) for line in read_text(path).splitlines()]
        for line in lines:
            measures = {"dev_loss", *MEASURES.values()} & line.keys()
            numbers = {name: line[name] for name in ("epoch", "step", "minutes", *measures)} | line.get("more_wer", {})
            for name, value in numbers.items():
                if not isinstance(value, int | float) or abs(value) > LARGEST:  # NaN is a result, too
                    raise ValueError(f"{name} is {value!r:.40}, not a number up to {LARGEST:g}")
        return lines
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> AsrError:
    return AsrError(f"{path}: damaged ({one_line(repr(error))}); asr train --resume {path.parent} writes it anew")


def checkpoint_damage(path: Path) -> str:
    """Problem with the size of a safetensors file, if any: its header says how long the rest is."""
    advice = "copy it again, or delete the folder to begin anew"
    try:
        with open_input(path) as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if header_bytes > size:
                raise ValueError("its header is cut short")
            header = json.loads(file.read(header_bytes))
        end = max((item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"), default=0)
        expected = 8 + header_bytes + end
        return "" if size == expected else f"{path}: {size:,} bytes instead of {expected:,}; {advice}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{path}: damaged ({one_line(repr(error))}); {advice}"
