"""From a recipe to a bundle that reads speech back: the whole way once, on a few real utterances."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpus import write_manifest

from asr.data.manifest import Entry, read_manifest
from asr.decode.build import DecoderOptions
from asr.errors import RecipeError
from asr.evaluate.live import transcribe_live
from asr.lm.binary import save_model
from asr.lm.estimate import estimate
from asr.model.bundle import load_bundle
from asr.recognize.offline import Recognizer
from asr.recognize.streaming import StreamingRecognizer
from asr.train.config import load_recipe
from asr.train.pretrained import load_trained
from asr.train.run import alone, resume_run, run_recipe
from asr.train.runs import read_curve

RECIPE = """
name: few
output: {output}
description: A few utterances learned by heart.
license: CC0-1.0
epochs: 50
precision: float32
threads: 1
data: {{train: [{manifest}], dev: {manifest}, batch_seconds: 6}}
tokenizer: {{kind: characters}}
model: {{layers: 2, hidden_size: 96, dropout: 0.0}}
augment: {{speeds: [1.0], gain_db: 0, mask_below_wer: 0}}
optimizer: {{learning_rate: 4.0e-3}}
"""


SAMPLE = Path(__file__).parents[1] / "data/sample.flac"
SAMPLE_PARTS = (  # seconds, text
    (0.0, 1.86, "the birds were singing in the garden"),
    (0.0, 0.74, "the birds were"),
    (0.74, 1.86, "singing in the garden"),
    (1.86, 2.76, "and the old man"),
    (2.76, 3.88, "sat down by the river"),
    (3.88, 5.06, "to read his letter"),
)


def short_utterances(manifest: Path, count: int = 6) -> list[Entry]:
    """Short recordings of several different words each."""
    chosen: dict[str, Entry] = {}
    for entry in read_manifest(manifest):
        if entry.seconds is not None and 1.0 < entry.seconds < 2.2 and len(entry.text.split()) > 2:
            chosen.setdefault(entry.text, entry)
    return list(chosen.values())[:count]


def parts_of_the_sample(folder: Path) -> Iterator[tuple[Path, str]]:
    samples, rate = soundfile.read(SAMPLE)
    for number, (begin, end, text) in enumerate(SAMPLE_PARTS):
        path = folder / f"part{number}.flac"
        soundfile.write(path, samples[round(begin * rate) : round(end * rate)], rate)
        yield path, text


@pytest.fixture(scope="module")
def run(speech_data: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run over six real utterances; where those are missing, over six parts of the sample."""
    folder = tmp_path_factory.mktemp("few")
    if speech_data is not None:
        entries = [(entry.audio, entry.text) for entry in short_utterances(speech_data / "train.jsonl")]
    else:
        entries = list(parts_of_the_sample(folder))
    manifest = write_manifest(folder / "few.jsonl", entries)
    (folder / "few.yaml").write_text(RECIPE.format(output=folder, manifest=manifest), encoding="utf-8")
    train(folder / "few.yaml", "seed=3")
    return folder / "few"


@pytest.fixture(scope="module")
def live_run(run: Path) -> Path:
    """The same with a model that can run chunk by chunk."""
    train(
        run.parent / "few.yaml",
        "name=live",
        "seed=3",
        "model.cell=gru",
        "model.bidirectional=false",
        "model.lookahead=8",
    )
    return run.parent / "live"


# The words of the utterances, and others that are pronounced as some of them are, in the order of the alphabet.
DICTIONARY = """
a AH | already AO L R EH D IY | am AE M | and AH N D | appy AE P IY | as AE Z | asleep AH S L IY P | away AH W EY
bed B EH D | birds B ER D Z | but B AH T | by B AY | buy B AY | changed CH EY N JH D | don't D OW N T | down D AW N
everything EH V R IY TH IH NG | garden G AA R D AH N | glad G L AE D | had HH AE D | his HH IH Z | eye AY | i AY
i'm AY M | in IH N | inn IH N | it IH T | nit N IH T | knit N IH T | letter L EH T ER | looked L UH K T | man M AE N
mind M AY N D | mined M AY N D | of AH V | old OW L D | out AW T | possible P AA S AH B AH L | quaite K W EY T
reed R IY D | read R EH D | read R IY D | river R IH V ER | sat S AE T | singing S IH NG IH NG | soon S UW N
the DH AH | the DH IY | to T UW | two T UW | together T AH G EH DH ER | twice T W AY S | was W AA Z | were W ER
who HH UW | your Y UH R | you're Y UH R
"""


@pytest.fixture(scope="module", params=["phones", "phone_bpe"])
def phone_run(request: pytest.FixtureRequest, run: Path) -> Path:
    """The same with pronunciations, by a dictionary of one's own."""
    lines = (word.strip().replace(" ", "\t", 1) for line in DICTIONARY.split("\n") for word in line.split("|"))
    dictionary = run.parent / "words.txt"
    dictionary.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")
    tokens = ["tokenizer.vocabulary=60", f"tokenizer.kind={request.param}", f"tokenizer.lexicon={dictionary}"]
    train(run.parent / "few.yaml", f"name={request.param}", "epochs=80", "language=xx", "seed=3", *tokens)
    return run.parent / request.param


