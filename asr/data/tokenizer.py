"""Text to token ids: characters, phones, or BPE pieces of them trained by sentencepiece (Kudo & Richardson 2018)."""

import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from asr.data.config import PhonesConfig, Spelling, TokenizerConfig
from asr.errors import RecipeError, one_line
from asr.files import open_input
from asr.model.bundle import find_inside
from asr.model.phones import LETTERS
from asr.model.tokens import BLANK, BLANK_ID, WORD_START, Tokens
from asr.nn.config import AttentionConfig, validated
from asr.normalize import APOSTROPHES, lowered

TOKENIZER_MODEL, PHONES_MODEL = "tokenizer.model", "phones.model"  # of the first and the second head, in a run's folder
ATTENTION_MODEL = "second_pass.model"  # of the attention decoder
CASES: dict[str, Callable[[str], str]] = {"lower": lowered, "upper": str.upper, "keep": str}


class TextRule:
    """Folds the case of a text, then refuses or drops characters outside the alphabet.

    Where phones are spelled, it refuses none: a word may be in the lexicon or not, whatever its letters.
    Dropped letters and their marks vanish, all other dropped characters part words. A text with a digit outside the
    alphabet is dropped whole, since what was said for it is not written.
    """

    def __init__(self, config: TokenizerConfig):
        self.fold = CASES[config.case]
        self.alphabet = frozenset(config.alphabet) | {" "}
        self.drop = config.unknown == "drop"
        self.takes_all = config.spelling == "phones" and not self.drop
        self.dropped: Counter[str] = Counter()

    def __call__(self, text: str, where: str) -> str:
        """The text as it will be learned. RecipeError, which names `where`, for a character that is not dropped."""
        text = self.fold(unicodedata.normalize("NFC", text.translate(APOSTROPHES)))
        text = unicodedata.normalize("NFC", text)  # again: some letters have a composed form only in lower case
        text = " ".join(text.split())
        unknown = [character for character in text if character not in self.alphabet]
        if self.takes_all or not unknown:
            return text
        if not self.drop:
            raise RecipeError(
                f"{where}: '{unknown[0]}' in “{text}” is not in the alphabet; "
                "add it to tokenizer.alphabet, mend the text, or set tokenizer.unknown=drop"
            )
        self.dropped.update(unknown)
        if any(character.isdigit() for character in unknown):
            return ""
        without = {ord(char): "" if unicodedata.category(char)[0] in "LM" else " " for char in unknown}
        return " ".join(text.translate(without).split())


class CharacterTokenizer:
    """One token a letter, `▁` between words; or one a phone, and another for it where a word begins."""

    model: bytes | None = None

    def __init__(self, config: TokenizerConfig):
        self.spelling = config.spelling
        symbols = [WORD_START, *sorted(set(config.alphabet) - {" "})]
        if self.spelling == "phones":
            symbols = [*LETTERS, *(WORD_START + phone for phone in LETTERS)]
        self.tokens = Tokens([BLANK, *symbols])

    def encode(self, text: str) -> list[int]:
        pieces: Iterable[str] = text.replace(" ", WORD_START)
        if self.spelling == "phones":
            pieces = (piece for word in text.split() for piece in self.tokens.pieces(word))
        return [self.tokens.ids[piece] for piece in pieces]


class BpeTokenizer:
    """Byte-pair pieces. Sentencepiece's id 0, its unknown piece, is the blank here; the others keep their ids."""

    def __init__(self, model: bytes, spelling: Spelling = "letters"):
        self.model: bytes | None = model
        self.spelling = spelling
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(i) for i in range(1, self._processor.get_piece_size())]
        self.tokens = Tokens([BLANK, *pieces])

    def encode(self, text: str) -> list[int]:
        ids = self._processor.encode(text)
        if BLANK_ID in ids:
            raise RecipeError(f"the tokenizer cannot spell “{text}”; train without --resume to make a new one")
        return ids


Tokenizer = CharacterTokenizer | BpeTokenizer


def train_bpe(config: TokenizerConfig, texts: Iterable[str], section: str = "tokenizer") -> bytes:
    """A sentencepiece model; RecipeError names the recipe's section where the vocabulary does not suit the texts."""
    model = io.BytesIO()
    letters, single = (LETTERS, "phones") if config.kind == "phone_bpe" else (config.alphabet, "characters")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=config.vocabulary,
            # Every letter of the alphabet is a piece, whether or not the training text holds it.
            required_chars="".join(sorted(set(letters) - {" "})),
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=BLANK_ID,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).split("] ")[-1].strip()
        raise RecipeError(
            f"{section}.vocabulary={config.vocabulary} does not suit the training text ({reason}); "
            f"choose another size{f', or tokenizer.kind={single}' * (section == 'tokenizer')}"
        ) from error
    return model.getvalue()


def make_tokenizer(config: TokenizerConfig, texts: Iterable[str], model: Path, section: str = "tokenizer") -> Tokenizer:
    """The tokenizer of a section of the recipe. A BPE model is trained once and kept at `model`, for a resumed run.

    texts: letters or phones, as the config says.
    """
    if config.kind in ("bpe", "phone_bpe") and not model.exists():
        model.write_bytes(train_bpe(config, texts, section))
    return _open_tokenizer(config, model)


def _open_tokenizer(config: TokenizerConfig, model: Path) -> Tokenizer:
    if config.kind in ("characters", "phones"):
        return CharacterTokenizer(config)
    with open_input(find_inside(model.parent, model.name) or model) as file:
        return BpeTokenizer(file.read(), config.spelling)


def phones_tokenizer(config: PhonesConfig) -> TokenizerConfig:
    """The tokenizer settings of the second head."""
    return TokenizerConfig(vocabulary=config.vocabulary, case="keep", alphabet=config.alphabet)


def attention_tokenizer(config: AttentionConfig, first: TokenizerConfig) -> TokenizerConfig:
    """The tokenizer settings of the attention decoder: letters, those of the first head's."""
    return TokenizerConfig(vocabulary=config.vocabulary, case=first.case, alphabet=first.alphabet, unknown="drop")


def read_tokenizer(folder: Path, settings: dict[str, Any], tokens: Tokens) -> Tokenizer:
    """The tokenizer of a bundle's or a run's folder, which must have these tokens. RecipeError if it is not whole."""
    try:
        tokenizer = _open_tokenizer(validated(TokenizerConfig, settings), folder / TOKENIZER_MODEL)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"{folder}: its tokenizer cannot be used ({one_line(error)}); choose another bundle for it"
        ) from error
    if tokenizer.tokens.symbols != tokens.symbols:
        raise RecipeError(f"{folder}: tokens.txt is not of its tokenizer; copy the bundle again")
    return tokenizer
