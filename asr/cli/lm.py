"""`asr lm`: n-gram language models from text, what is in them, and text from recurrent ones."""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from typer import Argument, Option

from asr.cli import options
from asr.cli.messages import complain
from asr.cli.outputs import Guard
from asr.errors import AsrError
from asr.lm.binary import load_model, save_model
from asr.lm.neural import NeuralModel
from asr.lm.ngram import NgramModel
from asr.lm.source import read_sentences
from asr.model.bundle import find_language_model, packaged_language_models

lm = typer.Typer(help="Make and inspect language models.", no_args_is_help=True)

Output = Annotated[Path, Option("--output", "-o", help="File to write; ARPA if named .arpa or .arpa.gz.")]
Small = Annotated[bool, Option("--small", help="16 bits for a number, not 32; scores differ by up to 1e-4.")]
AsIs = Annotated[bool, Option("--as-is", "--keep-case", help="Keep the text's case and punctuation.")]
NAMED = "Packaged language model, or a file of `asr lm build`, or ARPA, plain or gzip."
Ngrams = Annotated[str, Argument(help=NAMED)]


def parse_size(text: str | None) -> int | None:
    """Bytes; K, M and G stand for thousands, millions and billions of them."""
    if text is None or isinstance(text, int):
        return text
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)([KMG]?)B?", text.upper().replace(" ", ""))
    if not found:
        raise typer.BadParameter(f"{text} is not a size such as 40M")
    return int(float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[found[2]])


Size = Annotated[
    int | None,
    Option(parser=parse_size, metavar="SIZE", help="Leave out what costs least, for a file of at most 40M, say."),
]


@lm.command(cls=options.Command)
def build(
    texts: Annotated[
        list[str], Argument(metavar="TEXT...", help="A sentence a line; plain, gzip, xz, or - for standard input.")
    ],
    output: Output,
    order: Annotated[int, Option(min=1, max=8, help="Words in the longest n-grams.")] = 3,
    vocabulary: Annotated[int | None, Option(min=1, help="Most frequent words to keep; others are <unk>.")] = None,
    prune: Annotated[
        str, Option(help="For each order: leave out n-grams that occur so often or less, e.g. 0,1,2.")
    ] = "0",
    threshold: Annotated[
        float, Option(min=0, help="Leave out n-grams whose loss raises the perplexity by less, as 1e-8.")
    ] = 0.0,
    size: Size = None,
    small: Small = False,
    as_is: AsIs = False,
    force: options.Force = False,
) -> None:
    """Estimate a model from text: interpolated modified Kneser-Ney."""
    from asr.lm.estimate import FALLBACK_DISCOUNTS, estimate  # here, so that other commands start faster

    try:
        cutoffs = [int(number) for number in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"{prune} is not a list of numbers such as 0,1,1", param_hint="--prune") from None
    if not threshold >= 0:  # nan passes typer's minimum
        raise typer.BadParameter("is not a number of 0 or above", param_hint="--threshold")
    Guard(texts, force).check(output)
    model, fallbacks = estimate(read_sentences(texts, as_is), order, vocabulary, cutoffs, threshold)
    for fallback in fallbacks:
        discounts = ", ".join(map(str, FALLBACK_DISCOUNTS))
        complain(f"too little or too regular text for the discounts of {fallback}-grams; took {discounts}")
    write(model, output, small, size)


@lm.command(cls=options.Command)
def mix(
    models: Annotated[list[str], Argument(metavar="MODEL...", help=f"Two or more. {NAMED}")],
    output: Output,
    tune: Annotated[
        list[str] | None,
        Option(metavar="TEXT", help="Text to predict, by which to weight the models; each text given counts the same."),
    ] = None,
    weights: Annotated[str | None, Option(help="Weights of the models instead, as 0.7,0.3.")] = None,
    size: Size = None,
    small: Small = False,
    as_is: AsIs = False,
    force: options.Force = False,
) -> None:
    """Interpolate models into one."""
    from asr.lm import mix as mixing  # here, so that other commands start faster

    if (tune is None) == (weights is None):
        raise typer.BadParameter("give --tune TEXT or --weights, one of them", param_hint="--tune")
    try:
        shares = [float(weight) for weight in (weights or "").replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(
            f"{weights} is not a list of numbers such as 0.7,0.3", param_hint="--weights"
        ) from None
    Guard([*map(find, models), *(tune or [])], force).check(output)
    opened = [load_model(find(model)) for model in models]
    if tune is not None:
        shares = mixing.tune(opened, {text: [*read_sentences([text], as_is)] for text in tune})
        print("weights " + ", ".join(f"{model} {share:.3f}" for model, share in zip(models, shares, strict=True)))
    write(mixing.mix(opened, shares), output, small, size)


@lm.command(cls=options.Command)
def convert(
    model: Ngrams, output: Output, size: Size = None, small: Small = False, force: options.Force = False
) -> None:
    """Turn ARPA into the binary form or back, or shrink a model."""
    Guard([find(model)], force).check(output)
    write(load_model(find(model)), output, small, size)


@lm.command(cls=options.Command)
def info(
    model: Ngrams,
    perplexity: Annotated[str | None, Option(help="Also print how well it predicts this text.")] = None,
    as_is: AsIs = False,
) -> None:
    """Print a model's size, and its perplexity on a text.

    The perplexity is without unknown words; how many those are is printed beside it.
    """
    from asr.evaluate.perplexity import known_words, ngram_perplexity

    opened = load_model(find(model))
    describe(opened, find(model))
    if perplexity is None:
        return
    sentences = [*read_sentences([perplexity], as_is)]
    if not sentences:
        raise AsrError(f"{perplexity}: no words to measure the perplexity on")
    known = np.concatenate(known_words(sentences, opened))
    words = len(known) - len(sentences)
    print(
        f"perplexity {ngram_perplexity(opened, sentences).per_known_word:.2f}, "
        f"unknown words {(~known).sum() / words:.2%} of {words:,} in {len(sentences):,} sentences"
    )


@lm.command(cls=options.Command)
def generate(
    model: Annotated[Path, Argument(help="The folder of a recurrent model, as `asr train` makes it.")],
    prompt: Annotated[str, Option(help="How the first sentence begins.")] = "",
    words: Annotated[int, Option(min=1, max=10_000, help="How many words to write.")] = 50,
    temperature: Annotated[
        float, Option(min=0, max=10, help="Above 1 bolder, below 1 safer, 0 always the likeliest.")
    ] = 1.0,
    seed: Annotated[int, Option(min=0, help="Another seed, another text.")] = 0,
) -> None:
    """Sample text from a recurrent language model, a sentence a line."""
    if not temperature >= 0:  # nan passes typer's minimum
        raise typer.BadParameter("is not a number from 0 to 10", param_hint="--temperature")
    for sentence in NeuralModel.load(model).generate(prompt, words, temperature, seed):
        print(sentence, flush=True)


def find(name: str) -> Path:
    """The file of a packaged model's name, or of a path."""
    return find_language_model(name) if name in packaged_language_models() else Path(name)


def write(model: NgramModel, output: Path, small: bool, size: int | None) -> None:
    if size is not None:
        from asr.lm.prune import Pruner

        model = Pruner(model).to_size(size)
    save_model(model.quantized() if small else model, output)
    describe(model, output)


def describe(model: NgramModel, path: Path) -> None:
    counts = ", ".join(f"{number:,} {order}-grams" for order, number in enumerate(model.counts, start=1))
    print(f"{path}: order {model.order}, {counts}, {path.stat().st_size / 1e6:.1f} MB")