def train(recipe: Path, *overrides: str) -> None:
    before = torch.get_num_threads()
    run_recipe(recipe, list(overrides))
    torch.set_num_threads(before)


def test_a_tiny_recipe_reads_a_few_real_utterances_back(run: Path):
    entries = read_manifest(run.parent / "few.jsonl")
    assert len(entries) == 6
    for decoder in ("greedy", "beam"):
        recognizer = Recognizer(run / "bundle", decoder)
        heard = [recognizer.transcribe(entry.audio).text for entry in entries]
        assert heard == [entry.text.lower() for entry in entries]


def test_pronunciations_are_read_back_as_words(phone_run: Path):
    """Of those that are pronounced alike, the one that is in the training texts."""
    entries = read_manifest(phone_run.parent / "few.jsonl")
    texts = [entry.text.lower() for entry in entries]
    assert read_curve(phone_run)[-1]["dev_wer"] == 0.0
    for decoder in ("greedy", "beam"):
        recognizer = Recognizer(phone_run / "bundle", decoder)
        assert [recognizer.transcribe(entry.audio).text for entry in entries] == texts


def test_a_language_model_tells_words_apart_that_are_pronounced_alike(phone_run: Path):
    entries = read_manifest(phone_run.parent / "few.jsonl")
    other = {"i": "eye", "two": "to", "knit": "nit", "in": "inn", "you're": "your", "by": "buy", "read": "reed"}
    texts = [" ".join(other.get(word, word) for word in entry.text.lower().split()) for entry in entries]
    assert texts != [entry.text.lower() for entry in entries]
    save_model(estimate(texts)[0], phone_run / "texts.lm")
    beam = Recognizer(phone_run / "bundle", DecoderOptions("beam", lm=phone_run / "texts.lm"))
    assert [beam.transcribe(entry.audio).text for entry in entries] == texts


def test_a_bundle_of_pronunciations_says_so_and_starts_further_runs(phone_run: Path):
    bundle = load_bundle(phone_run / "bundle")
    assert (bundle.config.spelling, bundle.config.lexicon) == ("phones", "lexicon.lex")
    assert bundle.config.tokenizer["kind"] == phone_run.name
    card = (phone_run / "bundle/MODEL_CARD.md").read_text(encoding="utf-8")
    tokens = {"phones": "phones", "phone_bpe": "60 BPE tokens of phones"}[phone_run.name]
    assert f"CTC over {tokens} (`{phone_run.parent / 'words.txt'}`)" in card
    trained = load_trained(str(phone_run / "bundle"))
    assert trained.tokenizer.tokens.symbols == load_trained(str(phone_run)).tokenizer.tokens.symbols


def test_a_bundle_of_pronunciations_needs_no_training_packages(phone_run: Path):
    entry = read_manifest(phone_run.parent / "few.jsonl")[5]
    blocked = "import sys; sys.modules |= dict.fromkeys(['torch', 'sentencepiece', 'pydantic', 'lhotse'])"
    code = f"{blocked}; import asr.__main__"
    command = [sys.executable, "-c", code, "transcribe", "--model", phone_run / "bundle", entry.audio]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (entry.text.lower(), 0), done.stderr


def test_a_bundle_has_the_mean_posteriors_of_its_training_data(run: Path):
    bundle = load_bundle(run / "bundle")
    recognizer = Recognizer(bundle)
    rows = [row for entry in read_manifest(run.parent / "few.jsonl") for row in recognizer.log_probs(entry.audio)]
    total = np.zeros(len(bundle.tokens))
    for row in rows:
        total += np.exp(row.astype(float))
    assert bundle.config.log_priors == pytest.approx(np.log(total / len(rows)), abs=1e-4)
    assert bundle.config.decoder.prior_scale == 0


def test_a_live_model_reads_them_back_whole_and_chunk_by_chunk(live_run: Path):
    whole, live = Recognizer(live_run / "bundle"), StreamingRecognizer(live_run / "bundle", endpoint=None)
    for entry in read_manifest(live_run.parent / "few.jsonl"):
        transcript = whole.transcribe(entry.audio)
        assert transcript.text == entry.text.lower()
        for heard, word in zip(transcribe_live(live, entry.audio).transcript.words, transcript.words, strict=True):
            assert (heard.text, heard.start, heard.end) == (word.text, word.start, word.end)
            assert heard.confidence == pytest.approx(word.confidence, abs=1e-4)


