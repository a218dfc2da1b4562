"""Recipes: typed defaults, a YAML delta, overrides; every mistake is one line that names the key."""

from pathlib import Path

import pytest

from asr.errors import RecipeError
from asr.train.config import AcousticRecipe, LanguageRecipe, Recipe
from asr.train.recipe import load_recipe, save_recipe

MANIFESTS = ["data.train=[train.jsonl]", "data.dev=dev.jsonl"]
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text("", encoding="utf-8")
    return tmp_path / "recipe.yaml"


def load(path: Path, content: str = "", *overrides: str) -> Recipe:
    path.write_text(content, encoding="utf-8")
    return load_recipe(path, [*MANIFESTS, *overrides])


def message(path: Path, content: str = "", *overrides: str) -> str:
    """The one line a user reads."""
    with pytest.raises(RecipeError) as caught:
        load(path, content, *overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_empty_recipe_is_the_defaults(path: Path):
    recipe = load(path)
    recipe.data.train, recipe.data.dev = [], ""
    assert recipe == AcousticRecipe()


def test_a_recipe_is_a_delta_on_the_defaults(path: Path):
    recipe = load(path, "epochs: 3\nmodel:\n  cell: gru\n  bidirectional: false\naugment: {speeds: [1.0]}\n")
    assert (recipe.epochs, recipe.model.cell, recipe.model.bidirectional) == (3, "gru", False)
    assert recipe.augment.speeds == [1.0]
    assert recipe.model.layers == AcousticRecipe().model.layers
    assert recipe.optimizer == AcousticRecipe().optimizer


def test_overrides_win_over_the_recipe_and_the_last_one_over_the_others(path: Path):
    recipe = load(path, "epochs: 3\n", "epochs=4", "optimizer.learning_rate=1e-4", "data.train=[a,b]", "epochs=5")
    assert recipe.epochs == 5
    assert recipe.optimizer.learning_rate == 1e-4
    assert recipe.data.train == ["a", "b"]


def test_one_training_manifest_need_not_be_a_list(path: Path):
    assert load(path, "", "data.train=a.jsonl").data.train == ["a.jsonl"]
    path.write_text("data: {train: b.jsonl, dev: dev.jsonl}", encoding="utf-8")
    assert load_recipe(path, []).data.train == ["b.jsonl"]


def test_the_kind_says_what_is_trained_and_which_keys_there_are(path: Path):
    assert isinstance(load(path), AcousticRecipe)
    assert isinstance(load(path, "kind: acoustic"), AcousticRecipe)
    recipe = load(path, "kind: language\nmodel: {cell: gru}", "data.batch_size=7")
    assert isinstance(recipe, LanguageRecipe)
    assert (recipe.model.cell, recipe.data.batch_size) == ("gru", 7)
    assert "unknown key 'data.batch_size'" in message(path, "", "data.batch_size=7")
    assert "unknown key 'augment'" in message(path, "kind: language", "augment.speeds=[1.0]")
    assert message(path, "kind: music") == f"{path}: kind is 'music'; choose one of acoustic, language"
    assert message(path, "kind: language", "kind=acoustic").endswith("kind is 'acoustic'; choose one of language")


def test_the_folder_of_a_run_is_output_and_name(path: Path):
    assert load(path, "name: x", "output=/runs").folder == Path("/runs/x")


def test_a_saved_recipe_holds_every_field_and_loads_as_the_same(path: Path, tmp_path: Path):
    recipe = load(path, "epochs: 3\ndescription: é\nmodel: {cell: rnn}")
    save_recipe(recipe, tmp_path / "saved.yaml")
    assert load_recipe(tmp_path / "saved.yaml", []) == recipe
    assert "mask_below_wer" in (tmp_path / "saved.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("model.sise", "model.hidden_size"),
        ("epoch", "epochs"),
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("augment.speed", "augment.speeds"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(path: Path, key: str, nearest: str):
    assert message(path, "", f"{key}=1") == f"'{key}=1': unknown key '{key}'; did you mean '{nearest}'?"


def test_an_unknown_section_suggests_a_key_of_the_nearest_one(path: Path):
    assert "unknown key 'tokeniser'; did you mean 'tokenizer." in message(path, "", "tokeniser.kind=bpe")


def test_an_unknown_key_of_the_file_names_the_file(path: Path):
    assert message(path, "model: {sise: 3}").startswith(
        f"{path}: unknown key 'model.sise'; did you mean 'model.hidden_size'"
    )


def test_an_unknown_key_like_no_other_suggests_nothing(path: Path):
    assert message(path, "zzzzqqq: 1") == f"{path}: unknown key 'zzzzqqq'"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("epochs=many", "epochs"),
        ("epochs=2.5", "epochs"),
        ("epochs=true", "epochs"),
        ("epochs=", "epochs"),
        ("name=null", "name"),
        ("data.train=5", "data.train"),
        ("augment.speeds=[1.0,fast]", "augment.speeds[1]"),
        ("augment.codecs=opus", "augment.codecs"),
        ("model.cell.x=1", "model.cell"),
    ],
)
def test_a_wrong_type_names_the_key(path: Path, override: str, key: str):
    text = message(path, "", override)
    assert text.startswith(f"'{override}': '{key}' has a wrong type")


@pytest.mark.parametrize("content", ["data: 5", "data: [1]", "model: lstm"])
def test_a_value_in_the_place_of_a_section_is_a_wrong_type(path: Path, content: str):
    assert (
        message(path, content).removeprefix(f"{path}: ").startswith(("a section has a wrong type", "'data.train' has"))
    )


@pytest.mark.parametrize(
    ("override", "choices"),
    [
        ("model.cell=mamba", "rnn, lstm, gru"),
        ("tokenizer.kind=words", "bpe, characters"),
        ("tokenizer.case=title", "lower, upper, keep"),
        ("tokenizer.unknown=ignore", "error, drop"),
        ("precision=float8", "auto, float32, bfloat16, float16"),
    ],
)
def test_a_bad_choice_lists_the_choices(path: Path, override: str, choices: str):
    key, value = override.split("=")
    assert message(path, "", override) == f"{path}: {key} is '{value}'; choose one of {choices}"


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("epochs=0", "above 0"),
        ("model.hidden_size=-1", "above 0"),
        ("data.batch_seconds=0", "above 0"),
        ("optimizer.learning_rate=.nan", "above 0"),
        ("optimizer.clip=.inf", "above 0"),
        ("accumulate=0", "above 0"),
        ("checkpoint_minutes=-1", "not be negative"),
        ("max_skipped=-1", "not be negative"),
        ("data.workers=-1", "not be negative"),
        ("threads=-2", "not be negative"),
        ("augment.time_width=-1", "not be negative"),
        ("model.dropout=2", "from 0 to 1"),
        ("optimizer.warmup=-0.1", "from 0 to 1"),
        ("objective.consistency=-0.1", "not be negative"),
        ("objective.smoothing=1.5", "from 0 to 1"),
        ("ema_decay=2", "from 0 to 1"),
        ("augment.speeds=[]", "one or more"),
        ("augment.speeds=[1.0,0.0]", "from 0.5 to 2"),
        ("augment.tempos=[]", "one or more"),
        ("augment.room_share=1.1", "from 0 to 1"),
        ("augment.snr_db=[20,10]", "give [from, to]"),
        ("augment.snr_db=[10]", "give [from, to]"),
        ("augment.snr_db=[.nan,10]", "give [from, to]"),
        ("augment.reverberation=[0.01,0.3]", "from 0.15 to 0.6"),
    ],
)
def test_a_number_outside_its_range_names_the_key(path: Path, override: str, rule: str):
    text = message(path, "", override)
    assert text.startswith(f"{path}: {override.split('=')[0]} is ")
    assert rule in text


