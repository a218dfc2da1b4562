"""`asr lm`: n-gram language models from text, what is in them, and text from recurrent ones."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from typer import Argument, Option

from asr.cli import options
from asr.cli.messages import OnStage, complain, stage_progress
from asr.cli.options import reject_if
from asr.cli.outputs import Guard
from asr.errors import AsrError, LanguageModelError
from asr.lm.binary import load_model, save_model
from asr.lm.neural import NeuralModel
from asr.lm.ngram import NgramModel
from asr.lm.source import read_sentences
from asr.model.bundle import PACKAGED, find_language_model, packaged_language_models

if TYPE_CHECKING:
    from asr.lm.columns import Steps

lm = typer.Typer(help="Make and inspect language models.", no_args_is_help=True)

Output = Annotated[Path, Option("--output", "-o", help="File to write; ARPA if named .arpa or .arpa.gz.")]
Small = Annotated[bool, Option("--small", help="8 bits for a number, not 32; the perplexity stays the same.")]
AsIs = Annotated[bool, Option("--as-is", "--keep-case", help="Keep the text's case and punctuation.")]
NAMED = "Packaged language model, or a file of `asr lm build`, or ARPA, plain or gzip."
Ngrams = Annotated[str, Argument(help=NAMED)]


def parse_size(text: str | int) -> int:
    """Bytes; K, M and G stand for thousands, millions and billions of them."""
    if isinstance(text, int):
        return text
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)([KMG]?)B?", text.upper())
    size = int(float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[found[2]]) if found else 0
    if not size:
        raise typer.BadParameter(f"{text} is not a size such as 500M or 4G")
    return size


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
    vocabulary: Annotated[
        str | None,
        Option(metavar="NUMBER|FILE", help="Most frequent words to keep, or a file of them; others are <unk>."),
    ] = None,
    prune: Annotated[
        str, Option(help="For each order: leave out n-grams that occur so often or less, e.g. 0,1,2.")
    ] = "0",
    threshold: Annotated[
        float, Option(min=0, help="Leave out n-grams whose loss raises the perplexity by less, as 1e-8.")
    ] = 0.0,
    size: Size = None,
    memory: Annotated[
        int,
        Option(parser=parse_size, metavar="SIZE", show_default="2G", help="To work in, as 500M; the rest is on disk."),
    ] = 2_000_000_000,
    small: Small = False,
    as_is: AsIs = False,
    force: options.Force = False,
) -> None:
    """Estimate a model from text: interpolated modified Kneser-Ney.

    If it is interrupted, the same command goes on with it; until then a folder beside the output keeps what was done.
    """
    from asr.lm.estimate import FALLBACK_DISCOUNTS, STAGES, estimate  # here, so that other commands start faster

    try:
        cutoffs = [int(number) for number in prune.replace(",", " ").split()]
    except ValueError:
        raise typer.BadParameter(f"{prune} is not a list of numbers such as 0,1,1", param_hint="--prune") from None
    reject_if(not threshold >= 0, "--threshold", "is not a number of 0 or above")  # nan passes typer's minimum
    word_list = [vocabulary] if vocabulary is not None and not vocabulary.isdecimal() else []
    Guard([*texts, *word_list], force).check(output)
    words: int | set[str] | None = int(vocabulary) if vocabulary is not None and not word_list else None
    if word_list:
        words = {word for sentence in read_sentences(word_list, as_is) for word in sentence.split()}
    reject_if(vocabulary is not None and not words, "--vocabulary", f"{vocabulary} has no words")
    settings = [texts, as_is, order, vocabulary, cutoffs, threshold, memory]
    with (
        stage_progress(STAGES) as on_progress,
        keep_steps(output, [*texts, *word_list], settings, on_progress) as steps,
    ):
        sentences = read_sentences(texts, as_is, reading_progress(texts, on_progress))
        model, fallbacks = estimate(sentences, order, words, cutoffs, threshold, memory, steps)
        written = save(model, output, small, size)
    for fallback in fallbacks:
        discounts = ", ".join(map(str, FALLBACK_DISCOUNTS))
        complain(f"too little or too regular text for the discounts of {fallback}-grams; took {discounts}")
    describe(written, output)


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

    reject_if((tune is None) == (weights is None), "--tune", "give --tune TEXT or --weights, one of them")
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
    describe(save(mixing.mix(opened, shares), output, small, size), output)


@lm.command(cls=options.Command)
def convert(
    model: Ngrams, output: Output, size: Size = None, small: Small = False, force: options.Force = False
) -> None:
    """Turn ARPA into the binary form or back, or shrink a model."""
    Guard([find(model)], force).check(output)
    describe(save(load_model(find(model)), output, small, size), output)


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
    reject_if(not temperature >= 0, "--temperature", "is not a number from 0 to 10")  # nan passes typer's minimum
    for sentence in NeuralModel.load(model).generate(prompt, words, temperature, seed):
        print(sentence, flush=True)


def find(name: str) -> Path:
    """The file of a packaged model's name, or of a path. LanguageModelError for a packaged one of another kind."""
    if name in packaged_language_models():
        return find_language_model(name)
    if not Path(name).exists() and name in os.listdir(PACKAGED):
        names = ", ".join(packaged_language_models())
        raise LanguageModelError(f"{name}: a packaged model, but no language model; name a file or one of {names}")
    return Path(name)


@contextmanager
def keep_steps(output: Path, reads: Sequence[str], settings: list[object], on_progress: OnStage) -> "Iterator[Steps]":
    """A folder for a build, beside the output, which is kept if the build is interrupted.

    It is that of an interrupted build if all that this one reads are the same files, unchanged, and the settings the
    same.
    """
    from asr.lm.columns import Steps

    files = [Path(name).stat() for name in reads if Path(name).is_file()]
    unchanged = [[file.st_size, file.st_mtime_ns] for file in files] if len(files) == len(reads) else None
    beside = output if output.is_file() or not output.exists() else Path(tempfile.gettempdir()) / output.name
    steps = Steps(beside.with_name(f"{beside.name}.parts"), unchanged and [settings, unchanged], on_progress)
    if steps.begun:
        complain(f"goes on with {steps.folder}, from a build that was interrupted")
    try:
        yield steps
    except KeyboardInterrupt:
        complain(f"interrupted; the same command goes on with {steps.folder}")
        raise
    except Exception:
        steps.remove()
        raise
    steps.remove()


def reading_progress(texts: Sequence[str], on_progress: OnStage) -> Callable[[int], None]:
    """To be called with the bytes that were read each time; a pipe's length is not known."""
    done, total = 0, sum(Path(text).stat().st_size for text in texts if Path(text).is_file())

    def on_read(size: int) -> None:
        nonlocal done
        done += size
        on_progress("reading", min(1, done / max(total, 1)))

    return on_read


def save(model: NgramModel, output: Path, small: bool, size: int | None) -> NgramModel:
    """Returns what was saved."""
    if size is not None:
        from asr.lm.prune import Pruner

        model = Pruner(model).to_size(size)
    model = model.packed() if small else model
    save_model(model, output)
    return model


def describe(model: NgramModel, path: Path) -> None:
    counts = ", ".join(f"{number:,} {order}-grams" for order, number in enumerate(model.counts, start=1))
    print(f"{path}: order {model.order}, {counts}, {path.stat().st_size / 1e6:.1f} MB")
