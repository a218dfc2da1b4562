"""A recurrent language model from a recipe: it learns a few sentences by heart, and its folder says how well."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_score import score_text
from tiny_corpus import SENTENCES
from tiny_runs import make_trainer, said

from asr.data.tokenizer import TOKENIZER_MODEL, BpeTokenizer
from asr.errors import RecipeError
from asr.evaluate.perplexity import known_words, neural_perplexity, ngram_perplexity
from asr.lm.binary import save_model
from asr.lm.estimate import estimate
from asr.lm.neural import BOUNDARY, NeuralModel
from asr.nn.language_model import token_losses
from asr.train.config import LanguageRecipe
from asr.train.run import resume_run, run_recipe

RECIPE = """
kind: language
name: few
output: {folder}
description: A few sentences learned by heart.
license: CC0-1.0
epochs: 3
precision: float32
threads: 1
data: {{train: {folder}/text.txt, dev: {folder}/text.txt, ngram: {folder}/n.lm,
  batch_size: 2, bptt_length: 16, epoch_batches: 40}}
tokenizer: {{vocabulary: 48}}
model: {{layers: 1, hidden_size: 64, dropout: 0.0}}
optimizer: {{learning_rate: 1.0e-2}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run over five sentences."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "text.txt").write_text("".join(f"{sentence.upper()}\n" for sentence in SENTENCES), encoding="utf-8")
    save_model(estimate(SENTENCES[:4], 2)[0], folder / "n.lm")
    (folder / "few.yaml").write_text(RECIPE.format(folder=folder), encoding="utf-8")
    before = torch.get_num_threads()
    run_recipe(folder / "few.yaml", [])
    torch.set_num_threads(before)
    return folder / "few"


def test_sentences_learned_by_heart_are_generated(run: Path):
    model = NeuralModel.load(run / "bundle")
    for sentence in SENTENCES:
        beginning = " ".join(sentence.split()[:2])
        assert next(model.generate(beginning, 12, temperature=0)) == sentence
    # Every sentence is one of those it knows; the last may break off.
    *whole, last = model.generate("", 60, temperature=0.3, seed=1)
    assert set(whole) <= set(SENTENCES)
    assert any(sentence.startswith(last) for sentence in SENTENCES)


def test_the_graphs_perplexity_is_that_of_the_curve(run: Path):
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3]
    best = min(curve, key=lambda epoch: epoch["dev_loss"])
    metrics = NeuralModel.load(run / "bundle").config.metrics
    assert metrics["dev_perplexity_word"] == pytest.approx(best["dev_perplexity"], rel=0.02)
    assert metrics["dev_perplexity_token"] == pytest.approx(math.exp(best["dev_loss"]), rel=0.02)
    assert best["dev_perplexity"] < 3


