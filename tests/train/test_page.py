"""report.html: the figures of the run are in it, nothing outside it is needed, and the same run gives the same page."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from asr.evaluate.wer import evaluate
from asr.model.bundle import load_bundle
from asr.nn.config import LanguageConfig
from asr.train.acoustic import AcousticEpoch
from asr.train.config import AcousticRecipe, LanguageRecipe, load_recipe, save_recipe
from asr.train.export import Measured, Trained, measure
from asr.train.report import plots
from asr.train.report.card import digest, size
from asr.train.report.page import write_acoustic_page
from asr.train.run import load_curve, run_recipe
from asr.train.runs import Record, read_curve


class Page(HTMLParser):
    """The tables of a page by id, its texts, and all that its tags refer to."""

    def __init__(self, path: Path):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.resources: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attributes)
        self.resources += [values[name] or "" for name in ("src", "href", "srcset", "data", "action") if name in values]
        if tag == "table":
            self._rows = self.tables[values["id"] or ""] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._rows = []

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] += data.strip()


@pytest.fixture
def page(finished_run: Path) -> Page:
    return Page(finished_run / "report.html")


def rewrite(run: Path, folder: Path) -> Path:
    """The page of a copy of the run, made anew."""
    shutil.copytree(run, folder / "finished")
    recipe = load_recipe(run / "recipe.yaml", [f"output={folder}"])
    assert isinstance(recipe, AcousticRecipe)
    heard = measure(run / "bundle", recipe.data.dev, "greedy")
    measured = Measured({"int8, greedy": evaluate(heard)}, heard)
    trained = Trained(recipe, load_curve(run, AcousticEpoch), Record.load(run), run / "best.safetensors")
    return write_acoustic_page(trained, measured, folder / "finished/bundle")


def test_a_data_file_is_not_held_in_memory_for_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "texts.txt"
    path.write_text("one two three\n" * 1000)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("the whole file was read"))
    assert (digest(str(path)), size(str(path))) == (expected, 14_000)


def test_the_page_needs_nothing_but_itself(finished_run: Path, page: Page):
    assert page.resources
    for resource in page.resources:
        assert re.match(r"data:image/(png|svg\+xml);base64,", resource)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in (finished_run / "report.html").read_text(encoding="utf-8")
    assert "url(" not in (finished_run / "report.html").read_text(encoding="utf-8")


def test_the_tables_hold_the_curve_and_the_error_rates_of_the_bundle(finished_run: Path, page: Page):
    curve = read_curve(finished_run)
    assert len(page.tables["epochs"]) == 1 + len(curve) == 4
    for cells, epoch in zip(page.tables["epochs"][1:], curve, strict=True):
        assert cells[:4] == [
            *(str(epoch["epoch"]), str(epoch["step"])),
            *(f"{epoch['train_loss']:.4f}", f"{epoch['dev_loss']:.4f}"),
        ]
        assert cells[4] == f"{100 * epoch['dev_wer']:.2f} %"
        assert cells[6] == f"{epoch['learning_rate']:.2e}"
    rates = {row[0]: row[1] for row in page.tables["rates"]}
    metrics = load_bundle(finished_run / "bundle").config.metrics
    assert rates["int8, greedy"] == f"{100 * metrics['dev_wer']:.2f} %"
    assert set(rates) >= {"float32, greedy", "int8, beam 32"}


def test_the_saturation_of_every_cell_is_shown(finished_run: Path, page: Page):
    names, *rows = page.tables["saturation"]
    curve = read_curve(finished_run)
    assert names == ["epoch", *curve[-1]["saturation"]]
    assert {"recurrent.1.forward.hidden", "recurrent.1.backward.gates"} <= set(names)
    assert rows == [
        [str(epoch["epoch"]), *(f"{100 * share:.2f} %" for share in epoch["saturation"].values())] for epoch in curve
    ]


def test_every_breakdown_holds_every_utterance_and_word_once(page: Page):
    words = page.tables["rates"][1][7]
    for name in ("by-speaker", "by-length", "by-signal-to-noise-ratio"):
        rows = page.tables[name][1:]
        assert sum(int(row[1]) for row in rows) == 4
        assert sum(int(row[2]) for row in rows) == int(words)
    assert {row[0] for row in page.tables["by-speaker"][1:]} == {"ada", "bob <b>"}  # escaped, not markup
    assert [row[:2] for row in page.tables["by-length"][1:]] == [["below 2 s", "3"], ["2 – 5 s", "1"]]


def test_the_worst_utterances_have_their_words_aligned_and_a_picture_each(finished_run: Path, page: Page):
    manifest = [json.loads(line) for line in (finished_run.parents[1] / "corpus.jsonl").read_text().splitlines()]
    references = re.findall(r"^REF: (.*)$", page.text, re.MULTILINE)
    assert len(references) == len(re.findall(r"^HYP: ", page.text, re.MULTILINE)) > 0
    assert {" ".join(reference.lower().replace("*", "").split()) for reference in references} <= {
        entry["text"] for entry in manifest
    }
    pictures = [base64.b64decode(resource.partition(",")[2]) for resource in page.resources]
    assert b"recurrent.1.backward" in pictures[0]  # of each layer the gradient norms
    assert len(pictures) == 1 + len(references)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures[1:])


def test_it_says_how_the_run_was_made(finished_run: Path, page: Page):
    manifest = finished_run.parents[1] / "corpus.jsonl"
    assert f"asr train {finished_run.parents[1] / 'recipe.yaml'} seed=5" in page.text
    assert [row[0] for row in page.tables["data"]] == ["data", "train", "dev"]
    for row in page.tables["data"][1:]:
        assert row == [row[0], str(manifest), f"{manifest.stat().st_size:,}", digest(str(manifest))]
    assert "keep_last: 2" in page.text
    assert re.search(r"torch \d+\.\d+", page.text)


def test_the_same_run_gives_the_same_page(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asr.train.report.page.WORST", 1)
    first, second = (rewrite(finished_run, tmp_path / name) for name in ("one", "two"))
    assert first.read_text(encoding="utf-8").replace("/one/", "/two/") == second.read_text(encoding="utf-8")


def test_a_recording_that_cannot_be_read_has_no_picture_and_an_unknown_ratio(finished_run: Path, tmp_path: Path):
    for path in finished_run.parents[1].glob("u*.wav"):
        shutil.copy(path, tmp_path)
    manifest = shutil.copy(finished_run.parents[1] / "corpus.jsonl", tmp_path)
    (tmp_path / "u3.wav").write_bytes((tmp_path / "u3.wav").read_bytes()[:1000])
    shutil.copytree(finished_run, tmp_path / "finished")
    recipe = load_recipe(finished_run / "recipe.yaml", [f"output={tmp_path}", f"data.dev={manifest}"])
    assert isinstance(recipe, AcousticRecipe)
    heard = measure(finished_run / "bundle", recipe.data.dev, "greedy")
    curve = load_curve(finished_run, AcousticEpoch)
    trained = Trained(recipe, curve, Record.load(finished_run), finished_run / "best.safetensors")
    page = Page(write_acoustic_page(trained, Measured({"greedy": evaluate(heard)}, heard), finished_run / "bundle"))
    assert "no picture: " in page.text
    assert page.tables["by-signal-to-noise-ratio"][-1][:2] == ["unknown", "1"]


def test_updates_are_averaged_to_as_many_points_as_a_curve_shows(tmp_path: Path):
    assert plots.read_steps(tmp_path) == {}
    lines = [
        {"step": step, "loss": 2.0 * step, "clipped": step % 2 == 0, "layer_norm": {"head": 1.0, "lstm": float(step)}}
        for step in range(1, 2 * plots.POINTS + 1)
    ]
    (tmp_path / plots.STEPS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    steps = plots.read_steps(tmp_path)
    assert {values.shape for values in steps.values()} == {(plots.POINTS,)}
    assert steps["loss"][:2].tolist() == [3.0, 7.0]
    assert set(steps["clipped"]) == {0.5}
    assert steps["layers.lstm"][-1] == pytest.approx(2 * plots.POINTS - 0.5)


def test_the_updates_are_drawn_where_they_were_recorded(finished_run: Path):
    curve = load_curve(finished_run, AcousticEpoch)
    clipped = np.array([0.0, 0.5])
    steps = dict.fromkeys(("step", "loss", "gradient_norm", "layers.head"), clipped + 1) | {"clipped": clipped}
    drawn = plots.curves(curve, steps)
    assert "gradient norm, 25% clipped" in base64.b64decode(drawn.partition(",")[2]).decode()
    drawn = plots.curves(curve, {})  # of a run of an older version
    assert "not recorded" in base64.b64decode(drawn.partition(",")[2]).decode()


@pytest.mark.filterwarnings("error::UserWarning")
def test_an_utterance_of_which_nothing_is_heard_is_drawn():
    tokens = load_bundle("en-bilstm").tokens
    unsure = np.full((5, len(tokens)), -np.log(len(tokens)))
    assert plots.utterance(np.zeros(3200, np.float32), unsure, tokens, 0.04).startswith("data:image")


def test_a_language_models_page_has_its_perplexities(language_recipe: LanguageRecipe, tmp_path: Path):
    language_recipe.model, language_recipe.epochs = LanguageConfig(layers=1, hidden_size=8), 2
    save_recipe(language_recipe, tmp_path / "lm.yaml")
    run_recipe(tmp_path / "lm.yaml", [])
    page = Page(language_recipe.folder / "report.html")
    metrics = json.loads((language_recipe.folder / "bundle/config.json").read_text())["metrics"]
    measured = [float(row[2]) for row in page.tables["perplexities"][1:]]
    assert metrics["dev_perplexity_word"] in [pytest.approx(value, abs=0.0056) for value in measured]  # both rounded
    assert [row[4] for row in page.tables["epochs"][1:]] == [
        f"{epoch['dev_perplexity']:.2f}" for epoch in read_curve(language_recipe.folder)
    ]
    assert "rates" not in page.tables
