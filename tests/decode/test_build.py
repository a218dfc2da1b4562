"""What a recogniser's decoder knows: language model, hotwords, n-best, calibrated confidences; for files and live."""

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import carrier
import numpy as np
import pytest

from asr import Final, StreamingRecognizer, load_model
from asr.decode import build
from asr.decode.build import DecoderOptions, make_decoder
from asr.errors import AsrError, BundleError, LanguageModelError
from asr.lm import binary
from asr.lm.binary import save_model
from asr.lm.estimate import estimate
from asr.lm.neural import NeuralModel
from asr.model.bundle import (
    Bundle,
    DecoderConfig,
    find_language_model,
    load_bundle,
    packaged_language_models,
    write_config,
)

SENTENCES = ["take a nap", "take a nap", "take a nap", "a map", "take the cap"]


def doubtful(text: str, place: int, other: str, silence: int = 0) -> np.ndarray:
    """Samples that spell the text, but whose letter at `place` may as well be `other`, the one beside it in order."""
    samples = carrier.speech(text, silence)
    level = (carrier.TOKENS.symbols.index(text[place]) + carrier.TOKENS.symbols.index(other)) / 2 * carrier.LEVEL
    first = (silence + 2 * place) * carrier.FRAME
    samples[first : first + carrier.FRAME] = level * carrier.TONE
    return samples


NAP_OR_MAP = doubtful("take a nap", 7, "m")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "small.lm"
    model, _ = estimate(iter(SENTENCES), order=2)
    save_model(model, path)
    return path


@pytest.fixture
def tuned_bundle(carrier_bundle: Path, language_model: Path, tmp_path: Path) -> Bundle:
    """The carrier bundle with a language model of its own."""
    folder = tmp_path / "tuned"
    shutil.copytree(carrier_bundle, folder)
    (folder / "lm").mkdir()
    shutil.copy(language_model, folder / "lm/own.lm")
    config = dataclasses.replace(load_bundle(folder).config, decoder=DecoderConfig(lm="lm/own.lm", lm_weight=0.8))
    write_config(folder, config)
    return load_bundle(folder)


def text(bundle: Path | Bundle, samples: np.ndarray, **options: object) -> str:
    return load_model(bundle, DecoderOptions("beam", **options)).transcribe(samples, carrier.RATE).text


def test_a_language_model_decides_what_the_sound_leaves_open(carrier_bundle: Path, language_model: Path):
    assert text(carrier_bundle, NAP_OR_MAP, lm=language_model) == "take a nap"
    assert text(carrier_bundle, doubtful("take a map", 7, "n"), lm=language_model) == "take a nap"


def test_hotwords_decide_without_a_language_model_and_against_it(carrier_bundle: Path, language_model: Path):
    for letter, other in ("nm", "mn"):
        samples = doubtful(f"take a {letter}ap", 7, other)
        assert text(carrier_bundle, samples, hotwords="Map:5") == "take a map"
        assert text(carrier_bundle, samples, hotwords={"nap": 5.0}) == "take a nap"
        assert text(carrier_bundle, samples, lm=language_model, hotwords="a map:30") == "take a map"


def test_a_bundle_brings_its_own_language_model_and_weights(tuned_bundle: Bundle):
    assert text(tuned_bundle, NAP_OR_MAP, lm=None) == "take a nap"
    beam = make_decoder("beam", tuned_bundle)
    assert beam.fusion.weights.lm_weight == 0.8
    assert make_decoder(DecoderOptions("beam", lm="NONE"), tuned_bundle).fusion.model is None
    assert make_decoder(DecoderOptions("beam", lm="NONE", nbest=3), tuned_bundle).nbest == 3


def test_n_best_are_different_texts_with_their_scores(tuned_bundle: Bundle):
    transcript = load_model(tuned_bundle.path, DecoderOptions("beam", nbest=3)).transcribe(NAP_OR_MAP, carrier.RATE)
    first, second, *_ = transcript.alternatives
    assert (first.text, second.text) == ("take a nap", "take a map")
    assert transcript.text == first.text
    assert first.acoustic == pytest.approx(second.acoustic, abs=0.1)
    assert first.score > second.score