def test_an_average_that_never_moves_is_refused(path: Path):
    assert message(path, "", "ema_decay=1").startswith(f"{path}: ema_decay is 1, an average that never moves; set it")


@pytest.mark.parametrize(
    ("override", "choices"),
    [
        ("augment.noises=[white,purple]", "white, pink, brown, babble, *.jsonl"),
        ("augment.rooms=[hall.wav]", "simulated, *.jsonl"),
        ("augment.codecs=[aac]", "telephone, telephone-mu-law, telephone-gsm, opus, mp3"),
    ],
)
def test_an_unknown_augmentation_lists_the_choices(path: Path, override: str, choices: str):
    key, values = override.split("=")
    unknown = values.strip("[]").split(",")[-1]
    assert message(path, "", override) == f"{path}: {key} has '{unknown}'; choose of {choices}"


def test_what_is_joined_may_not_be_longer_than_an_utterance(path: Path):
    assert load(path, "", "augment.join_share=0.5", "data.max_seconds=10")
    text = message(path, "", "augment.join_share=0.5", "data.max_seconds=8")
    assert text == (
        f"{path}: augment.join_seconds is 10.0, longer than any utterance may be; at most data.max_seconds, 8.0"
    )


def test_a_lookahead_is_for_one_direction(path: Path):
    assert load(path, "model: {bidirectional: false, lookahead: 8}").model.lookahead == 8
    text = message(path, "", "model.bidirectional=true", "model.lookahead=8")
    assert text.startswith(f"{path}: model.lookahead is 8, but a bidirectional model sees the whole utterance")
    assert "model.bidirectional to false" in text
    assert "not be negative" in message(path, "", "model.bidirectional=false", "model.lookahead=-1")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["intermediate=0.3", "intermediate_layer=4"], "objective.intermediate_layer is 4, of 4 layers"),
        (["consistency=0.2"], "augment.mask_below_wer is 0, which never masks; set it to 1"),
        (["distillation=0.3"], "objective.distillation is 0.3 and objective.teacher ''; set both or neither"),
        (["teacher=en-bilstm"], "objective.distillation is 0.0 and objective.teacher 'en-bilstm'"),
        (["intermediate=0.6", "smoothing=0.4"], "together leave nothing for CTC"),
    ],
)
def test_an_objective_that_makes_no_sense_says_what_to_set(path: Path, overrides: list[str], problem: str):
    text = message(path, "augment: {mask_below_wer: 0}", *(f"objective.{override}" for override in overrides))
    assert text.startswith(f"{path}: objective.")
    assert problem in text
    assert load(path, "", "objective.intermediate=0.3", "objective.consistency=0.2").objective.consistency == 0.2


