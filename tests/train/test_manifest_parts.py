"""Rows of a manifest that are parts of one recording (`offset`, `duration`), as training and its preparation read them:
as files of their own.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_corpus import write_audio

from asr.audio.sources import read
from asr.data.check import check
from asr.data.config import TokenizerConfig
from asr.data.manifest import read_manifest
from asr.data.shards import write_shards
from asr.train.corpus import decode_manifest, digest

PARTS = ((0.25, 0.5), (1.0, 0.75))  # seconds: offset, duration
TEXTS = ("ab ba", "abba ab")


@pytest.fixture
def manifests(tmp_path: Path) -> tuple[Path, Path]:
    """Two parts of a recording, and the same cut into files."""
    samples, rate = soundfile.read(write_audio(tmp_path / "talk.wav", 2.0), dtype="int16")
    parts, files = [], []
    for number, ((offset, duration), text) in enumerate(zip(PARTS, TEXTS, strict=True)):
        soundfile.write(tmp_path / f"{number}.wav", samples[round(offset * rate) :][: round(duration * rate)], rate)
        parts.append({"audio": "talk.wav", "offset": offset, "duration": duration, "text": text})
        files.append({"audio": f"{number}.wav", "text": text})
    for name, rows in (("parts", parts), ("files", files)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "parts.jsonl", tmp_path / "files.jsonl"


def test_training_decodes_parts_as_if_they_were_files(manifests: tuple[Path, Path], tmp_path: Path):
    parts, files = (decode_manifest(manifest, tmp_path / "audio") for manifest in manifests)
    assert parts.ends == files.ends == [8_000, 20_000]
    assert np.array_equal(parts.samples, files.samples)


def test_parts_packed_into_shards_are_decoded_as_files(manifests: tuple[Path, Path], tmp_path: Path):
    write_shards(manifests[0], tmp_path / "shards")
    packed, files = (decode_manifest(source, tmp_path / "audio") for source in (tmp_path / "shards", manifests[1]))
    assert packed.ends == files.ends
    assert np.array_equal(packed.samples, files.samples)


@pytest.mark.parametrize("change", [{"offset": 0.5}, {"duration": 0.6}, {"duration": None}])
def test_another_part_is_decoded_anew(manifests: tuple[Path, Path], change: dict[str, float | None]):
    before = digest(read_manifest(manifests[0]))
    first, second = map(json.loads, manifests[0].read_text().splitlines())
    manifests[0].write_text(f"{json.dumps(first | change)}\n{json.dumps(second)}\n")
    assert digest(read_manifest(manifests[0])) != before


def test_parts_are_checked_as_files(manifests: tuple[Path, Path], tmp_path: Path):
    parts, files = (check([manifest], None, TokenizerConfig()) for manifest in manifests)
    assert parts.counts == files.counts
    assert parts.as_json()["seconds"] == pytest.approx(1.25)
    row = json.loads(manifests[0].read_text().splitlines()[0])
    manifests[0].write_text("".join(json.dumps(row | {"id": name}) + "\n" for name in "ab"))
    assert check([manifests[0]], None, TokenizerConfig()).counts["audio twice"] == 1


def test_the_audio_of_a_part_is_that_of_the_file(manifests: tuple[Path, Path]):
    for part, file in zip(*map(read_manifest, manifests), strict=True):
        assert np.array_equal(read(part.source), read(file.source))
