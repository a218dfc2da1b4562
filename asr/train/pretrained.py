"""A trained acoustic model, in a bundle or a run, from which another one begins or learns."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from asr.data.config import TokenizerConfig
from asr.data.tokenizer import (
    ATTENTION_MODEL,
    PHONES_MODEL,
    TOKENIZER_MODEL,
    BpeTokenizer,
    Tokenizer,
    attention_tokenizer,
    phones_tokenizer,
    read_tokenizer,
)
from asr.errors import RecipeError, one_line
from asr.model.bundle import find_inside, load_bundle, packaged_models, require_inside
from asr.model.phones import LETTERS
from asr.model.tokens import WORD_START, Tokens
from asr.nn.config import AcousticConfig, validated
from asr.nn.ctc_model import AcousticModel
from asr.train.checkpoint import ATTENTION, PHONES, fill_model, read_weights
from asr.train.config import AcousticRecipe, load_recipe
from asr.train.runs import BEST, RECIPE

WEIGHTS = "weights.safetensors"  # of a bundle
HEAD = "head."  # of the weights that depend on the tokens
# Fields of AcousticConfig that may change: regularizers, and what is done to the features, to which weights adapt.
CHANGEABLE = ("dropout", "variational_dropout", "weight_dropout", "energy_floor", "mean_normalization")


@dataclass(frozen=True)
class TrainedModel:
    """`weights` are float32, by the names that `AcousticModel` has for them."""

    path: Path
    config: AcousticConfig
    case: str  # of the texts that it learned from
    tokenizer: Tokenizer
    weights: dict[str, Tensor]

    def model(self) -> AcousticModel:
        phones = self.weights.get(f"{PHONES}bias", torch.zeros(0))
        model = AcousticModel(self.config, len(self.tokenizer.tokens), len(phones))
        fill_model(model, self.weights, self.path)
        return model

    def begin(self, model: AcousticModel, tokens: Tokens) -> bool:
        """Give its weights to `model`, those of the output layer only if it has the same tokens. Returns whether.

        Recurrent layers that `model` has above its own begin as copies of its uppermost ones (Gong et al. 2019,
        "Efficient training of BERT by progressively stacking"). The second head and the attention decoder are taken
        where they have the same size, so where `give_tokenizers` gave their tokens too.
        """
        same = tokens.symbols == self.tokenizer.tokens.symbols
        own, theirs = model.state_dict(), self.model().state_dict()
        decoder = {name: value for name, value in self.weights.items() if name.startswith(ATTENTION)}
        if all(name in own and own[name].shape == value.shape for name, value in decoder.items()):
            theirs |= decoder
        taken = {
            name: value
            for name, value in theirs.items()
            if (same or not name.startswith(HEAD)) and (name in own and own[name].shape == value.shape)
        }
        model.load_state_dict(own | taken)
        layers, below = model.recurrent.layers, self.config.layers
        for number in range(below, len(layers)):
            layers[number].load_state_dict(layers[number - min(below, len(layers) - below)].state_dict())
        return same

    def give_tokenizers(self, recipe: AcousticRecipe) -> None:
        """Copy its tokenizers to the folder of a run, each if the recipe asks for such a one."""
        same_case = recipe.tokenizer.spelling == "phones" or recipe.tokenizer.case == self.case
        for name, config, used in (
            (TOKENIZER_MODEL, recipe.tokenizer, same_case),
            (PHONES_MODEL, phones_tokenizer(recipe.phones), recipe.phones.weight),
            (ATTENTION_MODEL, attention_tokenizer(recipe.attention, recipe.tokenizer), recipe.attention.weight),
        ):
            if used and self.has_tokenizer(config, name):
                (recipe.folder / name).write_bytes(require_inside(self.path, name).read_bytes())

    def has_tokenizer(self, config: TokenizerConfig, name: str = TOKENIZER_MODEL) -> bool:
        """Whether its file of this name holds as many pieces, of the same letters or phones, as the config says."""
        path = find_inside(self.path, name)
        if path is None or config.kind not in ("bpe", "phone_bpe"):
            return False
        tokens = BpeTokenizer(path.read_bytes()).tokens
        letters = {symbol for symbol in tokens.symbols[1:] if len(symbol) == 1} - {WORD_START}
        alphabet = LETTERS if config.spelling == "phones" else config.alphabet
        return len(tokens) == config.vocabulary and letters == set(alphabet) - {" "}

    def check_model(self, config: AcousticConfig) -> None:
        """RecipeError, naming the field, if a model of this config could not take the weights."""
        for key, theirs in asdict(self.config).items():
            ours = getattr(config, key)
            if ours != theirs and key not in CHANGEABLE and not (key == "layers" and ours > theirs):
                raise RecipeError(
                    f"init_from: model.{key} is {theirs} in {self.path} and {ours} here; set model.{key}={theirs}, "
                    "or leave init_from out"
                )


def load_trained(name: str) -> TrainedModel:
    """By a packaged name, the folder of a bundle or of a run (its best epoch), or a checkpoint in a run's folder.

    AsrError if it is not whole.
    """
    folder, checkpoint = Path(name), BEST
    if folder.suffix == ".safetensors":
        folder, checkpoint = folder.parent, folder.name
    run = name not in packaged_models() and (folder / checkpoint).is_file()
    if run:
        recipe = load_recipe(folder / RECIPE, [])
        if not isinstance(recipe, AcousticRecipe):
            raise RecipeError(f"{folder}: a run of kind {recipe.kind}; choose one of an acoustic model")
        config, settings, tokens = recipe.model, asdict(recipe.tokenizer), Tokens.load(folder / "tokens.txt")
    else:
        bundle = load_bundle(name)
        folder, settings, tokens = bundle.path, bundle.config.tokenizer, bundle.tokens
        try:
            config = validated(AcousticConfig, bundle.config.model)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"{folder}: of another version of asr ({one_line(error)}); choose another model"
            ) from error
    tokenizer = read_tokenizer(folder, settings, tokens)
    try:
        weights = read_weights(folder / checkpoint)[0] if run else load_file(require_inside(folder, WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise RecipeError(f"{folder}: cannot read the weights ({one_line(error)}); copy the model again") from error
    weights = {key: value.float() for key, value in weights.items()}
    return TrainedModel(folder, config, TokenizerConfig(**settings).case, tokenizer, weights)
