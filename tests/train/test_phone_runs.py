"""Training on pronunciations: tokens, runs that are resumed, begin with or learn from others, and export."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_corpus import write_audio
from tiny_runs import acoustic_recipe, assert_equal_checkpoints, make_trainer, repeatable, said

from asr.data.config import PhonesConfig, TokenizerConfig
from asr.data.shards import write_shards
from asr.errors import AsrError, RecipeError
from asr.lm.lexicon import Lexicon
from asr.model.bundle import load_bundle
from asr.model.phones import LETTERS
from asr.train.config import AcousticRecipe, ObjectiveConfig, load_recipe
from asr.train.pretrained import load_trained
from asr.train.run import export_checkpoint
from asr.train.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:You are using Dynamic")
WORDS = "their\tDH EH R\nthere\tDH EH R\nred\tR EH D\nread\tR IY D\nread\tR EH D\nbook\tB UH K\nbooks\tB UH K S\n"
TEXTS = ("their book", "there", "red books", "read", "a book", "read there", "the 9 books", "red")
SPELLED = {"u0": "Der bUk", "u1": "Der", "u2": "red bUks", "u3": "rjd", "u5": "rjd Der", "u7": "red"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # `threads` of conftest.py puts it back


def write_corpus(folder: Path, phones: dict[int, str] | None = None) -> Path:
    """A manifest of noise with TEXTS, some of them with phones, and the dictionary words.txt."""
    folder.mkdir(exist_ok=True)
    (folder / "words.txt").write_text(WORDS, encoding="utf-8")
    lines = []
    for index, text in enumerate(TEXTS):
        audio = write_audio(folder / f"u{index}.wav", 0.8 + 0.1 * index, seed=index)
        line = {"audio": str(audio), "text": text, "id": audio.stem}
        lines.append(line | ({"phones": phones[index]} if phones and index in phones else {}))
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder / "corpus.jsonl"


def make_recipe(corpus: Path, kind: str = "phones", **changes: Any) -> AcousticRecipe:
    recipe = replace(acoustic_recipe(corpus), language="xx", **changes)  # which has no letter-to-phone rules
    recipe.augment.mask_below_wer = 1.0  # which a recipe's file may hold
    lexicon = str(corpus.parent / "words.txt")
    recipe.tokenizer = TokenizerConfig(kind=kind, vocabulary=45, lexicon=lexicon)  # type: ignore[arg-type]
    return recipe


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


# --- targets --------------------------------------------------------------------------------------------------------


def first_targets(trainer: Trainer) -> dict[str, str]:
    """The phones of each training utterance, the words apart."""
    tokens, spelled = trainer.task.tokens, {}
    for batch in trainer.task.data.train(1, 0):
        for name, ids, length in zip(batch.ids, *batch.targets, strict=True):
            spelled[name.split("@")[0]] = tokens.text(ids[:length].tolist())
    return spelled


@pytest.mark.parametrize("kind", ["phones", "phone_bpe"])
def test_what_is_learned_is_the_pronunciation_of_the_words(corpus: Path, kind: str):
    trainer = make_trainer(make_recipe(corpus, kind))
    assert first_targets(trainer) == SPELLED
    assert len(trainer.task.tokens) == {"phones": 1 + 2 * len(LETTERS), "phone_bpe": 45}[kind]


def test_texts_that_cannot_be_pronounced_are_counted_and_left_out(corpus: Path):
    output = said(make_trainer(make_recipe(corpus)))
    assert "left out are the texts with words that cannot be pronounced: a, the, 9" in output
    for name in ("train", "dev"):
        (line,) = [line for line in output.splitlines() if line.startswith(f"{name}: 6 utterances")]
        assert line.endswith("left out: 2 with words that cannot be pronounced")


def test_no_text_at_all_that_can_be_pronounced_is_one_line(corpus: Path):
    recipe = make_recipe(corpus)
    (corpus.parent / "words.txt").write_text("other\tAH DH ER\n")
    with pytest.raises(RecipeError, match="8 with words that cannot be pronounced") as caught:
        make_trainer(recipe)
    assert "\n" not in str(caught.value)


def test_phones_of_the_manifest_go_before_the_lexicons(tmp_path: Path):
    corpus = write_corpus(tmp_path / "given", {3: "red", 4: "u bUk", 6: "Du nIn bUks"})
    assert first_targets(make_trainer(make_recipe(corpus))) == SPELLED | {
        "u3": "red",
        "u4": "u bUk",
        "u6": "Du nIn bUks",
    }


def test_shards_keep_the_words_and_are_pronounced_by_the_lexicon(corpus: Path):
    write_shards(corpus, corpus.parent / "shards")
    recipe = make_recipe(corpus)
    recipe.data.train = [str(corpus.parent / "shards")]
    assert first_targets(make_trainer(recipe)) == SPELLED


def test_a_run_from_shards_becomes_a_bundle(corpus: Path):
    write_shards(corpus, corpus.parent / "shards")
    recipe = make_recipe(corpus, epochs=1)
    recipe.data.train = [str(corpus.parent / "shards")]
    make_trainer(recipe).run()
    export_checkpoint(recipe.folder, None)
    config = load_bundle(recipe.folder / "bundle").config
    assert (config.spelling, len(config.log_priors)) == ("phones", 1 + 2 * len(LETTERS))


def test_joined_utterances_are_spelled_one_behind_the_other(corpus: Path):
    recipe = make_recipe(corpus)
    recipe.augment.join_share, recipe.augment.join_seconds = 1.0, 5.0
    trainer = make_trainer(recipe)
    for batch in trainer.task.data.train(2, 0):
        for name, ids, length in zip(batch.ids, *batch.targets, strict=True):
            parts = [part.split("@")[0] for part in name.split("+")]
            assert trainer.task.tokens.text(ids[:length].tolist()) == " ".join(SPELLED[part] for part in parts)


def test_the_second_head_has_the_phones_of_the_same_lexicon(corpus: Path):
    recipe = make_recipe(corpus, "characters")
    recipe.tokenizer.unknown = "drop"
    recipe.phones = PhonesConfig(weight=0.3, vocabulary=45)
    trainer = make_trainer(recipe)
    spelled = {}
    for batch in trainer.task.data.train(1, 0):
        for name, ids, length in zip(batch.ids, *batch.phones, strict=True):
            spelled[name.split("@")[0]] = trainer.task.phones.tokens.text(ids[:length].tolist())
    assert spelled == SPELLED | {"u4": ""}  # which still has letters; u6 has a digit
    trainer.run()


def test_words_are_written_that_the_training_texts_have_most(corpus: Path):
    recipe = make_recipe(corpus)
    trainer = make_trainer(recipe)
    assert trainer.task.pronunciations.lexicon.words("Der") == ["there", "their"]  # 2 and 1 times; alike otherwise
    assert trainer.task.pronunciations.lexicon.words("red") == ["red", "read"]
    assert trainer.task.pronunciations.write("Der") == "there"
    (corpus.parent / "words.txt").write_text("nothing\tN AH TH IH NG\n")
    assert Lexicon.load(recipe.folder / "lexicon.lex").words("bUk") == ["book"]  # the run's own


# --- recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["phones", "phone_bpe"])
def test_a_language_without_a_lexicon_is_one_line(tmp_path: Path, kind: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"language: de\ndata: {{train: a.jsonl, dev: b.jsonl}}\ntokenizer: {{kind: {kind}}}\n")
    with pytest.raises(RecipeError, match=f"tokenizer.kind={kind}: en-lexicon has no words of language 'de'") as caught:
        load_recipe(path, [])
    assert "\n" not in str(caught.value)
    assert load_recipe(path, ["tokenizer.lexicon=german.txt"]).tokenizer.lexicon == "german.txt"
    assert load_recipe(path, ["tokenizer.kind=bpe"]).tokenizer.spelling == "letters"


def test_a_lexicon_that_is_not_there_is_one_line(corpus: Path):
    recipe = make_recipe(corpus)
    recipe.tokenizer.lexicon = "missing.txt"
    with pytest.raises(AsrError, match=r"missing\.txt") as caught:
        make_trainer(recipe)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_too_small_for_the_phones_is_one_line(corpus: Path):
    recipe = make_recipe(corpus, "phone_bpe")
    recipe.tokenizer.vocabulary = 20
    with pytest.raises(RecipeError, match=r"tokenizer\.vocabulary=20 .* or tokenizer\.kind=phones") as caught:
        make_trainer(recipe)
    assert "\n" not in str(caught.value)


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["phones", "phone_bpe"])
def test_a_run_stopped_and_resumed_equals_an_uninterrupted_one(
    corpus: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    class Stopped(BaseException):
        pass

    recipe = make_recipe(corpus, kind)
    straight = make_trainer(recipe).run()
    stopped = replace(recipe, name="stopped", checkpoint_minutes=0.0)
    update, updates = Trainer.update, []

    def update_or_stop(trainer: Trainer, *arguments: Any) -> Any:
        updates.append(1)
        if len(updates) == 5:
            raise Stopped
        return update(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", update_or_stop)
        with pytest.raises(Stopped):
            make_trainer(stopped).run()
    assert repeatable(make_trainer(stopped, resume=True).run()) == repeatable(straight)
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal_checkpoints(recipe.folder / name, stopped.folder / name)


def test_a_resumed_run_keeps_its_kind_of_tokens_and_its_lexicon(corpus: Path):
    recipe = make_recipe(corpus, epochs=1)
    make_trainer(recipe).run()
    for field, value in (("kind", "characters"), ("lexicon", "other.txt")):
        changed = replace(recipe, tokenizer=replace(recipe.tokenizer, **{field: value}))
        with pytest.raises(RecipeError, match=f"tokenizer.{field} was"):
            make_trainer(changed, resume=True)


@pytest.mark.parametrize("kind", ["phones", "phone_bpe"])
def test_a_run_begins_with_the_output_layer_of_one_that_has_the_same_tokens(corpus: Path, kind: str):
    recipe = make_recipe(corpus, kind, epochs=1)
    make_trainer(recipe).run()
    further = replace(recipe, name="further", init_from=str(recipe.folder))
    further.tokenizer = replace(recipe.tokenizer, case="keep", alphabet="xyz")  # of which phones do not depend
    trainer = make_trainer(further)
    weights = load_trained(str(recipe.folder)).weights
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
    trainer.run()


@pytest.mark.parametrize(
    ("before", "after"), [("characters", "phones"), ("phones", "characters"), ("phone_bpe", "bpe")]
)
def test_a_run_of_another_spelling_keeps_all_but_the_output_layer(corpus: Path, before: str, after: str):
    source, recipe = (make_recipe(corpus, kind, epochs=1, name=kind) for kind in (before, after))
    for each in (source, recipe):
        each.tokenizer.unknown = "drop"
    make_trainer(source).run()
    recipe.init_from = str(source.folder)
    trainer = make_trainer(recipe)
    weights = load_trained(str(source.folder)).weights
    for name, value in trainer.model.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(value, weights[name])
    assert "a new output layer: the recipe's tokenizer has other tokens" in said(trainer)
    assert not torch.equal(trainer.model.head.weight[:20], weights["head.weight"][:20])
    trainer.run()


def test_a_teacher_has_the_same_phones(corpus: Path):
    teacher = make_recipe(corpus, "phone_bpe", epochs=1, name="teacher")
    make_trainer(teacher).run()
    student = make_recipe(corpus, "phone_bpe", epochs=1, name="student")
    student.objective = ObjectiveConfig(distillation=0.3, teacher=str(teacher.folder))
    trainer = make_trainer(student)
    assert trainer.task.tokens.symbols == load_trained(str(teacher.folder)).tokenizer.tokens.symbols
    trainer.run()
    single = make_recipe(corpus, "phones", epochs=1, name="single")
    single.objective = student.objective
    with pytest.raises(RecipeError, match="has other tokens"):
        make_trainer(single)
