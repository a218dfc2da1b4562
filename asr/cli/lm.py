"""`asr lm`: makes n-gram language models, tells what is in them, and writes text from recurrent ones.

The imports that only these commands need are inside: the other commands start faster.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import complain
from asr.errors import AsrError

if TYPE_CHECKING:
    from asr.lm.ngram import NgramModel

lm = typer.Typer(help="Make and inspect language models.", no_args_is_help=True)

Output = Annotated[Path, typer.Option(help="The file to write; ARPA if its name ends in .arpa or .arpa.gz.")]
Small = Annotated[
    bool, typer.Option("--small", help="16 bits for a number instead of 32; scores differ by up to 1e-4.")
]
AsIs = Annotated[
    bool, typer.Option("--as-is", "--keep-case", help="Do not normalize the text: keep its case and punctuation.")
]


@lm.command()
def build(
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...", help="A sentence a line; plain, gzip, xz, or - for standard input."),
    ],
    output: Output,
    order: Annotated[int, typer.Option(min=1, max=8, help="Words in the longest n-grams.")] = 3,
    vocabulary: Annotated[
        int | None, typer.Option(min=1, help="Keep so many of the most frequent words; the others become <unk>.")
    ] = None,
    prune: Annotated[
        str, typer.Option(help="For each order: leave out n-grams that occur so often or less, e.g. 0,1,2.")
    ] = "0",
    threshold: Annotated[
        float, typer.Option(min=0, help="Leave out n-grams whose loss raises the perplexity by less, e.g. 1e-8.")
    ] = 0.0,
    small: Small = False,
    as_is: AsIs = False,
) -> None:
    """Estimate a model from text: interpolated modified Kneser-Ney."""
    from asr.lm.estimate import FALLBACK_DISCOUNTS, estimate
    from asr.lm.source import read_sentences

    try:
        cutoffs = [int(number) for number in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"{prune} is not a list of numbers such as 0,1,1", param_hint="--prune") from None
    if not threshold >= 0:  # nan passes typer's minimum
        raise typer.BadParameter("is not a number of 0 or above", param_hint="--threshold")
    check_output(output, texts)
    model, fallbacks = estimate(read_sentences(texts, as_is), order, vocabulary, cutoffs, threshold)
    for fallback in fallbacks:
        discounts = ", ".join(map(str, FALLBACK_DISCOUNTS))
        complain(f"too little or too regular text for the discounts of {fallback}-grams; took {discounts}")
    write(model, output, small)


@lm.command()
def convert(
    model: Annotated[Path, typer.Argument(help="A file of `asr lm build`, or ARPA, plain or gzip.")],
    output: Output,
    small: Small = False,
) -> None:
    """Turn ARPA into the form that opens in an instant, or back."""
    from asr.lm.binary import load_model

    check_output(output, [])
    write(load_model(model), output, small)


@lm.command()
def info(
    model: Annotated[Path, typer.Argument(help="A file of `asr lm build`, or ARPA, plain or gzip.")],
    perplexity: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Also print how well it predicts this text.")
    ] = None,
    as_is: AsIs = False,
) -> None:
    """Print the size of a model; for a text its perplexity without unknown words, and how many are unknown."""
    from asr.lm.binary import load_model

    opened = load_model(model)
    describe(opened, model)
    if perplexity is not None:
        measure(opened, perplexity, as_is)


@lm.command()
def generate(
    model: Annotated[Path, typer.Argument(help="The folder of a recurrent model, as `asr train` makes it.")],
    prompt: Annotated[str, typer.Option(help="How the first sentence begins.")] = "",
    words: Annotated[int, typer.Option(min=1, max=10_000, help="How many words to write.")] = 50,
    temperature: Annotated[
        float, typer.Option(min=0, max=10, help="Above 1 bolder, below 1 safer, 0 always the likeliest.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another text.")] = 0,
) -> None:
    """Write text as a recurrent language model would, a sentence a line: what has it learned?"""
    from asr.lm.neural import NeuralModel

    if not temperature >= 0:  # nan passes typer's minimum
        raise typer.BadParameter("is not a number from 0 to 10", param_hint="--temperature")
    for sentence in NeuralModel.load(model).generate(prompt, words, temperature, seed):
        print(sentence, flush=True)


def check_output(output: Path, texts: list[str]) -> None:
    """AsrError if it cannot be written, or is one of the texts, which would be gone. Known before the work."""
    if output.is_dir():
        raise AsrError(f"{output}: cannot be written, it is a folder; name a file in it as --output")
    if output.exists() and any(Path(text).exists() and output.samefile(text) for text in texts):
        raise AsrError(f"{output}: is one of the texts; choose another --output")
    if not output.parent.is_dir():
        raise AsrError(f"{output}: cannot be written, there is no folder {output.parent}; choose another --output")


def write(model: "NgramModel", output: Path, small: bool) -> None:
    from asr.lm.binary import save_model

    save_model(model.quantized() if small else model, output)
    describe(model, output)


def describe(model: "NgramModel", path: Path) -> None:
    counts = ", ".join(f"{number:,} {order}-grams" for order, number in enumerate(model.counts, start=1))
    print(f"{path}: order {model.order}, {counts}, {path.stat().st_size / 1e6:.1f} MB")


def measure(model: "NgramModel", text: str, as_is: bool) -> None:
    """Perplexity over the known words and the ends of sentences, as KenLM's `query` has it without OOVs."""
    from asr.lm.source import read_sentences

    scored = unknown = sentences = 0
    total = 0.0
    for sentence in read_sentences([text], as_is):
        sentences += 1
        for word, log_prob in model.score_words(sentence):
            if word == model.vocabulary.unknown:
                unknown += 1
            else:
                scored += 1
                total += log_prob
    if not sentences:
        raise AsrError(f"{text}: no words to measure the perplexity on")
    words = scored + unknown - sentences
    print(
        f"perplexity {math.exp(-total / scored):.2f}, "
        f"unknown words {unknown / words:.2%} of {words:,} in {sentences:,} sentences"
    )
