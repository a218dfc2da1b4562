"""Language models, hotwords and n-best from the command line."""

import json
from pathlib import Path

import carrier
import pytest
import soundfile
from program import Command

from asr.lm.binary import save_model
from asr.lm.estimate import estimate


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """A recording of "nap" or "map", both as likely."""
    samples = carrier.speech("nap")
    samples[: carrier.FRAME] = (carrier.TOKENS.symbols.index("m") + 0.5) * carrier.LEVEL * carrier.TONE
    soundfile.write(tmp_path / "doubtful.wav", samples, carrier.RATE, subtype="FLOAT")
    return tmp_path / "doubtful.wav"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A language model that knows "map" better than "nap"."""
    save_model(estimate(iter(["a map", "the map", "a nap", "map"]), order=2)[0], tmp_path / "words.lm")
    return tmp_path / "words.lm"


@pytest.mark.parametrize("command", ["transcribe", "listen"])
def test_the_language_model_and_the_hotwords_decide(
    run: Command, carrier_bundle: Path, streaming_carrier_bundle: Path, doubtful: Path, model: Path, command: str
) -> None:
    listens = command == "listen"
    bundle = streaming_carrier_bundle if listens else carrier_bundle
    arguments = [command, "--model", bundle, *(["--input"] if listens else []), doubtful, "--decoder", "beam"]
    assert run(*arguments, "--lm", model).out == "map\n"
    assert run(*arguments, "--lm", model, "--hotwords", "nap:9").out == "nap\n"
    assert run(*arguments, "--lm", "NONE", "--hotwords", "Nap").out == "nap\n"


def test_hotwords_come_from_a_file_too(transcribe: Command, doubtful: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\ufeffIvanhoe\nNap:4\n", encoding="utf-8")
    result = transcribe(doubtful, "--decoder", "beam", "--hotwords-file", tmp_path / "names.txt")
    assert (result.code, result.out) == (0, "nap\n")
    result = transcribe(doubtful, "--decoder", "beam", "--hotwords-file", tmp_path / "none.txt")
    assert (result.code, len(result.errors)) == (1, 1)
    assert "none.txt: cannot read the hotwords" in result.err


def test_json_holds_the_alternatives_with_their_scores(transcribe: Command, doubtful: Path, model: Path) -> None:
    options = ["--decoder", "beam", "--lm", model, "--format", "json"]
    (first, second) = json.loads(transcribe(doubtful, *options, "--nbest", "2").out)["alternatives"]
    assert (first["text"], second["text"]) == ("map", "nap")
    for item in (first, second):
        assert item["score"] == pytest.approx(item["acoustic"] + item["lm"], abs=2e-3)
        assert "rescoring" not in item
    assert first["score"] > second["score"]
    assert "alternatives" not in json.loads(transcribe(doubtful, *options).out)


def test_json_holds_what_rescoring_added(transcribe: Command, doubtful: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="makes the model: pip install 'recurrent-asr[train]'")
    from neural_model import write_model

    folder = write_model(tmp_path / "recurrent", "characters")
    options = ["--decoder", "beam", "--rescore", folder, "--format", "json", "--nbest", "2"]
    alternatives = json.loads(transcribe(doubtful, *options).out)["alternatives"]
    assert len(alternatives) == 2
    for item in alternatives:
        assert item["rescoring"] < 0
        assert item["score"] == pytest.approx(item["acoustic"] + item["lm"] + item["rescoring"], abs=3e-3)


def test_evaluate_measures_with_them(run: Command, carrier_bundle: Path, doubtful: Path, model: Path) -> None:
    manifest = doubtful.with_name("dev.jsonl")
    manifest.write_text(json.dumps({"audio": doubtful.name, "text": "nap"}) + "\n")
    arguments = ["evaluate", manifest, "--model", carrier_bundle, "--decoder", "beam", "--lm", model]
    assert run(*arguments).out.startswith("WER 100.00%")
    assert run(*arguments, "--hotwords", "nap").out.startswith("WER 0.00%")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--decoder", "greedy", "--lm", "NONE"], "--lm: goes with --decoder beam"),
        (["--decoder", "greedy", "--hotwords", "nap"], "--hotwords: goes with --decoder beam"),
        (["--decoder", "greedy", "--rescore", "."], "--rescore: goes with --decoder beam"),
        (["--decoder", "greedy", "--nbest", "2", "--format", "json"], "--nbest: goes with --decoder beam"),
        (["--nbest", "2"], "--nbest: goes with --format json"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(
    transcribe: Command, doubtful: Path, options: list[str], said: str
) -> None:
    result = transcribe(doubtful, *options)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


@pytest.mark.parametrize("name", ["nowhere", ".", "doubtful.wav"])
def test_a_language_model_that_is_none_is_one_clear_line(transcribe: Command, doubtful: Path, name: str) -> None:
    lm = doubtful.with_name(name) if name == "doubtful.wav" else name
    result = transcribe(doubtful, "--decoder", "beam", "--lm", lm)
    assert (result.code, result.out, len(result.errors)) == (1, "", 1)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere", "nowhere: no such folder; name that of a recurrent language model"),
        (".", "config.json is missing; copy the recurrent language model again"),
        ("doubtful.wav", "config.json is missing; copy the recurrent language model again"),
    ],
)
def test_a_recurrent_model_that_is_none_is_one_clear_line(
    transcribe: Command, doubtful: Path, name: str, problem: str
) -> None:
    result = transcribe(doubtful, "--decoder", "beam", "--rescore", doubtful.parent / name)
    assert (result.code, result.out, len(result.errors)) == (1, "", 1)
    assert problem in result.err


def test_a_hotword_that_cannot_be_spelled_is_one_clear_line(transcribe: Command, doubtful: Path) -> None:
    result = transcribe(doubtful, "--decoder", "beam", "--hotwords", "R2D2")
    assert (result.code, result.out, len(result.errors)) == (1, "", 1)
    assert "hotword 'R2D2': the model cannot spell it" in result.err


@pytest.fixture
def pronounced(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A live bundle that spells pronunciations, a recording of a term, and a lexicon that has it."""
    entries = [("there", "Der"), ("is", "iz"), ("a", "u")]
    bundle = carrier.write_pronouncing_bundle(tmp_path / "bundle", entries, streaming=True)
    soundfile.write(tmp_path / "term.wav", carrier.pronounced("Der iz u marE"), carrier.RATE, subtype="PCM_16")
    (tmp_path / "own.txt").write_text("moiré\tM AA R EY\n")
    return bundle, tmp_path / "term.wav", tmp_path / "own.txt"


