"""Small recurrent language models with random weights, as `asr train` lays them down."""

from dataclasses import asdict
from pathlib import Path

from asr.lm.neural import NeuralConfig
from asr.model.bundle import PACKAGED, load_bundle, write_config
from asr.model.tokens import BLANK, WORD_START, Tokens

CHARACTERS = Tokens([BLANK, WORD_START, *"'abcdefghijklmnopqrstuvwxyz"])
BPE = PACKAGED / "en-gru"


def write_model(folder: Path, kind: str = "bpe", cell: str = "lstm") -> Path:
    """A model over the tokens of en-gru, or over characters."""
    import torch

    from asr.nn.export import export_language_model
    from asr.nn.language_model import LanguageConfig, LanguageModel

    tokenizer = load_bundle(BPE).config.tokenizer if kind == "bpe" else {"kind": kind, "case": "lower"}
    tokens = Tokens.load(BPE / "tokens.txt") if kind == "bpe" else CHARACTERS
    config = LanguageConfig(cell=cell, layers=2, hidden_size=24)
    torch.manual_seed(2)
    model = LanguageModel(config, len(tokens))
    torch.nn.init.normal_(model.head.weight, std=1.0)  # says something
    folder.mkdir(parents=True)
    about = NeuralConfig(
        name="tiny",
        language="en",
        description="Random.",
        license="CC0-1.0",
        model=asdict(config),
        tokenizer=tokenizer,
        kind="language",
    )
    write_config(folder, about)
    tokens.save(folder / "tokens.txt")
    export_language_model(model, folder / "model.onnx")
    return folder
