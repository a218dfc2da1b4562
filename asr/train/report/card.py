"""Renders the templates of this folder, among them MODEL_CARD.md, and describes data files for them."""

import hashlib
from pathlib import Path
from typing import Any

import jinja2

from asr.data.shards import are_shards, read_lists, read_training
from asr.model.checksums import checksum

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters["number"] = format  # {{ 0.5 | number(".1%") }}


def render(template: str, path: Path, **values: Any) -> None:
    path.write_text(TEMPLATES.get_template(template).render(values), encoding="utf-8")


def data_files(recipe: Any) -> list[tuple[str, str]]:
    """Role, train or dev, and path of each file that a run learns from or is measured on."""
    data = recipe.data
    dev = [data.dev] if isinstance(data.dev, str) else data.dev
    return [("train", path) for path in data.train] + [("dev", path) for path in dev]


def manifest_line(role: str, path: str) -> str:
    """A manifest or shards: utterances, hours if all durations are known, digest."""
    entries = read_training(path)
    known = [entry.seconds for entry in entries if entry.seconds is not None]
    hours = f", {sum(known) / 3600:.2f} h" if len(known) == len(entries) else ""
    return f"{role} `{path}`: {len(entries):,} utterances{hours}, SHA-256 {digest(path)[:12]}…"


def text_line(role: str, path: str) -> str:
    return f"{role} `{path}`: {Path(path).stat().st_size / 1e6:.1f} MB, SHA-256 {digest(path)[:12]}…"


def digest(path: str) -> str:
    """SHA-256 of a file, or of the lists of shards, in hexadecimal."""
    return hashlib.sha256(read_lists(path)).hexdigest() if are_shards(path) else checksum(Path(path))


def size(path: str) -> int:
    """Bytes of a file, or of the lists of shards."""
    return len(read_lists(path)) if are_shards(path) else Path(path).stat().st_size
