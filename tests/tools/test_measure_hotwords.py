"""The experiment of tools/measure_hotwords.py, on speech whose words are known."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import carrier
import numpy as np
import pytest
from developer_tools import load_tool

from asr.data.manifest import Entry
from asr.lm.estimate import estimate
from asr.model.bundle import Bundle, DecoderConfig, load_bundle
from asr.recognize.offline import Recognizer


@pytest.fixture(scope="module")
def measure_hotwords() -> ModuleType:
    return load_tool("measure_hotwords")


@pytest.fixture
def bundle(carrier_bundle: Path) -> Bundle:
    bundle = load_bundle(carrier_bundle)
    return replace(bundle, config=replace(bundle.config, decoder=DecoderConfig()))


def doubtful(text: str, place: int, other: str) -> np.ndarray:
    """Samples of the text, whose letter at `place` may as well be `other`, its neighbour in the alphabet."""
    samples = carrier.speech(text)
    letters = carrier.TOKENS.symbols.index(text[place]), carrier.TOKENS.symbols.index(other)
    first = 2 * place * carrier.FRAME
    samples[first : first + carrier.FRAME] = sum(letters) / 2 * carrier.LEVEL * carrier.TONE
    return samples


def test_spoken_hotwords_are_found_and_distractors_may_be_invented(measure_hotwords: ModuleType, bundle: Bundle):
    model, _ = estimate(iter(["the cat", "the cap", "the manor", "a zebu"]), order=2)
    recognizer = Recognizer(bundle)
    spoken = {"the nadir": doubtful("the nadir", 4, "m"), "the manos": doubtful("the manos", 8, "r")}
    entries = [Entry(text, Path(), text, None, None) for text in spoken]
    cases = measure_hotwords.make_cases(
        entries,
        [recognizer.log_probs(samples, carrier.RATE) for samples in spoken.values()],
        model,
        limit=1.0,
        distractors=2,
    )
    assert [case.rare for case in cases] == [Counter(["nadir"]), Counter(["manos"])]
    assert all({"manor", "zebu"} <= {*case.hotwords} for case in cases)
    result = measure_hotwords.measure(bundle, cases, 16, 9.0)
    assert (result.spoken, result.found, result.invented) == (2, 1, 1)  # "manor" for "manos"
    assert (len(result.holding), len(result.others)) == (2, 0)
    without = [replace(case, rare=Counter(), hotwords=("zebu",)) for case in cases]
    result = measure_hotwords.measure(bundle, without, 16, 9.0)
    assert (result.spoken, result.found, result.invented, len(result.others)) == (0, 0, 0, 2)