def test_a_live_models_card_has_its_delay_and_both_error_rates(live_run: Path):
    card = (live_run / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| delay | 360 ms: a frame of 40 ms and 8 frames of look-ahead |" in card
    rows = {cells[1].strip(): cells[2:] for line in card.splitlines() if len(cells := line.split("|")) > 3}
    assert rows["int8, greedy"] == rows["int8, greedy, live in chunks of 160 ms"]
    assert load_bundle(live_run / "bundle").config.delay_seconds == pytest.approx(0.36)


def test_a_bundle_holds_all_its_files_and_nothing_pickled(run: Path):
    files = {file.name: file for file in (run / "bundle").iterdir()}
    assert {
        "config.json",
        "tokens.txt",
        "model.onnx",
        "weights.safetensors",
        "MODEL_CARD.md",
        "SHA256SUMS",
    } == files.keys()
    for name, file in files.items():
        assert not name.endswith((".pt", ".pth", ".pkl", ".ckpt", ".bin"))
        start = file.read_bytes()[:4]
        assert not start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04"))
    assert [path.name for path in run.iterdir() if "bundle" in path.name] == ["bundle"]


def test_the_config_says_what_the_model_is(run: Path):
    bundle = load_bundle(run / "bundle")
    recipe = load_recipe(run / "recipe.yaml", [])
    assert (bundle.config.name, bundle.config.sample_rate, bundle.config.frame_seconds) == ("few", 16_000, 0.04)
    assert bundle.config.streaming is False
    assert bundle.config.model["hidden_size"] == recipe.model.hidden_size == 96
    assert bundle.config.tokenizer["kind"] == "characters"
    assert bundle.config.metrics["dev_wer"] == 0
    assert len(bundle.tokens) == 29


def test_the_card_holds_command_data_curve_and_error_rates(run: Path):
    card = (run / "bundle/MODEL_CARD.md").read_text(encoding="utf-8")
    manifest = run.parent / "few.jsonl"
    assert f"    asr train {run.parent / 'few.yaml'} seed=3\n" in card
    assert f"trained on `{manifest}`: 6 utterances" in card
    assert f"validated on `{manifest}`: 6 utterances" in card
    assert "license of the weights | CC0-1.0" in card
    assert "A few utterances learned by heart." in card
    for graph in ("float32, greedy", "int8, greedy", "beam 32"):
        assert any(graph in line and "0.00%" in line for line in card.splitlines() if line.startswith("|"))
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [epoch["epoch"] for epoch in curve] == list(range(1, 51))
    for epoch in curve:
        assert f"| {epoch['epoch']} | {epoch['step']} | {epoch['train_loss']:.3f} | {epoch['dev_loss']:.3f} |" in card


def test_the_run_records_its_recipe_and_its_curve_for_tensorboard(run: Path):
    assert load_recipe(run / "recipe.yaml", []).seed == 3
    assert list(run.glob("events.out.tfevents.*"))
    assert (run / "best.safetensors").is_file()
    assert (run / "last.safetensors").is_file()


def test_resuming_a_finished_run_only_makes_its_bundle_anew(run: Path):
    last, card = run / "last.safetensors", run / "bundle/MODEL_CARD.md"
    before = last.read_bytes()
    card.unlink()
    resume_run(run, [])
    assert last.read_bytes() == before
    assert "asr train" in card.read_text(encoding="utf-8")


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path):
    with alone(tmp_path / "run"):
        with (
            pytest.raises(RecipeError, match="run: another run is at work there; wait for its end"),
            alone(tmp_path / "run"),
        ):
            pytest.fail("two runs in one folder")
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "run"):
        pass


def test_a_run_of_which_nothing_came_leaves_no_folder(tmp_path: Path):
    with pytest.raises(RecipeError), alone(tmp_path / "run"):
        raise RecipeError("nope.jsonl: cannot read the manifest")
    assert not (tmp_path / "run").exists()
    with alone(tmp_path / "run"):
        (tmp_path / "run/recipe.yaml").touch()
    assert (tmp_path / "run/recipe.yaml").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="file/run: cannot be made"), alone(tmp_path / "file/run"):
        pytest.fail("a folder in a file")


def test_a_run_is_resumed_by_its_folder_alone(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also from another directory, and after it was moved."""
    moved = tmp_path / "elsewhere" / "finished"
    shutil.copytree(finished_run, moved)
    monkeypatch.chdir(moved.parent)
    resume_run(Path("finished"), ["epochs=4"])
    assert [line["epoch"] for line in read_curve(moved)] == [1, 2, 3, 4]
    assert load_recipe(moved / "recipe.yaml", []).epochs == 4
    assert len(read_curve(finished_run)) == 3
    card = (moved / "bundle/MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"asr train {finished_run.parents[1] / 'recipe.yaml'} seed=5" in card  # the command that began it


def test_a_folder_that_cannot_be_resumed_is_one_line(finished_run: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"no recipe\.yaml there; name the folder of a run"):
        resume_run(tmp_path, [])
    with pytest.raises(RecipeError, match="seed was 5, not 6"):
        resume_run(finished_run, ["seed=6"])
    shutil.copytree(finished_run, tmp_path / "renamed")
    with pytest.raises(RecipeError, match="renamed: holds the run 'finished'; rename the folder to that"):
        resume_run(tmp_path / "renamed", [])