def test_a_recurrent_model_weighs_the_beams_hypotheses_again(tuned_bundle: Bundle, tmp_path: Path):
    pytest.importorskip("torch", reason="makes the model: pip install 'recurrent-asr[train]'")
    from neural_model import write_model

    folder = write_model(tmp_path / "recurrent", "characters")
    weights = DecoderConfig(rescoring_weight=50.0, rescoring_bonus=0.0, rescored_confidence=(0.0, -1.0))
    bundle = dataclasses.replace(tuned_bundle, config=dataclasses.replace(tuned_bundle.config, decoder=weights))
    options = DecoderOptions("beam", lm="NONE", nbest=16)
    plain = load_model(bundle, options).transcribe(NAP_OR_MAP, carrier.RATE)
    rescored = load_model(bundle, dataclasses.replace(options, rescore=folder)).transcribe(NAP_OR_MAP, carrier.RATE)
    model = NeuralModel.load(folder)
    best = max(plain.alternatives, key=lambda item: item.score + 50 * model.score([model.encode(item.text)])[0])
    assert rescored.text == best.text != plain.text
    assert {item.text for item in rescored.alternatives} == {item.text for item in plain.alternatives}
    assert all(word.confidence == pytest.approx(1 / (1 + np.e)) for word in rescored.words)


@pytest.mark.parametrize("sizes", [[640], [1_000, 37, 9_000], [50_000]])
def test_live_finals_are_what_the_offline_beam_writes_of_the_same_frames(
    streaming_carrier_bundle: Path, language_model: Path, sizes: list[int]
):
    options = DecoderOptions("beam", lm=language_model, hotwords="cap:2")
    recognizer = StreamingRecognizer(streaming_carrier_bundle, options)
    samples = np.concatenate([doubtful("take a nap", 7, "m", silence=9), doubtful("take the bap", 9, "c", silence=50)])
    samples = np.concatenate([samples, np.zeros(40_000, dtype=np.float32)])
    events, at, turn = [], 0, 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        events += recognizer.accept(samples[at : at + size], carrier.RATE)
        at, turn = at + size, turn + 1
    finals = [event.segment for event in events + recognizer.finish() if isinstance(event, Final)]
    offline = load_model(streaming_carrier_bundle, options)
    middle = round((finals[0].end + finals[1].start) / 2 * carrier.RATE)
    assert [final.text for final in finals] == [
        offline.transcribe(part, carrier.RATE).text for part in (samples[:middle], samples[middle:])
    ]
    assert [final.text for final in finals] == ["take a nap", "take the cap"]


def test_confidences_go_through_the_fitted_line(carrier_bundle: Path):
    bundle = load_bundle(carrier_bundle)
    log_probs = np.log(np.full((1, len(bundle.tokens)), 0.2 / (len(bundle.tokens) - 1), dtype=np.float32))
    log_probs[0, 5] = np.log(0.8)

    def confidence(name: str, line: tuple[float, float]) -> float:
        config = DecoderConfig(**{f"{name}_confidence": line})
        tuned = dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, decoder=config))
        decoder = make_decoder(name, tuned)
        state = decoder.reset()
        decoder.advance(state, log_probs)
        assert decoder.partial(state).words == decoder.finish(state)[0].words
        return decoder.finish(state)[0].words[0].confidence

    for name in ("greedy", "beam"):
        assert confidence(name, (1.0, 0.0)) == pytest.approx(0.8)
        assert confidence(name, (2.0, 0.0)) == pytest.approx(16 / 17)
        assert confidence(name, (1.0, -np.log(4))) == pytest.approx(0.5)


def test_a_language_model_that_the_user_names_is_a_packaged_one_or_a_path(tuned_bundle: Bundle, language_model: Path):
    assert find_language_model(language_model) == language_model
    assert "en-lm" in packaged_language_models()
    assert find_language_model("en-lm").is_file()
    with pytest.raises(LanguageModelError, match="no language model 'nowhere': neither a file nor one of en-lm"):
        find_language_model("nowhere")
    with pytest.raises(LanguageModelError, match="no language model ''"):  # an empty variable of a shell
        load_model(tuned_bundle.path, DecoderOptions("beam", lm=""))


