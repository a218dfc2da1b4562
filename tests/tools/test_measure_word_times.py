"""Times of aligned words, against a synthesizer that knows when it speaks each phone."""

import numpy as np
import pytest
from developer_tools import load_tool


@pytest.mark.parametrize("model", ["en-bilstm", "en-gru"])
def test_words_start_and_end_when_they_are_spoken(model: str) -> None:
    tool = load_tool("measure_word_times")
    try:
        spoken = tool.speak(tool.TEXTS[:5])
    except OSError:
        pytest.skip("espeak-ng's library is missing")
    for recognized in (False, True):
        times = tool.timed(model, spoken, recognized)
        assert len(times) > 20
        starts, ends = np.median(np.abs(times[:, :2] - times[:, 2:]), axis=0)
        assert starts <= 0.03
        assert ends <= 0.05
