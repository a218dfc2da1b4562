"""Priors as the average posteriors of recordings."""

from pathlib import Path

import carrier
import numpy as np
import pytest

from asr.audio.sources import read
from asr.errors import AsrError
from asr.evaluate import priors
from asr.evaluate.priors import LEAST, measure_priors
from asr.recognize.offline import Recognizer


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    return [carrier.save(tmp_path / f"{text}.wav", text, silence=5) for text in ("a map", "the map", "nap")]


def test_they_are_the_mean_over_all_frames_and_damaged_recordings_are_left_out(
    carrier_bundle: Path, recordings: list[Path], tmp_path: Path
) -> None:
    recognizer = Recognizer(carrier_bundle, "greedy")
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    rows = [row for path in recordings for row in recognizer.log_probs(path)]
    mean = sum(np.exp(row.astype(float)) for row in rows) / len(rows)
    expected = pytest.approx(np.log(np.maximum(mean, LEAST)), abs=1e-4)
    assert measure_priors(recognizer, [*recordings, tmp_path / "damaged.wav"]) == expected
    with pytest.raises(AsrError, match="none of the 1 recordings can be read"):
        measure_priors(recognizer, [tmp_path / "damaged.wav"])


def test_of_many_recordings_a_random_choice_is_read_always_the_same(
    carrier_bundle: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priors, "PRIOR_SECONDS", 2.0)
    recognizer = Recognizer(carrier_bundle, "greedy")
    chosen: list[list[Path]] = [[], []]
    for paths in chosen:
        monkeypatch.setattr(priors, "read", lambda path, paths=paths: paths.append(path) or read(path))
        measure_priors(recognizer, recordings * 9)
    assert chosen[0] == chosen[1]
    assert 3 <= len(chosen[0]) <= 5  # of 27, each 0.44 to 0.76 s
    assert len(set(chosen[0])) > 1
