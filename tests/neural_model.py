"""Small recurrent language models with random weights, as `asr train` lays them down."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from asr.lm.binary import load_model
from asr.lm.neural import NeuralConfig
from asr.model.bundle import PACKAGED, write_config
from asr.model.tokens import BLANK, WORD_START, Tokens

CHARACTERS = Tokens([BLANK, WORD_START, *"'abcdefghijklmnopqrstuvwxyz"])


@cache
def letter_pieces() -> bytes:
    """sentencepiece's model of 127 byte-pair pieces of letters, from words of en-lm."""
    from asr.data.config import TokenizerConfig
    from asr.data.tokenizer import train_bpe

    words = load_model(PACKAGED / "en-lm" / "ngrams.lm").vocabulary
    return train_bpe(TokenizerConfig(), filter(str.isalpha, map(words.word, range(0, len(words), 40))))


def write_model(folder: Path, kind: str = "bpe", cell: str = "lstm") -> Path:
    """A model over pieces of letters, or over characters."""
    import torch

    from asr.data.config import TokenizerConfig
    from asr.data.tokenizer import BpeTokenizer
    from asr.nn.export import export_language_model
    from asr.nn.language_model import LanguageConfig, LanguageModel

    tokenizer = asdict(TokenizerConfig(kind=kind))
    tokens = BpeTokenizer(letter_pieces()).tokens if kind == "bpe" else CHARACTERS
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
