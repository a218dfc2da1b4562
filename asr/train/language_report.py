"""From a checkpoint of a language model to its folder: graph, weights, perplexities, model card."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from asr.data.config import TokenizerConfig
from asr.data.sentences import read_texts
from asr.data.tokenizer import TextRule, bundle_tokenizer
from asr.lm.binary import load_model
from asr.lm.neural import NeuralConfig, NeuralModel
from asr.lm.ngram import NgramModel
from asr.model.bundle import load_bundle
from asr.model.tokens import Tokens
from asr.nn.export import export_language_model, quantize_weights, save_weights
from asr.nn.language_model import LanguageModel
from asr.train.checkpoint import load_weights
from asr.train.config import LanguageRecipe
from asr.train.export import bundle_folder, describe_checkpoint, digest
from asr.train.language import LanguageEpoch
from asr.train.runs import Record

# int8 weights become the graph if they raise the perplexity per word on dev by less than this share.
INT8_MAX_LOSS = 0.01


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts the dev sentences. Events are what it gives probabilities to."""

    per_token: float
    per_word: float  # and end of sentence
    per_known_word: float  # the same without the words that the n-gram model does not know


def make_language_bundle(
    recipe: LanguageRecipe,
    curve: list[LanguageEpoch],
    checkpoint: Path,
    target: Path,
    record: Record,
    console: Console,
) -> list[str]:
    """Write the folder of a checkpoint in its run's; an older one at `target` is replaced. Returns the perplexities."""
    with bundle_folder(checkpoint.parent, target) as work:
        rows = fill_bundle(work, recipe, curve, checkpoint, record, console)
    for row in rows:
        console.print(row)
    return rows


