"""What `asr transcribe --format jsonl` writes is trained on, but for what the model was not sure of."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import make_trainer, said

from asr.data.manifest import read_manifest
from asr.errors import RecipeError
from asr.output.transcript import Segment, Transcript, Word
from asr.output.writers import render
from asr.train.config import AcousticRecipe


@pytest.fixture
def pseudo(corpus: Path, recipe: AcousticRecipe) -> AcousticRecipe:
    """The recipe with the texts of the tiny corpus as a model would have written them, ever less sure."""
    lines = []
    for number, entry in enumerate(read_manifest(corpus)):
        words = tuple(Word(word, 0.0, 0.1, 1 - number / 10) for word in entry.text.split())
        lines.append(render(Transcript((Segment(words),), 0.5 + 0.1 * number), "jsonl", str(entry.audio)))
    path = corpus.with_name("pseudo.jsonl")
    path.write_text("".join(lines), encoding="utf-8")
    return replace(recipe, epochs=1, data=replace(recipe.data, train=[str(path)]))


def test_the_model_learns_from_what_another_was_sure_of(pseudo: AcousticRecipe):
    pseudo.data.min_confidence = 0.45
    trainer = make_trainer(pseudo)
    told = said(trainer).splitlines()
    assert told[0] == "train: 2 utterances with a confidence below 0.45 left out"
    assert any(line.startswith("train: 6 utterances") for line in told)
    (epoch,) = trainer.run()
    assert epoch.step > 0
    assert 0 < epoch.train_loss < 1000


def test_texts_without_a_confidence_are_never_unsure(recipe: AcousticRecipe):
    recipe.data.min_confidence = 1.0
    assert "train: 8 utterances" in said(make_trainer(recipe))


def test_a_confidence_that_nothing_reaches_is_one_line(pseudo: AcousticRecipe):
    Path(pseudo.data.train[0]).write_text(Path(pseudo.data.train[0]).read_text().replace(": 1.0}", ": 0.9}"))
    pseudo.data.min_confidence = 0.95
    with pytest.raises(RecipeError) as problem:
        make_trainer(pseudo)
    assert str(problem.value) == "data.min_confidence=0.95 leaves no utterance; lower it"
