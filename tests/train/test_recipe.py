"""Recipes: typed defaults, a YAML delta, overrides; every mistake is one line that names the key."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from asr.data.config import TokenizerConfig
from asr.errors import RecipeError
from asr.train.config import AcousticRecipe, LanguageRecipe, Recipe, check_resumed, load_recipe, save_recipe

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
    assert "unknown key 'augment.speeds'" in message(path, "kind: language", "augment.speeds=[1.0]")
    assert (
        message(path, "kind: music") == f"{path}: kind is 'music'; it should be one of 'acoustic', 'language', 'tagger'"
    )
    assert "it should be one of 'acoustic', 'language', 'tagger'" in message(path, "kind: [language]")
    text = message(path, "kind: language", "kind=acoustic")
    assert text == "'kind=acoustic': kind is 'acoustic'; it should be 'language'"


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
        ("model.hiden_size", "model.hidden_size"),
        ("epoch", "epochs"),
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("augment.speed", "augment.speeds"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(path: Path, key: str, nearest: str):
    assert message(path, "", f"{key}=1") == f"'{key}=1': unknown key '{key}'; did you mean '{nearest}'?"


def test_an_unknown_section_suggests_the_same_key_of_the_nearest_one(path: Path):
    assert "unknown key 'tokeniser.kind'; did you mean 'tokenizer.kind'?" in message(path, "", "tokeniser.kind=bpe")


def test_an_unknown_key_of_the_file_names_the_file(path: Path):
    text = message(path, "model: {layer: 3}")
    assert text == f"{path}: unknown key 'model.layer'; did you mean 'model.layers'?"


def test_an_unknown_key_like_no_other_suggests_nothing(path: Path):
    assert message(path, "zzzzqqq: 1") == f"{path}: unknown key 'zzzzqqq'"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("epochs=many", "epochs is 'many'; it should be a valid integer"),
        ("epochs=2.5", "epochs is 2.5; it should be a valid integer"),
        ("epochs=true", "epochs is True; it should be a valid integer"),
        ("epochs=", "epochs is None; it should be a valid integer"),
        ("model.bidirectional=1", "model.bidirectional is 1; it should be a valid boolean"),
        ("name=null", "name is None; it should be a valid string"),
        ("data.more_dev=5", "data.more_dev is 5; it should be a list, as [a, b]"),
        ("augment.speeds=[1.0,fast]", "augment.speeds[1] is 'fast'; it should be a valid number"),
        ("augment.codecs=opus", "augment.codecs is 'opus'; it should be a list, as [a, b]"),
        ("model.cell.x=1", "unknown key 'model.cell.x'; did you mean 'model.cell'?"),
    ],
)
def test_a_wrong_type_names_the_key_its_value_and_the_type(path: Path, override: str, problem: str):
    assert message(path, "", override).startswith(f"'{override}': {problem}")
    key, value = override.split("=")
    assert message(path, f"{key}: {value}").startswith(f"{path}: {problem}")


def test_a_file_may_have_dotted_keys_too(path: Path):
    recipe = load(path, "model.layers: 3\nmodel: {cell: gru}")
    assert (recipe.model.layers, recipe.model.cell) == (3, "gru")


@pytest.mark.parametrize("value", ["1e-3", "1.0e-3", "1E-03", "0.001", ".001"])
def test_small_numbers_may_be_written_in_several_ways(path: Path, value: str):
    assert load(path, f"optimizer: {{weight_decay: {value}}}").optimizer.weight_decay == 1e-3
    assert load(path, "", f"optimizer.weight_decay={value}").optimizer.weight_decay == 1e-3


@pytest.mark.parametrize("name", ["3", "2026-11-28", "costs ${price}"])
def test_text_may_look_like_something_else(path: Path, name: str):
    assert load(path, f"name: {name}").name == load(path, "", f"name={name}").name == name


@pytest.mark.parametrize("content", ["data: 5", "data: [1]", "model: lstm"])
def test_a_value_in_the_place_of_a_section_is_a_wrong_type(path: Path, content: str):
    section = content.split(":")[0]
    text = message(path, content)
    assert text.startswith(f"{path}: {section} is ")
    assert text.endswith("; it should be a section of keys and values")


@pytest.mark.parametrize(
    ("override", "choices"),
    [
        ("model.cell=mamba", "'rnn', 'lstm' or 'gru'"),
        ("tokenizer.kind=words", "'bpe', 'characters', 'phones' or 'phone_bpe'"),
        ("tokenizer.case=title", "'lower', 'upper' or 'keep'"),
        ("tokenizer.unknown=ignore", "'error' or 'drop'"),
        ("optimizer.schedule=linear", "'cosine' or 'constant'"),
        ("precision=float8", "'auto', 'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_a_bad_choice_lists_the_choices(path: Path, override: str, choices: str):
    key, value = override.split("=")
    assert message(path, "", override) == f"'{override}': {key} is '{value}'; it should be {choices}"


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("epochs=0", "greater than or equal to 1"),
        ("model.hidden_size=-1", "greater than or equal to 1"),
        ("data.batch_seconds=0", "greater than 0"),
        ("optimizer.learning_rate=.nan", "a finite number"),
        ("optimizer.clip=.inf", "a finite number"),
        ("accumulate=0", "greater than or equal to 1"),
        ("checkpoint_minutes=-1", "greater than or equal to 0"),
        ("max_skipped=-1", "greater than or equal to 0"),
        ("augment.speeds=[0.98765]", "multiple of 0.01"),
        ("threads=-2", "greater than or equal to 0"),
        ("augment.time_width=-1", "greater than or equal to 0"),
        ("model.dropout=2", "less than or equal to 1"),
        ("optimizer.warmup=-0.1", "greater than or equal to 0"),
        ("objective.consistency=-0.1", "greater than or equal to 0"),
        ("objective.smoothing=1.5", "less than or equal to 1"),
        ("ema_decay=2", "less than or equal to 1"),
        ("augment.speeds=[]", "at least 1 item"),
        ("augment.speeds=[1.0,0.0]", "greater than or equal to 0.5"),
        ("augment.tempos=[2.5]", "less than or equal to 2"),
        ("augment.tempos=[]", "at least 1 item"),
        ("augment.room_share=1.1", "less than or equal to 1"),
        ("augment.snr_db=[20,10]", "give [from, to]"),
        ("augment.snr_db=[10]", "give [from, to]"),
        ("augment.snr_db=[.nan,10]", "a finite number"),
        ("augment.reverberation=[0.01,0.3]", "from 0.15 to 0.6"),
        ("augment.gain_db=50", "from -60 to 20"),
        ("data.train_fraction=0", "greater than 0"),
        ("seed=-1", "greater than or equal to 0"),
        ("seed=4294967296", "less than 4294967296"),
        ("ema_decay=1", "less than 1"),  # an average that never moves
        ("name=a/b", "hold no slash"),
        ("name=..", "a folder below output"),
        ("name=''", "a folder below output"),
    ],
)
def test_a_value_outside_its_range_names_the_key(path: Path, override: str, rule: str):
    key, value = override.split("=")
    problem = message(path, "", override).removeprefix(f"'{override}': ")
    assert re.match(rf"{re.escape(key)}(\[\d\])? is ", problem)
    assert rule in problem
    assert message(path, f"{key}: {value}") == f"{path}: {problem}"


def test_of_several_overrides_the_wrong_one_is_named(path: Path):
    text = message(path, "epochs: -1", "seed=2", "epochs=0", "model={layers: 2}")
    assert text == "'epochs=0': epochs is 0; it should be greater than or equal to 1"
    assert message(path, "", "model={layers: 0}").startswith("'model={layers: 0}': model.layers is 0; it should be")


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
    *before, unknown = values.strip("[]").split(",")
    problem = f"{key}[{len(before)}] is '{unknown}'; choose one of {choices}"
    assert message(path, "", override) == f"'{override}': {problem}"


def test_what_is_joined_may_not_be_longer_than_an_utterance(path: Path):
    assert load(path, "", "augment.join_share=0.5", "data.max_seconds=10")
    text = message(path, "", "augment.join_share=0.5", "data.max_seconds=8")
    assert text == f"{path}: augment.join_seconds=10.0 is over data.max_seconds=8.0"


def test_a_lookahead_is_for_one_direction(path: Path):
    assert load(path, "model: {bidirectional: false, lookahead: 8}").model.lookahead == 8
    text = message(path, "", "model.bidirectional=true", "model.lookahead=8")
    assert text == f"{path}: model.lookahead=8 is for a live model; set model.bidirectional to false"
    assert "greater than or equal to 0" in message(path, "", "model.bidirectional=false", "model.lookahead=-1")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["intermediate=0.3", "intermediate_layer=4"], "objective.intermediate_layer is 4, of 4 layers"),
        (["consistency=0.2"], "needs masks; set augment.mask_below_wer, which is 0, to 1"),
        (["distillation=0.3"], "objective.teacher, a model: set both or neither"),
        (["teacher=en-bilstm"], "objective.teacher, a model: set both or neither"),
        (["intermediate=0.6", "smoothing=0.4"], "leave nothing for CTC"),
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


@pytest.mark.parametrize(
    ("content", "reason"), [("- a\n- b", "not ['a', 'b']"), ("5", "not 5"), ("hello", "not 'hello'")]
)
def test_yaml_that_is_no_mapping(path: Path, content: str, reason: str):
    text = message(path, content)
    assert text.startswith(f"{path}: ")
    assert reason in text


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
    assert "greater than or equal to 1" in message(path, "kind: language", override)


@pytest.mark.parametrize("given", [[], MANIFESTS[:1], MANIFESTS[1:]], ids=["neither", "no dev", "no train"])
def test_a_recipe_without_data_says_which_keys_to_set(path: Path, given: list[str]):
    with pytest.raises(RecipeError, match=r"data\.train and data\.dev must name manifests"):
        load_recipe(path, given)


TEMPLATE = RECIPES / "own_data" / "bilstm.yaml"  # shows what may be changed


def every_recipe(but: Path | None = None) -> pytest.MarkDecorator:
    paths = [path for path in sorted(RECIPES.rglob("*.yaml")) if path != but]
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(RECIPES)))


@every_recipe()
def test_every_recipe_of_the_repository_loads(path: Path):
    recipe = load_recipe(path, [])
    assert recipe.description
    assert "license:" in path.read_text(encoding="utf-8")  # if only to say that it is unstated


@every_recipe(but=TEMPLATE)
def test_every_recipe_holds_only_what_differs_from_the_defaults(path: Path):
    recipe = load_recipe(path, [])
    defaults = dataclasses.asdict(type(recipe)())
    for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if key in ("kind", "language"):  # what a recipe is for
            continue
        for name, item in value.items() if isinstance(value, dict) else [(key, value)]:
            assert item != (defaults[key][name] if isinstance(value, dict) else defaults[key]), (key, name)


@every_recipe()
def test_every_recipe_survives_being_saved(path: Path, tmp_path: Path):
    recipe = load_recipe(path, [])
    save_recipe(recipe, tmp_path / "saved.yaml")
    assert load_recipe(tmp_path / "saved.yaml", []) == recipe
    check_resumed(recipe, tmp_path / "saved.yaml")


# PyYAML writes these line breaks as they are and reads them as spaces.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029"))


@given(
    name=texts.filter(
        lambda text: text.strip(".") and "/" not in text and text.isprintable() and len(text.encode()) <= 200
    ),
    description=texts,
    share=st.floats(0, 1),
    seconds=st.floats(1, 1e9),
)
@example(name="1e-3", description="no", share=1e-12, seconds=20)
@example(name="null", description="2026-11-28", share=0, seconds=1e9)
@example(name="0", description="\uf900", share=0, seconds=1)
def test_any_text_and_number_survives_being_saved(
    tmp_path_factory: pytest.TempPathFactory, name: str, description: str, share: float, seconds: float
):
    path = tmp_path_factory.mktemp("saved") / "recipe.yaml"
    recipe = AcousticRecipe(name=name, description=description)
    recipe.data.train, recipe.data.dev, recipe.data.max_seconds = [description, name], name or "dev", seconds
    recipe.model.dropout, recipe.tokenizer = share, TokenizerConfig(alphabet=description)  # which composes letters
    save_recipe(recipe, path)
    assert load_recipe(path, []) == recipe


def test_a_run_keeps_its_fields_but_those_that_do_not_change_what_is_learned(path: Path):
    recipe = load(path)
    save_recipe(recipe, path)
    check_resumed(dataclasses.replace(recipe, epochs=99, threads=2, description="other"), path)
    with pytest.raises(RecipeError, match="seed was 1, not 2; a run goes on as it began, set name for another"):
        check_resumed(dataclasses.replace(recipe, seed=2), path)
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(RecipeError, match="not valid YAML"):
        check_resumed(recipe, path)


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ("a: &a [1]\nname: *a\n", "references (*) are not read"),
        ("a: &a {b: *a}\n", "references (*) are not read"),
        ("[" * 50_000, "not valid YAML"),
        ("{a: " * 5_000, "not valid YAML"),
        (f"epochs: {'9' * 5000}\n", "not valid YAML"),
        ("epochs: !!int x\n", "not valid YAML"),
        ("epochs: !!python/object/apply:os.system [id]\n", "not valid YAML"),
        (
            "model: {layers: 9223372036854775808}\n",
            "model.layers is 9223372036854775808; it should be less than or equal to 100",
        ),
        ("model: {hidden_size: 1000000}\n", "it should be less than or equal to 16384"),
        ("optimizer: {learning_rate: .nan}\n", "finite"),
        ("optimizer: {clip: 1e+300}\n", "less than or equal to 1000000000"),
        ('name: "a\\e[31m"\n', "all printable"),
        (f"name: {'n' * 300}\n", "at most 200 bytes"),
        ("name: ..\n", "no slash"),
        ("kind: [acoustic]\n", "kind is ['acoustic']"),
        ("x" * 20_000_000, "larger than 16 MB"),
    ],
)
def test_hostile_recipes_are_one_line(tmp_path: Path, recipe: str, problem: str):
    (tmp_path / "recipe.yaml").write_text(recipe)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "recipe.yaml", [])
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300


def test_a_recipe_cannot_read_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET", "words of somebody else")
    (tmp_path / "recipe.yaml").write_text("name: ${oc.env:SECRET}\ndata: {train: a.jsonl, dev: $SECRET}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml", [])
    assert (recipe.name, recipe.data.dev) == ("${oc.env:SECRET}", "$SECRET")