@pytest.mark.parametrize("override", ["epochs", "--epochs", "epochs:3"])
def test_what_is_not_an_override_shows_how_to_write_one(path: Path, override: str):
    assert message(path, "", override) == f"'{override}' is not an override; write key=value, for example epochs=10"


@pytest.mark.parametrize("content", ["a: [", "epochs: 1\nepochs: 2", '"a: b', "\tepochs: 1", "? [a]\n: 1"])
def test_a_yaml_error_says_where(path: Path, content: str):
    text = message(path, content)
    assert text.startswith(f"{path}: not valid YAML: ")
    assert "line" in text


def test_an_override_that_is_not_yaml(path: Path):
    assert message(path, "", "epochs=[") == "'epochs=[': the value is not valid YAML"


def test_a_file_that_is_not_text(path: Path):
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(path, [])


@pytest.mark.parametrize(("content", "reason"), [("- a\n- b", "not a list"), ("5", "int"), ("hello", "'hello'")])
def test_yaml_that_is_no_mapping(path: Path, content: str, reason: str):
    text = message(path, content)
    assert text.startswith(f"{path}: ")
    assert reason in text


@pytest.mark.parametrize("content", ["name: ${x}", "description: 'costs ${price}'"])
def test_an_interpolation_of_nothing_names_the_key(path: Path, content: str):
    assert message(path, content).startswith(f"{path}: '{content.split(':')[0]}': Interpolation key")


def test_a_missing_recipe_and_a_folder_name_the_path(tmp_path: Path):
    for path, reason in [(tmp_path / "no.yaml", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(RecipeError, match=reason) as caught:
            load_recipe(path, [])
        assert str(caught.value).startswith(f"{path}: cannot read the recipe")


def test_a_language_recipe_without_text_says_which_keys_to_set(path: Path):
    path.write_text("kind: language", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"data\.train and data\.dev must name texts"):
        load_recipe(path, ["data.train=a.txt"])


@pytest.mark.parametrize(
    "override", ["data.batch_size=0", "data.bptt_length=-3", "data.epoch_batches=0", "model.hidden_size=0"]
)
def test_a_language_recipe_is_checked_as_well(path: Path, override: str):
    assert "above 0" in message(path, "kind: language", override)


@pytest.mark.parametrize("given", [[], MANIFESTS[:1], MANIFESTS[1:]], ids=["neither", "no dev", "no train"])
def test_a_recipe_without_data_says_which_keys_to_set(path: Path, given: list[str]):
    with pytest.raises(RecipeError, match=r"data\.train and data\.dev must name manifests"):
        load_recipe(path, given)


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_of_the_repository_loads(path: Path):
    recipe = load_recipe(path, [])
    assert recipe.description
    assert "license:" in path.read_text(encoding="utf-8")  # if only to say that it is unstated
