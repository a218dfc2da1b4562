"""Recordings of noise and impulse responses, as manifests list them."""

from collections.abc import Iterable
from pathlib import Path

from asr.data.manifest import read_manifest


def list_recordings(sources: Iterable[str]) -> dict[str, list[Path]]:
    """The audio files of those sources that are manifests. RecipeError for one that cannot be read."""
    return {
        source: [entry.audio for entry in read_manifest(source, check_files=True)]
        for source in sources
        if source.endswith(".jsonl")
    }