@pytest.mark.parametrize("decoder", ["beam", "greedy"])
@pytest.mark.parametrize("command", ["transcribe", "listen"])
def test_the_users_lexicon_adds_a_term(
    run: Command, pronounced: tuple[Path, Path, Path], command: str, decoder: str
) -> None:
    bundle, talk, own = pronounced
    arguments = [command, "--model", bundle, *(["--input"] if command == "listen" else []), talk, "--decoder", decoder]
    assert run(*arguments).out == "there is a maarey\n"
    assert run(*arguments, "--lexicon", own).out == "there is a moiré\n"


def test_evaluate_and_tune_use_the_users_lexicon(run: Command, pronounced: tuple[Path, Path, Path]) -> None:
    bundle, talk, own = pronounced
    manifest = talk.with_name("dev.jsonl")
    rows = [{"id": name, "audio": talk.name, "text": "there is a moiré", "speaker": name} for name in "ab"]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("evaluate", manifest, "--model", bundle, "--lexicon", own).out.startswith("WER 0.00%")
    assert run("evaluate", manifest, "--model", bundle, "--streaming").out.startswith("WER 25.00%")
    result = run("tune", bundle, manifest, "--lexicon", own)
    assert (result.code, f"--lexicon {own}" in result.out) == (0, True)
    assert "| greedy | 0.00% |" in result.out


def test_a_lexicon_for_letters_or_that_is_broken_is_one_line(
    transcribe: Command, run: Command, doubtful: Path, pronounced: tuple[Path, Path, Path]
) -> None:
    bundle, talk, own = pronounced
    result = transcribe(doubtful, "--lexicon", own)
    assert (result.code, len(result.errors)) == (1, 1)
    assert "carrier spells words with letters" in result.err
    own.write_text("moiré\tM Q\n")
    result = run("transcribe", "--model", bundle, talk, "--lexicon", own)
    assert (result.code, len(result.errors)) == (1, 1)
    assert "own.txt:1: 'Q' is not a phone" in result.err