def fill_bundle(
    work: Path,
    recipe: LanguageRecipe,
    curve: list[LanguageEpoch],
    checkpoint: Path,
    record: Record,
    console: Console,
) -> list[str]:
    """All of the folder but its tokens. Returns the table of perplexities."""
    tokens = Tokens.load(work / "tokens.txt")
    model = LanguageModel(recipe.model, len(tokens))
    held = describe_checkpoint(load_weights(checkpoint, model), curve)
    save_weights(model, work / "weights.safetensors")
    graphs = {"float32": work / "model.float.onnx", "int8": work / "model.int8.onnx"}
    export_language_model(model, graphs["float32"])
    quantize_weights(graphs["float32"], graphs["int8"])
    source = load_bundle(recipe.data.tokenizer_from)
    config = NeuralConfig(
        name=recipe.name,
        language=recipe.language,
        description=recipe.description,
        license=recipe.license,
        model=asdict(recipe.model),
        tokenizer=source.config.tokenizer,
    )
    config.save(work)

    console.print("measuring the model on the dev text")
    rule = TextRule(replace(TokenizerConfig(**source.config.tokenizer), unknown=recipe.data.unknown))
    sentences = list(read_texts(recipe.data.dev, rule))
    tokenizer = bundle_tokenizer(source)
    encoded = [tokenizer.encode(sentence) for sentence in sentences]
    ngram = load_model(recipe.data.ngram) if recipe.data.ngram else None
    known = known_words(sentences, ngram)
    results = {name: measure(NeuralModel.load(work, graph), tokens, encoded, known) for name, graph in graphs.items()}
    loss = results["int8"].per_word / results["float32"].per_word - 1
    chosen = "int8" if loss < INT8_MAX_LOSS else "float32"
    os.replace(graphs[chosen], work / "model.onnx")
    (work / ("model.float.onnx" if chosen == "int8" else "model.int8.onnx")).unlink()
    result = results[chosen]
    metrics = {"dev_perplexity_token": result.per_token, "dev_perplexity_word": result.per_word}
    replace(config, metrics={name: round(value, 3) for name, value in metrics.items()}).save(work)
    rows = [perplexity_row(f"{recipe.name}, {name}", result) for name, result in results.items()]
    if ngram is not None:
        rows.append(perplexity_row(f"`{recipe.data.ngram}`, order {ngram.order}", measure_ngram(ngram, sentences)))
    weights = f"{chosen}, {(work / 'model.onnx').stat().st_size / 1e6:.1f} MB"
    card = model_card(recipe, model, curve, sentences, known, rows, weights, held, record)
    (work / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return rows


def known_words(sentences: Sequence[str], ngram: NgramModel | None) -> list[np.ndarray]:
    """For each sentence of n words, n + 1 times whether the n-gram model knows the word or the end; all without one."""
    if ngram is None:
        return [np.ones(len(sentence.split()) + 1, dtype=bool) for sentence in sentences]
    unknown = ngram.vocabulary.unknown
    return [np.array([word != unknown for word, _ in ngram.score_words(sentence)]) for sentence in sentences]


def measure(
    model: NeuralModel, tokens: Tokens, encoded: Sequence[Sequence[int]], known: Sequence[np.ndarray]
) -> Perplexity:
    """Of the exported graph, by the code that users run."""
    total = known_total = 0.0
    for sequence, scores, mask in zip(encoded, model.score_tokens(encoded), known, strict=True):
        # A word begins with its token's `▁`; without one before the first word that begins the sentence.
        begins = [place == 0 or tokens.starts_word(token) for place, token in enumerate(sequence)]
        by_word = np.add.reduceat(scores, np.flatnonzero([*begins, True]))
        total += scores.sum()
        known_total += by_word[mask].sum()
    events = sum(map(len, known))
    count = sum(map(len, encoded)) + len(encoded)
    known_events = sum(int(mask.sum()) for mask in known)
    return Perplexity(math.exp(-total / count), math.exp(-total / events), math.exp(-known_total / known_events))


def measure_ngram(ngram: NgramModel, sentences: Sequence[str]) -> Perplexity:
    """Of its known words only: what it gives to <unk> is for all the words it does not know together."""
    scores = [
        score
        for sentence in sentences
        for word, score in ngram.score_words(sentence)
        if word != ngram.vocabulary.unknown
    ]
    return Perplexity(math.nan, math.nan, math.exp(-sum(scores) / len(scores)))


def perplexity_row(name: str, result: Perplexity) -> str:
    numbers = (result.per_token, result.per_word, result.per_known_word)
    return f"| {name} | " + " | ".join("–" if math.isnan(number) else f"{number:.2f}" for number in numbers) + " |"


def model_card(
    recipe: LanguageRecipe,
    model: LanguageModel,
    curve: list[LanguageEpoch],
    sentences: Sequence[str],
    known: Sequence[np.ndarray],
    rows: Sequence[str],
    weights: str,
    held: str,
    record: Record,
) -> str:
    """MODEL_CARD.md: what the model is, what it learned from, how it was made, how well it predicts."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    config, data = recipe.model, recipe.data
    words = sum(len(sentence.split()) for sentence in sentences)
    unknown = sum(int((~mask).sum()) for mask in known)
    texts = "\n".join(f"- {text_line('trained on', path)}" for path in data.train)
    seen = curve[-1].epoch * data.epoch_batches * data.batch_size * data.bptt_length
    epochs = "\n".join(
        f"| {epoch.epoch} | {epoch.step} | {epoch.train_loss:.4f} | {epoch.dev_loss:.4f} | "
        f"{epoch.dev_perplexity:.1f} | {epoch.gradient_norm:.2f} | {epoch.speed:,.0f} | {epoch.minutes:.0f} |"
        for epoch in curve
    )
    return f"""# {recipe.name}

{recipe.description}

| | |
| --- | --- |
| language | {recipe.language} |
| model | {config.layers} {config.cell} layers of {config.hidden_size} over the \
{len(model.embedding.weight)} tokens of `{data.tokenizer_from}` |
| parameters | {parameters:,} |
| graph | `model.onnx`, weights in {weights}; `weights.safetensors` holds them in half precision |
| license of the weights | {recipe.license} |
| data | {recipe.attribution or "see below"} |

## Perplexity

On `{data.dev}`: {len(sentences):,} sentences, {words:,} words, each sentence for itself. Per token and per word count
the ends of sentences too. The last column leaves out the words that the n-gram model does not know
({unknown / words:.2%} of them), so that both are measured on the same; this model can spell any word.

| model | per token | per word | per word that the n-gram model knows |
| --- | --- | --- | --- |
{chr(10).join(rows)}

`asr lm generate FOLDER --prompt "once upon a"`, with this folder, writes what it has learned.

## Training

    {record.command}

{texts}
- {text_line("validated on", data.dev)}
- {seen:,} tokens seen, {data.batch_size} sequences side by side, gradients through {data.bptt_length} tokens
- {record.machine}

The folder holds {held}. Losses are in nats per token, dev perplexity is per word with the
float32 model, speed is in tokens per second, minutes are since the start, validation included.

| epoch | steps | train loss | dev loss | dev perplexity | gradient norm | speed | minutes |
| --- | --- | --- | --- | --- | --- | --- | --- |
{epochs}
"""


def text_line(role: str, path: str) -> str:
    return f"{role} `{path}`: {Path(path).stat().st_size / 1e6:.1f} MB, SHA-256 {digest(path)[:12]}…"