def test_a_language_model_that_a_bundle_names_is_in_the_bundle_or_packaged_and_nowhere_else(
    tuned_bundle: Bundle, language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "lm").mkdir(parents=True)
    for name in ("lm/own.lm", "en-lm", "only-here.lm"):
        (elsewhere / name).write_text("another file")
    monkeypatch.chdir(elsewhere)
    assert text(tuned_bundle, NAP_OR_MAP) == "take a nap"
    assert find_language_model("lm/own.lm", tuned_bundle) == tuned_bundle.path / "lm/own.lm"
    assert find_language_model("en-lm", tuned_bundle) == find_language_model("en-lm")
    for name in ("only-here.lm", "../elsewhere/lm/own.lm", str(language_model), ""):
        with pytest.raises(
            LanguageModelError, match=r"config\.json: no language model '.*neither a file in the bundle"
        ):
            find_language_model(name, tuned_bundle)


def test_language_models_are_opened_once_and_decoders_in_use_share_what_they_compute(
    tuned_bundle: Bundle, language_model: Path, monkeypatch: pytest.MonkeyPatch
):
    opened = []
    monkeypatch.setattr(build, "load_model", lambda path: opened.append(path) or binary.load_model(path))
    shutil.copy(language_model, tuned_bundle.path / "new.lm")
    options = DecoderOptions("beam", lm=tuned_bundle.path / "new.lm")
    first, second = (make_decoder(dataclasses.replace(options, beam_width=width), tuned_bundle) for width in (4, 8))
    other = make_decoder(dataclasses.replace(options, hotwords="cap"), tuned_bundle)
    assert len(opened) == 1
    assert first.fusion is second.fusion is not other.fusion
    assert first.fusion.model is other.fusion.model
    again, _ = estimate(["a map"] * 9, order=1)
    save_model(again, tuned_bundle.path / "new.lm")
    assert make_decoder(options, tuned_bundle).fusion.model is not first.fusion.model
    assert len(opened) == 2


def test_threads_that_build_decoders_at_once_open_one_model(tuned_bundle: Bundle, tmp_path: Path):
    save_model(estimate([sentence.upper() for sentence in SENTENCES], order=2)[0], tmp_path / "same.lm")
    options = DecoderOptions("beam", lm=tmp_path / "same.lm")
    with ThreadPoolExecutor(8) as threads:
        decoders = list(threads.map(lambda _: make_decoder(options, tuned_bundle), range(32)))
    assert len({id(decoder.fusion) for decoder in decoders}) == 1


def test_a_language_model_in_capitals_is_used_and_one_in_another_script_refused(carrier_bundle: Path, tmp_path: Path):
    for name, sentences in (("capitals", SENTENCES), ("russian", ["кот сидел"])):
        model, _ = estimate([sentence.upper() for sentence in sentences], order=2)
        save_model(model, tmp_path / f"{name}.lm")
    assert text(carrier_bundle, NAP_OR_MAP, lm=tmp_path / "capitals.lm") == "take a nap"
    with pytest.raises(LanguageModelError, match=r"russian\.lm: the recogniser cannot spell 100% of"):
        load_model(carrier_bundle, DecoderOptions("beam", lm=tmp_path / "russian.lm"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "best"},
        {"beam_width": 0},
        {"beam_width": "8"},
        {"nbest": 1.5},
        {"nbest": -1},
        {"lm": 5},
        {"rescore": []},
        {"second_pass": "none"},
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, object]):
    (argument,) = wrong
    with pytest.raises(ValueError, match=f"^{argument if argument != 'name' else 'decoder'}: ") as caught:
        DecoderOptions(**wrong)  # type: ignore[arg-type]
    assert isinstance(caught.value, AsrError)


def test_hotwords_that_cannot_be_spelled_are_told_before_the_work(carrier_bundle: Path):
    with pytest.raises(AsrError, match="hotword 'R2D2'"):
        load_model(carrier_bundle, DecoderOptions("beam", hotwords="R2D2"))


@pytest.mark.parametrize(
    "decoder",
    [{"lm": "x", "lm_weight": "much"}, {"colour": 1}, {"greedy_confidence": [1]}, {"beam_confidence": 3}, []],
)
def test_a_damaged_decoder_config_is_one_clear_line(carrier_bundle: Path, tmp_path: Path, decoder: object):
    folder = tmp_path / "damaged"
    shutil.copytree(carrier_bundle, folder)
    values = json.loads((folder / "config.json").read_text()) | {"decoder": decoder}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"config\.json: not the config of a bundle"):
        load_bundle(folder)