def test_a_folder_holds_all_its_files_and_its_card_the_figures(run: Path):
    files = {file.name for file in (run / "bundle").iterdir()}
    assert files == {"config.json", "tokens.txt", "model.onnx", "weights.safetensors", "MODEL_CARD.md", "SHA256SUMS"}
    assert [path.name for path in run.iterdir() if "bundle" in path.name] == ["bundle"]
    card = (run / "bundle/MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"    asr train {run.parent / 'few.yaml'}\n" in card
    assert "1 lstm layers of 64 over the 48 BPE tokens" in card
    assert "license of the weights | CC0-1.0" in card
    assert "5 sentences, 34 words" in card
    rows = [line for line in card.splitlines() if line.startswith("| few, ")]
    assert [row.split("|")[1].strip() for row in rows] == ["few, float32", "few, int8"]
    (ngram,) = (line for line in card.splitlines() if line.startswith(f"| `{run.parent}/n.lm`"))
    assert "order 2 | – | – | " in ngram


def test_resuming_a_finished_run_only_makes_its_folder_anew(run: Path):
    before = (run / "last.safetensors").read_bytes()
    (run / "bundle/MODEL_CARD.md").unlink()
    resume_run(run, [])
    assert (run / "last.safetensors").read_bytes() == before
    assert (run / "bundle/MODEL_CARD.md").is_file()


def test_perplexities_count_what_they_say(run: Path):
    model = NeuralModel.load(run / "bundle")
    ngram = estimate(SENTENCES[:4], 2)[0]
    known = known_words(SENTENCES, ngram)
    unknown = {"it", "rained", "and", "was", "wet"} - set(" ".join(SENTENCES[:4]).split())
    assert [int((~mask).sum()) for mask in known] == [0, 0, 0, 0, len(unknown)]
    encoded = [model.encode(sentence) for sentence in SENTENCES]
    result = neural_perplexity(model, encoded, known)
    total = model.score(encoded).sum()
    words = sum(len(sentence.split()) for sentence in SENTENCES)
    assert result.per_token == pytest.approx(math.exp(-total / (sum(map(len, encoded)) + 5)))
    assert result.per_word == pytest.approx(math.exp(-total / (words + 5)))
    whole = neural_perplexity(model, encoded, known_words(SENTENCES, None))
    assert whole.per_known_word == pytest.approx(whole.per_word)
    first = ngram_perplexity(ngram, SENTENCES[:1])
    count = len(SENTENCES[0].split()) + 1
    assert first.per_known_word == pytest.approx(math.exp(-score_text(ngram, SENTENCES[0]) / count))


def test_the_state_goes_on_from_batch_to_batch_and_the_gradient_does_not(language_recipe: LanguageRecipe):
    language_recipe.model.dropout = 0.0
    task = make_trainer(language_recipe).task
    batches = list(task.start_epoch([], 0))[:3]
    losses = [task.loss(batch) for batch in batches]
    assert not task.carried["hidden"].requires_grad
    inputs, targets = (torch.cat([getattr(batch, name) for batch in batches], 1) for name in ("inputs", "targets"))
    whole = token_losses(task.model(inputs, task.model.start(2))[0], targets).sum()
    assert sum(losses).item() == pytest.approx(whole.item(), rel=1e-5)


def test_validation_scores_each_sentence_for_itself(language_recipe: LanguageRecipe):
    task = make_trainer(language_recipe).task
    tokenizer = BpeTokenizer((language_recipe.folder / TOKENIZER_MODEL).read_bytes())
    total = count = 0.0
    with torch.no_grad():
        for sentence in SENTENCES:
            tokens = tokenizer.encode(sentence)
            log_probs, _ = task.model.eval()(torch.tensor([[BOUNDARY, *tokens]]), task.model.start(1))
            total += token_losses(log_probs, torch.tensor([[*tokens, BOUNDARY]])).sum().item()
            count += len(tokens) + 1
    assert task.validate(task.model)["dev_loss"] == pytest.approx(total / count, rel=1e-5)


def test_a_state_that_is_not_finite_does_not_spoil_the_batches_after(language_recipe: LanguageRecipe):
    trainer = make_trainer(language_recipe)
    trainer.task.carried["hidden"] = torch.full_like(trainer.task.carried["hidden"], math.nan)
    curve = trainer.run()
    assert [epoch.skipped for epoch in curve] == [1, 0, 0]
    assert "pass 1, batch 1 of" in said(trainer)


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_every_cell_learns(language_recipe: LanguageRecipe, cell: str):
    language_recipe.model.cell = cell
    curve = make_trainer(language_recipe).run()
    assert curve[-1].train_loss < curve[0].train_loss


def test_a_run_keeps_its_tokens(language_recipe: LanguageRecipe, tmp_path: Path):
    make_trainer(language_recipe).run()
    model = language_recipe.folder / TOKENIZER_MODEL
    first, epochs = model.read_bytes(), language_recipe.epochs
    (tmp_path / "text.txt").write_text("".join(f"{sentence[::-1]}\n" for sentence in SENTENCES), encoding="utf-8")
    resumed = make_trainer(replace(language_recipe, epochs=epochs + 1), resume=True)
    assert model.read_bytes() == first
    assert resumed.task.tokens.symbols == BpeTokenizer(first).tokens.symbols
    model.unlink()  # by hand: another one would be learned from the text
    with pytest.raises(RecipeError, match="made with other tokens; a run keeps its tokenizer"):
        make_trainer(replace(language_recipe, epochs=epochs + 1), resume=True)


def test_a_vocabulary_that_does_not_suit_the_text_and_phones_are_one_line(
    language_recipe: LanguageRecipe, tmp_path: Path
):
    recipe = replace(language_recipe, tokenizer=replace(language_recipe.tokenizer, vocabulary=5000))
    with pytest.raises(RecipeError, match=r"tokenizer\.vocabulary=5000 does not suit the training text") as caught:
        make_trainer(recipe)
    assert "\n" not in str(caught.value)
    (tmp_path / "phones.yaml").write_text(RECIPE.format(folder=tmp_path), encoding="utf-8")
    with pytest.raises(RecipeError, match="a language model spells letters; set it to bpe"):
        run_recipe(tmp_path / "phones.yaml", ["tokenizer.kind=phone_bpe"])


def test_a_text_without_words_is_one_line(language_recipe: LanguageRecipe, tmp_path: Path):
    (tmp_path / "text.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"the train text has no words: .*text\.txt"):
        make_trainer(language_recipe)
